"""Augmentations that are affine in amplitude: gain and offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import chosen, constant, normal, uniform
from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.leads import LEADS
from einthoven.functional.statements import AXIS_STATEMENTS, VOLTAGE_STATEMENTS


def scale_amplitude(
    x: Tensor, spread: float, generator: Generator, *, per_lead: bool = False, probability: float = 1.0
) -> Tensor:
    """Multiply each record, or each lead on its own, by ``exp(u)``, u uniform in ``[-spread, spread]``.

    Gains and their inverses are equally likely. One gain a record keeps the limb-lead laws; one gain a lead
    breaks them.
    """
    batch, leads, _ = x.shape
    log_gain = uniform(x, (batch, leads if per_lead else 1, 1), -spread, spread, generator)
    return x * torch.where(chosen(x, probability, generator), log_gain, 0.0).exp()


def offset_amplitude(
    x: Tensor, max_offset: float, generator: Generator, *, leads: Sequence[str] = LEADS, probability: float = 1.0
) -> Tensor:
    """Add a constant to each electrode: normal, its standard deviation uniform in ``[0, max_offset]`` mV.

    Skin and electrode make a battery, whose voltage an amplifier without a high-pass filter records.
    """
    batch = x.shape[0]
    size = uniform(x, (batch, 1, 1), 0.0, max_offset, generator) * chosen(x, probability, generator)
    return x + constant(electrode_matrix, tuple(leads), like=x) @ (size * normal(x, (batch, 9, 1), generator))


@dataclass(frozen=True)
class AmplitudeScale:
    """Multiply each record (or, ``per_lead``, each lead) by a random gain; see `scale_amplitude`."""

    spread: float = 0.2
    per_lead: bool = False
    probability: float = 1.0
    strength: ClassVar[str] = "spread"

    @property
    def changes(self) -> frozenset[str]:
        """Voltage criteria; with a gain of its own for each lead, the axis as well."""
        return VOLTAGE_STATEMENTS | AXIS_STATEMENTS if self.per_lead else VOLTAGE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Scale ``x``; see `scale_amplitude`."""
        scaled = scale_amplitude(x, self.spread, generator, per_lead=self.per_lead, probability=self.probability)
        return scaled, y


@dataclass(frozen=True)
class Offset:
    """Add a constant of up to ``max_offset`` mV to each electrode; see `offset_amplitude`.

    Voltages are read from the baseline, wherever it lies: no statement changes.
    """

    max_offset: float = 0.1
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_offset"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Offset ``x``; see `offset_amplitude`."""
        return offset_amplitude(x, self.max_offset, generator, leads=self.leads, probability=self.probability), y
