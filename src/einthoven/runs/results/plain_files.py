"""The results of a run as plain files in its folder, for a reader who does not open MLflow."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from einthoven.atomic import atomic, write_text
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.report.gallery import gallery
from einthoven.report.markdown import markdown_table
from einthoven.runs.config.identity import git_commit, identity_tags
from einthoven.runs.folder.trained_data import installed_versions
from einthoven.runs.results.evaluation_output import as_json
from einthoven.runs.results.results_in_words import sentences
from einthoven.runs.run import Run, RunParts
from einthoven.strict_json import parse_json
from einthoven.tracking.files import FIGURES
from einthoven.tracking.recorder import Recorder

PREDICTIONS = "predictions"
GALLERY = "index.html"
METRICS = "metrics.json"

_MAX_BYTES = 1 << 24
_LARGE_PICTURE = 1_000_000  # bytes
_MOST_PICTURES = 300
_MOST_PIXELS = 50_000_000

FILES = {
    "index.html": "all figures on one page, each with a line that says what it shows",
    "figures/": "the figures as pictures",
    "metrics.json": "the result in a sentence, and the final metrics with the ends of their 95 % intervals (`…_low`)",
    "history.csv": "each metric over the steps of the training",
    "predictions/": "one line for each row of a split (a record may have several): labels, uncalibrated predictions",
    "config.yaml": "all options of the run",
    "dataset.json": "which records were used: hash of the content, number of records and patients, folds, classes",
    "environment.json": "versions of Python and of packages, device, number of threads, hash of the source",
    "quarantine.csv": "records that were left out, each with the reason",
    "evaluation.json": "the results of `einthoven evaluate`",
    "model_card.md": "the model card",
    "mean/": "the mean of the network and of other models: its results, predictions and bundle",
    "members/": "the other models of the mean",
    "bundle/": "the model for `einthoven predict`, with its calibration if it has one",
    "base.safetensors": "the model that the run started from",
    "readings/": "results of `einthoven evaluate` for other label sets and with `laplace=true`",
    "probe.json": "the results of `einthoven probe`",
    "profile/": "time and memory of each layer and operation",
    "delineator/": "the model that measures waves and intervals",
    "checkpoints/": "weights and the state of the training, for `einthoven train resume=…`",
    "identity.safetensors": "number, signal hash, labels, fold and patient of each record",
    "ancestry.safetensors": "hashes of the records that the model has seen",
    "tracking/": "what MLflow gets of this run; it may be deleted after the run was sent",
}
"""Place in the folder of a run -> what it contains."""


def write_environment(run: RunParts) -> None:
    """Write which records, software and machine a run uses. They contain no folder or name of the user."""
    data = run.data
    counts = {}
    for split, rows in data.rows.items():
        if len(rows):
            counts[split] = {"records": len(rows), "patients": len(set(data.patients(split).tolist()))}
    dataset = {
        "hash": data.store.fingerprint,
        "store": data.store.path.name,
        "splits": counts,
        "folds": asdict(run.settings.folds),
        "classes": list(data.labels.classes),
        "leads": list(data.store.leads),
        "sampling_frequency_hz": data.store.fs,
    }
    environment = {
        "versions": installed_versions(),
        "device": str(run.device),
        "precision": run.precision,
        "threads": torch.get_num_threads(),
        "git_commit": git_commit(),
        "seed": run.settings.seed,
        **identity_tags(run.config),
    }
    _write_json(run.folder / "dataset.json", dataset)
    _write_json(run.folder / "environment.json", environment)


def write_predictions(folder: Path, tables: Mapping[str, Mapping[str, list[object]]]) -> None:
    """Write a table of predictions (column -> values) for each split into the folder of a run."""
    for split, columns in tables.items():
        _write_csv(folder / PREDICTIONS / f"{split}.csv", columns)


def write_results(run: Run, recorder: Recorder, metrics: Mapping[str, float]) -> None:
    """Write the final metrics, their history, the gallery and the list of files."""
    result = " ".join(sentences(run, metrics)).replace("**", "")
    _write_json(run.folder / METRICS, {"result": result, "metrics": dict(metrics)})
    _write_csv(run.folder / "history.csv", _history_columns(recorder.history))
    write_gallery(run, recorder)


def write_gallery(run: RunParts, recorder: Recorder) -> None:
    """Write the page with all figures, log it, and write the list of the files in the folder."""
    name = run.settings.tracking.run_name
    result = _read_result(run.folder)
    pictures = _read_pictures(run.folder / FIGURES)
    if pictures:
        write_text(run.folder / GALLERY, gallery(name, result, pictures))
        recorder.file(run.folder / GALLERY, "")
    write_text(run.folder / "README.md", _list_files(run.folder, name, result))


def _read_pictures(folder: Path) -> dict[str, bytes]:
    """Return the pictures of a folder by their names.

    The folder may be a stranger's. A file that is damaged, too large or no picture is left out.
    """
    pictures = {}
    for file in islice(sorted(folder.glob("*.png")), _MOST_PICTURES):
        # Pillow raises exceptions of many kinds for a damaged file.
        with suppress(Exception):
            pictures[file.stem] = _read_picture(file)
    return pictures


def _read_picture(file: Path) -> bytes:
    """Return a picture for the gallery. A large one is shown at half its size: the page stays below 5 MB."""
    from PIL import Image

    content = read_file(file, _MAX_BYTES)
    half = io.BytesIO()
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise UserError(f"{file}: {image.width} x {image.height} pixels; expected at most {_MOST_PIXELS:,}.")
        if len(content) <= _LARGE_PICTURE:
            return content
        image.convert("RGB").reduce(2).save(half, "JPEG", quality=80)
    return half.getvalue()


def _read_result(folder: Path) -> str:
    """Return the sentence with the result of a run; empty if an earlier version trained it."""
    file = folder / METRICS
    if not file.exists():
        return ""
    content = parse_json(read_file(file, _MAX_BYTES), str(file))
    return str(content.get("result", "")) if isinstance(content, dict) else ""


def _list_files(folder: Path, name: str, result: str) -> str:
    """Return the list of the files in the folder of a run."""
    rows = [[f"`{place}`", text] for place, text in FILES.items() if (folder / place).exists()]
    parts = [f"# {name}", result, markdown_table(["file", "what it contains"], rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _history_columns(history: Mapping[str, tuple[list[int], list[float]]]) -> dict[str, list[object]]:
    """Return the values of all metrics below each other, ordered by the name of the metric."""
    columns: dict[str, list[object]] = {"metric": [], "step": [], "value": []}
    for metric in sorted(history):
        steps, values = history[metric]
        columns["metric"] += [metric] * len(steps)
        columns["step"] += steps
        columns["value"] += values
    return columns


def _write_csv(path: Path, columns: Mapping[str, list[object]]) -> None:
    import pyarrow as pa
    from pyarrow import csv

    path.parent.mkdir(exist_ok=True)
    with atomic(path) as partial:
        csv.write_csv(pa.table(dict(columns)), partial)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(as_json(dict(content)), indent=2) + "\n")
