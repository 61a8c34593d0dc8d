"""Augmentations that add what a recording adds: on the electrodes, so that the limb-lead laws survive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import chosen, constant, normal, uniform
from einthoven.errors import UserError
from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.leads import LEADS


def add_noise(
    x: Tensor, max_std: float, generator: Generator, *, leads: Sequence[str] = LEADS, probability: float = 1.0
) -> Tensor:
    """Add white Gaussian noise to the electrodes, its standard deviation uniform in ``[0, max_std]`` mV."""
    batch, _, samples = x.shape
    std = uniform(x, (batch, 1, 1), 0.0, max_std, generator) * chosen(x, probability, generator)
    return x + _to_leads(x, leads) @ (std * normal(x, (batch, 9, samples), generator))


def add_pink_noise(
    x: Tensor,
    max_std: float,
    generator: Generator,
    *,
    exponent: float = 1.0,
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Add noise whose power falls as ``1 / f ** exponent``, its standard deviation uniform in ``[0, max_std]`` mV.

    Shaped in the frequency domain (Timmer and König 1995, "On generating power law noise", A&A 300:707).
    """
    batch, _, samples = x.shape
    frequency = torch.fft.rfftfreq(samples, device=x.device, dtype=x.dtype)
    gain = frequency.clamp(min=1.0 / samples) ** (-exponent / 2)
    std = uniform(x, (batch, 1, 1), 0.0, max_std, generator) * chosen(x, probability, generator)
    return x + _to_leads(x, leads) @ (std * _shaped_noise(x, gain, generator))


