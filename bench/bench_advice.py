"""Advice on runs that are broken on purpose, and on healthy ones: is the right thing said first, and nothing false?

    python bench/bench_advice.py [--draw N] [--store FILE]

Ten broken recipes and ten healthy ones, small networks on 800 embedded records, some ten seconds of one core each.
Which network, how severe, which records and seeds follows from the number of the draw: the limits of conf/advice were
set on draws 0 to 2, and any other number is a set that nobody has looked at before. --store writes the series that the
rules read, thinned, for the test that runs without training.
"""

from __future__ import annotations

import argparse
import json
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
from einthoven.contracts import Predictions
from einthoven.data.store.splits import DeviceSplit
from einthoven.diagnostics.advice import advise as advice_on
from einthoven.diagnostics.rules.base import Advice, History
from einthoven.errors import UserError
from einthoven.runs import advice, run_data
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.run_data import Data
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.display import console

FAST = ("data.records=800", "trainer.epochs=8", "tracking.experiment=bench", "tracking.run_name=bench")
CONV = ("model=conv_attention", "model.channels=[32,64,64]")
WANG = ("model=resnet1d_wang", "trainer.window=2.5", "model.width=48")
FCN = ("model=fcn_wang", "trainer.window=2.5", "model.channels=[48,96,48]")
INCEPTION = ("model=inception1d", "trainer.window=2.5", "model.depth=3", "model.filters=12", "model.bottleneck=12")
XRESNET = ("model=xresnet1d18", "trainer.window=2.5", "model.width=24")
VIT = ("model=vit1d", "model.depth=2", "model.dim=64")
S4D = ("model=s4d", "trainer.window=2.5", "model.width=32", "model.depth=2")
SIGMOID = ("model=mlp", "model.norm=none", "model.dropout=0", "model.activation=sigmoid", "trainer.window=2.5")
SIGMOID += ("optimizer.lr=1e-3", "augment=none")
NETWORKS = {
    "conv_attention": CONV,
    "resnet1d_wang": WANG,
    "fcn_wang": FCN,
    "inception1d": INCEPTION,
    "xresnet1d18": XRESNET,
    "vit1d": VIT,
    "s4d": S4D,
}
UNNORMALISED = {
    "conv_attention": ("model.norm=none", "model.token_norm=none"),
    "resnet1d_wang": ("model.norm=none",),
}
HEALTHY = (
    ("optimizer=adamw", "optimizer=nadam", "optimizer=sgd", "optimizer=muon"),
    ("schedule=cosine", "schedule=one_cycle", "schedule=linear"),
    ("pca=leads", "pca=whiten", "pca=none"),
    ("augment=default", "augment=none"),
)
FACTUAL = {"class_never_predicted"}  # nothing is concluded: the probabilities are as it says, of healthy runs, too
LONG = ("trainer.epochs=16",)  # a healthy run has learned something at its end, whatever the network
LR = 4e-3  # of the default optimizer
POINTS = 40  # of a series that is stored, at most
READ = (
    "train/loss",
    "watch/optim/lr",
    "watch/grad/",
    "watch/diag/entropy",
    "watch/diag/kl_prior",
    "val/nll",
    "val/macro_auroc",
)
READ += ("watch/act/variance/", "watch/update/ratio/")

Corrupt = Callable[[Data, np.random.Generator], Data]


@dataclass(frozen=True)
class Recipe:
    """A run, what is done to it, and the rules of which one shall come first; none for a healthy run."""

    name: str
    expected: tuple[str, ...]
    options: tuple[str, ...]
    corrupt: Corrupt | None = None
    after: Callable[[NetworkRun], None] | None = None


