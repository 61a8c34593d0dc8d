"""What a run is told at its end, and tells on its page: what it was, what came out, what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn
from torch.optim import SGD

from einthoven.build import build
from einthoven.contracts import Predictions
from einthoven.data.sources.splits import SPLITS
from einthoven.diagnostics import data
from einthoven.diagnostics.advice import advise
from einthoven.diagnostics.stages import stages
from einthoven.report.note import note
from einthoven.runs.feature_run import FittedRun
from einthoven.runs.network_run import Run
from einthoven.runs.next_commands import evaluate_command
from einthoven.terminal.display import say

if TYPE_CHECKING:
    from einthoven.diagnostics.rules.base import Facts
    from einthoven.tracking.recorder import Recorder

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_CLASSES = ("sigmoid", "softmax")
_EVALUATE = "einthoven evaluate"  # as rules name the command
_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def examine(run: Run | FittedRun, recorder: Recorder) -> dict[str, Any]:
    """Look at the splits before training: the table ``data.json`` into the run, and the facts that advice rests on."""
    held, classes = run.data.splits, run.data.labels.classes
    labelled = run.task.output in _CLASSES
    table, facts = data.compare_splits(
        {
            name: data.SplitData(
                held[name].chunks(),
                run.data.labels.patients[run.data.rows[name]],
                held[name].labels.cpu().double().numpy() if labelled else None,
            )
            for name in SPLITS
            if name in held
        },
        classes,
    )
    recorder.table(table, "data.json")
    return facts | ({"chance": _chance(run)} if labelled else {})


def _chance(run: Run | FittedRun) -> dict[str, float]:
    """Negative log-likelihood of telling every record of a split the shares of its labels, split by split."""
    y = {name: split.labels.cpu().double().numpy() for name, split in run.data.splits.items()}
    return {
        name: run.task.negative_log_likelihood(each, np.broadcast_to(each.mean(axis=0), each.shape))
        for name, each in y.items()
    }


def conclude(
    run: Run | FittedRun,
    recorder: Recorder,
    facts: Facts,
    metrics: Mapping[str, float],
    found: Mapping[str, Predictions],
    error: Exception | None = None,
) -> None:
    """Write the note of the run, and print its advice.

    Parameters
    ----------
    facts : mapping
        As `examine` found them.
    metrics : mapping
        Final metrics; empty where the run failed.
    found : mapping of str to Predictions
        Final predictions of each split; empty where the run failed.
    error : Exception, optional
        Why it failed.
    """
    recorder.flush(everything=True)
    advice = advise(recorder.history, {**facts, **at_end(run, found)}, build(run.config.advice))
    recorder.note(note(_overview(run), _results(run, metrics), advice, None if error is None else str(error)))
    for each in advice:
        # The note of the run goes to the store without folders; what is shown here can be pasted.
        remedy = each.remedy.replace(_EVALUATE, evaluate_command(run.folder, recorder.uri))
        say(f"advice {each.rank}: {each.sentence} {remedy}")


def at_end(run: Run | FittedRun, found: Mapping[str, Predictions]) -> dict[str, Any]:
    """What no series says of a training, and the range of its predictions: further facts that advice rests on."""
    predicted = {split: _predicted(run, each) for split, each in found.items() if run.task.output in _CLASSES}
    if isinstance(run, FittedRun):
        return {"predicted": predicted}
    trainer, network = run.settings.trainer, run.model.network
    return {
        "predicted": predicted,
        "stages": list(stages(network)),
        "normalised": any(isinstance(module, _NORMS) for module in network.modules()),
        "layers": sum(isinstance(module, _WEIGHTS) for module in network.modules()),
        "epochs": trainer.epochs,
        "steps_per_epoch": run.steps_per_epoch,
        "clip_norm": trainer.clip_norm,
        "plain_loss": _is_likelihood(run),
        "proportional": isinstance(run.optimizer, SGD),
    }


def _is_likelihood(run: Run) -> bool:
    """Whether the training loss is the negative log-likelihood, which chance can be told of."""
    y = np.eye(max(2, len(run.data.labels.classes)))[:, : len(run.data.labels.classes)]
    p = np.full_like(y, 0.3) if run.task.output == "sigmoid" else np.full_like(y, 1 / y.shape[1])
    return run.task.output in _CLASSES and bool(
        np.isclose(run.task.training_loss(y, p), run.task.negative_log_likelihood(y, p))
    )


def _predicted(run: Run | FittedRun, found: Predictions) -> dict[str, dict[str, float]]:
    """Of each class, the positive records and the smallest and largest probability."""
    return {
        name: {"positive": float(y.sum()), "lowest": float(p.min()), "highest": float(p.max())}
        for name, y, p in zip(run.data.labels.classes, found.y.T, found.p.T, strict=True)
    }


def _overview(run: Run | FittedRun) -> list[str]:
    store, classes = run.data.store, run.data.labels.classes
    sizes = ", ".join(f"{len(rows):,} {split}" for split, rows in run.data.rows.items() if len(rows))
    seconds = store.signals.shape[-1] / store.fs
    asked = f", {len(classes)} classes" if run.task.output in _CLASSES else ""
    told = [
        f"**{run.task.name}**{asked}, on {store.path.name.rsplit('-', 1)[0]}: {sizes} records of "
        f"{len(store.leads)} leads and {seconds:g} s at {store.fs:g} Hz."
    ]
    if isinstance(run, FittedRun):
        return [*told, f"{type(run.model).__name__}, fitted to ECG features; seed {run.settings.seed}."]
    trainer, parameters = run.settings.trainer, sum(p.numel() for p in run.model.parameters())
    done = run.position.epoch
    chosen = f", weights of epoch {run.position.best_epoch}" if trainer.select == "best" else ""
    return [
        *told,
        f"{type(run.model.network).__name__} ({parameters:,} parameters), {type(run.optimizer).__name__}, "
        f"{done} of {trainer.epochs} epochs of {run.steps_per_epoch} steps{chosen}; batches of {run.batch_size} on "
        f"{run.device} in {run.precision}; seed {run.settings.seed}.",
    ]


def _results(run: Run | FittedRun, metrics: Mapping[str, float]) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for name, label in run.task.shown.items():
        for split in SPLITS:
            if (value := metrics.get(f"{split}/{name}")) is not None:
                low, high = (metrics.get(f"{split}/{name}_{end}") for end in ("low", "high"))
                interval = f" ({low:.3f} to {high:.3f}, 95 %)" if low is not None and high is not None else ""
                rows.setdefault(label, {})[split] = f"{value:.3f}{interval}"
    return rows
