"""Augmentations that are affine in amplitude: gain and offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import cached_tensor, draw_records, normal, uniform
from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.leads import LEADS
from einthoven.functional.statements import AXIS_STATEMENTS, VOLTAGE_STATEMENTS


def scale_amplitude(
    x: Tensor, spread: float, generator: Generator, *, per_lead: bool = False, probability: float = 1.0
) -> Tensor:
    """Multiply each record, or each lead separately, by ``exp(u)`` with u uniform in ``[-spread, spread]``.

    A gain and its inverse are equally likely. One gain per record keeps the limb-lead laws. One gain per lead breaks
    them.
    """
    batch, leads, _ = x.shape
    num_gains = leads if per_lead else 1
    log_gain = uniform(x, (batch, num_gains, 1), -spread, spread, generator)
    return x * torch.where(draw_records(x, probability, generator), log_gain, 0.0).exp()


def _offset_amplitude(
    x: Tensor, max_offset: float, generator: Generator, *, leads: Sequence[str] = LEADS, probability: float = 1.0
) -> Tensor:
    """Add a constant to each electrode.

    The constant is normally distributed. Its standard deviation is uniform in ``[0, max_offset]`` mV. Skin and
    electrode act as a battery. An amplifier without a high-pass filter records the voltage of this battery.
    """
    batch = x.shape[0]
    std = uniform(x, (batch, 1, 1), 0.0, max_offset, generator) * draw_records(x, probability, generator)
    to_leads = cached_tensor(electrode_matrix, tuple(leads), like=x)
    return x + to_leads @ (std * normal(x, (batch, 9, 1), generator))


@dataclass(frozen=True)
class AmplitudeScale:
    """Multiply each record, or with ``per_lead`` each lead, by a random gain; see `scale_amplitude`."""

    spread: float = 0.2
    per_lead: bool = False
    probability: float = 1.0
    strength: ClassVar[str] = "spread"
    keeps_dipole: ClassVar[bool] = False

    @property
    def changes(self) -> frozenset[str]:
        """Statements about voltages. With one gain per lead, also statements about the axis."""
        if self.per_lead:
            return VOLTAGE_STATEMENTS | AXIS_STATEMENTS
        return VOLTAGE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Scale ``x``; see `scale_amplitude`."""
        scaled = scale_amplitude(x, self.spread, generator, per_lead=self.per_lead, probability=self.probability)
        return scaled, y


@dataclass(frozen=True)
class Offset:
    """Add a constant of up to ``max_offset`` mV to each electrode; see `_offset_amplitude`.

    Voltages are measured from the baseline, so an offset changes no statement.
    """

    max_offset: float = 0.1
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_offset"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Offset ``x``; see `_offset_amplitude`."""
        return _offset_amplitude(x, self.max_offset, generator, leads=self.leads, probability=self.probability), y
