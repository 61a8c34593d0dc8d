"""Augmentations that are affine in time, or change how finely time is seen: shift, stretch, crop, resample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from einthoven.augment.base import chosen, uniform
from einthoven.errors import UserError
from einthoven.functional.statements import EPISODE_STATEMENTS, INTERVAL_STATEMENTS, RATE_STATEMENTS


def shift_time(x: Tensor, max_shift: int, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Move each record by up to ``max_shift`` samples to either side; the edge value fills the gap.

    A circular shift would join the two ends of a record into a beat that comes too early.
    """
    batch, leads, samples = x.shape
    shift = torch.randint(-max_shift, max_shift + 1, (batch, 1), generator=generator, device=x.device)
    shift = shift * chosen(x, probability, generator)[:, :, 0]
    source = (torch.arange(samples, device=x.device) - shift).clamp(0, samples - 1)
    return x.gather(2, source[:, None, :].expand(-1, leads, -1))


def stretch_time(x: Tensor, spread: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Stretch each record about its middle by ``exp(u)``, u uniform in ``[-spread, spread]``.

    Intervals are multiplied by that factor, rates divided by it. Below 1 the record shrinks, and its edge
    values fill the ends.
    """
    batch, _, samples = x.shape
    log_factor = uniform(x, (batch, 1), -spread, spread, generator)
    log_factor = torch.where(chosen(x, probability, generator)[:, :, 0], log_factor, 0.0)
    middle = (samples - 1) / 2
    time = torch.arange(samples, device=x.device, dtype=x.dtype)
    return sample_at(x, middle + (time - middle) * (-log_factor).exp())


def resize_crop(x: Tensor, max_cut: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Cut a share of up to ``max_cut`` off each record, at random ends, and stretch the rest to its length.

    The random resized crop of Szegedy et al. 2015, "Going deeper with convolutions", on the time axis.
    """
    batch, _, samples = x.shape
    cut = uniform(x, (batch, 1), 0.0, max_cut, generator) * chosen(x, probability, generator)[:, :, 0]
    start = cut * torch.rand((batch, 1), generator=generator, device=x.device, dtype=x.dtype) * (samples - 1)
    return sample_at(x, start + (1.0 - cut) * torch.arange(samples, device=x.device, dtype=x.dtype))


def crop_time(x: Tensor, length: int, generator: Generator) -> Tensor:
    """Cut each record to ``length`` samples, ``[B, L, length]``, at a place of its own.

    Raises
    ------
    UserError
        If the records are shorter.
    """
    batch, leads, samples = x.shape
    if length > samples:
        raise UserError(f"random crop: {length} samples were asked for, and the records have {samples}.")
    start = torch.randint(0, samples - length + 1, (batch, 1), generator=generator, device=x.device)
    source = start + torch.arange(length, device=x.device)
    return x.gather(2, source[:, None, :].expand(-1, leads, -1))


def resample_time(x: Tensor, max_loss: float, generator: Generator, *, probability: float = 1.0) -> Tensor:
    """Record at a lower sampling frequency and come back: what lies above half of it is gone.

    The lower one is ``(1 - u)`` times the record's, u uniform in ``[0, max_loss]``. Frequencies fade over the
    last fifth below the limit, as behind an anti-aliasing filter. The signal is mirrored at its ends, so that
    they are not joined.
    """
    samples = x.shape[2]
    loss = uniform(x, (x.shape[0], 1, 1), 0.0, max_loss, generator)
    limit = 0.5 * (1.0 - loss)  # cycles per sample
    frequency = torch.fft.rfftfreq(2 * samples, device=x.device, dtype=x.dtype)
    gain = ((limit - frequency) / (0.2 * limit)).clamp(0.0, 1.0)
    mirrored = torch.cat([x, x.flip(2)], dim=2)
    low = torch.fft.irfft(torch.fft.rfft(mirrored) * gain, n=2 * samples)[:, :, :samples]
    return torch.where(chosen(x, probability, generator), low, x)


def sample_at(x: Tensor, position: Tensor) -> Tensor:
    """Read ``x`` ``[B, L, T]`` at fractional positions ``[B, T']``, in samples; the edge values go on for ever.

    Cubic convolution (Keys 1981, "Cubic convolution interpolation for digital image processing", IEEE ASSP
    29:1153, a = -1/2): exact at the samples and for parabolas.
    """
    leads, samples = x.shape[1:]
    position = position.clamp(0, samples - 1)
    before = position.floor()
    f = position - before
    weights = (
        ((-0.5 * f + 1.0) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )
    first = before.long() - 1
    read = torch.zeros((), dtype=x.dtype, device=x.device)
    for step, weight in enumerate(weights):
        index = (first + step).clamp(0, samples - 1)
        read = read + weight[:, None, :] * x.gather(2, index[:, None, :].expand(-1, leads, -1))
    return read


@dataclass(frozen=True)
class TimeShift:
    """Move each record in time by up to ``seconds``; see `shift_time`. A beat at an end may go."""

    seconds: float = 1.0
    fs: float = 100.0
    probability: float = 1.0
    strength: ClassVar[str] = "seconds"
    changes: ClassVar[frozenset[str]] = EPISODE_STATEMENTS

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

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Stretch ``x``; see `stretch_time`."""
        return stretch_time(x, self.spread, generator, probability=self.probability), y


@dataclass(frozen=True)
class ResizedCrop:
    """Cut up to ``max_cut`` of each record away and stretch the rest to its length; see `resize_crop`."""

    max_cut: float = 0.2
    probability: float = 1.0
    strength: ClassVar[str] = "max_cut"
    changes: ClassVar[frozenset[str]] = RATE_STATEMENTS | INTERVAL_STATEMENTS | EPISODE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crop and stretch ``x``; see `resize_crop`."""
        return resize_crop(x, self.max_cut, generator, probability=self.probability), y


@dataclass(frozen=True)
class RandomCrop:
    """Cut every record to ``seconds`` at a place of its own; see `crop_time`. Needs a model that reads any length."""

    seconds: float = 5.0
    fs: float = 100.0
    changes: ClassVar[frozenset[str]] = EPISODE_STATEMENTS

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crop ``x``; see `crop_time`."""
        return crop_time(x, round(self.seconds * self.fs), generator), y


@dataclass(frozen=True)
class Resample:
    """Give up to ``max_loss`` of the sampling frequency away; see `resample_time`. A pacemaker's spike may go."""

    max_loss: float = 0.5
    probability: float = 1.0
    strength: ClassVar[str] = "max_loss"
    changes: ClassVar[frozenset[str]] = frozenset({"PACE"})

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Resample ``x``; see `resample_time`."""
        return resample_time(x, self.max_loss, generator, probability=self.probability), y
