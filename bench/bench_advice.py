"""Advice on runs that are broken on purpose, and on healthy ones: is the right thing said first, and nothing false?

    python bench/bench_advice.py [--tune] [--store FILE] [NAME ...]

Ten broken recipes and ten healthy ones, small networks on 800 embedded records, some ten seconds of one core each. With
--tune, the runs on which the limits of conf/advice were set: other seeds, other records and other severities. --store
writes the series that the rules read, thinned, for the test that runs without training.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray

from einthoven.build import build
from einthoven.cli import conf_folder
from einthoven.commands import advise, assemble
from einthoven.commands.assemble import Data
from einthoven.commands.run import Run
from einthoven.commands.terminal import console
from einthoven.data.batches import DeviceSplit
from einthoven.diagnostics.advice import advise as advice_on
from einthoven.diagnostics.rules.base import Advice, History
from einthoven.errors import UserError
from einthoven.training.loop import Evaluation

FAST = ("data.records=800", "trainer.epochs=8", "tracking.experiment=bench", "tracking.run_name=bench")
CONV = ("model=conv_attention", "model.channels=[32,64,64]")
BARE = (*CONV, "model.norm=none", "model.token_norm=none")
WANG = ("model=resnet1d_wang", "trainer.window=2.5", "model.width=48")
FCN = ("model=fcn_wang", "trainer.window=2.5", "model.channels=[48,96,48]")
INCEPTION = ("model=inception1d", "trainer.window=2.5", "model.depth=3", "model.filters=12", "model.bottleneck=12")
XRESNET = ("model=xresnet1d18", "trainer.window=2.5", "model.width=24")
VIT = ("model=vit1d", "model.depth=2", "model.dim=64")
S4D = ("model=s4d", "trainer.window=2.5", "model.width=32", "model.depth=2")
SIGMOID = ("model=mlp", "model.norm=none", "model.dropout=0", "model.activation=sigmoid", "trainer.window=2.5")
SIGMOID += ("optimizer.lr=1e-3", "augment=none", "model.width=128")
POINTS = 40  # of a series that is stored, at most
READ = ("train/loss", "optim/lr", "grad/", "diag/entropy", "diag/kl_prior", "val/nll", "val/macro_auroc")
READ += ("act/variance/", "update/ratio/")

Corrupt = Callable[[Data, np.random.Generator], Data]


@dataclass(frozen=True)
class Recipe:
    """A run, what is done to it, and the rules of which one shall come first; none for a healthy run."""

    name: str
    expected: tuple[str, ...]
    options: tuple[str, ...]
    corrupt: Corrupt | None = None
    after: Callable[[Run], None] | None = None


class Memory:
    """What a run needs of a recorder."""

    run_id, position = "", 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            steps, numbers = self.history.setdefault(name, ([], []))
            self.latest[name] = float(value)
            steps.append(step)
            numbers.append(float(value))

    def flush(self, *, everything: bool = False) -> None:
        """Nothing is buffered."""


def rebuilt(data: Data, *, labels: Any = None, signals: Callable[[str, NDArray[np.int16]], Any] | None = None) -> Data:
    """The same splits with other labels or signals."""
    labels = labels or data.labels
    splits = {}
    for name, rows in data.rows.items():
        packed = data.store.signals.read(data.stored[rows])
        packed = packed if signals is None else signals(name, packed)
        splits[name] = DeviceSplit(torch.from_numpy(packed.copy()), torch.from_numpy(np.float32(labels.matrix[rows])))
    return replace(data, labels=labels, splits=splits)


def without_class(k: int) -> Corrupt:
    def corrupt(data: Data, rng: np.random.Generator) -> Data:
        matrix = data.labels.matrix.copy()
        matrix[data.rows["train"], k] = 0
        return rebuilt(data, labels=replace(data.labels, matrix=matrix))

    return corrupt


def flipped(share: float) -> Corrupt:
    def corrupt(data: Data, rng: np.random.Generator) -> Data:
        matrix, rows = data.labels.matrix.copy(), data.rows["train"]
        matrix[rows] ^= (rng.random(matrix[rows].shape) < share).astype(matrix.dtype)
        return rebuilt(data, labels=replace(data.labels, matrix=matrix))

    return corrupt


def copied(share: float, gain: float) -> Corrupt:
    """Some records of the validation split are training records, at another gain and under another number."""

    def corrupt(data: Data, rng: np.random.Generator) -> Data:
        train = data.store.signals.read(data.stored[data.rows["train"]])

        def signals(name: str, packed: NDArray[np.int16]) -> NDArray[np.int16]:
            if name == "val":
                rows = rng.choice(len(packed), round(share * len(packed)), replace=False)
                packed[rows] = np.rint(gain * train[rng.choice(len(train), len(rows), replace=False)])
            return packed

        return rebuilt(data, signals=signals)

    return corrupt


def constant(share: float) -> Corrupt:
    """In some records, every lead stays where it begins."""

    def corrupt(data: Data, rng: np.random.Generator) -> Data:
        def signals(name: str, packed: NDArray[np.int16]) -> NDArray[np.int16]:
            still = rng.random(len(packed)) < share
            packed[still] = packed[still][:, :, :1]
            return packed

        return rebuilt(data, signals=signals)

    return corrupt


@torch.no_grad()
def zeroed(run: Run) -> None:
    """Every matrix and kernel of the network starts at zero."""
    for parameter in run.model.network.parameters():
        if parameter.ndim > 1:
            parameter.zero_()


def _set(seed: int, recipes: list[Recipe]) -> list[Recipe]:
    """Records of one seed, and a seed of its own for each run."""
    return [
        replace(recipe, options=(*recipe.options, f"data.seed={seed}", f"seed={seed + number}"))
        for number, recipe in enumerate(recipes)
    ]


HELD_OUT = _set(
    7,
    [
        Recipe("learning rate x 100", ("learning_rate_high", "diverged"), (*FCN, "optimizer.lr=0.4")),
        Recipe("learning rate / 1000", ("learning_rate_low",), (*INCEPTION, "optimizer.lr=4e-6")),
        Recipe("24 sigmoid layers", ("vanishing_gradient",), (*SIGMOID, "model.depth=24")),
        Recipe("zero initialization", ("broken_init",), FCN, after=zeroed),
        Recipe("no normalisation", ("no_normalisation",), (*WANG, "model.norm=none", "model.width=64")),
        Recipe("shuffled labels", ("nothing_learned",), (*XRESNET, "task.shuffle_labels=true")),
        Recipe("one class missing", ("missing_class",), WANG, without_class(4)),
        Recipe("12 % of val copied from train", ("shared_between_splits",), XRESNET, copied(0.12, 0.6)),
        Recipe("60 % constant input", ("constant_input",), VIT, constant(0.6)),
        Recipe("40 % of the labels flipped", ("label_noise",), CONV, flipped(0.4)),
        Recipe("conv_attention", (), CONV),
        Recipe("resnet1d_wang, sgd, one_cycle", (), (*WANG, "optimizer=sgd", "schedule=one_cycle")),
        Recipe("fcn_wang, nadam", (), (*FCN, "optimizer=nadam")),
        Recipe("inception1d, linear", (), (*INCEPTION, "schedule=linear")),
        Recipe("xresnet1d18, whitened", (), (*XRESNET, "pca=whiten")),
        Recipe("vit1d", (), VIT),
        Recipe("resnet1d_wang, no projection", (), (*WANG, "pca=none")),
        Recipe("conv_attention, muon, orthogonal", (), (*CONV, "optimizer=muon", "init=orthogonal")),
        Recipe("conv_attention, single label", (), (*CONV, "task.single_label=true")),
        Recipe("xresnet1d18, gelu, no augmentation", (), (*XRESNET, "model.activation=gelu", "augment=none")),
    ],
)
TUNE = _set(
    0,
    [
        Recipe("learning rate x 100, conv_attention", ("learning_rate_high",), (*CONV, "optimizer.lr=0.4")),
        Recipe("learning rate x 100, resnet1d_wang", ("learning_rate_high",), (*WANG, "optimizer.lr=0.4")),
        Recipe("learning rate x 50, sgd", ("learning_rate_high",), (*FCN, "optimizer=sgd", "optimizer.lr=5.0")),
        Recipe("learning rate / 1000, conv_attention", ("learning_rate_low",), (*CONV, "optimizer.lr=4e-6")),
        Recipe("learning rate / 1000, sgd", ("learning_rate_low",), (*FCN, "optimizer=sgd", "optimizer.lr=1e-4")),
        Recipe("20 sigmoid layers", ("vanishing_gradient",), (*SIGMOID, "model.depth=20")),
        Recipe("zero initialization", ("broken_init",), CONV, after=zeroed),
        Recipe("no normalisation", ("no_normalisation",), BARE),
        Recipe("no normalisation, resnet1d_wang", ("no_normalisation",), (*WANG, "model.norm=none")),
        Recipe("shuffled labels", ("nothing_learned",), (*CONV, "task.shuffle_labels=true")),
        Recipe("shuffled labels, resnet1d_wang", ("nothing_learned",), (*WANG, "task.shuffle_labels=true")),
        Recipe("one class missing", ("missing_class",), CONV, without_class(1)),
        Recipe("30 % of val copied from train", ("shared_between_splits",), CONV, copied(0.3, 1.0)),
        Recipe("constant input", ("constant_input",), CONV, constant(0.999)),
        Recipe("30 % of the labels flipped", ("label_noise",), CONV, flipped(0.3)),
        Recipe("45 % of the labels flipped", ("label_noise",), CONV, flipped(0.45)),
        Recipe("conv_attention", (), CONV),
        Recipe("resnet1d_wang", (), WANG),
        Recipe("fcn_wang", (), FCN),
        Recipe("inception1d", (), INCEPTION),
        Recipe("xresnet1d18", (), XRESNET),
        Recipe("vit1d", (), VIT),
        Recipe("s4d", (), S4D),
        Recipe("xresnet1d18, single label", (), (*XRESNET, "task.single_label=true")),
        Recipe("conv_attention, sgd", (), (*CONV, "optimizer=sgd")),
        Recipe("conv_attention, muon", (), (*CONV, "optimizer=muon")),
    ],
)


def trained(recipe: Recipe, folder: Path) -> tuple[History, dict[str, Any], list[Advice]]:
    """Series, facts and advice of a run."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides=[*FAST, *recipe.options])
    load, rng = assemble.load_data, np.random.default_rng(config.seed)

    def loaded(*arguments: Any) -> Data:
        return load(*arguments) if recipe.corrupt is None else recipe.corrupt(load(*arguments), rng)

    with mock.patch.object(assemble, "load_data", loaded):
        run = Run(config, folder)
    if recipe.after:
        recipe.after(run)
    memory: Any = Memory()
    facts, found = advise.examine(run, memory), dict[str, Evaluation]()
    try:
        run.train(memory)
        found = {split: run.evaluate(split) for split in ("val", "test") if split in run.data.splits}
    except UserError:
        pass  # diverged; the advice says so
    for split, each in found.items():
        told = run.task.metrics(each.y, each.p, run.data.labels.classes)
        memory.record(run.position.step + 1, {f"{split}/{name}": value for name, value in told.items()})
    facts |= advise.at_end(run, found)
    return memory.history, facts, advice_on(memory.history, facts, build(config.advice))


