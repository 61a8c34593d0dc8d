"""RandAugment: a few random augmentations for each record, all with the same magnitude."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from einthoven.augment.base import Augmentation, check_options, keeps_dipole, keeps_masks
from einthoven.errors import UserError

MAX_MAGNITUDE = 10
MAX_DRAWS = 100


class RandAugment:
    """Apply `n` random transforms to each record. All have the same magnitude and are equally likely.

    Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search space". Two numbers
    replace the strength and the probability of each transform.

    Parameters
    ----------
    transforms
        Name -> transform, or None to leave it out. The attribute ``strength`` of a transform is the name of the option
        that the magnitude scales. A transform that is drawn is always applied.
    n
        Number of draws for each record, at most 100. The same transform may be drawn twice.
    magnitude
        A number from 0 to 10. At 10, each transform has its full strength. Below 10, the strength is scaled in
        proportion.

    Raises
    ------
    UserError
        If there is no transform, if a number is out of range, or if a transform has no strength.
    """

    def __init__(self, transforms: Mapping[str, Augmentation | None], n: int = 2, magnitude: float = 5.0) -> None:
        active = {name: transform for name, transform in transforms.items() if transform is not None}
        if not active:
            raise UserError("RandAugment: transforms is empty; expected at least one transform.")
        if not 1 <= n <= MAX_DRAWS or not 0 <= magnitude <= MAX_MAGNITUDE:
            raise UserError(
                f"RandAugment: n={n}, magnitude={magnitude}; expected n from 1 to {MAX_DRAWS}, and a magnitude "
                f"from 0 to {MAX_MAGNITUDE}."
            )
        for name, transform in active.items():
            check_options(name, transform)
        self.n = n
        share = magnitude / MAX_MAGNITUDE
        self.transforms = {name: _scale_strength(name, transform, share) for name, transform in active.items()}

    @property
    def changes(self) -> frozenset[str]:
        """The statements that any of the transforms can make wrong."""
        return frozenset[str]().union(*(t.changes for t in self.transforms.values()))

    @property
    def keeps_masks(self) -> bool:
        """Whether all transforms keep the masks of the waves right."""
        return all(keeps_masks(transform) for transform in self.transforms.values())

    @property
    def keeps_dipole(self) -> bool:
        """Whether all transforms keep the heart vector right."""
        return all(keeps_dipole(transform) for transform in self.transforms.values())

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Augment signals ``[B, L, T]`` and labels ``[B, K]``."""
        for _ in range(self.n):
            x, y = self._apply_one(x, y, generator)
        return x, y

    def _apply_one(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Distribute the records to the transforms at random, and apply one transform to each record.

        All transforms get groups of the same size, so no step waits for the device to know the size of a group. No
        transform is computed for records of another group. A group that is not full is filled with random records. The
        results of these records are dropped. So every record gets every transform with the same probability, for any
        size of the batch.
        """
        batch = len(x)
        num_groups = len(self.transforms)
        group_size = -(-batch // num_groups)

        # Places with a number of at least `batch` are fillers.
        order = torch.randperm(num_groups * group_size, generator=generator, device=x.device)
        filler = torch.randint(batch, order.shape, generator=generator, device=x.device)
        record = torch.where(order < batch, order, filler)

        new_x = []
        new_y = []
        for transform, group in zip(self.transforms.values(), torch.split(record, group_size), strict=True):
            group_x, group_y = transform(x[group], y[group], generator)
            new_x.append(group_x)
            new_y.append(group_y)

        # Sort the results back into the order of the batch. The fillers come last and are cut off.
        place = order.argsort()[:batch]
        return torch.cat(new_x)[place], torch.cat(new_y)[place]


def _scale_strength(name: str, transform: Augmentation, share: float) -> Augmentation:
    """Return a copy of the transform that is always applied, with its strength multiplied by `share`."""
    strength = getattr(transform, "strength", None)
    if strength is None or not is_dataclass(transform) or isinstance(transform, type):
        raise UserError(
            f"RandAugment: {name} ({type(transform).__name__}) has no strength that a magnitude could scale; expected "
            "a dataclass that names one of its options in `strength`."
        )
    types = {field.name: field.type for field in fields(transform)}
    value = getattr(transform, strength) * share
    if types[strength] in ("int", int):
        value = max(1, round(value))
    options: dict[str, Any] = {strength: value}
    if strength != "probability" and "probability" in types:
        options["probability"] = 1.0
    return replace(transform, **options)
