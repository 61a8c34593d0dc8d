"""A sweep is a parent run: its children hang below it, and it shows them in one table."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.tracking.files import PROBE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

FloatArray = NDArray[np.float64]

PARENT = "EINTHOVEN_PARENT_RUN"
"""Environment variable with the run id of the sweep's parent: workers of any launcher inherit it."""

METRICS = ("val/macro_auroc", "test/macro_auroc", "val/r2", "test/r2")
"""What runs are compared by; of the first that any of them has, more is better."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone."""

    overrides: str
    values: Mapping[str, tuple[float, ...]]  # metric -> one value a run
    runs: int
    failed: int

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN if no run has the metric."""
        values = self.values.get(metric, ())
        return statistics.fmean(values) if values else math.nan

    def sd(self, metric: str) -> float:
        """Sample standard deviation over the seeds; NaN below two runs."""
        values = self.values.get(metric, ())
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def cell(self, metric: str) -> str:
        """``mean ± sd`` as text."""
        mean, sd = self.mean(metric), self.sd(metric)
        if math.isnan(mean):
            return "–"
        return f"{mean:.4f}" if math.isnan(sd) else f"{mean:.4f} ± {sd:.4f}"


def group_by_seed(children: Sequence[tuple[str, str, Mapping[str, float]]]) -> list[Group]:
    """Gather runs by the overrides in which they differ, the seed apart; best mean first.

    Parameters
    ----------
    children : sequence of (overrides, status, metrics)
    """
    common = set.intersection(*(set(overrides.split()) for overrides, _, _ in children)) if children else set()
    gathered: dict[str, list[tuple[str, Mapping[str, float]]]] = {}
    for overrides, status, metrics in children:
        own = [o for o in overrides.split() if o not in common and not o.startswith("seed=")]
        name = " ".join(own) or "(all runs)"
        gathered.setdefault(name, []).append((status, metrics))
    groups = [
        Group(
            overrides=name,
            values={m: tuple(metrics[m] for _, metrics in runs if m in metrics) for m in METRICS},
            runs=len(runs),
            failed=sum(status != "FINISHED" for status, _ in runs),
        )
        for name, runs in gathered.items()
    ]

    first = next((metric for metric in METRICS if any(group.values[metric] for group in groups)), METRICS[0])

    def score(group: Group) -> float:
        value = group.mean(first)
        return -math.inf if math.isnan(value) else value

    return sorted(groups, key=score, reverse=True)


def rows(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells of the table of a sweep."""
    metrics = [m for m in METRICS if any(group.values.get(m) for group in groups)]
    columns = ["configuration", "runs", *(f"{m} (mean ± sd)" for m in metrics)]
    return columns, [
        [
            g.overrides,
            f"{g.runs}" + (f" ({g.failed} failed)" if g.failed else ""),
            *(g.cell(m) for m in metrics),
        ]
        for g in groups
    ]


def markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, which MLflow shows at the top of the run page."""
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def children(tracking: MlflowClient, parent: str) -> list[MlflowRun]:
    """Runs below a parent run, in the order in which they started."""
    place = tracking.get_run(parent).info.experiment_id
    found = tracking.search_runs([place], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=50_000)
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_name))


def differing(children: Sequence[MlflowRun]) -> list[dict[str, str]]:
    """The overrides of each run in which the runs differ, the seed apart."""
    given = [dict(o.split("=", 1) for o in overrides(run).split() if "=" in o) for run in children]
    names = [name for name in dict.fromkeys(n for one in given for n in one) if name != "seed"]
    differ = [name for name in names if len({one.get(name) for one in given}) > 1]
    return [{name.lstrip("+"): _as_in_yaml(one[name]) for name in differ if name in one} for one in given]


def _as_in_yaml(value: str) -> str:
    """Hydra's sweeper writes True where the yaml says true."""
    return value.lower() if value in ("True", "False", "None") else value


def overrides(run: MlflowRun) -> str:
    """What the command line, or the sweep, changed in a run."""
    return str(run.data.tags.get("einthoven.overrides", ""))


def history(tracking: MlflowClient, run: MlflowRun) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Every metric of a run: steps and values."""
    found = {}
    for name in run.data.metrics:
        points = sorted(tracking.get_metric_history(run.info.run_id, name), key=lambda point: point.step)
        found[name] = (np.array([p.step for p in points], float), np.array([p.value for p in points], float))
    return found


def arrays(tracking: MlflowClient, run: MlflowRun) -> dict[str, NDArray[Any]]:
    """What the probe of a run found; empty if it had none."""
    if not any(file.path == PROBE for file in tracking.list_artifacts(run.info.run_id)):
        return {}
    with TemporaryDirectory() as folder, np.load(tracking.download_artifacts(run.info.run_id, PROBE, folder)) as file:
        return dict(file)


def report(tracking: Any, run_id: str, columns: list[str], cells: list[list[str]]) -> None:
    """Put a table on a run: its description, an artifact, and the terminal."""
    from rich.console import Console
    from rich.table import Table

    tracking.set_tag(run_id, "mlflow.note.content", markdown(columns, cells))
    tracking.log_table(run_id, {name: [row[k] for row in cells] for k, name in enumerate(columns)}, "results.json")
    table = Table(*columns)
    for row in cells:
        table.add_row(*row)
    Console(highlight=False).print(table)


def abandon() -> None:
    """Close the parent run of a sweep that ended before its time."""
    from mlflow import MlflowClient

    if run_id := os.environ.pop(PARENT, None):
        MlflowClient().set_terminated(run_id, "FAILED")  # of the store that was opened for the sweep
