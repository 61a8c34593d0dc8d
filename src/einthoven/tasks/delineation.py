"""Delineation: a mask for each wave of the heartbeat, so that each sample belongs to P, QRS, T or none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch, TaskKind
from einthoven.errors import UserError
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.segmentation import boundary_errors, dice, dice_interval, overlap_counts
from einthoven.losses.overlap import dice_cross_entropy
from einthoven.tasks.objective import check_objective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Delineation:
    """Predict the masks of P, QRS and T.

    The masks are independent: P and T of two beats may overlap. So each has its own sigmoid.

    Parameters
    ----------
    fs : float
        Sampling frequency in Hz.
    objective : callable
        The loss, ``f(logits, y, output="sigmoid", prior=None)`` with one value per record.

    Raises
    ------
    UserError
        If the sampling frequency is not positive, or the loss is not a loss of masks.
    """

    fs: float
    objective: Callable[..., Tensor] = dice_cross_entropy

    kind: ClassVar[TaskKind] = TaskKind.MASKS
    output: ClassVar[str] = "masks"
    name: ClassVar[str] = "delineation"
    monitor: ClassVar[str] = "dice"
    fitted: ClassVar[Mapping[str, float]] = {}
    metric_titles: ClassVar[Mapping[str, str]] = {
        "dice": "mean Dice",
        "dice/P": "Dice of P",
        "dice/QRS": "Dice of QRS",
        "dice/T": "Dice of T",
        "sd_ms/qrs_onset": "SD of QRS onset (ms)",
        "sd_ms/qrs_end": "SD of QRS end (ms)",
        "loss": "loss",
    }

    def __post_init__(self) -> None:
        """Check the loss on two made-up records."""
        if not 0 < self.fs < float("inf"):
            raise UserError(f"task.fs={self.fs}: expected a sampling frequency in Hz.")
        check_objective(self.objective, torch.eye(3)[None, :, :].repeat(2, 1, 1), "sigmoid")

    def encode(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return masks (n, 3, T) in the form that is compared with probabilities: unchanged."""
        return values

    def notes(self, y: NDArray[np.uint8], classes: Sequence[str]) -> list[str]:
        """Return one sentence about waves that no training mask (n, 3, T) has.

        Raises
        ------
        UserError
            If there is no wave at all.
        """
        is_missing: NDArray[np.bool_] = np.asarray(y).max(axis=(0, 2)) == 0
        if is_missing.all():
            raise UserError("nothing can be learned: no training record has a sample of a wave; expected masks.")
        missing = [name for name, empty in zip(classes, is_missing, strict=True) if empty]
        return [f"{' and '.join(missing)}: no training record has it, so that it cannot be learned."] if missing else []

    def fit(self, y: Tensor) -> Delineation:
        """Return the task unchanged: it has nothing to fit."""
        return self

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss over the valid records, and the logits (B, 3, T)."""
        logits = model(batch.x).float()
        per_record = self.objective(logits, batch.y, output="sigmoid", prior=None)
        return (per_record * batch.valid).sum() / batch.valid.sum(), logits

    def goal(self, batch: Batch) -> Tensor:
        """Return the masks that are compared with the probabilities."""
        return batch.y

    def activation(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of logits (..., 3, T)."""
        return outputs.sigmoid()

    def readout(self, predictions: Tensor) -> Tensor:
        """Return the probabilities of whole records in the form of a report: unchanged."""
        return predictions

    def metrics(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, float]:
        """Return the metrics of probabilities (n, 3, T).

        They are the loss, the Dice coefficient of each mask and their mean, bias and standard deviation of each
        boundary in ms, and the shares of P waves that are missed and invented. What is not defined is left out.
        """
        values = {"loss": self._loss_of_probabilities(y, p)}
        coefficients = dice(*overlap_counts(y, p))[0]
        if np.isfinite(coefficients).any():
            values["dice"] = float(np.nanmean(coefficients))
        for name, coefficient in zip(classes, coefficients, strict=True):
            values[f"dice/{name}"] = float(coefficient)

        boundaries = boundary_errors(y, p, self.fs)
        for name, errors in boundaries.errors.items():
            if len(errors) > 1:
                values[f"bias_ms/{name}"] = float(errors.mean())
                values[f"sd_ms/{name}"] = float(errors.std(ddof=1))
        values["missed/p"] = boundaries.missed["p"]
        values["invented/p"] = boundaries.invented["p"]
        return {name: value for name, value in values.items() if np.isfinite(value)}

    def _loss_of_probabilities(self, y: Array, p: Array) -> float:
        """Return the training loss of probabilities (n, 3, T)."""
        tiny = torch.finfo(torch.float64).tiny
        total = 0.0
        # One record at a time needs little memory.
        for record_y, record_p in zip(torch.from_numpy(y), torch.from_numpy(p), strict=True):
            logits = record_p.clamp_min(tiny).log() - (1 - record_p).clamp_min(tiny).log()
            total += float(self.objective(logits[None], record_y[None], output="sigmoid", prior=None)[0])
        return total / len(y)

    def record_errors(self, y: Array, p: Array) -> Array:
        """Return one minus the mean Dice coefficient of each record (n,)."""
        overlap, size = overlap_counts(y, p)
        # A wave that neither mask has is right.
        coefficients = np.where(size > 0, 2 * overlap / np.maximum(size, 1.0), 1.0)
        return np.asarray(1 - coefficients.mean(axis=1))

    def intervals(self, y: Array, p: Array, patients: NDArray[np.int64], seed: int) -> Mapping[str, Interval]:
        """Return the 95 % bootstrap interval of the mean Dice coefficient. Patients are resampled."""
        interval = dice_interval(y, p, groups=patients, seed=seed)
        return {} if interval is None else {"dice": interval}

    def table(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, list[object]]:
        """Return the columns of the table of predictions: the Dice coefficient of each mask of each record.

        None stands for a wave that neither mask has.
        """
        overlap, size = overlap_counts(y, p)
        columns: dict[str, list[object]] = {}
        for k, name in enumerate(classes):
            values = [round(2 * a / b, 4) if b else None for a, b in zip(overlap[:, k], size[:, k], strict=True)]
            columns[f"{name}_dice"] = list(values)
        return columns

    def describe(self, y: Array, p: Array, classes: Sequence[str]) -> tuple[str, str]:
        """Return the number of waves and the Dice coefficients of one record, from arrays (3, T), as two texts."""
        starts = np.diff(y, axis=1, prepend=0.0) > 0
        actual = " ".join(f"{count} {name}" for name, count in zip(classes, starts.sum(axis=1), strict=True))
        coefficients = dice(*overlap_counts(y[None], p[None]))[0]
        predicted = "  ".join(f"Dice of {name} {value:.3f}" for name, value in zip(classes, coefficients, strict=True))
        return actual, predicted

    def shuffle(self, y: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Return the training masks unchanged: this task has no negative control."""
        return y
