"""Advice on runs that are broken on purpose, and on healthy ones: is the cause named first, and nothing false?

    python bench/bench_advice.py [--draw N] [--only ROWS] [--store FILE] [--stored FILE ...] [--compare]

Twenty broken recipes and twenty healthy ones (advice_recipes.py), small networks on 800 embedded records, some ten
seconds of one core each. Which network, task and size, how severe, which records and seeds follows from the number of
the draw. --only 3,20-25 trains these rows only. The rules read thinned series, which --store writes, for the test that
runs without training. --stored trains nothing and reads such files. --compare also asks traintools (general_tools.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from advice_recipes import FAST, Recipe, drawn
from general_tools import Traintools
from hydra import compose, initialize_config_dir

from einthoven.build import build
from einthoven.contracts import Predictions, TaskKind
from einthoven.diagnostics.advice import advise as advice_on
from einthoven.diagnostics.rules.base import History, Limits
from einthoven.errors import UserError
from einthoven.runs.data import data_loading
from einthoven.runs.data.run_data import Data
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results import advice
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.display import console

HELD_OUT = 9
"""Number of the last draw that was looked at, after the rules and their limits were written."""

POINTS = 20
"""Points of a series that is stored, at most."""

READ = (
    "train/loss",
    "watch/optim/lr",
    "watch/grad/norm/",
    "watch/grad/clipped",
    "watch/grad/nonfinite",
    "watch/grad/vanishing",
    "watch/diag/entropy",
    "watch/diag/kl_prior",
    "watch/act/variance/",
    "watch/act/dead/",
    "watch/act/collapsed",
    "watch/act/effective_rank",
    "watch/act/active_latents",
    "watch/update/ratio/",
    "val/nll",
    "val/macro_auroc",
)
"""Beginnings of the names of the series that the rules read."""


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


def trained(recipe: Recipe, folder: Path, tools: Traintools | None) -> dict[str, Any]:
    """Return what the rules read of a run, the reason why it ended early, and what a general tool says."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides=[*FAST, *recipe.options])
    load = data_loading.load_data
    rng = np.random.default_rng(config.seed)

    def load_changed(*arguments: Any) -> Data:
        data = load(*arguments)
        return data if recipe.corrupt is None else recipe.corrupt(data, rng)

    with mock.patch.object(data_loading, "load_data", load_changed):
        run = NetworkRun(config, folder)
    if recipe.after:
        recipe.after(run)
    if tools:
        tools.watch(run)
    memory: Any = Memory()
    facts = advice.measure_splits(run, memory)
    predictions: dict[str, Predictions] = {}
    failure = ""
    try:
        with run.training(memory) as fit:
            fit()
        if run.task.kind is TaskKind.CLASSES:
            predictions = {split: run.evaluate(split) for split in ("val", "test") if split in run.data.splits}
    except UserError as error:
        failure = str(error)
    for split, of_split in predictions.items():
        metrics = run.task.metrics(of_split.y, of_split.p, run.data.labels.classes)
        memory.log_metrics(run.position.step + 1, {f"{split}/{name}": value for name, value in metrics.items()})
    facts |= advice.final_facts(run, predictions)
    return {
        "name": recipe.name,
        "expected": recipe.expected,
        "history": thinned(memory.history),
        "facts": rounded(facts),
        "ended": f" (ended: {failure[:60]})" if failure else "",
        "traintools": [tools.verdict(recipe.expected), tools.summary()] if tools else [],
    }


def thinned(history: History) -> dict[str, list[list[float]]]:
    """Return what the rules read, with few points and digits."""
    kept = {}
    for name, (steps, values) in history.items():
        if name.startswith(READ) or name == "watch/grad/norm":
            rows = sorted({*range(0, len(steps), -(-len(steps) // POINTS)), len(steps) - 1})
            kept[name] = [[steps[row] for row in rows], [float(f"{values[row]:.4g}") for row in rows]]
    return kept


def rounded(facts: Any) -> Any:
    """Return facts with few digits."""
    if isinstance(facts, dict):
        return {name: rounded(value) for name, value in facts.items()}
    return float(f"{facts:.4g}") if isinstance(facts, float) else facts


def rows_of(listed: str, count: int) -> list[int]:
    """Return the rows that an option lists: 3,20-25."""
    rows: list[int] = []
    for part in filter(None, listed.split(",")):
        first, _, last = part.partition("-")
        rows += range(int(first), int(last or first) + 1)
    return rows if listed else list(range(count))


def show(row: int, run: Mapping[str, Any], limits: Limits) -> bool:
    """Print the advice on a run that was trained or stored, and return whether it is right."""
    expected = tuple(run["expected"])
    rules = [item.rule for item in advice_on(run["history"], run["facts"], limits)]
    is_right = rules[:1] == [] if not expected else bool(rules) and rules[0] in expected
    auroc = run["history"].get("val/macro_auroc", ([], [float("nan")]))[1][-1]
    print(
        f"{row:>3} {run['name']:<72}{(expected or ('nothing',))[0]:<22}{auroc:>6.3f}  "
        f"{'' if is_right else 'WRONG: '}{', '.join(rules) or 'nothing'}{run['ended']}",
        flush=True,
    )
    if run["traintools"]:
        print(f"    traintools: {'; '.join(run['traintools'])}", flush=True)
    return is_right


def main() -> None:
    torch.set_num_threads(1)
    console.quiet = True
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, default=HELD_OUT)
    parser.add_argument("--only", default="")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--stored", type=Path, nargs="+")
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        limits: Limits = build(compose("train").advice)

    runs: dict[int, dict[str, Any]] = {}
    if options.stored:
        for file in options.stored:
            runs |= {int(row): run for row, run in json.loads(file.read_text()).items()}
    recipes = drawn(options.draw)
    rows = sorted(runs) or rows_of(options.only, len(recipes))
    wrong = 0
    print(f"{'':>3} {'run':<72}{'expected first':<22}{'AUROC':>6}  advice")
    for row in rows:
        if not options.stored:
            tools = Traintools() if options.compare else None
            with tempfile.TemporaryDirectory() as folder:
                runs[row] = trained(recipes[row], Path(folder), tools)
        wrong += not show(row, runs[row], limits)
        if options.store:
            options.store.write_text(json.dumps(runs))
    print(f"{wrong} of {len(rows)} wrong")
    verdicts = Counter(runs[row]["traintools"][0] for row in rows if runs[row]["traintools"])
    for verdict, count in sorted(verdicts.items()):
        print(f"traintools: {verdict} in {count} runs")


if __name__ == "__main__":
    main()
