"""Augmentations that mix pairs of records and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.augment.base import cached_tensor, draw_records
from einthoven.functional.statements import EPISODE_STATEMENTS


def mixup(
    x: Tensor, y: Tensor, alpha: float, generator: Generator, *, probability: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Blend each record and its labels with another record and its labels (Zhang et al. 2018).

    The result is ``x' = w x + (1 - w) x[partner]``, and the same for ``y``, with w ~ Beta(alpha, alpha). The partners
    are a random permutation of the batch. The weight w is drawn from 1,024 equally likely quantiles, because the Beta
    distribution of torch accepts no generator.
    """
    weight = _weights(x, alpha, generator, probability)
    partner = torch.randperm(x.shape[0], generator=generator, device=x.device)
    mixed_y = torch.lerp(y[partner], y, weight[:, :, 0].to(y.dtype))
    return torch.lerp(x[partner], x, weight), mixed_y


def cutmix(
    x: Tensor, y: Tensor, alpha: float, generator: Generator, *, probability: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Replace an interval of each record by the same interval of another record (Yun et al. 2019).

    The labels are mixed by the share of the interval. The interval has ``(1 - w) T`` samples, rounded, with
    w ~ Beta(alpha, alpha). Its position is uniform. It is the same in all leads, so the limb-lead laws still hold. The
    partners are drawn as in `mixup`.
    """
    batch, _, samples = x.shape
    length = ((1.0 - _weights(x, alpha, generator, probability)) * samples).round()
    position = torch.rand((batch, 1, 1), generator=generator, device=x.device, dtype=x.dtype)
    start = torch.minimum((position * (samples - length + 1)).floor(), samples - length)
    partner = torch.randperm(batch, generator=generator, device=x.device)
    time = torch.arange(samples, device=x.device)
    is_replaced = (time >= start) & (time < start + length)
    weight = (1.0 - length / samples)[:, :, 0].to(y.dtype)
    return torch.where(is_replaced, x[partner], x), torch.lerp(y[partner], y, weight)


def _weights(x: Tensor, alpha: float, generator: Generator, probability: float) -> Tensor:
    """Draw the weight of each record in its mixture, ``[B, 1, 1]``. It is 1 for records that are not augmented."""
    quantiles = cached_tensor(_beta_quantiles, alpha, like=x)
    index = torch.randint(len(quantiles), (x.shape[0], 1, 1), generator=generator, device=x.device)
    return torch.where(draw_records(x, probability, generator), quantiles[index], 1.0)


def _beta_quantiles(alpha: float) -> NDArray[np.float64]:
    # SciPy takes about a second to import, and only mixing needs it.
    from scipy.stats import beta

    return np.asarray(beta.ppf((np.arange(1024) + 0.5) / 1024, alpha, alpha))


@dataclass(frozen=True)
class Mixup:
    """Blend records and labels in pairs; see `mixup`. The labels are blended like the signal, so they stay correct."""

    alpha: float = 0.2
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()
    keeps_masks: ClassVar[bool] = False

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Blend ``x`` and ``y``; see `mixup`."""
        return mixup(x, y, self.alpha, generator, probability=self.probability)


@dataclass(frozen=True)
class CutMix:
    """Replace an interval by that of another record, and mix the labels by its share; see `cutmix`.

    Statements that depend on a few beats can become wrong. These beats may all be in one of the two parts, whatever its
    share is.
    """

    alpha: float = 1.0
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = EPISODE_STATEMENTS
    keeps_masks: ClassVar[bool] = False

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mix ``x`` and ``y``; see `cutmix`."""
        return cutmix(x, y, self.alpha, generator, probability=self.probability)
