"""The results of a run as sentences and as cells of a table."""

from __future__ import annotations

from collections.abc import Mapping

from einthoven.data.sources.splits import SPLITS
from einthoven.functional.words import capitalized
from einthoven.report.metric_text import SPLIT_WORDS, metric_text
from einthoven.runs.results.mean_evaluation import MEAN
from einthoven.runs.run import RunParts


def sentences(run: RunParts, metrics: Mapping[str, float]) -> list[str]:
    """Return the main result of a run with its interval, and that of its mean with other models, if it has one.

    The metrics are empty if the run failed.
    """
    split = next((name for name in ("test", "val") if f"{name}/{run.task.monitor}" in metrics), "")
    if not split:
        return []
    label = run.task.metric_titles[run.task.monitor]
    records = f"{len(run.data.rows[split]):,} {SPLIT_WORDS[split]} records"
    own = _with_interval(metrics, f"{split}/{run.task.monitor}")
    members = member_names(run)
    if not members or f"{split}/{MEAN}_{run.task.monitor}" not in metrics:
        return [f"**{capitalized(label)} {own}**, on {records}."]
    mean = _with_interval(metrics, f"{split}/{MEAN}_{run.task.monitor}")
    others = [f"{name} alone {_with_interval(metrics, f'{split}/{name}_{run.task.monitor}')}" for name in members]
    return [
        f"**{capitalized(label)} {mean}** for the mean of the network and {' and '.join(members)}, on {records}.",
        f"The network alone {own}; {'; '.join(others)}.",
    ]


def member_names(run: RunParts) -> list[str]:
    """Return the names of the models that answer together with the network."""
    return list(map(str, run.config.get("mean_with") or {}))


def by_split(run: RunParts, metrics: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Return metrics as text, by their label and their split. Those of other models and of the mean come last."""
    rows: dict[str, dict[str, str]] = {}
    prefixes = {"": ""} | {f"{name}_": f" of {name}" for name in member_names(run)}
    if len(prefixes) > 1:
        prefixes[f"{MEAN}_"] = " of the mean"
    for prefix, owner in prefixes.items():
        for name, label in run.task.metric_titles.items():
            for split in SPLITS:
                if f"{split}/{prefix}{name}" in metrics:
                    cell = _with_interval(metrics, f"{split}/{prefix}{name}")
                    rows.setdefault(f"{label}{owner}", {})[split] = cell
    return rows


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    """Return a metric with its interval, if it has one."""
    return metric_text(metrics, name, note=", 95 %")
