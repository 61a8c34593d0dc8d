"""A sequence of augmentations. A run calls it in every step."""

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
        Name -> transform. A transform is off if it is None or has a ``probability`` of 0. Then it costs no time.
    allow_changes
        Accept transforms that can make labels of the task wrong. Without this option, such a run is refused.

    Raises
    ------
    UserError
        If `transforms` is no mapping of transforms, if a probability is not from 0 to 1, or if
        `einthoven.augment.base.check_options` refuses an option.
    """

    def __init__(self, transforms: Mapping[str, Augmentation | None], allow_changes: bool = False) -> None:
        self.allow_changes = allow_changes
        self.transforms: dict[str, Augmentation] = {}
        if not isinstance(transforms, Mapping):
            raise UserError(
                f"augment.transforms={transforms}: expected a mapping of transforms; augment=none has none."
            )
        for name, transform in transforms.items():
            probability = getattr(transform, "probability", 1.0)
            if not 0 <= probability <= 1:
                raise UserError(
                    f"augment.transforms.{name}.probability={probability}: expected a probability from 0 to 1."
                )
            if transform is None:
                continue
            if not callable(transform):
                raise UserError(
                    f"augment.transforms.{name}={transform}: expected a transform with a _target_, or null."
                )
            check_options(name, transform)
            if probability > 0:
                self.transforms[name] = transform

    @property
    def changes(self) -> frozenset[str]:
        """The statements that any of the transforms can make wrong."""
        return frozenset[str]().union(*(t.changes for t in self.transforms.values()))

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Augment signals ``[B, L, T]`` and labels ``[B, K]``."""
        for transform in self.transforms.values():
            x, y = transform(x, y, generator)
        return x, y

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the transforms that are on."""
        return iter(self.transforms)
