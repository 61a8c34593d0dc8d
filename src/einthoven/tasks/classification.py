"""Classification of records: several labels per record (multi-label), or exactly one (single-label)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch, TaskKind
from einthoven.errors import UserError
from einthoven.evaluation import metrics
from einthoven.evaluation.bootstrap import bootstrap_interval
from einthoven.evaluation.challenge import challenge_score
from einthoven.evaluation.intervals import Interval
from einthoven.functional import outputs
from einthoven.losses.classification import cross_entropy, smooth_labels
from einthoven.models.readout import Readout
from einthoven.tasks.objective import check_objective, join_names, permute


@dataclass(frozen=True)
class Classification:
    """Classify records into the classes of one label set.

    Parameters
    ----------
    labels : str
        A label set of the source of the records.
    single_label : bool
        False: sigmoid outputs. True: softmax outputs, on the records with exactly one label.
    keep_unlabelled : bool
        Keep records without a label of the set. All their labels are negative.
    min_likelihood : float
        Ignore diagnostic statements with a likelihood (percent) above 0 and below this.
    shuffle_labels : bool
        Negative control: permute the training labels among the records, so that nothing can be learned.
    temperature : float
        Divisor of the logits, in training and in prediction.
    objective : callable
        The loss, ``f(logits, y, output=…, prior=…)`` with one value per record.
    prior : Tensor (K,), optional
        Share of positive training records of each class. `fit` sets it.
    prior_bias : bool, optional
        Start the biases of the last layer at `initial_logits`, and not at 0. None: only with `targets`.
    targets : str, optional
        A label set of statements that the network learns. The classes of `labels` are read from them, and everything
        but the training loss is about these classes. None: the network learns the classes themselves.
    soft_targets : bool
        With `targets`, learn a diagnostic statement with a likelihood between 0 and 100 % as this likelihood.
    read_weight : float
        With `targets`, weight of the loss of the classes, which is added to the loss of the statements.
    reader : Readout, optional
        Reads the K classes from the S statements. `read_by` sets it. Then labels `y` have K + S columns.
    target_prior : Tensor (S,), optional
        Share of positive training records of each statement. `fit` sets it.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss does not accept these outputs.
    """

    labels: str
    single_label: bool
    keep_unlabelled: bool
    min_likelihood: float
    shuffle_labels: bool
    temperature: float
    objective: Callable[..., Tensor] = cross_entropy
    prior: Tensor | None = None
    prior_bias: bool | None = None
    targets: str | None = None
    soft_targets: bool = False
    read_weight: float = 0.0
    reader: Readout | None = None
    target_prior: Tensor | None = None

    kind = TaskKind.CLASSES
    monitor = "macro_auroc"
    metric_titles: ClassVar = {
        "macro_auroc": "macro AUROC",
        "macro_auprc": "macro AUPRC",
        "fmax": "Fmax",
        "loss": "loss",
    }

    def __post_init__(self) -> None:
        """Check the ranges, and check the loss on two made-up records."""
        if not 0 <= self.min_likelihood <= 100:
            raise UserError(f"task.min_likelihood={self.min_likelihood}: expected percent, 0 to 100.")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"task.temperature={self.temperature}: expected a number above 0.")
        if self.single_label and self.keep_unlabelled:
            raise UserError("task.single_label keeps records with exactly one label: it excludes task.keep_unlabelled.")
        if not 0 <= self.read_weight < float("inf"):
            raise UserError(f"task.read_weight={self.read_weight}: expected a number, 0 or more.")
        if self.targets is None:
            self._refuse_without_targets()
        else:
            self._refuse_other_outputs()
        check_objective(self.objective, torch.eye(2), self.output)

    def _refuse_without_targets(self) -> None:
        """Refuse options of targets if there are none."""
        given = {
            f"task.read_weight={self.read_weight}": self.read_weight > 0,
            "task.soft_targets=true": self.soft_targets,
        }
        for option, is_given in given.items():
            if is_given:
                raise UserError(f"{option}: has no effect without task.targets, such as all.")

    def _refuse_other_outputs(self) -> None:
        """Refuse outputs that no class can be read from by the probability that one of its statements holds."""
        if self.single_label:
            raise UserError(
                f"task.targets={self.targets}: a record may have several statements; expected task.single_label=false."
            )
        if self.temperature != 1.0:
            raise UserError(
                f"task.targets={self.targets}: classes are read at the temperature 1; expected task.temperature=1."
            )
        if self._class_weight == "balanced":
            raise UserError(
                f"task.targets={self.targets}: classes are read from the probabilities of statements, and with "
                "loss.class_weight=balanced those of rare statements are far too large; expected "
                "loss.class_weight=none."
            )

    @property
    def output(self) -> str:
        """Activation of the logits: softmax or sigmoid."""
        return "softmax" if self.single_label else "sigmoid"

    @property
    def name(self) -> str:
        """Short name for tables."""
        return self.labels + (" (single label)" if self.single_label else "")

    @property
    def fitted(self) -> dict[str, list[float]]:
        """Values that `fit` has computed."""
        return {} if self.prior is None else {"prior": self.prior.tolist()}

    def encode(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return labels (n, K) in the form that is compared with probabilities: unchanged."""
        return values

    def notes(self, y: NDArray[np.uint8], classes: Sequence[str]) -> list[str]:
        """Return one sentence for each kind of class that the training labels (n, K) do not allow to learn.

        Raises
        ------
        UserError
            If no class can be learned, because each is positive in all records or in none.
        """
        count = y.astype(bool).sum(axis=0)
        always = [name for name, positive in zip(classes, count, strict=True) if positive == len(y)]
        never = [name for name, positive in zip(classes, count, strict=True) if positive == 0]
        records = f"{len(y)} training record{'s' * (len(y) != 1)}"
        sentences = []
        for names, quantity in ((always, "every one"), (never, "none")):
            if names:
                verb = "holds" if len(names) == 1 else "hold"
                sentences.append(f"{join_names(names)} {verb} for {quantity} of the {records}")
        if len(always) + len(never) == len(classes):
            raise UserError(f"nothing can be learned: {', and '.join(sentences)}; expected a class with both values.")
        consequence = "The training cannot learn such a class, and the macro averages leave it out."
        return [f"{sentence}. {consequence}" for sentence in sentences]

    def fit(self, y: Tensor) -> Classification:
        """Return the task with the prior of the training labels (n, K), or (n, K + S) with targets."""
        share = y.mean(dim=0)
        if self.reader is None:
            return replace(self, prior=share)
        return replace(self, prior=self.class_labels(share), target_prior=self._target_labels(share))

    @property
    def starts_at_prior(self) -> bool:
        """Whether the biases of the last layer start at `initial_logits`."""
        return self.targets is not None if self.prior_bias is None else self.prior_bias

    def initial_logits(self, y: Tensor) -> Tensor:
        """Return the outputs (K,) or, with targets, (S,) of a network that knows only the shares of positive records.

        If the classes are balanced by weights, their shares do not matter, and the outputs are 0.

        Parameters
        ----------
        y : Tensor
            Labels of the training records, as in `fit`.

        References
        ----------
        Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4.1, with one share for all classes.
        """
        learned = y if self.reader is None else self._target_labels(y)
        if self._class_weight == "balanced":
            return torch.zeros_like(learned[0])
        return self.temperature * outputs.share_logits(self.reference(learned), self.single_label)

    def read_by(self, reader: Readout) -> Classification:
        """Return the task with the readout of its classes from its targets."""
        return replace(self, reader=reader)

    def class_labels(self, y: Tensor) -> Tensor:
        """Return the labels of the classes (..., K) in the labels of records."""
        return y if self.reader is None else y[..., : len(self.reader.members)]

    def _target_labels(self, y: Tensor) -> Tensor:
        """Return the labels of the statements (..., S) in the labels of records."""
        assert self.reader is not None
        first = len(self.reader.members)
        return y[..., first : first + len(self.reader.statements)]

    def class_logits(self, logits: Tensor) -> Tensor:
        """Return the logits of the classes (..., K) from those of the network."""
        return logits if self.reader is None else self.reader(logits)

    def ranked(self, y: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return labels (n, K) for ranking metrics: zeros for a class that training could not learn.

        The AUROC of such a class would measure chance. Ranking metrics ignore a class without a positive record.
        """
        if self.prior is None:
            return y
        # Device-to-host sync, once per evaluation.
        prior = self.prior.cpu().numpy()
        is_learnable = (prior > 0) & (prior < 1)
        return np.where(is_learnable, y, 0.0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss over the valid records, and the logits of the network, (B, K) or (B, S)."""
        logits = outputs.tempered(model(batch.x).float(), self.temperature)
        if self.reader is None:
            per_record = self._class_loss(logits, self.class_labels(batch.y))
        else:
            targets = self._target_labels(batch.y)
            per_record = self.objective(logits, targets, output=self.output, prior=self.target_prior)
            if self.read_weight:
                class_loss = self._class_loss(self.class_logits(logits), self.class_labels(batch.y))
                per_record = per_record + self.read_weight * class_loss
        return (per_record * batch.valid).sum() / batch.valid.sum(), logits

    def _class_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each record (B,) for logits and labels of the classes (B, K)."""
        return self.objective(logits, y, output=self.output, prior=self.prior)

    def reference(self, y: Tensor) -> Tensor:
        """Return the labels (B, K) of the loss: `y`, smoothed if `cross_entropy` smooths them."""
        options = self._cross_entropy_options()
        if options is None:
            return y
        return smooth_labels(y, options.get("label_smoothing", 0.0), self.output)

    @property
    def loss_is_cross_entropy(self) -> bool:
        """Whether the loss is the unweighted cross-entropy of the predictions with `reference`."""
        options = self._cross_entropy_options()
        return self.targets is None and options is not None and self._class_weight == "none"

    @property
    def _class_weight(self) -> str:
        """The option of `cross_entropy`. Other losses have no such weights."""
        return str((self._cross_entropy_options() or {}).get("class_weight", "none"))

    def _cross_entropy_options(self) -> Mapping[str, Any] | None:
        """Return the options of `cross_entropy`, or None if the loss is another function."""
        if getattr(self.objective, "func", self.objective) is not cross_entropy:
            return None
        return getattr(self.objective, "keywords", {})

    def goal(self, batch: Batch) -> Tensor:
        """Return the labels that are compared with the probabilities."""
        return self.class_labels(batch.y)

    def activation(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the classes (..., K) from the logits of the network."""
        if self.single_label:
            return outputs.softmax(logits, self.temperature)
        return outputs.sigmoid(self.class_logits(logits), self.temperature)

    def readout(self, predictions: Tensor) -> Tensor:
        """Return the probabilities of whole records in the form of a report: unchanged."""
        return predictions

    def training_loss(self, y: NDArray[np.floating], p: NDArray[np.floating]) -> float:
        """Return the loss of probabilities (n, K). Without targets, it equals `loss` if each record is one window."""
        probability = torch.from_numpy(p)
        tiny = torch.finfo(torch.float64).tiny
        logits = probability.clamp_min(tiny).log()
        if not self.single_label:
            logits = logits - (1 - probability).clamp_min(tiny).log()
        prior = None
        if self.prior is not None:
            # Device-to-host sync, once per evaluation.
            prior = self.prior.double().cpu()
        return float(self.objective(logits, torch.from_numpy(y), output=self.output, prior=prior).mean())

    def negative_log_likelihood(self, y: NDArray[np.floating], p: NDArray[np.floating]) -> float:
        """Return the negative log-likelihood of probabilities (n, K). It compares runs with different losses."""
        tiny = np.finfo(np.float64).tiny
        positive = -(y * np.log(np.maximum(p, tiny)))
        if self.single_label:
            return float(positive.sum(axis=1).mean())
        return float((positive - (1 - y) * np.log(np.maximum(1 - p, tiny))).mean())

    def record_errors(self, y: NDArray[np.floating], p: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the negative log-likelihood of each record (n,), of probabilities (n, K)."""
        rows = zip(y[:, None], p[:, None], strict=True)
        return np.array([self.negative_log_likelihood(row_y, row_p) for row_y, row_p in rows])

    def metrics(self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]) -> dict[str, float]:
        """Return the metrics of probabilities (n, K): `loss`, `nll` and the ranking metrics.

        A single-label task also has `accuracy`. The classes of the CinC challenge also have the challenge score, at a
        threshold of 0.5.
        """
        values = {
            "loss": self.training_loss(y, p),
            "nll": self.negative_log_likelihood(y, p),
            **metrics.summary(self.ranked(y), p, classes),
            "fmax": metrics.fmax(y, p),
        }
        if self.single_label:
            values["accuracy"] = float((y.argmax(axis=1) == p.argmax(axis=1)).mean())
        elif self.labels == "cinc2021":
            values["challenge_score"] = challenge_score(y, p >= 0.5, classes)
        return values

    def intervals(
        self, y: NDArray[np.floating], p: NDArray[np.floating], patients: NDArray[np.int64], seed: int
    ) -> Mapping[str, Interval]:
        """Return the 95 % bootstrap interval of the macro AUROC. Patients are resampled."""
        return {"macro_auroc": bootstrap_interval(self.ranked(y), p, groups=patients, seed=seed)}

    def table(
        self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]
    ) -> dict[str, list[object]]:
        """Return the columns of the table of predictions: label and probability of each class."""
        columns: dict[str, list[object]] = {}
        for k, name in enumerate(classes):
            columns[f"{name}_label"] = y[:, k].astype(int).tolist()
            columns[f"{name}_probability"] = np.round(p[:, k], 6).tolist()
        return columns

    def describe(self, y: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]) -> tuple[str, str]:
        """Return the labels and the five most probable classes of one record, from arrays (K,), as two texts."""
        actual = " ".join(name for name, label in zip(classes, y, strict=True) if label) or "none"
        predicted = "  ".join(f"{classes[k]} {p[k]:.2f}" for k in np.argsort(-p)[:5])
        return actual, predicted

    def shuffle(self, y: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Return the training labels, permuted if this task is a negative control."""
        return permute(y, seed) if self.shuffle_labels else y
