"""Augmentations one after another: what a run calls at each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Generator, Tensor

from einthoven.augment.base import Augmentation, check_options
from einthoven.errors import UserError


class Compose:
    """Apply transforms one after another, in the order of the mapping.

    Parameters
    ----------
    transforms
        Name -> transform. One that is None, or has a ``probability`` of 0, is off and costs nothing.
    allow_changes
        Accept that a transform which is on makes labels of the task true or false. Without it such a run is
        refused.

    Raises
    ------
    UserError
        If a probability does not lie within 0 and 1, or as in `einthoven.augment.base.check_options`.
    """

    def __init__(self, transforms: Mapping[str, Augmentation | None], allow_changes: bool = False) -> None:
        self.allow_changes = allow_changes
        self.transforms: dict[str, Augmentation] = {}
        for name, transform in transforms.items():
            probability = getattr(transform, "probability", 1.0)
            if not 0 <= probability <= 1:
                raise UserError(f"augment.transforms.{name}.probability={probability}: expected 0 to 1.")
            if transform is None:
                continue
            check_options(name, transform)
            if probability > 0:
                self.transforms[name] = transform

    @property
    def changes(self) -> frozenset[str]:
        """Everything that one of the transforms can change."""
        return frozenset[str]().union(*(t.changes for t in self.transforms.values()))

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Map signals ``[B, L, T]`` and labels ``[B, K]`` to augmented ones."""
        for transform in self.transforms.values():
            x, y = transform(x, y, generator)
        return x, y

    def __iter__(self) -> Iterator[str]:
        """Names of the transforms that are on."""
        return iter(self.transforms)
