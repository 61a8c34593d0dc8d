"""The description of a sweep: a table of its configurations, the best one, and the command that repeats it."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from einthoven.report.markdown import markdown_table

METRICS = (
    "val/macro_auroc",
    "test/macro_auroc",
    "val/elbo",
    "test/elbo",
    "val/mutual_information",
    "test/mutual_information",
    "val/r2",
    "test/r2",
)
"""Metrics by which runs are compared: the first one that any run has. More is better."""

MEANS_COMPARED = "Runs with `mean_with` are compared by their mean, and not by their network alone."

_ROWS = 30  # largest number of rows of the table; MLflow cuts long notes
_LONG_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d{5,}(e[+-]?\d+)?\b")
_PRIVATE = "…/"  # stands for a private folder in a path


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    overrides: str
    """Options in which these runs differ from other runs."""
    values: Mapping[str, tuple[float, ...]]
    """Metric -> the finite values of the finished runs. Metrics without a value are left out."""
    runs: int
    failed: int
    given: tuple[str, ...] = ()
    """All options of each run, as the user typed them."""

    def mean(self, metric: str) -> float:
        """Return the mean over the seeds; NaN if no run has the metric."""
        values = self.values.get(metric, ())
        return statistics.fmean(values) if values else math.nan

    def sd(self, metric: str) -> float:
        """Return the sample standard deviation over the seeds; NaN for fewer than two runs."""
        values = self.values.get(metric, ())
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def cell(self, metric: str) -> str:
        """Return ``mean ± sd`` as text."""
        mean = self.mean(metric)
        sd = self.sd(metric)
        if math.isnan(mean):
            return "–"
        return f"{mean:.4f}" if math.isnan(sd) else f"{mean:.4f} ± {sd:.4f}"


def answering_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a run, with those of its mean under the names of `METRICS` if it has a mean.

    A run with ``mean_with`` answers with the mean of its network and other models, and not with the network alone.
    """
    answering = dict(metrics)
    for metric in METRICS:
        of_mean = name_of_mean(metric)
        if of_mean in metrics:
            answering[metric] = metrics[of_mean]
    return answering


def name_of_mean(metric: str) -> str:
    """Return the name of a metric for the mean of ``mean_with``: ``val/macro_auroc`` -> ``val/mean_macro_auroc``."""
    split, _, name = metric.partition("/")
    return f"{split}/mean_{name}"


def compared_by(metrics_of_runs: Sequence[Mapping[str, object]]) -> str:
    """Return the metric by which runs are compared: the first of `METRICS` that any run has, or simply the first."""
    for metric in METRICS:
        if any(metric in metrics for metrics in metrics_of_runs):
            return metric
    return METRICS[0]


def group_by_seed(children: Sequence[tuple[str, str, Mapping[str, float]]]) -> list[Group]:
    """Group runs by the overrides in which they differ, without the seed. The group with the best mean comes first.

    Parameters
    ----------
    children : sequence of (overrides, status, metrics)
    """
    # Overrides that all runs share do not distinguish them.
    overrides_of_runs = [set(shlex.split(overrides)) for overrides, _, _ in children]
    common = set.intersection(*overrides_of_runs) if children else set()
    runs_of_groups: dict[str, list[tuple[str, str, Mapping[str, float]]]] = {}
    for child in children:
        overrides = shlex.split(child[0])
        distinct = [override for override in overrides if override not in common and not override.startswith("seed=")]
        name = " ".join(distinct) or "(all runs)"
        runs_of_groups.setdefault(name, []).append(child)

    groups = []
    for name, runs in runs_of_groups.items():
        group = Group(
            overrides=name,
            values=_values(runs),
            runs=len(runs),
            failed=sum(status != "FINISHED" for _, status, _ in runs),
            given=tuple(overrides for overrides, _, _ in runs),
        )
        groups.append(group)
    metric = compared_by([group.values for group in groups])

    def score(group: Group) -> float:
        value = group.mean(metric)
        return -math.inf if math.isnan(value) else value

    return sorted(groups, key=score, reverse=True)


