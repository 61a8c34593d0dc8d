"""`einthoven report RUN [RUN ...]`: runs side by side on one page of HTML that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import einthoven
from einthoven.atomic import write_text
from einthoven.errors import UserError
from einthoven.report.comparison import comparison_page
from einthoven.report.curves import METRICS as CURVES
from einthoven.report.reported import MOST, SPLITS, Pairing, ReportedRun
from einthoven.report.sweep_note import compared_by
from einthoven.runs.paired import Judged, difference, judged
from einthoven.runs.parameters import options_of
from einthoven.terminal.output import check_output
from einthoven.tracking.artifacts import content, files, usual_store
from einthoven.tracking.places import check_store
from einthoven.tracking.run_folder import identity
from einthoven.tracking.runs import meant
from einthoven.tracking.server import client
from einthoven.tracking.sweep import differing, history, last_metrics, overrides

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

NOTE, WHOLE_NOTE = "mlflow.note.content", "note.md"
_PICTURES = "figures"


def report(arguments: list[str]) -> Path:
    """Write the page; the value is where.

    Parameters
    ----------
    arguments : list of str
        Runs, as `einthoven.tracking.runs.find` knows them, and ``output=…`` and ``uri=…``, if not the defaults.

    Raises
    ------
    UserError
        If a run is unknown or in another store, none has ended, or they are of different tasks.
    """
    options = {"output": "report.html", "uri": ""}
    names = []
    for argument in arguments:
        key, mark, value = argument.partition("=")
        if mark and key in options:
            options[key] = value
        else:
            names.append(argument)
    if not names:
        raise UserError("report: no run given; expected folders (outputs/…), ids or names of runs.")
    output = Path(options["output"])
    check_output(f"output={options['output']}", output)
    tracking = client(options["uri"] or _store(names))
    found = meant(tracking, names)
    runs = _comparable(found)
    kept = _kept(runs)
    told = [_reported(tracking, run, label, len(kept) == 1) for run, label in zip(kept, _labels(kept), strict=True)]
    title = told[0].name if len(told) == 1 else f"{len(told)} runs compared: {kept[0].data.tags['task']}"
    page = comparison_page(
        title,
        told,
        _pairings(tracking, kept),
        remarks=[f"{run.info.run_name} {_why_not(run)}." for run in found if _why_not(run)] + _left_out(runs, kept),
        by=f"einthoven {einthoven.__version__} on {datetime.now(UTC):%Y-%m-%d}",
    )
    write_text(output, page)
    print(f"{output} ({len(page.encode()) / 1e6:.1f} MB): {', '.join(run.name for run in told)}")
    return output


def _store(names: Sequence[str]) -> str:
    """The store of the first folder of a run; the usual one where none is named."""
    folders = [Path(name) for name in names if Path(name).is_dir()]
    if not folders:
        return usual_store("report")
    uri = identity(folders[0])["uri"]
    check_store(uri, folders[0] / "tracking" / "run.json")
    return uri


def _comparable(runs: Sequence[MlflowRun]) -> list[MlflowRun]:
    """Those runs that have something to show, which have to be of one task."""
    shown = [run for run in runs if not _why_not(run)]
    if not shown:
        raise UserError(f"report: {'; '.join(f'{run.info.run_name} {_why_not(run)}' for run in runs)}.")
    for run in shown:
        if "task" not in run.data.tags:
            raise UserError(f"{run.info.run_name}: trained nothing itself; a sweep is reported alone, or by its runs.")
    tasks = {run.data.tags["task"]: run.info.run_name for run in shown}
    if len(tasks) > 1:
        listed = ", ".join(f"{task} ({name})" for task, name in tasks.items())
        raise UserError(f"report: these runs are of different tasks, {listed}; expected one.")
    return shown


def _why_not(run: MlflowRun) -> str:
    """Why a run has nothing to show; empty if it has."""
    if run.info.status == "RUNNING":
        return "has not ended yet"
    if "task" not in run.data.tags and "error" in run.data.tags:
        return f"failed before it began ({run.data.tags['error'].rstrip('.')})"
    return ""


def _kept(runs: Sequence[MlflowRun]) -> list[MlflowRun]:
    """As many runs as a page takes: the first, and of the others the best; the first ones, if none has a metric."""
    metric = compared_by([run.data.metrics for run in runs])
    best = sorted(runs[1:], key=lambda run: -_value(run, metric))[: MOST - 1]
    return [runs[0], *(run for run in runs[1:] if run in best)]


def _value(run: MlflowRun, metric: str) -> float:
    value = run.data.metrics.get(metric, math.nan)
    return -math.inf if math.isnan(value) else value


def _left_out(runs: Sequence[MlflowRun], kept: Sequence[MlflowRun]) -> list[str]:
    if len(kept) == len(runs):
        return []
    metric = compared_by([run.data.metrics for run in runs])
    others = [run for run in runs if run not in kept]
    told = ", ".join(
        f"{label} ({run.data.metrics[metric]:.3f})" if metric in run.data.metrics else label
        for run, label in zip(others, _labels(others), strict=True)
    )
    if any(metric in run.data.metrics for run in runs):
        shown = f"first of {len(runs)} runs and the best of the others by {metric}"
    else:
        shown = f"first {len(kept)} of {len(runs)} runs, none of which has a metric to choose by"
    return [f"The {shown}. Left out: {told}."]


def _labels(runs: Sequence[MlflowRun]) -> list[str]:
    """What tells each run from the others: overrides and seed; its name where these tell nothing."""
    seeds = [run.data.params.get("seed", "") for run in runs]
    labels = []
    for run, options, seed in zip(runs, differing(runs), seeds, strict=True):
        parts = [f"{name}={value}" for name, value in options.items()] + [f"seed={seed}"] * (len(set(seeds)) > 1)
        labels.append(" ".join(parts) or str(run.info.run_name))
    return labels


def _reported(tracking: MlflowClient, run: MlflowRun, label: str, alone: bool) -> ReportedRun:
    return ReportedRun(
        name=str(run.info.run_name),
        label=label,
        facts=_facts(run),
        params=_options(tracking, run),
        metrics=last_metrics(run),
        history=history(tracking, run, CURVES),
        note=_description(tracking, run),
        pictures=_pictures(tracking, run) if alone else {},
    )


def _options(tracking: MlflowClient, run: MlflowRun) -> dict[str, str]:
    """Every option of a run: of its ``config.yaml``, and of its parameters, which are fewer but for names and sizes."""
    written = content(tracking, run, "config.yaml")
    if written is None:
        return dict(run.data.params)
    try:
        return options_of(written.decode(errors="replace")) | run.data.params
    except UserError as error:
        raise UserError(f"{run.info.run_name}: config.yaml: {error}") from None


def _facts(run: MlflowRun) -> dict[str, str]:
    """Where a run comes from, and how it ended."""
    tags, info = run.data.tags, run.info
    inputs = run.inputs.dataset_inputs if run.inputs else []
    sizes = {split: _records(run, split) for split in ("train", *SPLITS)}
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    facts = {
        "status": info.status.lower(),
        "error": tags.get("error", ""),
        "task": tags.get("task", ""),
        "data": ", ".join(dict.fromkeys(each.dataset.name for each in inputs)),
        "records": ", ".join(f"{size:,} {split}" for split, size in sizes.items() if size),
        "data fingerprint": tags.get("data.fingerprint", ""),
        "trained with": f"einthoven {tags.get('einthoven.version', '')}".strip(),
        "git commit": tags.get("mlflow.source.git.commit", ""),
        "device": " in ".join(tags[name] for name in ("device", "precision") if name in tags),
        "started": f"{datetime.fromtimestamp(info.start_time / 1000, UTC):%Y-%m-%d %H:%M} UTC",
        "duration": "" if seconds is None else _duration(seconds),
        "options given": overrides(run),
        "run id": info.run_id,
    }
    return {name: value for name, value in facts.items() if value}


def _records(run: MlflowRun, split: str) -> int:
    """How many records a run had in a split; version 0.1 has it as a metric."""
    known = run.data.tags.get(f"data.records.{split}", "")
    return int(known) if known.isdigit() else int(run.data.metrics.get(f"data/records/{split}", 0))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    told = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return told.replace(" ", "\N{NO-BREAK SPACE}")


def _description(tracking: MlflowClient, run: MlflowRun) -> str:
    """The note of a run: the whole of it, where the tag had no room."""
    whole = content(tracking, run, WHOLE_NOTE)
    return run.data.tags.get(NOTE, "") if whole is None else whole.decode()


def _pictures(tracking: MlflowClient, run: MlflowRun) -> dict[str, bytes]:
    found = {path: content(tracking, run, path) for path in files(tracking, run, _PICTURES) if path.endswith(".png")}
    return {Path(path).stem: data for path, data in found.items() if data is not None}


def _pairings(tracking: MlflowClient, runs: Sequence[MlflowRun]) -> list[Pairing]:
    """Each run beside the first, in each split of which any run has metrics."""
    return [
        pairing
        for split in SPLITS
        if len(runs) > 1 and any(f"{split}/loss" in run.data.metrics for run in runs)
        for pairing in _paired([_judged(tracking, run, split) for run in runs], split)
    ]


def _paired(found: Sequence[Judged | str], split: str) -> list[Pairing]:
    first = found[0]
    pairings = []
    for number, other in islice(enumerate(found), 1, None):
        if isinstance(first, str) or isinstance(other, str):
            reason = first if isinstance(first, str) else str(other)
            pairings.append(Pairing(number, split, reason))
            continue
        try:
            by_patient = first.patients is not None and other.patients is not None
            pairings.append(Pairing(number, split, difference(first, other), len(first.records), by_patient))
        except UserError as error:
            pairings.append(Pairing(number, split, str(error)))
    return pairings


def _judged(tracking: MlflowClient, run: MlflowRun, split: str) -> Judged | str:
    """What a run predicted of the records of a split, or why that is not known."""
    kept = content(tracking, run, f"predictions/{split}.json")
    if kept is None:
        return f"{run.info.run_name} kept no predictions of that split."
    table = json.loads(kept)
    columns: Mapping[str, Sequence[float]] = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    found = judged(columns, run.data.params.get("trainer.aggregate", "mean"))
    return found or "the task is a quantity, and paired differences are of classes."
