"""The report of runs: what the tracking store has of them, as one page of HTML that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import einthoven
from einthoven.atomic import write_text
from einthoven.errors import UserError
from einthoven.report.comparison import comparison_page
from einthoven.report.curves import METRICS as CURVES
from einthoven.report.metric_text import SPLIT_WORDS
from einthoven.report.reported import MOST, Pairing, ReportedRun
from einthoven.report.sweep_note import answering_metrics, compared_by
from einthoven.runs.comparison.paired import LoggedPredictions, auroc_difference, logged_predictions
from einthoven.runs.config.parameters import read_options
from einthoven.terminal.display import say_if_any
from einthoven.tracking.addresses import read_ids, require_store
from einthoven.tracking.artifacts import content, files
from einthoven.tracking.places import check_store
from einthoven.tracking.recorder import NOTE_TAG
from einthoven.tracking.runs import find_runs
from einthoven.tracking.server import client
from einthoven.tracking.sweep import as_in_yaml, differing_options, history, last_metrics, overrides
from einthoven.tracking.usual_store import origin_of_store, usual_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

NOTE_FILE = "note.md"
"""Artifact with the whole note of a run, if it is too long for the tag."""
PICTURES_FOLDER = "figures"


def write_report(names: list[str], uri: str, output: Path) -> str:
    """Write a page about some runs, and return a sentence about its file, its size, and the runs on it.

    The names are as in `einthoven.tracking.runs.find_runs`. If `uri` is empty, the store is that of the first name that
    is the folder of a run, or the usual store.
    """
    store = uri or store_of(names)
    if not uri:
        say_if_any(origin_of_store(store))
    tracking = client(store)
    named_runs = find_runs(tracking, names)
    runs = _comparable(named_runs)
    shown_runs = _best(runs)
    reported = []
    for run, label in zip(shown_runs, _labels(shown_runs), strict=True):
        reported.append(_reported(tracking, run, label, has_pictures=len(shown_runs) == 1))

    remarks = []
    for run in named_runs:
        reason = why_not_comparable(run)
        if reason:
            remarks.append(f"{run.info.run_name} {reason}.")
    if len(shown_runs) < len(runs):
        remarks.append(_left_out(runs, shown_runs))

    title = f"{len(reported)} runs compared: {shown_runs[0].data.tags['task']}"
    page = comparison_page(
        reported[0].name if len(reported) == 1 else title,
        reported,
        _pairings(tracking, shown_runs),
        remarks=remarks,
        by=f"einthoven {einthoven.__version__} on {datetime.now(UTC):%Y-%m-%d}",
    )
    write_text(output, page)
    # Runs may have the same name.
    names_of_runs = ", ".join(f"{run.info.run_name} ({run.info.run_id[:8]})" for run in shown_runs)
    return f"Wrote {output} ({len(page.encode()) / 1e6:.1f} MB). It shows {names_of_runs}."


def store_of(names: Sequence[str]) -> str:
    """Return the store of the first name that is the folder of a run; the usual store if no name is a folder."""
    folders = [Path(name) for name in names if Path(name).is_dir()]
    if not folders:
        return usual_store("report")
    uri = read_ids(folders[0])["uri"]
    check_store(uri, folders[0] / "tracking" / "run.json")
    require_store(folders[0], uri)
    return uri


def _comparable(runs: Sequence[MlflowRun]) -> list[MlflowRun]:
    """Return the runs that have something to show. They have to have one task."""
    comparable = [run for run in runs if not why_not_comparable(run)]
    if not comparable:
        reasons = [f"{run.info.run_name} {why_not_comparable(run)}" for run in runs]
        raise UserError(f"report: {'; '.join(reasons)}.")
    for run in comparable:
        if "task" not in run.data.tags:
            raise UserError(f"{run.info.run_name}: trained nothing itself; a sweep is reported alone, or by its runs.")
    tasks = {run.data.tags["task"]: run.info.run_name for run in comparable}
    if len(tasks) > 1:
        listed = ", ".join(f"{task} ({name})" for task, name in tasks.items())
        raise UserError(f"report: these runs are of different tasks, {listed}; expected one.")
    return comparable


def why_not_comparable(run: MlflowRun) -> str:
    """Return why a run has nothing to show; an empty text if it has."""
    if run.info.status == "RUNNING":
        return "has not ended yet"
    if "task" not in run.data.tags and "error" in run.data.tags:
        return f"failed before it began ({run.data.tags['error'].rstrip('.')})"
    return ""


def _best(runs: Sequence[MlflowRun]) -> list[MlflowRun]:
    """Return as many runs as a page takes: the first run and the best of the others, in the given order."""
    metric = compared_by([run.data.metrics for run in runs])

    def worst_last(run: MlflowRun) -> float:
        value = answering_metrics(run.data.metrics).get(metric, math.nan)
        return math.inf if math.isnan(value) else -value

    best_others = sorted(runs[1:], key=worst_last)[: MOST - 1]
    return [runs[0], *(run for run in runs[1:] if run in best_others)]


def _left_out(runs: Sequence[MlflowRun], shown_runs: Sequence[MlflowRun]) -> str:
    """Return a sentence about the runs that the page does not show."""
    metric = compared_by([run.data.metrics for run in runs])
    others = [run for run in runs if run not in shown_runs]
    listed = []
    for run, label in zip(others, _labels(others), strict=True):
        metrics = answering_metrics(run.data.metrics)
        value = f" ({metrics[metric]:.3f})" if metric in metrics else ""
        listed.append(f"{label}{value}")
    if any(metric in run.data.metrics for run in runs):
        choice = f"first of {len(runs)} runs and the best of the others by {metric}"
    else:
        choice = f"first {len(shown_runs)} of {len(runs)} runs, none of which has a metric to choose by"
    return f"The {choice}. Left out: {', '.join(listed)}."


def _labels(runs: Sequence[MlflowRun]) -> list[str]:
    """Return how each run differs from the others: overrides and seed. A run that does not differ has its name."""
    seeds = [run.data.params.get("seed", "") for run in runs]
    has_several_seeds = len(set(seeds)) > 1
    labels = []
    for run, options, seed in zip(runs, differing_options(runs), seeds, strict=True):
        parts = [f"{name}={value}" for name, value in options.items()]
        if has_several_seeds:
            parts.append(f"seed={seed}")
        labels.append(" ".join(parts) or str(run.info.run_name))
    return labels


def _reported(tracking: MlflowClient, run: MlflowRun, label: str, has_pictures: bool) -> ReportedRun:
    """Read from the store what the page shows of a run."""
    whole_note = content(tracking, run, NOTE_FILE)
    pictures = {}
    if has_pictures:
        for path in files(tracking, run, PICTURES_FOLDER):
            data = content(tracking, run, path) if path.endswith(".png") else None
            if data is not None:
                pictures[Path(path).stem] = data
    return ReportedRun(
        name=str(run.info.run_name),
        label=label,
        facts=_facts(run),
        params=_options(tracking, run),
        metrics=last_metrics(run),
        history=history(tracking, run, CURVES),
        note=run.data.tags.get(NOTE_TAG, "") if whole_note is None else whole_note.decode(),
        pictures=pictures,
    )


def _options(tracking: MlflowClient, run: MlflowRun) -> dict[str, str]:
    """Return every option of a run.

    ``config.yaml`` has all options. The parameters have fewer options, but also names and sizes.
    """
    config = content(tracking, run, "config.yaml")
    options: dict[str, str] = {}
    if config is not None:
        try:
            options = read_options(config.decode(errors="replace"))
        except UserError as error:
            raise UserError(f"{run.info.run_name}: config.yaml: {error}") from None
    return {name: as_in_yaml(value) for name, value in (options | run.data.params).items()}


def _facts(run: MlflowRun) -> dict[str, str]:
    """Return the origin of a run, and how it ended."""
    tags = run.data.tags
    info = run.info
    inputs = run.inputs.dataset_inputs if run.inputs else []
    sizes = {split: record_count(run, split) for split in ("train", *SPLIT_WORDS)}
    facts = {
        "status": info.status.lower(),
        "error": tags.get("error", ""),
        "task": tags.get("task", ""),
        "data": ", ".join(dict.fromkeys(dataset_input.dataset.name for dataset_input in inputs)),
        "records": ", ".join(f"{size:,} {split}" for split, size in sizes.items() if size),
        "data fingerprint": tags.get("data.fingerprint", ""),
        "trained with": f"einthoven {tags.get('einthoven.version', '')}".strip(),
        "git commit": tags.get("mlflow.source.git.commit", ""),
        "device": " in ".join(tags[name] for name in ("device", "precision") if name in tags),
        "started": f"{datetime.fromtimestamp(info.start_time / 1000, UTC):%Y-%m-%d %H:%M} UTC",
        "duration": _duration((info.end_time - info.start_time) / 1000) if info.end_time else "",
        "options given": overrides(run),
        "run id": info.run_id,
    }
    return {name: value for name, value in facts.items() if value}


def record_count(run: MlflowRun, split: str) -> int:
    """Return how many records a run had in a split. Version 0.1 logged this number as a metric."""
    tag = run.data.tags.get(f"data.records.{split}", "")
    return int(tag) if tag.isdigit() else int(run.data.metrics.get(f"data/records/{split}", 0))


def _duration(seconds: float) -> str:
    """Return a duration in its two largest units, without a line break between them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        text = f"{hours} h {minutes_of_hour} min"
    elif minutes:
        text = f"{minutes} min {rest} s"
    else:
        text = f"{rest} s"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _pairings(tracking: MlflowClient, runs: Sequence[MlflowRun]) -> list[Pairing]:
    """Compare each run with the first one, in each split in which a run has metrics."""
    pairings: list[Pairing] = []
    if len(runs) == 1:
        return pairings
    for split in SPLIT_WORDS:
        if any(f"{split}/loss" in run.data.metrics for run in runs):
            predictions = [logged_predictions(tracking, run, split) for run in runs]
            for number, other in enumerate(predictions[1:], start=1):
                pairings.append(_pairing(predictions[0], other, number, split))
    return pairings


def _pairing(first: LoggedPredictions | str, other: LoggedPredictions | str, number: int, split: str) -> Pairing:
    """Compare the predictions of two runs for the same records. A text says why a run has no predictions."""
    if isinstance(first, str):
        return Pairing(number, split, first)
    if isinstance(other, str):
        return Pairing(number, split, other)
    is_by_patient = first.patients is not None and other.patients is not None
    try:
        return Pairing(number, split, auroc_difference(first, other), len(first.records), is_by_patient)
    except UserError as error:
        return Pairing(number, split, str(error))