def _values(runs: Sequence[tuple[str, str, Mapping[str, float]]]) -> dict[str, tuple[float, ...]]:
    """Return the finite values of each metric. Failed runs do not count, even if they measured something before."""
    finished = [metrics for _, status, metrics in runs if status == "FINISHED"]
    values: dict[str, tuple[float, ...]] = {}
    for name in METRICS:
        numbers = tuple(metrics[name] for metrics in finished if math.isfinite(metrics.get(name, math.nan)))
        if numbers:
            values[name] = numbers
    return values


def best_group(groups: Sequence[Group]) -> Group | None:
    """Return the first of groups that are sorted by `group_by_seed`; None if it has no value to compare."""
    if not groups:
        return None
    metric = compared_by([group.values for group in groups])
    return groups[0] if groups[0].values.get(metric) else None


def rows(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the cells of the table of a sweep."""
    metrics = [metric for metric in METRICS if any(group.values.get(metric) for group in groups)]
    columns = ["configuration", "runs", *(f"{metric} (mean ± sd)" for metric in metrics)]
    cells = []
    for group in groups:
        runs = f"{group.runs} ({group.failed} failed)" if group.failed else f"{group.runs}"
        cells.append([brief(group.overrides), runs, *(group.cell(metric) for metric in metrics)])
    return columns, cells


def brief(text: str) -> str:
    """Round long numbers in a text to four digits."""
    return _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.4g}", text)


def repeated(given: Sequence[Sequence[str]], *, mode_in_yaml: bool) -> tuple[list[str], bool]:
    """Return the options that run a configuration again: one run, or one run per seed.

    Parameters
    ----------
    given : sequence of sequences of str
        All options of each run of the configuration. The runs differ only in their seed.
    mode_in_yaml : bool
        True if an option file, not ``-m``, made it a sweep.

    Returns
    -------
    options : list of str
    several : bool
        True if the options start several runs.
    """
    options = [option for option in given[0] if not option.startswith("seed=")]
    distinct_seeds = set()
    for options_of_run in given:
        distinct_seeds |= {option.removeprefix("seed=") for option in options_of_run if option.startswith("seed=")}

    # Shorter numbers first: 2 before 10.
    seeds = sorted(distinct_seeds, key=lambda seed: (len(seed), seed))
    if len(seeds) > 1:
        return [*options, f"seed={','.join(seeds)}", "again=true"], True

    # Without this option, the option file would start a sweep again.
    mode = ["hydra.mode=RUN"] if mode_in_yaml else []
    return [*options, *(f"seed={seed}" for seed in seeds), *mode], False


def note(
    groups: Sequence[Group],
    counts: Mapping[str, int],
    again: str | None,
    errors: Mapping[str, str],
    *,
    has_means: bool = False,
) -> str:
    """Return the description of a sweep as Markdown.

    Parameters
    ----------
    groups : sequence of Group
        Groups, the best first.
    counts : mapping
        Number of runs that were ``trained``, ``trained earlier`` and ``failed``.
    again : str, optional
        The command that repeats the best configuration, if there is one.
    errors : mapping
        Options of a failed run -> reason.
    has_means : bool
        Whether a run has a mean (``mean_with``), whose metrics are compared.
    """
    parts = []
    metric = compared_by([group.values for group in groups])
    best = best_group(groups)
    if has_means:
        parts.append(MEANS_COMPARED)
    if best is not None and again is not None:
        configurations = "configuration" if len(groups) == 1 else "configurations"
        folders = f", with your own folders for `{_PRIVATE}`" if _PRIVATE in again else ""
        parts.append(
            f"**{metric} {best.cell(metric)}** with `{brief(best.overrides)}`, the best of {len(groups)} "
            f"{configurations}. To run it again{folders}:"
        )
        parts.append(f"```\n{again}\n```")
        if metric.startswith("test/"):
            parts.append(
                "The best configuration was chosen on the test records, so this value is too good to be quoted. Set "
                "`data.folds.val` to a fold for the choice."
            )
    else:
        parts.append("No run has a metric for the comparison, so there is no best configuration.")
    parts.append(f"{sum(counts.values())} runs: {', '.join(f'{count} {name}' for name, count in counts.items())}.")
    columns, cells = rows(groups)
    parts.append(markdown_table(columns, cells[:_ROWS]))
    if len(cells) > _ROWS:
        parts.append(f"… and {len(cells) - _ROWS} more in `results.json`.")
    parts += [f"- failed: `{brief(options)}`: {error}" for options, error in list(errors.items())[:5]]
    return "\n\n".join(parts)