def thinned(history: History) -> dict[str, list[list[float]]]:
    """What the rules read, with few points and digits."""
    kept = {}
    for name, (steps, values) in history.items():
        if name.startswith(READ):
            rows = sorted({*range(0, len(steps), -(-len(steps) // POINTS)), len(steps) - 1})
            kept[name] = [[steps[row] for row in rows], [float(f"{values[row]:.4g}") for row in rows]]
    return kept


def main() -> None:
    torch.set_num_threads(1)
    console.quiet = True
    arguments = sys.argv[1:]
    recipes = TUNE if "--tune" in arguments else HELD_OUT
    store = Path(arguments[arguments.index("--store") + 1]) if "--store" in arguments else None
    names = [a for a in arguments if not a.startswith("--") and (store is None or a != str(store))]
    kept, wrong = [], 0
    print(f"{'run':<38}{'expected first':<24}{'AUROC':>6}  advice")
    for recipe in recipes:
        if names and recipe.name not in names:
            continue
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            history, facts, advice = trained(recipe, Path(folder))
        rules = [each.rule for each in advice]
        right = rules[0] in recipe.expected if recipe.expected and rules else not rules and not recipe.expected
        wrong += not right
        auroc = history.get("val/macro_auroc", ([], [float("nan")]))[1][-1]
        print(
            f"{recipe.name:<38}{(recipe.expected or ('nothing',))[0]:<24}{auroc:>6.3f}  "
            f"{'' if right else 'WRONG: '}{', '.join(rules) or 'nothing'}  ({time.process_time() - start:.0f} s)",
            flush=True,
        )
        kept.append({"name": recipe.name, "expected": recipe.expected, "history": thinned(history), "facts": facts})
        if store:
            store.write_text(json.dumps(kept))
    print(f"{wrong} of {len(kept)} wrong")


if __name__ == "__main__":
    main()
