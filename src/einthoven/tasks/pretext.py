"""Pretext tasks: their targets come from the signals alone, and labels are never read.

A pretext task has one loss per record and further scores per record, such as whether a view has found its partner.
Where a classifier has probabilities, a pretext task has these scores. So the same functions evaluate, tabulate and
draw both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Augment, Batch, TaskKind
from einthoven.errors import UserError
from einthoven.evaluation.intervals import Interval, compute_interval
from einthoven.evaluation.resampling import number_groups, resample_statistic
from einthoven.models.encoder import embed
from einthoven.models.frontend import Classifier
from einthoven.models.pretraining import TokenModel

Array = NDArray[np.float64]

RESAMPLES = 1000
"""Bootstrap resamples of an interval."""

LEVEL = 0.95
"""Nominal coverage of an interval."""


@dataclass(frozen=True, kw_only=True)
class Pretext(ABC):
    """A task without labels.

    Parameters
    ----------
    objective : callable
        The loss, ``f(outputs, y, output=…, prior=…)`` with one value per record.

    Attributes
    ----------
    name : str
        Short name for tables.
    output : str
        What the loss compares, as its parameter `output`.
    score_names : tuple of str
        The scores of a record. The first one is ``loss``.
    monitor : str
        The metric that early stopping and the choice of weights use. More is better.
    metric_titles : mapping
        Metrics in the table at the end of a run, and their titles.
    compares_records : bool
        Whether the loss of a record depends on the other records of its batch.
    calls_whole_model : bool
        Whether the loss calls the whole model and none of its parts, so that several processes can share the calls.
    augments_itself : bool
        Whether the task applies the augmentation, instead of the training loop.
    needs_windows : bool
        Whether the network gets windows of the length that it reads, instead of whole records.
    reads_truth : bool
        Whether the labels are the exact truth of generated records (`functional.truth`), instead of none.
    """

    objective: Callable[..., Tensor]

    kind: ClassVar[TaskKind] = TaskKind.PRETEXT
    name: ClassVar[str]
    output: ClassVar[str]
    score_names: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]
    metric_titles: ClassVar[Mapping[str, str]]
    compares_records: ClassVar[bool] = False
    calls_whole_model: ClassVar[bool] = True
    augments_itself: ClassVar[bool] = False
    needs_windows: ClassVar[bool] = False
    reads_truth: ClassVar[bool] = False
    fitted: ClassVar[Mapping[str, Any]] = {}

    @property
    def pairs_records(self) -> bool:
        """Whether each row of a batch has two records of one patient, x (B, 2, L, T)."""
        return False

    # ------------------------------------------------------------------ what each task defines

    @property
    @abstractmethod
    def network_outputs(self) -> int:
        """Number of outputs that the network is built with."""

    @abstractmethod
    def build_model(self, model: Classifier, samples: int) -> Classifier:
        """Return the model of the run, with a decoder whose weights come from torch's generator.

        Parameters
        ----------
        model : Classifier
            The encoder. Its network has `network_outputs` outputs.
        samples : int
            Length of a window.

        Raises
        ------
        UserError
            If the network does not suit the task.
        """

    @abstractmethod
    def record_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each record (B,), and outputs of the model (B, ...)."""

    @abstractmethod
    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the scores (B, M) of records, all of which are valid. The columns are `score_names`."""

    def embed(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the embeddings (B, D) of signals (B, L, T) in mV: by default the inputs of the head."""
        assert isinstance(model, Classifier)
        return embed(model, x)

    def two_views(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return two views of signals (B, L, T) in mV, drawn from torch's generator. None if the task has no views."""
        return None

    def latent_divergences(self, model: nn.Module, x: Tensor) -> Tensor | None:
        """Return the divergence of each latent dimension from the prior (B, D) in nats. None without latents."""
        return None

    def reconstruct(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the reconstructions of signals (B, L, T), both in mV, and which samples were hidden (B, L, T).

        None for a task that reconstructs nothing.
        """
        return None

    def generate(self, model: nn.Module, count: int, examples: Iterable[Tensor]) -> Tensor | None:
        """Return new signals (count, L, T) in mV, drawn from torch's generator. None for a task that generates none.

        Parameters
        ----------
        model : nn.Module
        count : int
        examples : iterable of Tensor
            Batches of training signals (B, L, T) in mV. They are read only if the task needs them.
        """
        return None

    def trace_dipoles(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Return the true and the predicted heart vectors (B, 3, T) of records in mV. None if there are none."""
        return None

    def use_augmentation(self, augment: Augment) -> Self:
        """Return the task with the augmentation of the run, if the task applies it itself."""
        return replace(self, views=augment) if self.augments_itself else self  # type: ignore[call-arg]

    # ------------------------------------------------------------------ what the training loop uses

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss over the valid records, and outputs of the model (B, ...)."""
        per_record, outputs = self.record_losses(model, batch)
        return (per_record * batch.valid).sum() / batch.valid.sum(), outputs

    def goal(self, batch: Batch) -> Tensor:
        """Return the labels: (B, 0), or the truth of generated records."""
        return batch.y

    def activation(self, outputs: Tensor) -> Tensor:
        """Return the outputs unchanged."""
        return outputs

    # ------------------------------------------------------------------ what a run uses

    def encode(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels (n, 0) unchanged."""
        return values

    def notes(self, y: NDArray[np.uint8], classes: Sequence[str]) -> list[str]:
        """Return no sentences: no label is needed."""
        return []

    def fit(self, y: Tensor) -> Self:
        """Return the task unchanged: it does not depend on labels (n, 0)."""
        return self

    def shuffle(self, y: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Return the labels (n, 0) unchanged."""
        return y

    def readout(self, predictions: Tensor) -> Tensor:
        """Return the scores unchanged."""
        return predictions

    def metrics(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, float]:
        """Return the metrics of the scores `p` (n, M) of records: by default the mean of each score."""
        means = self.summarize(p.mean(axis=0)[None])[0]
        return {name: float(value) for name, value in zip(self.summary_names, means, strict=True)}

    @property
    def summary_names(self) -> tuple[str, ...]:
        """Names of the metrics that `summarize` returns: by default the scores."""
        return self.score_names

    def summarize(self, means: Array) -> Array:
        """Return metrics (R, number of metrics) from the mean scores (R, M) of each of R samples of records."""
        return means

    def intervals(self, y: Array, p: Array, patients: NDArray[np.int64], seed: int) -> Mapping[str, Interval]:
        """Return the 95 % bootstrap intervals of the metrics of scores `p` (n, M). Patients are resampled."""

        def statistic(counts: Array) -> Array:
            return self.summarize(counts @ p / counts.sum(axis=1, keepdims=True))

        values = resample_statistic(statistic, number_groups(patients, len(p)), RESAMPLES, seed)
        return {
            name: compute_interval(column, LEVEL) for name, column in zip(self.summary_names, values.T, strict=True)
        }

    def record_errors(self, y: Array, p: Array) -> Array:
        """Return the loss of each record (n,), of scores `p` (n, M)."""
        return p[:, 0]

    def table(self, y: Array, p: Array, classes: Sequence[str]) -> dict[str, list[object]]:
        """Return the columns of the table of scores `p` (n, M)."""
        return {name: np.round(column, 6).tolist() for name, column in zip(self.score_names, p.T, strict=True)}

    def describe(self, y: Array, p: Array, classes: Sequence[str]) -> tuple[str, str]:
        """Return the name of the task and the scores (M,) of one record, as two texts."""
        listed = [f"{name} {value:.3g}" for name, value in zip(self.score_names, p, strict=True)]
        return self.name, ", ".join(listed)


class TokenPretext(Pretext):
    """A task whose decoder reads the tokens of the network. The head of the network is not used."""

    @property
    def network_outputs(self) -> int:
        """Number of outputs that the network is built with."""
        return 1

    def embed(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the mean over the tokens (B, D) of signals (B, L, T) in mV."""
        assert isinstance(model, TokenModel)
        return model.features(x).mean(dim=1)


def check_number(option: str, value: float, smallest: float, largest: float = float("inf")) -> None:
    """Refuse an option of a task that is not a number in this range.

    Raises
    ------
    UserError
        Names the option.
    """
    if not smallest <= value <= largest:
        limit = f"from {smallest:g} to {largest:g}" if largest < float("inf") else f"of {smallest:g} or more"
        raise UserError(f"task.{option}={value}: expected a number {limit}.")
