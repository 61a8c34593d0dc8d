"""What is measured once, of a trained model: a probe is a function of what a run has trained.

``probe(trained) -> {name: tensor}``, with the model in evaluation mode; a run logs what it finds as arrays.
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
    """What a probe may look at.

    Attributes
    ----------
    model : Classifier
        In evaluation mode.
    task : Task
        Its loss is the one that was trained on.
    records : mapping of str to int
        How many there are in ``train`` and, where they are not empty, ``val`` and ``test``.
    batch : callable
        (split, rows) -> those records as a batch on the model's device, cut to its window from their beginning.
    classes, leads : sequence of str
        Names of the outputs, and of the rows of a signal.
    fs : float
        Sampling frequency, Hz.
    """

    model: Classifier
    task: Task
    records: Mapping[str, int]
    batch: Callable[[str, Tensor], Batch]
    classes: Sequence[str]
    leads: Sequence[str]
    fs: float


def weights(trained: Trained) -> dict[str, Tensor]:
    """Every parameter of the network by its name."""
    return {name: parameter.detach() for name, parameter in trained.model.network.named_parameters()}
