"""How much: a quantity of each record, such as its heart rate; or where to: a direction, such as its axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.evaluation import regression
from einthoven.evaluation.intervals import Interval
from einthoven.losses.regression import mse
from einthoven.tasks.objective import check_objective, permuted

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """Predict one quantity of each record.

    The network is trained on targets of mean 0 and standard deviation 1 over the training records; predictions,
    metrics and the exported model are in the unit of the target.

    Parameters
    ----------
    target : str
        ``heart_rate``, ``axis``, or a column of numbers in the table of the records.
    unit : str
        What it is counted in, for tables and figures.
    shuffle_labels : bool
        Negative control: permute the training targets among the records, so that there is nothing to learn.
    objective : callable
        The loss, ``f(outputs, y, output="identity", prior=None)`` with one value per record.
    mean, sd : float
        Of the training targets; `fit` sets them.

    Raises
    ------
    UserError
        If the loss is one of classes.
    """

    target: str
    unit: str
    shuffle_labels: bool
    objective: Callable[..., Tensor] = mse
    mean: float = 0.0
    sd: float = 1.0

    output = "identity"
    monitor = "r2"

    def __post_init__(self) -> None:
        """Check the loss on two made-up records."""
        check_objective(self.objective, torch.eye(2), self.output)

    @property
    def name(self) -> str:
        """What is asked, in a word or two."""
        return self.target

    @property
    def shown(self) -> dict[str, str]:
        """The metrics that a table at the end of a run shows, and what they are."""
        errors = {"mae": f"mean absolute error ({self.unit})", "rmse": f"root mean squared error ({self.unit})"}
        return errors | {"r2": "R²", "loss": "loss"}

    @property
    def fitted(self) -> dict[str, float]:
        """What `fit` found."""
        return {"mean": self.mean, "sd": self.sd}

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Targets (n, 1) as predictions are compared with them (n, K)."""
        return values

    def notes(self, y: NDArray[np.floating], classes: Sequence[str]) -> list[str]:
        """Nothing, of training targets (n, 1) that can be learned.

        Raises
        ------
        UserError
            If all records have the same target.
        """
        if (y == y[0]).all():
            records = f"all {len(y)} training records have" if len(y) > 1 else "the one training record has"
            raise UserError(
                f"nothing can be learned: {records} {self.target} {float(y[0, 0]):g} {self.unit}".rstrip()
                + "; expected a quantity that differs."
            )
        return []

    def fit(self, y: Tensor) -> Regression:
        """The task with mean and standard deviation of the training targets (n, 1)."""
        sd = float(y.double().std(correction=0))
        return replace(self, mean=float(y.double().mean()), sd=sd if sd > 0 else 1.0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the valid records, and the outputs (B, K)."""
        outputs = model(batch.x).float()
        per_record = self.objective(outputs, (batch.y - self.mean) / self.sd, output=self.output, prior=None)
        return (per_record * batch.valid).sum() / batch.valid.sum(), outputs

    def goal(self, batch: Batch) -> Tensor:
        """What the predictions are compared with."""
        return batch.y

    def activation(self, outputs: Tensor) -> Tensor:
        """Outputs of the model (..., K) -> predictions in the unit of the target."""
        return outputs * self.sd + self.mean

    def readout(self, predictions: Tensor) -> Tensor:
        """Predictions of whole records (n, K) -> what is told (n, 1)."""
        return predictions

    def told(self, y: Array, p: Array) -> tuple[Array, Array]:
        """Targets and errors of the predictions (n,), in the unit of the target."""
        target, predicted = (self.readout(torch.from_numpy(values)).numpy()[:, 0] for values in (y, p))
        return target, self.difference(predicted, target)

    def difference(self, a: Array, b: Array) -> Array:
        """``a - b`` (n,)."""
        return a - b

    def metrics(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, float]:
        """Mean absolute and root mean squared error, R², and the training loss of predictions (n, K)."""
        outputs, goal = (torch.from_numpy((values - self.mean) / self.sd) for values in (p, y))
        found = regression.scores(self.told(y, p)[1], y, p)[0]
        loss = float(self.objective(outputs, goal, output=self.output, prior=None).mean())
        return {"loss": loss, **{k: float(v) for k, v in zip(regression.NAMES, found, strict=True) if np.isfinite(v)}}

    def intervals(self, y: Array, p: Array, patients: NDArray[np.int64], seed: int) -> Mapping[str, Interval]:
        """95 % bootstrap intervals of the errors and R², resampling patients."""
        return regression.intervals(self.told(y, p)[1], y, p, groups=patients, seed=seed)

    def table(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, list[object]]:
        """Columns of the table of predictions (n, K)."""
        target, error = self.told(y, p)
        columns = {self.target: target, f"{self.target}_predicted": self.readout(torch.from_numpy(p)).numpy()[:, 0]}
        return {name: np.round(values, 4).tolist() for name, values in {**columns, "error": error}.items()}

    def described(self, y: Array, p: Array, classes: Sequence[str]) -> tuple[str, str]:
        """Target and prediction (K,) of one record in words."""
        told = (float(self.readout(torch.from_numpy(values[None]))[0, 0]) for values in (y, p))
        target, predicted = (f"{value:.4g} {self.unit}" for value in told)
        return f"{self.target} {target}", predicted

    def shuffled(self, y: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
        """Training targets, permuted if this task is a negative control."""
        return permuted(y, seed) if self.shuffle_labels else y


@dataclass(frozen=True)
class Direction(Regression):
    """Predict one angle of each record, in degrees.

    -180° and 180° are one place, so the network predicts cosine and sine, and predictions of windows are averaged as
    vectors. Errors are the smaller arc. R² is that of the vectors.

    References
    ----------
    Mardia & Jupp, "Directional statistics", 2000, sections 2.2 (mean direction) and 11.3 (regression).
    """

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Degrees (n, 1) -> cosine and sine (n, 2)."""
        radians = np.radians(values)
        return np.concatenate([np.cos(radians), np.sin(radians)], axis=1)

    def fit(self, y: Tensor) -> Regression:
        """Cosine and sine have one scale, which is to stay."""
        return self

    def readout(self, predictions: Tensor) -> Tensor:
        """Vectors (n, 2) -> degrees (n, 1) in (-180, 180]."""
        cosine, sine = predictions.chunk(2, dim=-1)
        return torch.rad2deg(torch.atan2(sine, cosine))

    def difference(self, a: Array, b: Array) -> Array:
        """``a - b`` (n,) as the smaller arc."""
        return regression.angular_difference(a, b)
