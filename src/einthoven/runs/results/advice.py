"""The note of a run: what it was, its results, and advice on what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.build import build
from einthoven.contracts import Predictions, TaskKind
from einthoven.data.sources.splits import SPLITS
from einthoven.diagnostics import data
from einthoven.diagnostics.advice import advise
from einthoven.diagnostics.rules.base import Facts
from einthoven.report.gallery import describe_picture
from einthoven.report.note import note
from einthoven.report.note_picture import NAME
from einthoven.runs.config.next_commands import evaluate_command
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results.advice_facts import measure_augmentation, measure_biases
from einthoven.runs.results.results_in_words import by_split, member_names, sentences
from einthoven.runs.run import Run
from einthoven.terminal.display import say
from einthoven.tracking.artifact_address import artifact_address
from einthoven.tracking.files import FIGURES
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.recorder import Recorder

_EVALUATE = "einthoven evaluate"
"""The command as the rules name it."""


def measure_splits(run: Run, recorder: Recorder) -> dict[str, Any]:
    """Measure splits and augmentation before the training, and return facts that advice is based on.

    The table ``data.json`` shows the splits.
    """
    splits = {}
    for name in SPLITS:
        if name in run.data.splits:
            labels = _class_labels(run, name) if _has_classes(run) else None
            splits[name] = data.SplitData(run.data.labels.patients[run.data.rows[name]], labels)
    table, facts = data.compare_splits(run.data.measured.counts, splits, run.data.labels.classes)
    recorder.table(table, "data.json")
    if _has_classes(run):
        facts["chance"] = _chance_losses(run)
    if isinstance(run, NetworkParts):
        augment = build(run.config.augment)
        facts["augmented"] = measure_augmentation(augment, run.data.splits["train"], run.window, run.settings.seed)
        # Biases that have been trained belong to their features.
        if _has_classes(run) and run.base is None and run.position.step == 0:
            facts["bias_loss"] = measure_biases(run.model, run.task, _class_labels(run, "train"))
    return facts


def _has_classes(run: Run) -> bool:
    """Return whether the task is a classification."""
    return run.task.kind is TaskKind.CLASSES


def _class_labels(run: Run, split: str) -> NDArray[np.float64]:
    """Return the labels of the classes of each row of a split, (n, K)."""
    return run.task.class_labels(run.data.splits[split].labels).cpu().double().numpy()


def _chance_losses(run: Run) -> dict[str, float]:
    """Return the negative log-likelihood of each split if every prediction is the share of each label in training.

    A class that has no positive training record, or only such records, counts as half a record away from this.
    """
    labels = {name: _class_labels(run, name) for name in run.data.splits}
    least = 0.5 / len(labels["train"])
    shares = labels["train"].mean(axis=0).clip(least, 1 - least)
    return {name: run.task.negative_log_likelihood(y, np.broadcast_to(shares, y.shape)) for name, y in labels.items()}


def write_note(
    run: Run,
    recorder: Recorder,
    facts: Facts,
    metrics: Mapping[str, float],
    predictions: Mapping[str, Predictions],
    error: Exception | None = None,
) -> None:
    """Write the note of the run, and print its advice.

    `facts` are those of `measure_splits`. The final metrics and predictions of each split are empty if the run failed,
    and `error` says why.
    """
    recorder.flush(everything=True)
    advice = advise(recorder.history, {**facts, **final_facts(run, predictions)}, build(run.config.advice))
    reason = None if error is None else without_folders(str(error))
    recorder.note(
        note(
            sentences(run, metrics),
            _overview(run),
            by_split(run, metrics),
            advice,
            picture=_first_picture(run),
            error=reason,
        )
    )
    for item in advice:
        # The note is logged without folders. The printed command has them, so that it can be pasted.
        remedy = item.remedy.replace(_EVALUATE, evaluate_command(run.folder, recorder.uri))
        say(f"Advice {item.rank}: {item.sentence} {remedy}")


def final_facts(run: Run, predictions: Mapping[str, Predictions]) -> dict[str, Any]:
    """Return facts about a finished training that no metric shows, and the largest range of its predictions."""
    facts = dict(run.training_facts())
    if _has_classes(run) and "val" in predictions:
        facts["largest_range"] = float(np.ptp(predictions["val"].p, axis=0).max())
    return facts


def _first_picture(run: Run) -> tuple[str, str] | None:
    """Return description and address of the picture of the curves; None if a run has none."""
    if not (run.folder / FIGURES / f"{NAME}.png").exists():
        return None
    return describe_picture("loss"), artifact_address(f"{FIGURES}/{NAME}.png")


def _overview(run: Run) -> list[str]:
    """Return sentences: one about task and data, one about model and training, and one about other models."""
    store = run.data.store
    sizes = ", ".join(f"{len(rows):,} {split}" for split, rows in run.data.rows.items() if len(rows))
    seconds = store.signals.shape[-1] / store.fs
    classes = f", {len(run.data.labels.classes)} classes" if _has_classes(run) else ""
    sentences_about_run = [
        f"**{run.task.name}**{classes}, on {run.data.name}: {sizes} records of {len(store.leads)} leads and "
        f"{seconds:g} s at {store.fs:g} Hz.",
        run.describe_training(),
    ]
    members = member_names(run)
    if members:
        verb = "answers" if len(members) == 1 else "answer"
        sentences_about_run.append(
            f"{' and '.join(members)} {verb} together with the network: the probabilities of all are averaged "
            "(`mean_with`)."
        )
    return sentences_about_run
