"""RandAugment: for each record a few augmentations out of many, all at one magnitude."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from einthoven.augment.base import Augmentation, check_options
from einthoven.errors import UserError

FULL_MAGNITUDE = 10
MOST_DRAWS = 100


class RandAugment:
    """Apply `n` transforms to each record, each drawn evenly and at one magnitude.

    Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search space": two
    numbers take the place of one strength and one probability for each transform.

    Parameters
    ----------
    transforms
        Name -> transform, or None where it is left out. A transform names in ``strength`` the option that the
        magnitude scales, and is always applied where it is drawn.
    n
        Draws for each record, at most 100; the same transform may be drawn twice.
    magnitude
        0 ... 10. At 10 the strengths are those given with the transforms, below it that share of them.

    Raises
    ------
    UserError
        If there is nothing to draw from, a number is out of range or a transform has no strength.
    """

    def __init__(self, transforms: Mapping[str, Augmentation | None], n: int = 2, magnitude: float = 5.0) -> None:
        given = {name: transform for name, transform in transforms.items() if transform is not None}
        if not given:
            raise UserError("RandAugment: transforms is empty; expected at least one to draw from.")
        if not 1 <= n <= MOST_DRAWS or not 0 <= magnitude <= FULL_MAGNITUDE:
            raise UserError(
                f"RandAugment: n={n}, magnitude={magnitude}; expected n from 1 to {MOST_DRAWS}, and a magnitude "
                f"from 0 to {FULL_MAGNITUDE}."
            )
        for name, transform in given.items():
            check_options(name, transform)
        self.n = n
        share = magnitude / FULL_MAGNITUDE
        self.transforms = {name: scaled(name, transform, share) for name, transform in given.items()}

    @property
    def changes(self) -> frozenset[str]:
        """Everything that one of the transforms can change."""
        return frozenset[str]().union(*(t.changes for t in self.transforms.values()))

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Map signals ``[B, L, T]`` and labels ``[B, K]`` to augmented ones."""
        for _ in range(self.n):
            x, y = self._draw(x, y, generator)
        return x, y

    def _draw(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Deal the records to the transforms at random, all transforms a hand of one size.

        Which record a transform sees is decided on the device; how many it sees is known beforehand, so nothing
        waits, and no transform is computed for records that others have. Hands that are not full are filled
        up with records drawn again, whose outcome is thrown away; so every record meets every transform with
        the same probability, whatever the size of the batch.
        """
        batch, hands = len(x), len(self.transforms)
        size = -(-batch // hands)
        order = torch.randperm(hands * size, generator=generator, device=x.device)
        again = torch.randint(batch, order.shape, generator=generator, device=x.device)
        record = torch.where(order < batch, order, again)
        dealt = zip(self.transforms.values(), torch.split(record, size), strict=True)
        outcomes = [transform(x[hand], y[hand], generator) for transform, hand in dealt]
        place = order.argsort()[:batch]  # of each record among the hands
        return torch.cat([new_x for new_x, _ in outcomes])[place], torch.cat([new_y for _, new_y in outcomes])[place]


def scaled(name: str, transform: Augmentation, share: float) -> Augmentation:
    """Return a transform that is always applied, at a share of its strength."""
    strength = getattr(transform, "strength", None)
    if strength is None or not is_dataclass(transform) or isinstance(transform, type):
        raise UserError(
            f"RandAugment: {name} ({type(transform).__name__}) has no strength that a magnitude could scale; expected "
            "a dataclass that names one of its options in `strength`."
        )
    kinds = {field.name: field.type for field in fields(transform)}
    reached = getattr(transform, strength) * share
    options: dict[str, Any] = {strength: max(1, round(reached)) if kinds[strength] in ("int", int) else reached}
    if strength != "probability" and "probability" in kinds:
        options["probability"] = 1.0
    return replace(transform, **options)
