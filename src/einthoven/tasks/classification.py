"""Which statements hold for a record: several at once (multi-label), or exactly one (single-label)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.evaluation import metrics
from einthoven.evaluation.challenge import challenge_score
from einthoven.objectives.classification import binary_cross_entropy, softmax_cross_entropy

if TYPE_CHECKING:
    from einthoven.data.batches import Batch


@dataclass(frozen=True)
class Classification:
    """Classify records into the classes of one label set.

    Parameters
    ----------
    labels : str
        The label set, one of those that the source of the records has.
    single_label : bool
        False: sigmoid outputs and binary cross-entropy. True: softmax outputs and categorical cross-entropy,
        on the records with exactly one label.
    keep_unlabelled : bool
        Keep records without a label of the set, as all-negative rows.
    min_likelihood : float
        Leave out diagnostic statements with a likelihood (percent) above 0 and below this.
    shuffle_labels : bool
        Negative control: permute the training labels among the records, so that there is nothing to learn.
    """

    labels: str
    single_label: bool
    keep_unlabelled: bool
    min_likelihood: float
    shuffle_labels: bool

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.min_likelihood <= 100:
            raise UserError(f"task.min_likelihood={self.min_likelihood}: expected percent, 0 to 100.")
        if self.single_label and self.keep_unlabelled:
            raise UserError("task.single_label keeps records with exactly one label: it excludes task.keep_unlabelled.")

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the valid records, and the logits (B, K)."""
        logits = model(batch.x).float()
        per_record = (softmax_cross_entropy if self.single_label else binary_cross_entropy)(logits, batch.y)
        return (per_record * batch.valid).sum() / batch.valid.sum(), logits

    def activation(self, logits: Tensor) -> Tensor:
        """Logits (..., K) -> probabilities."""
        return logits.softmax(dim=-1) if self.single_label else logits.sigmoid()

    def negative_log_likelihood(self, y: NDArray[np.floating], p: NDArray[np.floating]) -> float:
        """The loss of probabilities (n, K): equal to `loss` where each record is one window."""
        tiny = np.finfo(np.float64).tiny
        positive = -(y * np.log(np.maximum(p, tiny)))
        if self.single_label:
            return float(positive.sum(axis=1).mean())
        return float((positive - (1 - y) * np.log(np.maximum(1 - p, tiny))).mean())

    def metrics(self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]) -> dict[str, float]:
        """Metrics of probabilities (n, K): `loss`, the ranking metrics, and those that the labels call for.

        A single label has an `accuracy`; the classes of the CinC challenge have its score, at a threshold of 0.5.
        """
        found = {"loss": self.negative_log_likelihood(y, p), **metrics.summary(y, p, classes)}
        if self.single_label:
            found["accuracy"] = float((y.argmax(axis=1) == p.argmax(axis=1)).mean())
        elif self.labels == "cinc2021":
            found["challenge_score"] = challenge_score(y, p >= 0.5, classes)
        return found

    def shuffled(self, y: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Training labels, permuted if this task is a negative control."""
        if not self.shuffle_labels:
            return y
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        shuffled: NDArray[np.uint8] = y[order.numpy()]
        return shuffled
