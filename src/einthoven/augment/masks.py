"""Augmentations that hide a part of the record: leads, or a stretch of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import chosen, uniform
from einthoven.errors import UserError
from einthoven.functional.statements import EPISODE_STATEMENTS


def drop_leads(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Set each lead of each record to 0 mV with ``probability``, on its own: an electrode that came off."""
    keep = torch.rand((*x.shape[:2], 1), generator=generator, device=x.device) >= probability
    return x * keep


def mask_leads(x: Tensor, max_leads: int, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Set between 1 and ``max_leads`` leads of each record to 0 mV, every set of a size equally likely.

    So a record always keeps some leads, however many may go (random lead masking: Oh et al. 2022,
    "Lead-agnostic self-supervised learning for local and global representations of electrocardiogram", CHIL).

    Raises
    ------
    UserError
        If that is not fewer than there are.
    """
    batch, leads, _ = x.shape
    if not 1 <= max_leads < leads:
        raise UserError(f"lead mask: max_leads={max_leads}; expected 1 or more, and fewer than the {leads} leads.")
    hidden = torch.randint(1, max_leads + 1, (batch, 1, 1), generator=generator, device=x.device)
    hidden = hidden * chosen(x, probability, generator)
    rank = torch.rand((batch, leads), generator=generator, device=x.device).argsort(dim=1).argsort(dim=1)
    return x * (rank[:, :, None] >= hidden)


def mask_time(
    x: Tensor, max_length: int, generator: Generator, *, per_lead: bool = True, probability: float = 1.0
) -> Tensor:
    """Set a stretch of up to ``max_length`` samples to 0 mV, in each lead at its own place or in all at one.

    Cutout (DeVries and Taylor 2017) on the time axis. With ``per_lead`` a single ectopic beat that is hidden
    in one lead stays visible in others.
    """
    batch, leads, samples = x.shape
    shape = (batch, leads if per_lead else 1, 1)
    length = uniform(x, shape, 0.0, max_length, generator) * chosen(x, probability, generator)
    centre = uniform(x, shape, 0.0, samples, generator)
    distance = (torch.arange(samples, device=x.device, dtype=x.dtype) + 0.5 - centre).abs()
    return x * (distance >= length / 2)


@dataclass(frozen=True)
class LeadDropout:
    """Set each lead to zero with ``probability``; see `drop_leads`."""

    probability: float = 0.1
    strength: ClassVar[str] = "probability"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Drop leads of ``x``; see `drop_leads`."""
        return drop_leads(x, self.probability, generator), y


@dataclass(frozen=True)
class LeadMask:
    """Set up to ``max_leads`` leads to zero; see `mask_leads`."""

    max_leads: int = 9
    probability: float = 1.0
    strength: ClassVar[str] = "max_leads"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mask leads of ``x``; see `mask_leads`."""
        return mask_leads(x, self.max_leads, generator, probability=self.probability), y


@dataclass(frozen=True)
class TimeMask:
    """Set a stretch of up to ``seconds`` to zero; see `mask_time`."""

    seconds: float = 2.0
    fs: float = 100.0
    per_lead: bool = True
    probability: float = 1.0
    strength: ClassVar[str] = "seconds"

    @property
    def changes(self) -> frozenset[str]:
        """What a few beats decide, where all leads are hidden at once."""
        return frozenset() if self.per_lead else EPISODE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mask ``x``; see `mask_time`."""
        length = round(self.seconds * self.fs)
        return mask_time(x, length, generator, per_lead=self.per_lead, probability=self.probability), y
