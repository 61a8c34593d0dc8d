"""Which statements hold for a record: several at once (multi-label), or exactly one (single-label)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.evaluation import metrics
from einthoven.evaluation.bootstrap import Interval, bootstrap_interval
from einthoven.evaluation.challenge import challenge_score
from einthoven.functional import outputs
from einthoven.losses.classification import cross_entropy, smooth_labels
from einthoven.tasks.objective import check_objective, listed, permuted


@dataclass(frozen=True)
class Classification:
    """Classify records into the classes of one label set.

    Parameters
    ----------
    labels : str
        The label set, one of those that the source of the records has.
    single_label : bool
        False: sigmoid outputs. True: softmax outputs, on the records with exactly one label.
    keep_unlabelled : bool
        Keep records without a label of the set, as all-negative rows.
    min_likelihood : float
        Leave out diagnostic statements with a likelihood (percent) above 0 and below this.
    shuffle_labels : bool
        Negative control: permute the training labels among the records, so that there is nothing to learn.
    temperature : float
        Divisor of the logits, in training and after it.
    objective : callable
        The loss, ``f(logits, y, output=…, prior=…)`` with one value per record.
    prior : Tensor (K,), optional
        Share of the training records that is positive for each class; `fit` sets it.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss is not one of such outputs.
    """

    labels: str
    single_label: bool
    keep_unlabelled: bool
    min_likelihood: float
    shuffle_labels: bool
    temperature: float
    objective: Callable[..., Tensor] = cross_entropy
    prior: Tensor | None = None

    monitor = "macro_auroc"
    shown: ClassVar = {"macro_auroc": "macro AUROC", "macro_auprc": "macro AUPRC", "fmax": "Fmax", "loss": "loss"}

    def __post_init__(self) -> None:
        """Check the ranges, and the loss on two made-up records."""
        if not 0 <= self.min_likelihood <= 100:
            raise UserError(f"task.min_likelihood={self.min_likelihood}: expected percent, 0 to 100.")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"task.temperature={self.temperature}: expected a number above 0.")
        if self.single_label and self.keep_unlabelled:
            raise UserError("task.single_label keeps records with exactly one label: it excludes task.keep_unlabelled.")
        check_objective(self.objective, torch.eye(2), self.output)

    @property
    def output(self) -> str:
        """What the logits are made into."""
        return "softmax" if self.single_label else "sigmoid"

    @property
    def name(self) -> str:
        """What is asked, in a word or two."""
        return self.labels + (" (single label)" if self.single_label else "")

    @property
    def fitted(self) -> dict[str, list[float]]:
        """What `fit` found."""
        return {} if self.prior is None else {"prior": self.prior.tolist()}

    def encode(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels (n, K) as probabilities are compared with them."""
        return values

    def notes(self, y: NDArray[np.uint8], classes: Sequence[str]) -> list[str]:
        """What the training labels (n, K) do not allow to learn, one sentence each.

        Raises
        ------
        UserError
            If no class can be learned, because each holds for all records or for none.
        """
        count = y.astype(bool).sum(axis=0)
        always = [name for name, positive in zip(classes, count, strict=True) if positive == len(y)]
        never = [name for name, positive in zip(classes, count, strict=True) if positive == 0]
        records = f"{len(y)} training record{'s' * (len(y) != 1)}"
        constant = [
            f"{listed(names)} hold{'s' * (len(names) == 1)} for {quantity} of the {records}"
            for names, quantity in ((always, "every one"), (never, "none"))
            if names
        ]
        if len(always) + len(never) == len(classes):
            raise UserError(f"nothing can be learned: {', and '.join(constant)}; expected a class with both values.")
        return [f"{sentence}: not to be learned, and left out of the macro averages" for sentence in constant]

    def fit(self, y: Tensor) -> Classification:
        """The task with what its loss wants to know of the training labels (n, K)."""
        return replace(self, prior=y.mean(dim=0))

    def ranked(self, y: NDArray[np.floating]) -> NDArray[np.floating]:
        """Labels (n, K) for ranking metrics: zeros for a class that training could not learn.

        Ranking metrics leave a class without a positive record out, and so one that all training records have, or
        none: its AUROC would tell of chance.
        """
        if self.prior is None:
            return y
        prior = self.prior.cpu().numpy()  # sync: once per evaluation
        return np.where((prior > 0) & (prior < 1), y, 0.0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the valid records, and the logits (B, K)."""
        logits = outputs.tempered(model(batch.x).float(), self.temperature)
        per_record = self.objective(logits, batch.y, output=self.output, prior=self.prior)
        return (per_record * batch.valid).sum() / batch.valid.sum(), logits

    def reference(self, y: Tensor) -> Tensor:
        """The labels (B, K) that the loss compares with: `y`, smoothed if `cross_entropy` smooths them."""
        options = self._cross_entropy_options()
        if options is None:
            return y
        return smooth_labels(y, options.get("label_smoothing", 0.0), self.output)

    @property
    def loss_is_cross_entropy(self) -> bool:
        """Whether the loss is the unweighted cross-entropy of the predictions with `reference`."""
        options = self._cross_entropy_options()
        return options is not None and options.get("class_weight", "none") == "none"

    def _cross_entropy_options(self) -> Mapping[str, Any] | None:
        """Options that `cross_entropy` was given; None if the loss is another function."""
        if getattr(self.objective, "func", self.objective) is not cross_entropy:
            return None
        return getattr(self.objective, "keywords", {})

    def goal(self, batch: Batch) -> Tensor:
        """What the probabilities are compared with."""
        return batch.y

    def activation(self, logits: Tensor) -> Tensor:
        """Outputs of the model (..., K) -> probabilities."""
        return (outputs.softmax if self.single_label else outputs.sigmoid)(logits, self.temperature)

    def readout(self, predictions: Tensor) -> Tensor:
        """Probabilities of whole records -> what is told: the same."""
        return predictions

    def training_loss(self, y: NDArray[np.floating], p: NDArray[np.floating]) -> float:
        """The loss of probabilities (n, K): equal to `loss` where each record is one window."""
        probability, tiny = torch.from_numpy(p), torch.finfo(torch.float64).tiny
        logits = probability.clamp_min(tiny).log()
        if not self.single_label:
            logits = logits - (1 - probability).clamp_min(tiny).log()
        prior = None if self.prior is None else self.prior.double().cpu()  # sync: once per evaluation
        return float(self.objective(logits, torch.from_numpy(y), output=self.output, prior=prior).mean())

    def negative_log_likelihood(self, y: NDArray[np.floating], p: NDArray[np.floating]) -> float:
        """Of probabilities (n, K), whatever the training loss is: with it, runs of different losses compare."""
        tiny = np.finfo(np.float64).tiny
        positive = -(y * np.log(np.maximum(p, tiny)))
        if self.single_label:
            return float(positive.sum(axis=1).mean())
        return float((positive - (1 - y) * np.log(np.maximum(1 - p, tiny))).mean())

    def metrics(self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]) -> dict[str, float]:
        """Metrics of probabilities (n, K): `loss`, `nll`, the ranking metrics, and those that the labels call for.

        A single label has an `accuracy`; the classes of the CinC challenge have its score, at a threshold of 0.5.
        """
        found = {
            "loss": self.training_loss(y, p),
            "nll": self.negative_log_likelihood(y, p),
            **metrics.summary(self.ranked(y), p, classes),
            "fmax": metrics.fmax(y, p),
        }
        if self.single_label:
            found["accuracy"] = float((y.argmax(axis=1) == p.argmax(axis=1)).mean())
        elif self.labels == "cinc2021":
            found["challenge_score"] = challenge_score(y, p >= 0.5, classes)
        return found

    def intervals(
        self, y: NDArray[np.floating], p: NDArray[np.floating], patients: NDArray[np.int64], seed: int
    ) -> Mapping[str, Interval]:
        """95 % bootstrap interval of the macro AUROC, resampling patients."""
        return {"macro_auroc": bootstrap_interval(self.ranked(y), p, groups=patients, seed=seed)}

    def table(
        self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]
    ) -> dict[str, list[object]]:
        """Columns of the table of predictions: label and probability of each class."""
        columns: dict[str, list[object]] = {}
        for k, name in enumerate(classes):
            columns[f"{name}_label"] = y[:, k].astype(int).tolist()
            columns[f"{name}_probability"] = np.round(p[:, k], 6).tolist()
        return columns

    def described(self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]) -> tuple[str, str]:
        """Labels and most probable classes (K,) of one record in words."""
        actual = " ".join(name for name, label in zip(classes, y, strict=True) if label) or "none"
        return actual, "  ".join(f"{classes[k]} {p[k]:.2f}" for k in np.argsort(-p)[:5])

    def shuffled(self, y: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Training labels, permuted if this task is a negative control."""
        return permuted(y, seed) if self.shuffle_labels else y
