"""`einthoven probe run=FOLDER data=…`: how much of some labels the embeddings of a trained encoder contain.

The encoder is frozen. Each record is embedded once, and the embeddings are the input of a linear probe and of nearest
neighbours. The same is done with random encoders of the same architecture: only what lies above them was learned.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven import schema
from einthoven.atomic import write_text
from einthoven.build import build
from einthoven.errors import UserError
from einthoven.evaluation.probe_comparison import ProbeResult
from einthoven.predict.embedding import Encoder
from einthoven.runs.data.data_loading import load_data
from einthoven.runs.data.input_checks import refuse_other_input
from einthoven.runs.data.run_data import Data
from einthoven.runs.evaluation.encoder import TrainedEncoder, read_run_encoder
from einthoven.runs.evaluation.probe_scores import compare_encoders
from einthoven.runs.results.evaluation_output import as_json, log_next_point, name_folds
from einthoven.schema import ProbeOptions
from einthoven.tasks.classification import Classification
from einthoven.terminal.display import console, say
from einthoven.terminal.evaluation_tables import probe_table
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import require_run
from einthoven.tracking.closing import closing
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import without_password
from einthoven.training.precision import choose_device

if TYPE_CHECKING:
    from omegaconf import DictConfig

FILE = "probe.json"


def probe(config: DictConfig) -> dict[str, ProbeResult]:
    """Probe the encoder of a run as ``conf/probe.yaml`` says, write ``probe.json`` and log the results to the run."""
    from omegaconf import OmegaConf

    fixed = [str(name) for name in config if name not in ("data", "task")]
    options = schema.read_group(OmegaConf.masked_copy(config, fixed), ProbeOptions, "")
    all_folds = schema.read_group(config.data.folds, schema.Folds, "data.folds")
    task = _build_task(config)
    device = choose_device(options.device)
    trained = read_run_encoder(Path(options.run))
    require_run(Path(options.run), str(trained.config.tracking.uri), trained.run_id)

    # The signals of a split that is not used are not read.
    folds: dict[str, list[int]] = {"train": all_folds.train, "val": [], "test": []}
    folds[options.report] = getattr(all_folds, options.report)
    run_config = OmegaConf.create({"data": config.data, "trainer": {"residency": "auto"}})
    data = load_data(run_config, folds, task, device, options.seed)
    if options.report not in data.splits:
        raise UserError(
            f"data.folds.{options.report}={folds[options.report]}: no labelled record there; expected other folds."
        )
    source = f"run={options.run}"
    refuse_other_input(source, trained.encoder.input_format, data.store.leads, data.store.fs)
    _refuse_shorter_records(trained.encoder, data, source)
    judged = {f"{options.report} (folds {folds[options.report]})": options.report}
    data.refuse_seen(judged, trained.ancestry, source)

    classes, results = compare_encoders(trained, data, options, device)
    _show(data, options, task, folds, classes, results)
    content = {
        "model": {"sha256": trained.encoder.sha256, "hash_of": trained.encoder.kind},
        "data": {"fingerprint": data.store.fingerprint, "folds": folds, "task": task.name, "notes": data.notes},
        "options": {name: value for name, value in asdict(options).items() if name != "run"},
        "classes": classes,
        "results": {name: asdict(result) for name, result in results.items()},
    }
    tags = {"probe.data.fingerprint": data.store.fingerprint[:12], "probe.task": task.name}
    _write(trained, options, content, results, tags)
    return results


def _build_task(config: DictConfig) -> Classification:
    """Build the task whose labels are probed.

    Raises a `UserError` if it does not predict classes.
    """
    target = str(config.task.get("_target_"))
    if target != f"{Classification.__module__}.{Classification.__qualname__}":
        raise UserError(f"task: {target} predicts no classes; expected a task of classes, such as superdiagnostic.")
    task: Classification = build(config.task, "task")
    if task.shuffle_labels:
        raise UserError("task.shuffle_labels=true: expected false; the random encoders are the control of a probe.")
    if task.targets is not None:
        raise UserError(f"task.targets={task.targets}: a probe learns the classes themselves; expected null.")
    return task


def _refuse_shorter_records(encoder: Encoder, data: Data, source: str) -> None:
    """Refuse records that are shorter than a window of the encoder."""
    expected = encoder.input_format
    samples = data.splits["train"].samples
    if samples < expected.window:
        raise UserError(
            f"{source}: reads windows of {expected.window / expected.fs:g} s, and these records have "
            f"{samples / expected.fs:g} s; expected longer records (data.seconds)."
        )


def _show(
    data: Data,
    options: ProbeOptions,
    task: Classification,
    folds: dict[str, list[int]],
    classes: tuple[str, ...],
    results: dict[str, ProbeResult],
) -> None:
    """Print the results as a table."""
    judged = len(data.patients(options.report))
    trained_on = len(data.patients("train"))
    say(
        f"The probes are fitted to {trained_on:,} records of {name_folds(folds['train'])} and judged on {judged:,} "
        f"records of {name_folds(folds[options.report])}. The task {task.name} has the classes {' '.join(classes)}. "
        f"The intervals have a level of {options.level:.0%} ({options.resamples} resamples of patients)."
    )
    left_out = [name for name in data.labels.classes if name not in classes]
    if left_out:
        say(
            f"Left out are the classes that lack one of their two labels in the training or the judged folds: "
            f"{' '.join(left_out)}."
        )
    names = {"linear": "linear", "neighbours": f"{options.neighbours} nearest neighbours"}
    console.print(probe_table(results, names))


def _write(
    trained: TrainedEncoder,
    options: ProbeOptions,
    content: dict[str, Any],
    results: dict[str, ProbeResult],
    tags: dict[str, str],
) -> None:
    """Write the results into the folder of the run, and log them to its MLflow run."""
    folder = Path(options.run)
    tracking = schema.read_group(trained.config.tracking, schema.Tracking, "tracking")
    with run_folder.writing(folder) as lock:
        write_text(folder / FILE, json.dumps(as_json(content), indent=2) + "\n")
        recorder = Recorder(
            tracking.uri,
            tracking.experiment,
            tracking.run_name,
            folder=folder,
            tags={},
            run_id=trained.run_id,
            patience=tracking.patience,
            offline=tracking.offline,
            lock=lock,
        )
        with closing(recorder):
            recorder.tags(tags)
            log_next_point(recorder, _metrics(results, options.report))
            recorder.file(folder / FILE, "probe")
    say(f"Wrote {FILE} to {folder} and to run {recorder.run_id} in {without_password(recorder.uri)}.")


def _metrics(results: dict[str, ProbeResult], split: str) -> dict[str, float]:
    """Return the metrics that are logged."""
    metrics: dict[str, float] = {}
    for name, result in results.items():
        metrics |= {
            f"{split}/probe/{name}_macro_auroc": result.macro_auroc,
            f"{split}/probe/{name}_macro_auroc_low": result.interval.low,
            f"{split}/probe/{name}_macro_auroc_high": result.interval.high,
            f"{split}/probe/{name}_random_macro_auroc": result.random_mean,
            f"{split}/probe/{name}_difference": result.difference.difference,
        }
    return metrics
