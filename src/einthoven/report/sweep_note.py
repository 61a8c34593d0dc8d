"""What a sweep says of its runs: a table of its configurations, the best, and the command that repeats it."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

METRICS = ("val/macro_auroc", "test/macro_auroc", "val/r2", "test/r2")
"""What runs are compared by; of the first that any of them has, more is better."""

_ROWS = 30  # of the table in a note, which MLflow cuts
_LONG_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d{5,}(e[+-]?\d+)?\b")
_PRIVATE = "…/"  # before the name of a folder that is not told


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone."""

    overrides: str
    """In which they differ from other runs."""
    values: Mapping[str, tuple[float, ...]]
    """Metric -> one finite value of each finished run that has it; no metric that none has."""
    runs: int
    failed: int
    given: tuple[str, ...] = ()
    """All options of each run, as typed."""

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


def compared_by(found: Sequence[Mapping[str, object]]) -> str:
    """The metric that some runs are compared by: the first of `METRICS` that any of them has; if none, the first."""
    return next((metric for metric in METRICS if any(metric in metrics for metrics in found)), METRICS[0])


def group_by_seed(children: Sequence[tuple[str, str, Mapping[str, float]]]) -> list[Group]:
    """Gather runs by the overrides in which they differ, the seed apart; best mean first.

    Parameters
    ----------
    children : sequence of (overrides, status, metrics)
    """
    common = set.intersection(*(set(shlex.split(overrides)) for overrides, _, _ in children)) if children else set()
    gathered: dict[str, list[tuple[str, str, Mapping[str, float]]]] = {}
    for child in children:
        own = [o for o in shlex.split(child[0]) if o not in common and not o.startswith("seed=")]
        gathered.setdefault(" ".join(own) or "(all runs)", []).append(child)
    groups = [
        Group(
            overrides=name,
            values=_values(runs),
            runs=len(runs),
            failed=sum(status != "FINISHED" for _, status, _ in runs),
            given=tuple(overrides for overrides, _, _ in runs),
        )
        for name, runs in gathered.items()
    ]
    first = compared_by([group.values for group in groups])

    def score(group: Group) -> float:
        value = group.mean(first)
        return -math.inf if math.isnan(value) else value

    return sorted(groups, key=score, reverse=True)


def _values(runs: Sequence[tuple[str, str, Mapping[str, float]]]) -> dict[str, tuple[float, ...]]:
    """What runs reached: a failed run reached nothing, whatever it had measured before, and NaN is no value."""
    finished = [metrics for _, status, metrics in runs if status == "FINISHED"]
    values: dict[str, tuple[float, ...]] = {}
    for name in METRICS:
        numbers = tuple(metrics[name] for metrics in finished if math.isfinite(metrics.get(name, math.nan)))
        if numbers:
            values[name] = numbers
    return values


def best_group(groups: Sequence[Group]) -> Group | None:
    """The first of groups that are sorted best first; None if no run reached anything to compare by."""
    return groups[0] if groups and groups[0].values.get(compared_by([group.values for group in groups])) else None


def rows(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells of the table of a sweep."""
    metrics = [m for m in METRICS if any(group.values.get(m) for group in groups)]
    columns = ["configuration", "runs", *(f"{m} (mean ± sd)" for m in metrics)]
    return columns, [
        [
            brief(g.overrides),
            f"{g.runs}" + (f" ({g.failed} failed)" if g.failed else ""),
            *(g.cell(m) for m in metrics),
        ]
        for g in groups
    ]


def brief(text: str) -> str:
    """Numbers of many digits with four of them."""
    return _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.4g}", text)


def markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, which MLflow shows at the top of the run page."""
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def repeated(given: Sequence[Sequence[str]], *, mode_in_yaml: bool) -> tuple[list[str], bool]:
    """Options that run a configuration again: one run, or one for each of its seeds.

    Parameters
    ----------
    given : sequence of sequences of str
        All options of each of its runs, which differ in their seed alone.
    mode_in_yaml : bool
        Whether a recipe among them, not ``-m``, made it a sweep.

    Returns
    -------
    options : list of str
    several : bool
        Whether they are of several runs.
    """
    options = [option for option in given[0] if not option.startswith("seed=")]
    found = {option.removeprefix("seed=") for each in given for option in each if option.startswith("seed=")}
    seeds = sorted(found, key=lambda seed: (len(seed), seed))
    if len(seeds) > 1:
        return [*options, f"seed={','.join(seeds)}", "again=true"], True
    single = ["hydra.mode=RUN"] * mode_in_yaml
    return [*options, *(f"seed={seed}" for seed in seeds), *single], False


def note(groups: Sequence[Group], counts: Mapping[str, int], again: str | None, errors: Mapping[str, str]) -> str:
    """Describe a sweep, in Markdown.

    Parameters
    ----------
    groups : sequence of Group
        Best first.
    counts : mapping
        How many runs were ``trained``, ``found again`` and ``failed``.
    again : str, optional
        The command that repeats the best, if there is a best.
    errors : mapping
        Options of a run that failed -> why.
    """
    parts = []
    metric = compared_by([group.values for group in groups])
    best = best_group(groups)
    if best is not None and again is not None:
        parts += [
            f"**{metric} {best.cell(metric)}** with `{brief(best.overrides)}`, the best of {len(groups)} "
            f"configuration{'s' * (len(groups) > 1)}. To run it again"
            f"{f', with your own folders for `{_PRIVATE}`' if _PRIVATE in again else ''}:",
            f"```\n{again}\n```",
        ]
        if metric.startswith("test/"):
            parts.append(
                "Chosen by what is reported: too good to be quoted. Give `data.folds.val` a fold to choose by."
            )
    else:
        parts.append("No run reached a metric to compare by, so none is the best.")
    parts.append(f"{sum(counts.values())} runs: {', '.join(f'{count} {name}' for name, count in counts.items())}.")
    columns, cells = rows(groups)
    parts.append(markdown(columns, cells[:_ROWS]))
    if len(cells) > _ROWS:
        parts.append(f"… and {len(cells) - _ROWS} more in `results.json`.")
    parts += [f"- failed: `{brief(options)}`: {error}" for options, error in list(errors.items())[:5]]
    return "\n\n".join(parts)
