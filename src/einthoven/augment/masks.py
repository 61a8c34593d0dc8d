"""Augmentations that hide a part of the record: some leads or an interval of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import draw_records, uniform
from einthoven.errors import UserError
from einthoven.functional.statements import EPISODE_STATEMENTS


def drop_leads(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Set each lead of each record to 0 mV with ``probability``, independently. It imitates a loose electrode."""
    is_kept = torch.rand((*x.shape[:2], 1), generator=generator, device=x.device) >= probability
    return x * is_kept


def mask_leads(x: Tensor, max_leads: int, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Set between 1 and ``max_leads`` leads of each record to 0 mV. All sets of the same size are equally likely.

    At least one lead of each record remains. Random lead masking: Oh et al. 2022, "Lead-agnostic self-supervised
    learning for local and global representations of electrocardiogram", CHIL.

    Raises
    ------
    UserError
        If ``max_leads`` is below 1 or is not smaller than the number of leads.
    """
    batch, leads, _ = x.shape
    if not 1 <= max_leads < leads:
        raise UserError(f"lead mask: max_leads={max_leads}; expected 1 or more, and fewer than the {leads} leads.")
    num_hidden = torch.randint(1, max_leads + 1, (batch, 1, 1), generator=generator, device=x.device)
    num_hidden = num_hidden * draw_records(x, probability, generator)

    # Each record hides the leads with the lowest random ranks.
    random_order = torch.rand((batch, leads), generator=generator, device=x.device).argsort(dim=1)
    rank = random_order.argsort(dim=1)
    return x * (rank[:, :, None] >= num_hidden)


def mask_time(
    x: Tensor, max_length: int, generator: Generator, *, per_lead: bool = True, probability: float = 1.0
) -> Tensor:
    """Set an interval of up to ``max_length`` samples to 0 mV.

    This is Cutout (DeVries and Taylor 2017) on the time axis. With ``per_lead``, each lead has its own interval. Then a
    single ectopic beat that is hidden in one lead stays visible in other leads. Otherwise all leads have the same
    interval.
    """
    batch, leads, samples = x.shape
    shape = (batch, leads if per_lead else 1, 1)
    length = uniform(x, shape, 0.0, max_length, generator) * draw_records(x, probability, generator)
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
    """Set an interval of up to ``seconds`` to zero; see `mask_time`."""

    seconds: float = 2.0
    fs: float = 100.0
    per_lead: bool = True
    probability: float = 1.0
    strength: ClassVar[str] = "seconds"

    @property
    def changes(self) -> frozenset[str]:
        """Statements that depend on a few beats, if a beat can be hidden in all leads at once."""
        return frozenset() if self.per_lead else EPISODE_STATEMENTS

    @property
    def keeps_masks(self) -> bool:
        """Whether each wave stays visible in some lead."""
        return self.per_lead

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mask ``x``; see `mask_time`."""
        length = round(self.seconds * self.fs)
        return mask_time(x, length, generator, per_lead=self.per_lead, probability=self.probability), y
