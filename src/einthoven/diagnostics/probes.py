"""What is measured once, of a trained model: a probe is a function of the model, the task and a split.

``probe(model, task, split) -> {name: tensor}``, with the model in evaluation mode; a run logs what it finds as arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from einthoven.data.batches import DeviceSplit
    from einthoven.models.frontend import Classifier
    from einthoven.training.loop import Task


def weights(model: Classifier, task: Task, split: DeviceSplit) -> dict[str, Tensor]:
    """Every parameter of the network by its name."""
    return {name: parameter.detach() for name, parameter in model.network.named_parameters()}
