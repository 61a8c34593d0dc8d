"""A sweep is a parent run: its children hang below it, and it shows them in one table."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from einthoven.tracking.recorder import client, experiment_id, without_folders

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARENT = "EINTHOVEN_PARENT_RUN"
"""Environment variable with the run id of the sweep's parent: workers of any launcher inherit it."""

METRICS = ("val/macro_auroc", "test/macro_auroc")


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

    def score(group: Group) -> float:
        value = group.mean(METRICS[0])
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


class SweepCallback(Callback):
    """Opens the parent run before the jobs of a multirun, and writes the table into it after them."""

    def __init__(self) -> None:
        self._run_id: str | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run."""
        from hydra.core.hydra_config import HydraConfig

        HydraConfig.instance().set_config(config)  # the names in the configuration refer to it
        overrides = without_folders(" ".join(config.hydra.overrides.task))
        tracking = client(config.tracking.uri)
        run = tracking.create_run(
            experiment_id(tracking, config.tracking.experiment),
            run_name=f"sweep {overrides}"[:250],
            tags={
                "mlflow.source.name": f"einthoven train -m {overrides}",
                "mlflow.source.type": "LOCAL",
                "einthoven.overrides": overrides,
            },
        )
        self._run_id = os.environ[PARENT] = run.info.run_id

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table, and close the parent run."""
        assert self._run_id is not None
        os.environ.pop(PARENT, None)
        tracking = client(config.tracking.uri)
        parent = tracking.get_run(self._run_id)
        children = tracking.search_runs(
            [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{self._run_id}'", max_results=50_000
        )
        groups = group_by_seed(
            [(c.data.tags.get("einthoven.overrides", ""), c.info.status, c.data.metrics) for c in children]
        )
        columns, cells = rows(groups)
        report(tracking, self._run_id, columns, cells)
        if groups:
            for metric in METRICS:
                for name, value in ((metric, groups[0].mean(metric)), (f"{metric}_sd", groups[0].sd(metric))):
                    if not math.isnan(value):
                        tracking.log_metric(self._run_id, name, value)
            tracking.set_tag(self._run_id, "best", groups[0].overrides)
        tracking.set_terminated(self._run_id, "FAILED" if any(g.failed for g in groups) else "FINISHED")


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
