"""Pretraining on the exact truth of the generator: conditions, waves and heart vector from the same encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.metrics import have_both_labels, macro_auroc
from einthoven.functional.delineation import MASKS
from einthoven.functional.truth import AXES, CONDITION_ROW, DIPOLE_ROWS, WAVE_ROWS, count_conditions
from einthoven.functional.windows import cut_windows
from einthoven.losses.overlap import dice_cross_entropy
from einthoven.models.frontend import Classifier
from einthoven.models.pretraining import TokenModel, TruthDecoder
from einthoven.tasks.objective import check_objective
from einthoven.tasks.pretext import Array, TokenPretext, check_number

MILLIVOLT_PER_MICROVOLT = 1e-3

SUMS = 3 + 2 * len(MASKS)
"""Scores before those of the conditions: loss, overlaps and sizes of the masks, error and energy of the vector."""


@dataclass(frozen=True, kw_only=True)
class Generator(TokenPretext):
    """Predict what the generator knows about a record: its conditions, its waves and its heart vector.

    The loss of a record is the sum of three means, each with its weight: the cross-entropy of the conditions, Dice and
    cross-entropy of the masks, and the squared error of the heart vector in units of its mean square. A training step
    takes a random window of each record, as long as the network reads.

    Parameters
    ----------
    labels : str
        Label set of the conditions.
    condition_weight, mask_weight, dipole_weight : float
        Weights of the parts of the loss, 0 or more.
    hidden : int
        Hidden features of the decoder.
    conditions : int
        Number of conditions in the training records.
    scale : float
        Root mean square of the heart vector of the training records, in mV.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss is not a loss of masks.
    """

    labels: str
    condition_weight: float
    mask_weight: float
    dipole_weight: float
    hidden: int
    objective: Callable[..., Tensor] = dice_cross_entropy
    conditions: int = 0
    scale: float = 1.0

    name = "generator"
    output = "truth"
    score_names = ("loss",)
    monitor = "r2"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "conditions_auroc": "macro AUROC of conditions",
        "dice": "mean Dice of waves",
        "r2": "R² of the heart vector",
        "loss": "loss",
    }
    reads_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ranges, and check the loss on two made-up records."""
        for option in ("condition_weight", "mask_weight", "dipole_weight"):
            check_number(option, getattr(self, option), 0.0)
        if self.condition_weight == self.mask_weight == self.dipole_weight == 0:
            raise UserError(
                "task.condition_weight=0, task.mask_weight=0 and task.dipole_weight=0: nothing would be learned; "
                "expected a weight above 0."
            )
        check_number("hidden", self.hidden, 1)
        check_objective(self.objective, torch.eye(3)[None].repeat(2, 1, 1), "sigmoid")

    def fit(self, y: Tensor) -> Generator:
        """Return the task with the number of conditions and the scale of the heart vector of the truth (n, 7, T)."""
        mean_square = y[:, DIPOLE_ROWS].square().mean()
        # Device-to-host sync, once per run.
        scale = float(mean_square.sqrt()) * MILLIVOLT_PER_MICROVOLT
        conditions = count_conditions(y[0, CONDITION_ROW].cpu().numpy())
        return replace(self, conditions=conditions, scale=scale or 1.0)

    def build_model(self, model: Classifier, samples: int) -> Classifier:
        """Return the model with a decoder of conditions and traces behind its tokens."""
        network_window = getattr(model.network, "window", None)
        window = samples if network_window is None else min(network_window * model.frontend.stride, samples)

        def make_decoder(tokens: int, dim: int) -> nn.Module:
            return TruthDecoder(dim, tokens, self.conditions, len(MASKS) + len(AXES), window, self.hidden)

        return TokenModel(model.frontend, model.network, make_decoder, window)

    # ------------------------------------------------------------------ the loss

    def record_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of a random window of each record (B,), and the logits of the conditions (B, K)."""
        window = _window(model)
        # The windows are a function of torch's generator, which the training loop seeds in each step.
        last = batch.x.shape[2] - window
        start = torch.randint(last + 1, (len(batch.x), 1, 1), device=batch.x.device)
        index = start + torch.arange(window, device=batch.x.device)
        x = batch.x.gather(2, index.expand(-1, batch.x.shape[1], -1))
        traces = batch.y[:, :CONDITION_ROW]
        expected = traces.gather(2, index.expand(-1, traces.shape[1], -1))
        logits, predicted_traces = model(x)
        return self._losses(logits, predicted_traces, self._conditions(batch.y), expected), logits

    def _conditions(self, y: Tensor) -> Tensor:
        """Return the conditions (B, K) of the truth (B, 7, T) of whole records."""
        return y[:, CONDITION_ROW, : self.conditions]

    def _losses(self, logits: Tensor, predicted_traces: Tensor, conditions: Tensor, expected: Tensor) -> Tensor:
        """Return the loss of each window (B,), from logits and conditions (B, K), and from traces (B, 6, W).

        The traces are masks (predicted: their logits) and the heart vector in µV (predicted: in units of `scale`).
        """
        predicted_traces = predicted_traces.float()
        condition_loss = F.binary_cross_entropy_with_logits(logits.float(), conditions, reduction="none").mean(dim=1)
        mask_loss = self.objective(predicted_traces[:, WAVE_ROWS], expected[:, WAVE_ROWS], output="sigmoid", prior=None)
        vector = expected[:, DIPOLE_ROWS] * (MILLIVOLT_PER_MICROVOLT / self.scale)
        dipole_loss = (predicted_traces[:, DIPOLE_ROWS] - vector).square().mean(dim=(1, 2))
        return self.condition_weight * condition_loss + self.mask_weight * mask_loss + self.dipole_weight * dipole_loss

    # ------------------------------------------------------------------ the evaluation

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the scores (B, M) of whole records, which are read in windows one after the other.

        The columns are the loss; overlap and size of each mask; squared error and energy of the heart vector; and the
        probability and the label of each condition.
        """
        window = _window(model)
        losses = []
        sums = []
        probabilities = []
        conditions = self._conditions(batch.y)
        windows = cut_windows(batch.x, window, window).unbind(1)
        truths = cut_windows(batch.y[:, :CONDITION_ROW], window, window).unbind(1)
        for x, expected in zip(windows, truths, strict=True):
            logits, predicted_traces = model(x)
            losses.append(self._losses(logits, predicted_traces, conditions, expected))
            probabilities.append(logits.float().sigmoid())
            masks = expected[:, WAVE_ROWS]
            predicted = (predicted_traces[:, WAVE_ROWS] > 0).float()
            vector = expected[:, DIPOLE_ROWS] * (MILLIVOLT_PER_MICROVOLT / self.scale)
            error = (predicted_traces[:, DIPOLE_ROWS].float() - vector).square().sum(dim=(1, 2))
            energy = vector.square().sum(dim=(1, 2))
            overlap = (predicted * masks).sum(dim=2)
            size = predicted.sum(dim=2) + masks.sum(dim=2)
            sums.append(torch.cat([overlap, size, error[:, None], energy[:, None]], dim=1))
        loss = torch.stack(losses).mean(dim=0)
        probability = torch.stack(probabilities).mean(dim=0)
        return torch.cat([loss[:, None], torch.stack(sums).sum(dim=0), probability, conditions], dim=1)

    def trace_dipoles(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the true and the predicted heart vectors (B, 3, W) of the first window of records, in mV."""
        window = _window(model)
        _, predicted_traces = model(batch.x[..., :window])
        expected = batch.y[:, DIPOLE_ROWS, :window] * MILLIVOLT_PER_MICROVOLT
        return expected, predicted_traces[:, DIPOLE_ROWS].float() * self.scale

    @property
    def summary_names(self) -> tuple[str, ...]:
        """Names of the metrics that `summarize` returns."""
        return ("loss", *(f"dice/{wave}" for wave in MASKS), "dice", "r2")

    def summarize(self, means: Array) -> Array:
        """Return the loss, the Dice coefficients and R² from the means of the first scores (R, `SUMS`).

        R² is 1 minus the ratio of error and energy: 0 for a vector that is always zero.
        """
        waves = len(MASKS)
        overlap = means[:, 1 : 1 + waves]
        size = means[:, 1 + waves : 1 + 2 * waves]
        # A wave that neither mask has is right.
        dice = np.where(size > 0, 2 * overlap / np.maximum(size, 1e-12), 1.0)
        error = means[:, SUMS - 2]
        energy = means[:, SUMS - 1]
        r2 = 1 - error / np.maximum(energy, 1e-12)
        return np.column_stack([means[:, 0], dice, dice.mean(axis=1), r2])

    def metrics(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, float]:
        """Return loss, Dice, R² and the macro AUROC of the conditions that have both labels."""
        values = super().metrics(y, p[:, :SUMS], classes)
        labels, probabilities = _condition_scores(p)
        if labels.shape[1]:
            values["conditions_auroc"] = float(macro_auroc(labels, probabilities))
        return values

    def intervals(self, y: Array, p: Array, patients: NDArray[np.int64], seed: int) -> Mapping[str, Interval]:
        """Return the 95 % bootstrap intervals of the metrics of scores `p` (n, M). Patients are resampled."""
        intervals = dict(super().intervals(y, p[:, :SUMS], patients, seed))
        labels, probabilities = _condition_scores(p)
        if labels.shape[1]:
            intervals["conditions_auroc"], _ = auroc_intervals(labels, probabilities, seed=seed, groups=patients)
        return intervals

    def table(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, list[object]]:
        """Return the columns of the table of scores `p` (n, M): the metrics of each record."""
        columns = self.summarize(p[:, :SUMS]).T
        table: dict[str, list[object]] = {}
        for name, column in zip(self.summary_names, columns, strict=True):
            table[name.replace("/", "_")] = np.round(column, 6).tolist()
        return table

    def describe(self, y: Array, p: Array, classes: Sequence[str]) -> tuple[str, str]:
        """Return the conditions and the metrics of one record with the scores (M,), as two texts."""
        has_condition = p[SUMS:].reshape(2, -1)[1] > 0
        conditions = " ".join(name for name, has in zip(classes, has_condition, strict=True) if has)
        (values,) = self.summarize(p[None, :SUMS])
        listed = [f"{name} {value:.3g}" for name, value in zip(self.summary_names, values, strict=True)]
        return conditions or "no condition", ", ".join(listed)


def _window(model: Any) -> int:
    """Return the length of the window that a `TokenModel` reads."""
    return int(model.samples)


def _condition_scores(p: Array) -> tuple[Array, Array]:
    """Return labels and probabilities (n, C) of the conditions of scores (n, M) that have both labels."""
    probabilities, labels = np.split(p[:, SUMS:], 2, axis=1)
    has_both = have_both_labels(labels)
    return labels[:, has_both], probabilities[:, has_both]