class Memory:
    """What a run needs of a recorder."""

    run_id, position = "", 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}

    def log_metrics(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            steps, numbers = self.history.setdefault(name, ([], []))
            self.latest[name] = float(value)
            steps.append(step)
            numbers.append(float(value))

    def table(self, table: object, file: str) -> None:
        """No table is kept."""

    def flush(self, *, everything: bool = False) -> None:
        """Nothing is buffered."""


def rebuilt(data: Data, *, labels: Any = None, signals: Callable[[str, NDArray[np.int16]], Any] | None = None) -> Data:
    """The same splits with other labels or signals."""
    labels = labels or data.labels
    splits = {}
    for name, rows in data.rows.items():
        packed = data.store.signals.read(data.store_rows[rows])
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
        train = data.store.signals.read(data.store_rows[data.rows["train"]])

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
def zeroed(run: NetworkRun) -> None:
    """Every matrix and kernel of the network starts at zero."""
    for parameter in run.model.network.parameters():
        if parameter.ndim > 1:
            parameter.zero_()


def drawn(seed: int) -> list[Recipe]:
    """Ten broken runs and ten healthy ones: networks, severities, records and seeds all follow from one number."""
    rng = np.random.default_rng(seed)

    def network(*names: str) -> tuple[str, tuple[str, ...]]:
        name = str(rng.choice(names or tuple(NETWORKS)))
        return name, NETWORKS[name]

    def about(value: float) -> float:
        return float(value * rng.uniform(1, 1.5) ** rng.choice([-1, 1]))

    def broken(
        what: str, expected: tuple[str, ...], *options: str, networks: tuple[str, ...] = (), **how: Any
    ) -> Recipe:
        name, own = network(*networks)
        return Recipe(f"{what}, {name}", expected, (*own, *options), **how)

    depth, width = rng.integers(20, 29), rng.choice([96, 128, 160])
    high, low = about(100), about(1000)
    k, shared, gain, still, flips = (
        rng.integers(5),
        about(0.15),
        about(1.0),
        rng.uniform(0.3, 1),
        rng.uniform(0.35, 0.45),
    )
    recipes = [
        broken(f"learning rate x {high:.0f}", ("learning_rate_high", "diverged"), f"optimizer.lr={LR * high:.3g}"),
        broken(f"learning rate / {low:.0f}", ("learning_rate_low",), f"optimizer.lr={LR / low:.3g}"),
        Recipe(
            f"{depth} sigmoid layers",
            ("vanishing_gradient",),
            (*SIGMOID, f"model.depth={depth}", f"model.width={width}"),
        ),
        broken("zero initialization", ("broken_init",), after=zeroed),
        Recipe(
            "no normalisation, " + (bare := network(*UNNORMALISED))[0],
            ("no_normalisation",),
            (*bare[1], *UNNORMALISED[bare[0]]),
        ),
        broken("shuffled labels", ("nothing_learned",), "task.shuffle_labels=true"),
        broken(f"class {k} missing", ("missing_class",), corrupt=without_class(k)),
        broken(
            f"{shared:.0%} of val copied, times {gain:.2f}", ("shared_between_splits",), corrupt=copied(shared, gain)
        ),
        broken(f"{still:.0%} constant input", ("constant_input",), corrupt=constant(still)),
        broken(f"{flips:.0%} of labels flipped", ("flipped_labels",), corrupt=flipped(flips)),
    ]
    for _ in range(10):
        name, own = network()
        options = tuple(str(rng.choice(choices)) for choices in HEALTHY)
        told = ", ".join((name, *(o.split("=")[1] for o in options)))
        recipes.append(Recipe(told, (), (*own, *options, *LONG)))
    return [
        replace(recipe, options=(*recipe.options, f"data.seed={seed}", f"seed={100 * seed + number}"))
        for number, recipe in enumerate(recipes)
    ]


def trained(recipe: Recipe, folder: Path) -> tuple[History, dict[str, Any], list[Advice]]:
    """Series, facts and advice of a run."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides=[*FAST, *recipe.options])
    load, rng = run_data.load_data, np.random.default_rng(config.seed)

    def loaded(*arguments: Any) -> Data:
        return load(*arguments) if recipe.corrupt is None else recipe.corrupt(load(*arguments), rng)

    with mock.patch.object(run_data, "load_data", loaded):
        run = NetworkRun(config, folder)
    if recipe.after:
        recipe.after(run)
    memory: Any = Memory()
    facts, found = advice.measure_splits(run, memory), dict[str, Predictions]()
    try:
        with run.training(memory) as fit:
            fit()
        found = {split: run.evaluate(split) for split in ("val", "test") if split in run.data.splits}
    except UserError:
        pass  # diverged; the advice says so
    for split, each in found.items():
        told = run.task.metrics(each.y, each.p, run.data.labels.classes)
        memory.log_metrics(run.position.step + 1, {f"{split}/{name}": value for name, value in told.items()})
    facts |= advice.final_facts(run, found)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, default=3)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    kept, wrong = [], 0
    print(f"{'run':<46}{'expected first':<24}{'AUROC':>6}  advice")
    for recipe in drawn(options.draw):
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            history, facts, advice = trained(recipe, Path(folder))
        rules = [each.rule for each in advice]
        right = bool(rules) and rules[0] in recipe.expected if recipe.expected else FACTUAL.issuperset(rules)
        wrong += not right
        auroc = history.get("val/macro_auroc", ([], [float("nan")]))[1][-1]
        print(
            f"{recipe.name:<46}{(recipe.expected or ('nothing',))[0]:<24}{auroc:>6.3f}  "
            f"{'' if right else 'WRONG: '}{', '.join(rules) or 'nothing'}  ({time.process_time() - start:.0f} s)",
            flush=True,
        )
        kept.append({"name": recipe.name, "expected": recipe.expected, "history": thinned(history), "facts": facts})
        if options.store:
            options.store.write_text(json.dumps(kept))
    print(f"{wrong} of {len(kept)} wrong")


if __name__ == "__main__":
    main()
