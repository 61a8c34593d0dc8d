"""Augmentations of a batch of ECGs: pure functions, and the thin classes that hold their parameters.

Every function takes a signal ``x`` (``[B, 12, T]`` float, mV, canonical lead order) and a
``torch.Generator`` on the same device, from which all its randomness comes; it returns a new tensor and
leaves ``x`` alone. ``probability`` is that of an augmentation for each record, independently. Nothing waits
for the device.

Every class is called as ``transform(x, y, generator) -> (x, y)`` with labels ``y`` (``[B, K]``), and names in
``changes`` the SCP-ECG statements that it can make true or false. Noise and wander are drawn on the nine
electrodes and carried to the leads, so that Einthoven's and Goldberger's laws survive them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

VOLTAGE_STATEMENTS = frozenset({"LVH", "RVH", "SEHYP", "VCLVH", "LAO/LAE", "RAO/RAE", "LVOLT", "HVOLT"})
"""Statements whose criteria are voltages."""

AXIS_STATEMENTS = frozenset({"LAFB", "LPFB", "RVH"})
"""Statements whose criteria compare the limb leads: the electrical axis."""


class Augmentation(Protocol):
    """What the training asks of an augmentation."""

    @property
    def changes(self) -> frozenset[str]:
        """SCP-ECG statements that it can make true or false; empty where labels survive."""

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Map signals ``[B, 12, T]`` and labels ``[B, K]`` to augmented ones."""


def scale_amplitude(
    x: Tensor, spread: float, generator: Generator, *, per_lead: bool = False, probability: float = 1.0
) -> Tensor:
    """Multiply each record, or each lead on its own, by ``exp(u)``, u uniform in ``[-spread, spread]``.

    Gains and their inverses are equally likely. One gain a record keeps the limb-lead laws; one gain a lead
    breaks them.
    """
    batch, leads, _ = x.shape
    log_gain = _uniform(x, (batch, leads if per_lead else 1, 1), -spread, spread, generator)
    return x * torch.where(_chosen(x, probability, generator), log_gain, 0.0).exp()


