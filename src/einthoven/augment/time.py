"""Augmentations of the time axis: shift, stretch, crop and resample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import draw_records, uniform
from einthoven.errors import UserError
from einthoven.functional.statements import EPISODE_STATEMENTS, INTERVAL_STATEMENTS, RATE_STATEMENTS


def shift_time(x: Tensor, max_shift: int, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Shift each record by up to ``max_shift`` samples to the left or right. The edge value fills the gap.

    A circular shift would join the two ends of a record, which can look like an early beat.
    """
    batch, leads, samples = x.shape
    shift = torch.randint(-max_shift, max_shift + 1, (batch, 1), generator=generator, device=x.device)
    shift = shift * draw_records(x, probability, generator)[:, :, 0]
    index = (torch.arange(samples, device=x.device) - shift).clamp(0, samples - 1)
    return x.gather(2, index[:, None, :].expand(-1, leads, -1))


def stretch_time(x: Tensor, spread: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Stretch each record by a factor ``exp(u)``, with u uniform in ``[-spread, spread]``. Its middle does not move.

    The factor multiplies intervals and divides rates. A factor below 1 makes the record shorter. The edge values then
    fill the gaps at both ends.
    """
    batch, _, samples = x.shape
    log_factor = uniform(x, (batch, 1), -spread, spread, generator)
    log_factor = torch.where(draw_records(x, probability, generator)[:, :, 0], log_factor, 0.0)
    middle = (samples - 1) / 2
    time = torch.arange(samples, device=x.device, dtype=x.dtype)
    # The new sample at `time` is the old sample at this position.
    position = middle + (time - middle) * (-log_factor).exp()
    return sample_at(x, position)


def resize_crop(x: Tensor, max_cut: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Remove a share of each record, up to ``max_cut``, and stretch the rest to the original length.

    The share is removed at the two ends, divided between them at random. This is the random resized crop of Szegedy et
    al. 2015, "Going deeper with convolutions", on the time axis.
    """
    batch, _, samples = x.shape
    cut = uniform(x, (batch, 1), 0.0, max_cut, generator) * draw_records(x, probability, generator)[:, :, 0]
    share_at_start = torch.rand((batch, 1), generator=generator, device=x.device, dtype=x.dtype)
    start = cut * share_at_start * (samples - 1)
    time = torch.arange(samples, device=x.device, dtype=x.dtype)
    return sample_at(x, start + (1.0 - cut) * time)


def crop_time(x: Tensor, length: int, generator: Generator) -> Tensor:
    """Cut ``length`` samples out of each record, ``[B, L, length]``, each at its own random position.

    Raises
    ------
    UserError
        If the records are shorter than ``length``.
    """
    batch, leads, samples = x.shape
    if length > samples:
        raise UserError(f"random crop: the records have {samples} samples; expected at least {length}.")
    start = torch.randint(0, samples - length + 1, (batch, 1), generator=generator, device=x.device)
    index = start + torch.arange(length, device=x.device)
    return x.gather(2, index[:, None, :].expand(-1, leads, -1))


def resample_time(x: Tensor, max_loss: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Imitate a lower sampling frequency: remove the frequencies above half of it.

    The lower sampling frequency is ``(1 - u)`` times the one of the record, with u uniform in ``[0, max_loss]``. The
    cutoff is half of it. The gain is 1 up to 80 % of the cutoff, and falls from there to 0 at the cutoff, as in an
    anti-aliasing filter.
    """
    samples = x.shape[2]
    lost_share = uniform(x, (x.shape[0], 1, 1), 0.0, max_loss, generator)

    # Frequencies are in cycles per sample, so half of the sampling frequency is 0.5.
    cutoff = 0.5 * (1.0 - lost_share)
    frequency = torch.fft.rfftfreq(2 * samples, device=x.device, dtype=x.dtype)
    gain = ((cutoff - frequency) / (0.2 * cutoff)).clamp(0.0, 1.0)

    # The Fourier transform repeats the signal. With its mirror image behind it, there is no step between end and start.
    mirrored = torch.cat([x, x.flip(2)], dim=2)
    filtered = torch.fft.irfft(torch.fft.rfft(mirrored) * gain, n=2 * samples)[:, :, :samples]
    return torch.where(draw_records(x, probability, generator), filtered, x)


def sample_at(x: Tensor, position: Tensor) -> Tensor:
    """Interpolate ``x`` ``[B, L, T]`` at fractional positions ``[B, T']``, in samples.

    A position outside of the record gets the value at the nearest edge. The method is cubic convolution (Keys 1981,
    "Cubic convolution interpolation for digital image processing", IEEE ASSP 29:1153, a = -1/2). It reproduces the
    samples, and every quadratic function between them.
    """
    leads, samples = x.shape[1:]
    position = position.clamp(0, samples - 1)
    left = position.floor()

    # The result is a weighted sum of four samples. Their indices are left - 1, left, left + 1 and left + 2.
    f = position - left
    weights = (
        ((-0.5 * f + 1.0) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )
    first = left.long() - 1
    result = torch.zeros((), dtype=x.dtype, device=x.device)
    for offset, weight in enumerate(weights):
        index = (first + offset).clamp(0, samples - 1)
        result = result + weight[:, None, :] * x.gather(2, index[:, None, :].expand(-1, leads, -1))
    return result


@dataclass(frozen=True)
class TimeShift:
    """Shift each record in time by up to ``seconds``; see `shift_time`. A beat at an end may be lost."""

    seconds: float = 1.0
    fs: float = 100.0
    probability: float = 1.0
    strength: ClassVar[str] = "seconds"
    changes: ClassVar[frozenset[str]] = EPISODE_STATEMENTS
    keeps_masks: ClassVar[bool] = False

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Shift ``x``; see `shift_time`."""
        return shift_time(x, round(self.seconds * self.fs), generator, probability=self.probability), y


@dataclass(frozen=True)
class TimeStretch:
    """Stretch each record by a random factor; see `stretch_time`. Rates and intervals change with it."""

    spread: float = 0.1
    probability: float = 1.0
    strength: ClassVar[str] = "spread"
    changes: ClassVar[frozenset[str]] = RATE_STATEMENTS | INTERVAL_STATEMENTS | EPISODE_STATEMENTS
    keeps_masks: ClassVar[bool] = False

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Stretch ``x``; see `stretch_time`."""
        return stretch_time(x, self.spread, generator, probability=self.probability), y


@dataclass(frozen=True)
class ResizedCrop:
    """Cut up to ``max_cut`` of each record off and stretch the rest to the original length; see `resize_crop`."""

    max_cut: float = 0.2
    probability: float = 1.0
    strength: ClassVar[str] = "max_cut"
    changes: ClassVar[frozenset[str]] = RATE_STATEMENTS | INTERVAL_STATEMENTS | EPISODE_STATEMENTS
    keeps_masks: ClassVar[bool] = False

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crop and stretch ``x``; see `resize_crop`."""
        return resize_crop(x, self.max_cut, generator, probability=self.probability), y


@dataclass(frozen=True)
class RandomCrop:
    """Cut ``seconds`` out of each record at a random position; see `crop_time`. The model must accept any length."""

    seconds: float = 5.0
    fs: float = 100.0
    changes: ClassVar[frozenset[str]] = EPISODE_STATEMENTS
    keeps_masks: ClassVar[bool] = False

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crop ``x``; see `crop_time`."""
        return crop_time(x, round(self.seconds * self.fs), generator), y


@dataclass(frozen=True)
class Resample:
    """Remove up to ``max_loss`` of the bandwidth; see `resample_time`. The spike of a pacemaker may be lost."""

    max_loss: float = 0.5
    probability: float = 1.0
    strength: ClassVar[str] = "max_loss"
    changes: ClassVar[frozenset[str]] = frozenset({"PACE"})

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Resample ``x``; see `resample_time`."""
        return resample_time(x, self.max_loss, generator, probability=self.probability), y
