"""Regression: a quantity of each record, such as its heart rate, or a direction, such as its axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch, TaskKind
from einthoven.errors import UserError
from einthoven.evaluation import regression
from einthoven.evaluation.intervals import Interval
from einthoven.losses.regression import mse
from einthoven.tasks.objective import check_objective, permute

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """Predict one quantity of each record.

    The network is trained on targets with mean 0 and standard deviation 1 over the training records. Predictions,
    metrics and the exported model are in the unit of the target.

    Parameters
    ----------
    target : str
        ``heart_rate``, ``axis``, or a column of numbers in the table of the records.
    unit : str
        Unit of the target, for tables and figures.
    shuffle_labels : bool
        Negative control: permute the training targets among the records, so that nothing can be learned.
    objective : callable
        The loss, ``f(outputs, y, output="identity", prior=None)`` with one value per record.
    mean, sd : float
        Mean and standard deviation of the training targets. `fit` sets them.

    Raises
    ------
    UserError
        If the loss is a loss of classes.
    """

    target: str
    unit: str
    shuffle_labels: bool
    objective: Callable[..., Tensor] = mse
    mean: float = 0.0
    sd: float = 1.0

    kind = TaskKind.QUANTITY
    output = "identity"
    monitor = "r2"

    def __post_init__(self) -> None:
        """Check the loss on two made-up records."""
        check_objective(self.objective, torch.eye(2), self.output)

    @property
    def name(self) -> str:
        """Short name for tables."""
        return self.target

    @property
    def metric_titles(self) -> dict[str, str]:
        """Metrics in the table at the end of a run, and their titles."""
        errors = {"mae": f"mean absolute error ({self.unit})", "rmse": f"root mean squared error ({self.unit})"}
        return errors | {"r2": "R²", "loss": "loss"}

    @property
    def fitted(self) -> dict[str, float]:
        """Values that `fit` has computed."""
        return {"mean": self.mean, "sd": self.sd}

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return targets (n, 1) in the form (n, K) that is compared with predictions."""
        return values

    def notes(self, y: NDArray[np.floating], classes: Sequence[str]) -> list[str]:
        """Return no sentences for training targets (n, 1) that can be learned.

        Raises
        ------
        UserError
            If all records have the same target.
        """
        if (y == y[0]).all():
            records = f"all {len(y)} training records have" if len(y) > 1 else "the one training record has"
            quantity = f"{self.target} {float(y[0, 0]):g} {self.unit}".rstrip()
            raise UserError(f"nothing can be learned: {records} {quantity}; expected a quantity that differs.")
        return []

    def fit(self, y: Tensor) -> Regression:
        """Return the task with mean and standard deviation of the training targets (n, 1)."""
        mean = float(y.double().mean())
        sd = float(y.double().std(correction=0))
        return replace(self, mean=mean, sd=sd if sd > 0 else 1.0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss over the valid records, and the outputs (B, K)."""
        outputs = model(batch.x).float()
        standardized = (batch.y - self.mean) / self.sd
        per_record = self.objective(outputs, standardized, output=self.output, prior=None)
        return (per_record * batch.valid).sum() / batch.valid.sum(), outputs

    def goal(self, batch: Batch) -> Tensor:
        """Return the targets that are compared with the predictions."""
        return batch.y

    def activation(self, outputs: Tensor) -> Tensor:
        """Return the predictions for outputs of the model (..., K), in the unit of the target."""
        return outputs * self.sd + self.mean

    def readout(self, predictions: Tensor) -> Tensor:
        """Return predictions of whole records (n, K) in the form of a report (n, 1)."""
        return predictions

    def targets_and_errors(self, y: Array, p: Array) -> tuple[Array, Array]:
        """Return the targets and the errors of predictions (n,), in the unit of the target."""
        target = self.readout(torch.from_numpy(y)).numpy()[:, 0]
        predicted = self.readout(torch.from_numpy(p)).numpy()[:, 0]
        return target, self.difference(predicted, target)

    def difference(self, a: Array, b: Array) -> Array:
        """Return ``a - b`` (n,)."""
        return a - b

    def record_errors(self, y: Array, p: Array) -> Array:
        """Return the absolute error of each record (n,), in the unit of the target."""
        _, error = self.targets_and_errors(y, p)
        return np.asarray(np.abs(error))

    def metrics(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, float]:
        """Return the training loss, the mean absolute and root mean squared error and R² of predictions (n, K)."""
        outputs = torch.from_numpy((p - self.mean) / self.sd)
        goal = torch.from_numpy((y - self.mean) / self.sd)
        values = {"loss": float(self.objective(outputs, goal, output=self.output, prior=None).mean())}
        _, error = self.targets_and_errors(y, p)
        for name, score in zip(regression.NAMES, regression.scores(error, y, p)[0], strict=True):
            if np.isfinite(score):
                values[name] = float(score)
        return values

    def intervals(self, y: Array, p: Array, patients: NDArray[np.int64], seed: int) -> Mapping[str, Interval]:
        """Return 95 % bootstrap intervals of the errors and R². Patients are resampled."""
        _, error = self.targets_and_errors(y, p)
        return regression.intervals(error, y, p, groups=patients, seed=seed)

    def table(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, list[object]]:
        """Return the columns of the table of predictions (n, K): target, prediction and error."""
        target, error = self.targets_and_errors(y, p)
        predicted = self.readout(torch.from_numpy(p)).numpy()[:, 0]
        columns = {self.target: target, f"{self.target}_predicted": predicted, "error": error}
        return {name: np.round(values, 4).tolist() for name, values in columns.items()}

    def describe(self, y: Array, p: Array, classes: Sequence[str]) -> tuple[str, str]:
        """Return the target and the prediction of one record, from arrays (K,), as two texts."""
        target = float(self.readout(torch.from_numpy(y[None]))[0, 0])
        predicted = float(self.readout(torch.from_numpy(p[None]))[0, 0])
        return f"{self.target} {target:.4g} {self.unit}", f"{predicted:.4g} {self.unit}"

    def shuffle(self, y: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
        """Return the training targets, permuted if this task is a negative control."""
        return permute(y, seed) if self.shuffle_labels else y


@dataclass(frozen=True)
class Direction(Regression):
    """Predict one angle of each record, in degrees.

    -180° and 180° are the same direction. So the network predicts cosine and sine, and predictions of windows are
    averaged as vectors. An error is the smaller arc. R² is computed from the vectors.

    References
    ----------
    Mardia & Jupp, "Directional statistics", 2000, sections 2.2 (mean direction) and 11.3 (regression).
    """

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return cosine and sine (n, 2) of degrees (n, 1)."""
        radians = np.radians(values)
        return np.concatenate([np.cos(radians), np.sin(radians)], axis=1)

    def fit(self, y: Tensor) -> Regression:
        """Return the task unchanged: cosine and sine keep their common scale."""
        return self

    def readout(self, predictions: Tensor) -> Tensor:
        """Return the degrees (n, 1), in (-180, 180], of vectors (n, 2)."""
        cosine, sine = predictions.chunk(2, dim=-1)
        return torch.rad2deg(torch.atan2(sine, cosine))

    def difference(self, a: Array, b: Array) -> Array:
        """Return ``a - b`` (n,) as the smaller arc."""
        return regression.angular_difference(a, b)
