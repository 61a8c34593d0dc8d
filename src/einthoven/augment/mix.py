"""Augmentations that mix records in pairs, and their labels with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.augment.base import chosen, constant
from einthoven.functional.statements import EPISODE_STATEMENTS


def mixup(
    x: Tensor, y: Tensor, alpha: float, generator: Generator, *, probability: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Blend each record and its labels with those of another one (Zhang et al. 2018).

    ``x' = w x + (1 - w) x[partner]`` and the same for ``y``, with w ~ Beta(alpha, alpha) and partners from a
    random permutation of the batch. w is drawn from 1,024 equally likely quantiles: torch's own Beta takes no
    generator.
    """
    weight = _weights(x, alpha, generator, probability)
    partner = torch.randperm(x.shape[0], generator=generator, device=x.device)
    mixed_y = torch.lerp(y[partner], y, weight[:, :, 0].to(y.dtype))
    return torch.lerp(x[partner], x, weight), mixed_y


def cutmix(
    x: Tensor, y: Tensor, alpha: float, generator: Generator, *, probability: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Replace a stretch of each record by the same stretch of another one (Yun et al. 2019), labels by its share.

    The stretch is ``(1 - w) T`` samples long, rounded, with w ~ Beta(alpha, alpha), at a place drawn evenly.
    All leads are cut alike, so that the limb-lead laws survive. Partners are as in `mixup`.
    """
    batch, _, samples = x.shape
    length = ((1.0 - _weights(x, alpha, generator, probability)) * samples).round()
    place = torch.rand((batch, 1, 1), generator=generator, device=x.device, dtype=x.dtype)
    start = torch.minimum((place * (samples - length + 1)).floor(), samples - length)
    partner = torch.randperm(batch, generator=generator, device=x.device)
    time = torch.arange(samples, device=x.device)
    pasted = (time >= start) & (time < start + length)
    kept = (1.0 - length / samples)[:, :, 0].to(y.dtype)
    return torch.where(pasted, x[partner], x), torch.lerp(y[partner], y, kept)


def _weights(x: Tensor, alpha: float, generator: Generator, probability: float) -> Tensor:
    """Share that each record keeps of itself, ``[B, 1, 1]``: all of it where it is not chosen."""
    quantiles = constant(_beta_quantiles, alpha, like=x)
    draw = torch.randint(len(quantiles), (x.shape[0], 1, 1), generator=generator, device=x.device)
    return torch.where(chosen(x, probability, generator), quantiles[draw], 1.0)


def _beta_quantiles(alpha: float) -> NDArray[np.float64]:
    from scipy.stats import beta  # a second of imports that only mixing needs

    return np.asarray(beta.ppf((np.arange(1024) + 0.5) / 1024, alpha, alpha))


@dataclass(frozen=True)
class Mixup:
    """Blend records and labels in pairs; see `mixup`. The labels move with the signal, so they stay right."""

    alpha: float = 0.2
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Blend ``x`` and ``y``; see `mixup`."""
        return mixup(x, y, self.alpha, generator, probability=self.probability)


@dataclass(frozen=True)
class CutMix:
    """Paste a stretch of another record, and deal the labels by its share; see `cutmix`.

    What a few beats decide is all in one of the two pieces, whatever its share.
    """

    alpha: float = 1.0
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = EPISODE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Cut and mix ``x`` and ``y``; see `cutmix`."""
        return cutmix(x, y, self.alpha, generator, probability=self.probability)
