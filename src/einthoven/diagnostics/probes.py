"""Analyses of a trained model: functions that a run calls once, at its end.

An analysis is a function ``analysis(trained) -> {name: tensor}``. The run stores the tensors as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from einthoven.contracts import Batch, Task

if TYPE_CHECKING:
    from einthoven.models.frontend import Classifier


@dataclass(frozen=True)
class Trained:
    """A trained model and its data: the input of an analysis.

    Attributes
    ----------
    model : Classifier
        The model in evaluation mode.
    task : Task
        Its loss is the training loss.
    records : mapping of str to int
        Number of records in ``train``, and in ``val`` and ``test`` if they are not empty.
    batch : callable
        (split, rows) -> these records as a batch on the device of the model, cut to the first window of the model.
    classes, leads : sequence of str
        Names of the outputs, and of the rows of a signal.
    fs : float
        Sampling frequency in Hz.
    """

    model: Classifier
    task: Task
    records: Mapping[str, int]
    batch: Callable[[str, Tensor], Batch]
    classes: Sequence[str]
    leads: Sequence[str]
    fs: float


def weights(trained: Trained) -> dict[str, Tensor]:
    """Return the parameters of the network by name."""
    return {name: parameter.detach() for name, parameter in trained.model.network.named_parameters()}
