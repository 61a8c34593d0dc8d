"""Learning rates per stage: the further from the head, the lower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.optim.groups import with_initial_lr
from einthoven.optim.mixture import Mixture
from einthoven.optim.sam import SAM

Groups = list[dict[str, Any]]


def decay_by_layer(optimizer: Optimizer, stages: Sequence[Sequence[nn.Parameter]], decay: float) -> None:
    """Multiply the learning rate of each stage by ``decay ** distance``, where the distance is counted from the head.

    Howard & Ruder, "Universal language model fine-tuning for text classification", 2018, section 3.2 (discriminative
    fine-tuning; they divide by 2.6, which is a decay of 0.38).

    Each parameter group is split by the stages. The groups with the largest learning rate come first.

    Parameters
    ----------
    optimizer
        Has taken no step yet.
    stages
        Parameters of each stage: those of the head first. Other parameters have the full rate, as a decoder has.
    decay
        In (0, 1].
    """
    distances: dict[Tensor, int] = {parameter: distance for distance, stage in enumerate(stages) for parameter in stage}
    split = partial(_split, distances=distances, decay=decay)
    if isinstance(optimizer, SAM):
        # The groups of SAM are those of its base.
        decay_by_layer(optimizer.base, stages, decay)
    elif isinstance(optimizer, Mixture):
        optimizer.split_groups(split)
    else:
        optimizer.param_groups[:] = split(optimizer.param_groups, lambda parameter: parameter)
    with_initial_lr(optimizer)


def _split(
    groups: Groups, parameter_of: Callable[[Tensor], Tensor], *, distances: Mapping[Tensor, int], decay: float
) -> Groups:
    """Split parameter groups by the distance of their parameters from the head.

    Parameters
    ----------
    parameter_of
        Tensor of a group -> parameter of the model.
    """
    parts: Groups = []
    for group in groups:
        by_distance: dict[int, list[Tensor]] = {}
        for tensor in group["params"]:
            by_distance.setdefault(distances.get(parameter_of(tensor), 0), []).append(tensor)
        for distance, tensors in by_distance.items():
            parts.append({**group, "params": tensors, "lr": group["lr"] * decay**distance})
    return sorted(parts, key=lambda part: -part["lr"])
