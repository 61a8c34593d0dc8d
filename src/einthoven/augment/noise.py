"""Augmentations that add the noise of a recording. The noise is added on the electrodes, so the limb-lead laws hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import cached_tensor, draw_records, normal, uniform
from einthoven.errors import UserError
from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.leads import LEADS


def add_noise(
    x: Tensor, max_std: float, generator: Generator, *, leads: Sequence[str] = LEADS, probability: float = 1.0
) -> Tensor:
    """Add white Gaussian noise to the electrodes. Its standard deviation is uniform in ``[0, max_std]`` mV."""
    batch, _, samples = x.shape
    std = uniform(x, (batch, 1, 1), 0.0, max_std, generator) * draw_records(x, probability, generator)
    noise = std * normal(x, (batch, 9, samples), generator)
    return x + _to_leads(x, leads) @ noise


def add_pink_noise(
    x: Tensor,
    max_std: float,
    generator: Generator,
    *,
    exponent: float = 1.0,
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Add noise whose power falls as ``1 / f ** exponent``. Its standard deviation is uniform in ``[0, max_std]`` mV.

    The spectrum is shaped in the frequency domain (Timmer and König 1995, "On generating power law noise", A&A
    300:707).
    """
    batch, _, samples = x.shape
    frequency = torch.fft.rfftfreq(samples, device=x.device, dtype=x.dtype)
    gain = frequency.clamp(min=1.0 / samples) ** (-exponent / 2)
    std = uniform(x, (batch, 1, 1), 0.0, max_std, generator) * draw_records(x, probability, generator)
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
    """Add muscle activity: noise with frequencies inside of ``band`` (Hz).

    The strength of each electrode is uniform in ``[0, max_std]`` mV. The signal of a tense muscle lies between 20 and
    500 Hz (De Luca et al. 2010, "Filtering the surface EMG signal", J. Biomech. 43:1573). An ECG recorder passes
    frequencies up to about 150 Hz. Frequencies above half of `fs` are left out.
    """
    batch, _, samples = x.shape
    frequency = torch.fft.rfftfreq(samples, 1 / fs, device=x.device, dtype=x.dtype)
    gain = ((frequency >= band[0]) & (frequency <= band[1])).to(x.dtype)
    std = uniform(x, (batch, 9, 1), 0.0, max_std, generator) * draw_records(x, probability, generator)
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
    """Add a sinusoid with the ``frequency`` of the mains (Hz). All electrodes have the same phase.

    The amplitude of each electrode is normally distributed. The standard deviation is uniform in ``[0, max_amplitude]``
    mV. The part that is equal on all electrodes cancels in every lead.
    """
    batch, _, samples = x.shape
    std = uniform(x, (batch, 1, 1), 0.0, max_amplitude, generator) * draw_records(x, probability, generator)
    phase = uniform(x, (batch, 1, 1), 0.0, 2.0 * math.pi, generator)
    time = torch.arange(samples, device=x.device, dtype=x.dtype) / fs
    wave = (2.0 * math.pi * frequency * time + phase).sin()
    amplitude = _to_leads(x, leads) @ (std * normal(x, (batch, 9, 1), generator))
    return x + amplitude * wave


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
    """Add slow sinusoids to the electrodes. They imitate breathing and the stretching of the skin.

    The electrodes of a record have the same frequencies (Hz, uniform in ``band``). Each electrode has its own
    amplitudes and phases. The amplitudes are normally distributed. The standard deviation of the sum of the sinusoids
    is uniform in ``[0, max_amplitude]`` mV.
    """
    batch, _, samples = x.shape
    std = uniform(x, (batch, 1, 1), 0.0, max_amplitude, generator) * draw_records(x, probability, generator)
    frequency = uniform(x, (batch, components, 1), *band, generator)
    angle = 2.0 * math.pi * frequency * torch.arange(samples, device=x.device, dtype=x.dtype) / fs

    # A random mixture of sine and cosine has a random phase. The basis has the shape [B, 2 components, T].
    basis = torch.cat([angle.sin(), angle.cos()], dim=1)
    weights = normal(x, (batch, 9, 2 * components), generator)
    return x + _to_leads(x, leads) @ (std / math.sqrt(components) * weights) @ basis


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
    """Move one electrode of each record: its potential jumps and returns exponentially.

    The jump is uniform in ``[-max_jump, max_jump]`` mV. The time constant is uniform in ``decay`` (s). The electrode
    and the time of the jump are uniform, too.
    """
    batch, _, samples = x.shape
    jump = uniform(x, (batch, 1, 1), -max_jump, max_jump, generator) * draw_records(x, probability, generator)
    time_constant = uniform(x, (batch, 1, 1), *decay, generator)
    start = uniform(x, (batch, 1, 1), 0.0, samples / fs, generator)
    since_start = torch.arange(samples, device=x.device, dtype=x.dtype) / fs - start
    course = torch.where(since_start >= 0, (-since_start.clamp(min=0.0) / time_constant).exp(), 0.0)
    electrode = torch.randint(9, (batch,), generator=generator, device=x.device)
    jump_of_leads = jump * _to_leads(x, leads).T[electrode][:, :, None]
    return x + jump_of_leads * course


def _to_leads(x: Tensor, leads: Sequence[str]) -> Tensor:
    """Return the matrix ``[L, 9]`` from the nine electrodes to the leads."""
    return cached_tensor(electrode_matrix, tuple(leads), like=x)


def _shaped_noise(x: Tensor, gain: Tensor, generator: Generator) -> Tensor:
    """Draw Gaussian noise on the electrodes, ``[B, 9, T]``, with mean 0, variance 1 and the spectrum `gain`."""
    samples = x.shape[2]
    # The first entry is the frequency 0. Without it, the mean is 0.
    not_constant = torch.ones_like(gain)
    not_constant[0] = 0.0
    gain = gain * not_constant

    # `rfft` returns half of the spectrum, so each frequency counts twice. For an even number of samples, the highest
    # frequency occurs only once.
    power = 2.0 * gain.square().sum()
    if samples % 2 == 0:
        power = power - gain[-1].square()
    white = torch.fft.rfft(normal(x, (x.shape[0], 9, samples), generator))
    return torch.fft.irfft(white * (gain * (samples / power).sqrt()), n=samples)


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
        """Refuse a band that a signal with this sampling frequency cannot contain."""
        if not 0 < self.low < min(self.high, self.fs / 2):
            raise UserError(
                f"augmentation MuscleNoise: low={self.low:g} Hz; expected a frequency above 0, below "
                f"high={self.high:g} Hz, and below half the sampling frequency of {self.fs:g} Hz."
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
    """Add mains hum of up to ``max_amplitude`` mV on the electrodes; see `add_powerline`."""

    max_amplitude: float = 0.05
    frequency: float = 50.0
    fs: float = 500.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_amplitude"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a mains frequency that a signal with this sampling frequency cannot contain."""
        if not 0 < self.frequency < self.fs / 2:
            raise UserError(
                f"augmentation Powerline: a signal at {self.fs:g} Hz holds frequencies below {self.fs / 2:g} Hz, so it "
                f"has no mains of {self.frequency:g} Hz; expected a higher sampling frequency, as in data.fs=500."
            )

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Add mains hum to ``x``; see `add_powerline`."""
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
    """Let the potential of one electrode jump by up to ``max_jump`` mV and return; see `add_motion`."""

    max_jump: float = 0.5
    fs: float = 100.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_jump"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Move an electrode of ``x``; see `add_motion`."""
        return add_motion(x, self.max_jump, self.fs, generator, leads=self.leads, probability=self.probability), y