def add_muscle_noise(
    x: Tensor,
    max_std: float,
    fs: float,
    generator: Generator,
    *,
    band: tuple[float, float] = (20.0, 150.0),
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Add muscle activity: noise within ``band`` (Hz), each electrode with a strength uniform in ``[0, max_std]`` mV.

    What a tense muscle sends lies between 20 and 500 Hz (De Luca et al. 2010, "Filtering the surface EMG
    signal", J. Biomech. 43:1573), and an ECG recorder passes up to about 150 Hz; of that, what `fs` can hold.
    """
    batch, _, samples = x.shape
    frequency = torch.fft.rfftfreq(samples, 1 / fs, device=x.device, dtype=x.dtype)
    gain = ((frequency >= band[0]) & (frequency <= band[1])).to(x.dtype)
    std = uniform(x, (batch, 9, 1), 0.0, max_std, generator) * chosen(x, probability, generator)
    return x + _to_leads(x, leads) @ (std * _shaped_noise(x, gain, generator))


def add_powerline(
    x: Tensor,
    max_amplitude: float,
    frequency: float,
    fs: float,
    generator: Generator,
    *,
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Add a sinusoid of the mains' ``frequency`` (Hz), in one phase on all electrodes.

    Each electrode has its own amplitude: normal, its standard deviation uniform in ``[0, max_amplitude]`` mV.
    What all electrodes share, no lead sees.
    """
    batch, _, samples = x.shape
    size = uniform(x, (batch, 1, 1), 0.0, max_amplitude, generator) * chosen(x, probability, generator)
    phase = uniform(x, (batch, 1, 1), 0.0, 2.0 * math.pi, generator)
    time = torch.arange(samples, device=x.device, dtype=x.dtype) / fs
    wave = (2.0 * math.pi * frequency * time + phase).sin()
    return x + (_to_leads(x, leads) @ (size * normal(x, (batch, 9, 1), generator))) * wave


def add_baseline_wander(
    x: Tensor,
    max_amplitude: float,
    fs: float,
    generator: Generator,
    *,
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
    band: tuple[float, float] = (0.05, 0.5),
    components: int = 3,
) -> Tensor:
    """Add slow sinusoids to the electrodes: breathing, and skin that stretches under them.

    A record's electrodes share their frequencies (Hz, uniform in ``band``); each has its own amplitudes
    (normal, in sum with a standard deviation uniform in ``[0, max_amplitude]`` mV) and phases.
    """
    batch, _, samples = x.shape
    size = uniform(x, (batch, 1, 1), 0.0, max_amplitude, generator) * chosen(x, probability, generator)
    frequency = uniform(x, (batch, components, 1), *band, generator)
    angle = 2.0 * math.pi * frequency * torch.arange(samples, device=x.device, dtype=x.dtype) / fs
    basis = torch.cat([angle.sin(), angle.cos()], dim=1)  # [B, 2 components, T]
    weights = normal(x, (batch, 9, 2 * components), generator)
    return x + _to_leads(x, leads) @ (size / math.sqrt(components) * weights) @ basis


def add_motion(
    x: Tensor,
    max_jump: float,
    fs: float,
    generator: Generator,
    *,
    decay: tuple[float, float] = (0.1, 1.0),
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Let one electrode of each record move: its potential jumps, and comes back exponentially.

    Jump uniform within ``max_jump`` mV to either side, time constant uniform in ``decay`` (s), electrode and
    moment drawn evenly.
    """
    batch, _, samples = x.shape
    jump = uniform(x, (batch, 1, 1), -max_jump, max_jump, generator) * chosen(x, probability, generator)
    constant_s = uniform(x, (batch, 1, 1), *decay, generator)
    start = uniform(x, (batch, 1, 1), 0.0, samples / fs, generator)
    after = torch.arange(samples, device=x.device, dtype=x.dtype) / fs - start
    course = torch.where(after >= 0, (-after.clamp(min=0.0) / constant_s).exp(), 0.0)
    electrode = torch.randint(9, (batch,), generator=generator, device=x.device)
    return x + (jump * _to_leads(x, leads).T[electrode][:, :, None]) * course


def _to_leads(x: Tensor, leads: Sequence[str]) -> Tensor:
    """From the nine electrodes to the leads, ``[L, 9]``."""
    return constant(electrode_matrix, tuple(leads), like=x)


def _shaped_noise(x: Tensor, gain: Tensor, generator: Generator) -> Tensor:
    """Gaussian noise on the electrodes, ``[B, 9, T]``: of mean 0, unit variance, and amplitude spectrum `gain`."""
    samples = x.shape[2]
    inner = torch.ones_like(gain)
    inner[0] = 0.0  # no constant part
    gain = gain * inner
    power = 2.0 * gain.square().sum()  # both halves of the spectrum
    if samples % 2 == 0:
        power = power - gain[-1].square()  # of which the highest frequency is in neither twice
    white = torch.fft.rfft(normal(x, (x.shape[0], 9, samples), generator))
    noise: Tensor = torch.fft.irfft(white * (gain * (samples / power).sqrt()), n=samples)
    return noise


@dataclass(frozen=True)
class Noise:
    """Add white noise of up to ``max_std`` mV on the electrodes; see `add_noise`."""

    max_std: float = 0.05
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_std"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add noise to ``x``; see `add_noise`."""
        return add_noise(x, self.max_std, generator, leads=self.leads, probability=self.probability), y


@dataclass(frozen=True)
class PinkNoise:
    """Add 1/f noise of up to ``max_std`` mV on the electrodes; see `add_pink_noise`."""

    max_std: float = 0.1
    exponent: float = 1.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_std"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add noise to ``x``; see `add_pink_noise`."""
        noisy = add_pink_noise(
            x, self.max_std, generator, exponent=self.exponent, leads=self.leads, probability=self.probability
        )
        return noisy, y


@dataclass(frozen=True)
class MuscleNoise:
    """Add muscle activity of up to ``max_std`` mV on the electrodes; see `add_muscle_noise`."""

    max_std: float = 0.05
    fs: float = 100.0
    low: float = 20.0
    high: float = 150.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_std"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a band that the sampling frequency cannot hold."""
        if not 0 < self.low < min(self.high, self.fs / 2):
            raise UserError(
                f"augmentation MuscleNoise: low={self.low:g} Hz; expected above 0, and below high={self.high:g} Hz and "
                f"half the sampling frequency of {self.fs:g} Hz."
            )

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add muscle activity to ``x``; see `add_muscle_noise`."""
        band = (self.low, self.high)
        noisy = add_muscle_noise(
            x, self.max_std, self.fs, generator, band=band, leads=self.leads, probability=self.probability
        )
        return noisy, y


@dataclass(frozen=True)
class Powerline:
    """Add the mains of up to ``max_amplitude`` mV on the electrodes; see `add_powerline`."""

    max_amplitude: float = 0.05
    frequency: float = 50.0
    fs: float = 500.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_amplitude"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse mains that a recorder of this sampling frequency has filtered out."""
        if not 0 < self.frequency < self.fs / 2:
            raise UserError(
                f"augmentation Powerline: a signal at {self.fs:g} Hz holds frequencies below {self.fs / 2:g} Hz, so it "
                f"has no mains of {self.frequency:g} Hz; expected a higher sampling frequency, as in data.fs=500."
            )

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add mains to ``x``; see `add_powerline`."""
        noisy = add_powerline(
            x, self.max_amplitude, self.frequency, self.fs, generator, leads=self.leads, probability=self.probability
        )
        return noisy, y


@dataclass(frozen=True)
class BaselineWander:
    """Add slow drift of up to ``max_amplitude`` mV on the electrodes; see `add_baseline_wander`."""

    max_amplitude: float = 0.1
    fs: float = 100.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_amplitude"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add wander to ``x``; see `add_baseline_wander`."""
        drifting = add_baseline_wander(
            x, self.max_amplitude, self.fs, generator, leads=self.leads, probability=self.probability
        )
        return drifting, y


@dataclass(frozen=True)
class MotionArtefact:
    """Let one electrode's potential jump by up to ``max_jump`` mV and come back; see `add_motion`."""

    max_jump: float = 0.5
    fs: float = 100.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_jump"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Move an electrode of ``x``; see `add_motion`."""
        return add_motion(x, self.max_jump, self.fs, generator, leads=self.leads, probability=self.probability), y