def shift_time(x: Tensor, max_shift: int, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Move each record by up to ``max_shift`` samples to either side; the edge value fills the gap.

    A circular shift would join the two ends of a record into a beat that comes too early.
    """
    batch, leads, samples = x.shape
    shift = torch.randint(-max_shift, max_shift + 1, (batch, 1), generator=generator, device=x.device)
    shift = shift * _chosen(x, probability, generator)[:, :, 0]
    source = (torch.arange(samples, device=x.device) - shift).clamp(0, samples - 1)
    return x.gather(2, source[:, None, :].expand(-1, leads, -1))


def add_noise(x: Tensor, max_std: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Add white Gaussian noise to the electrodes, its standard deviation uniform in ``[0, max_std]`` mV."""
    batch, _, samples = x.shape
    std = _uniform(x, (batch, 1, 1), 0.0, max_std, generator) * _chosen(x, probability, generator)
    noise = torch.randn((batch, 9, samples), generator=generator, device=x.device, dtype=x.dtype)
    return x + electrodes_to_leads(x) @ (std * noise)


def add_baseline_wander(
    x: Tensor,
    max_amplitude: float,
    fs: float,
    generator: Generator,
    *,
    probability: float = 1.0,
    band: tuple[float, float] = (0.05, 0.5),
    components: int = 3,
) -> Tensor:
    """Add slow sinusoids to the electrodes: breathing, and skin that stretches under them.

    A record's electrodes share their frequencies (Hz, uniform in ``band``); each has its own amplitudes
    (normal, in sum with a standard deviation uniform in ``[0, max_amplitude]`` mV) and phases.
    """
    batch, _, samples = x.shape
    size = _uniform(x, (batch, 1, 1), 0.0, max_amplitude, generator) * _chosen(x, probability, generator)
    frequency = _uniform(x, (batch, components, 1), *band, generator)
    angle = 2.0 * math.pi * frequency * torch.arange(samples, device=x.device, dtype=x.dtype) / fs
    basis = torch.cat([angle.sin(), angle.cos()], dim=1)  # [B, 2 components, T]
    weights = torch.randn((batch, 9, 2 * components), generator=generator, device=x.device, dtype=x.dtype)
    return x + electrodes_to_leads(x) @ (size / math.sqrt(components) * weights) @ basis


def drop_leads(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Set each lead of each record to 0 mV with ``probability``, on its own: an electrode that came off."""
    keep = torch.rand((*x.shape[:2], 1), generator=generator, device=x.device) >= probability
    return x * keep


def mask_time(
    x: Tensor, max_length: int, generator: Generator, *, per_lead: bool = True, probability: float = 1.0
) -> Tensor:
    """Set a stretch of up to ``max_length`` samples to 0 mV, in each lead at its own place or in all at one.

    Cutout (DeVries and Taylor 2017) on the time axis. With ``per_lead`` a single ectopic beat that is hidden
    in one lead stays visible in others.
    """
    batch, leads, samples = x.shape
    shape = (batch, leads if per_lead else 1, 1)
    length = _uniform(x, shape, 0.0, max_length, generator) * _chosen(x, probability, generator)
    centre = _uniform(x, shape, 0.0, samples, generator)
    distance = (torch.arange(samples, device=x.device, dtype=x.dtype) + 0.5 - centre).abs()
    return x * (distance >= length / 2)


def mixup(
    x: Tensor, y: Tensor, alpha: float, generator: Generator, *, probability: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Blend each record and its labels with those of another one (Zhang et al. 2018).

    ``x' = w x + (1 - w) x[partner]`` and the same for ``y``, with w ~ Beta(alpha, alpha) and partners from a
    random permutation of the batch. w is drawn from 1,024 equally likely quantiles: torch's own Beta takes no
    generator.
    """
    batch = x.shape[0]
    quantiles = torch.tensor(_beta_quantiles(alpha), device=x.device, dtype=x.dtype)
    draw = torch.randint(len(quantiles), (batch, 1, 1), generator=generator, device=x.device)
    weight = torch.where(_chosen(x, probability, generator), quantiles[draw], 1.0)
    partner = torch.randperm(batch, generator=generator, device=x.device)
    mixed_y = torch.lerp(y[partner], y, weight[:, :, 0].to(y.dtype))
    return torch.lerp(x[partner], x, weight), mixed_y


def electrodes_to_leads(like: Tensor) -> Tensor:
    """Return the ``[12, 9]`` matrix from the potentials of RA, LA, LL, V1..V6 to the twelve leads.

    Einthoven: I = LA - RA, II = LL - RA, III = LL - LA. Goldberger: aVR = RA - (LA + LL)/2, and so on.
    Wilson: Vi against the mean of the three limbs. Device and dtype are those of ``like``.
    """
    return torch.tensor(_ELECTRODES_TO_LEADS, device=like.device, dtype=like.dtype)


def _electrodes_to_leads() -> list[list[float]]:
    ra, la, ll, *chest = np.eye(9)
    wilson = (ra + la + ll) / 3
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    rows: list[list[float]] = np.stack([*limb, *(v - wilson for v in chest)]).tolist()
    return rows


_ELECTRODES_TO_LEADS = _electrodes_to_leads()


@functools.cache
def _beta_quantiles(alpha: float) -> list[float]:
    from scipy.stats import beta  # a second of imports that only mixup needs

    quantiles: list[float] = beta.ppf((np.arange(1024) + 0.5) / 1024, alpha, alpha).tolist()
    return quantiles


def _uniform(x: Tensor, shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


def _chosen(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Which records an augmentation touches, ``[B, 1, 1]``."""
    return torch.rand((x.shape[0], 1, 1), generator=generator, device=x.device) < probability


@dataclass(frozen=True)
class AmplitudeScale:
    """Multiply each record (or, ``per_lead``, each lead) by a random gain; see `scale_amplitude`."""

    spread: float = 0.2
    per_lead: bool = False
    probability: float = 1.0

    @property
    def changes(self) -> frozenset[str]:
        """Voltage criteria; with a gain of its own for each lead, the axis as well."""
        return VOLTAGE_STATEMENTS | AXIS_STATEMENTS if self.per_lead else VOLTAGE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Scale ``x``; see `scale_amplitude`."""
        scaled = scale_amplitude(x, self.spread, generator, per_lead=self.per_lead, probability=self.probability)
        return scaled, y


@dataclass(frozen=True)
class TimeShift:
    """Move each record in time by up to ``seconds``; see `shift_time`."""

    seconds: float = 1.0
    fs: float = 100.0
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Shift ``x``; see `shift_time`."""
        return shift_time(x, round(self.seconds * self.fs), generator, probability=self.probability), y


@dataclass(frozen=True)
class Noise:
    """Add white noise of up to ``max_std`` mV on the electrodes; see `add_noise`."""

    max_std: float = 0.05
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add noise to ``x``; see `add_noise`."""
        return add_noise(x, self.max_std, generator, probability=self.probability), y


@dataclass(frozen=True)
class BaselineWander:
    """Add slow drift of up to ``max_amplitude`` mV on the electrodes; see `add_baseline_wander`."""

    max_amplitude: float = 0.1
    fs: float = 100.0
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add wander to ``x``; see `add_baseline_wander`."""
        return add_baseline_wander(x, self.max_amplitude, self.fs, generator, probability=self.probability), y


@dataclass(frozen=True)
class LeadDropout:
    """Set each lead to zero with ``probability``; see `drop_leads`."""

    probability: float = 0.1
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Drop leads of ``x``; see `drop_leads`."""
        return drop_leads(x, self.probability, generator), y


@dataclass(frozen=True)
class TimeMask:
    """Set a stretch of up to ``seconds`` to zero; see `mask_time`."""

    seconds: float = 2.0
    fs: float = 100.0
    per_lead: bool = True
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mask ``x``; see `mask_time`."""
        length = round(self.seconds * self.fs)
        return mask_time(x, length, generator, per_lead=self.per_lead, probability=self.probability), y


@dataclass(frozen=True)
class Mixup:
    """Blend records and labels in pairs; see `mixup`. The labels move with the signal, so they stay right."""

    alpha: float = 0.2
    probability: float = 1.0
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Blend ``x`` and ``y``; see `mixup`."""
        return mixup(x, y, self.alpha, generator, probability=self.probability)


class Compose:
    """Apply transforms one after another, in the order of the mapping.

    Parameters
    ----------
    transforms
        Name -> transform. One that is None, or has a ``probability`` of 0, is off and costs nothing.
    """

    def __init__(self, transforms: Mapping[str, Augmentation | None]) -> None:
        self.transforms: dict[str, Augmentation] = {
            name: t for name, t in transforms.items() if t is not None and getattr(t, "probability", 1.0) > 0
        }

    @property
    def changes(self) -> frozenset[str]:
        """Everything that one of the transforms can change."""
        return frozenset[str]().union(*(t.changes for t in self.transforms.values()))

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Map signals ``[B, 12, T]`` and labels ``[B, K]`` to augmented ones."""
        for transform in self.transforms.values():
            x, y = transform(x, y, generator)
        return x, y

    def __iter__(self) -> Iterator[str]:
        """Names of the transforms that are on."""
        return iter(self.transforms)
