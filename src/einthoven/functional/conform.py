"""Records of any rate and length -> the rate and the window that are asked for, by stated rules."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError

Float = TypeVar("Float", bound=np.floating)

FACTORS = (1_000, 100_000)  # largest factor of the ratio of the rates: the first that keeps time well enough
DRIFT = (0.01, 0.5)  # output samples at the end of the record: good enough, and no longer acceptable
LONG = ("crop", "centre", "slide")
SHORT = ("pad", "refuse")


@lru_cache
def rational(fs: float, target: float, samples: int) -> tuple[int, int]:
    """Whole numbers `up` and `down` whose ratio is ``target / fs``.

    Exact where the ratio has a factor of at most 1000 (every pair of whole rates below that); else the nearest ratio,
    whose clock is off by less than half an output sample at the end of a record of `samples` samples.

    Raises
    ------
    UserError
        If a rate is not a positive number, or no ratio of factors up to 100,000 keeps time so well.
    """
    for rate in (fs, target):
        if not (np.isfinite(rate) and rate > 0):
            raise UserError(f"sampling frequency {rate:g} Hz found; expected a positive number.")
    exact = Fraction(target) / Fraction(fs)
    below = min(exact, 1 / exact)  # the larger of the two factors is the one to bound: it sets the filter's length
    for largest in FACTORS:
        near = max(below.limit_denominator(largest), Fraction(1, largest))
        near = near if exact <= 1 else 1 / near
        drift = abs(near - exact) * samples
        if drift <= DRIFT[0]:
            return near.numerator, near.denominator
    if drift > DRIFT[1]:
        raise UserError(
            f"{fs!r} Hz cannot be brought to {target!r} Hz: after {samples} samples the clock would be off by "
            f"{float(drift):.1f} samples; expected rates with a simpler ratio."
        )
    return near.numerator, near.denominator


def resample(signal: NDArray[Float], fs: float, target: float) -> NDArray[Float]:
    """Bring a record to another sampling frequency.

    A zero-phase low-pass filter, cut off at the lower of the two Nyquist frequencies, and a polyphase change of rate
    (``scipy.signal.resample_poly`` with its own filter). Amplitudes pass within 0.3 % up to 0.8 of that frequency N
    and are halved there. What lies above N comes out as an alias of a quarter of its amplitude at 1.05 N, of 8 % at
    1.1 N, and of less than 1 % from 1.15 N on. Output sample k stands at time ``k / target``; for the rates of the
    ratio see `rational`. The filter is linear, so that the limb-lead laws hold after it as before.

    Parameters
    ----------
    signal : ndarray, shape (L, T)
        NaN marks invalid samples.
    fs, target : float
        Sampling frequency of the record and the one that is wanted, in Hz.

    Returns
    -------
    ndarray, shape (L, ceil(T * target / fs))
        Of the same type; the signal itself where the rates are equal. An output sample is NaN where an input sample
        of its own interval is; gaps are bridged by a straight line before filtering, so that the rest stays valid.

    Raises
    ------
    UserError
        As `rational`.
    """
    from scipy.signal import resample_poly

    up, down = rational(fs, target, signal.shape[-1])
    if up == down or signal.shape[-1] == 0:
        return signal
    invalid = np.isnan(signal)
    bridged = signal.astype(np.float64)
    for row, gaps in zip(bridged, invalid, strict=True):
        if gaps.any():
            valid = np.flatnonzero(~gaps)
            row[gaps] = np.interp(np.flatnonzero(gaps), valid, row[valid]) if valid.size else 0.0
    # the record goes on along the line between its ends: no step at the edges, and still linear
    out = resample_poly(bridged, up, down, axis=-1, padtype="line")
    if invalid.any():
        out[_invalid_after(invalid, up, down, out.shape[-1])] = np.nan
    return out.astype(signal.dtype)


def _invalid_after(invalid: NDArray[np.bool_], up: int, down: int, samples: int) -> NDArray[np.bool_]:
    """Output samples with an invalid input sample nearer than one input sample or half an output sample."""
    centre = np.arange(samples) * (down / up)
    reach = max(down / up / 2, 1 - 1e-9)
    first = np.clip(np.ceil(centre - reach).astype(int), 0, invalid.shape[-1])
    last = np.clip(np.floor(centre + reach).astype(int) + 1, 0, invalid.shape[-1])
    count = np.concatenate([np.zeros((len(invalid), 1), int), np.cumsum(invalid, axis=-1)], axis=-1)
    return count[:, last] > count[:, first]


def rounded(
    microvolts: NDArray[np.floating],
) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.bool_]]:
    """µV of any shape as int16, rounded half to even, and which samples are invalid (now 0) and which clipped."""
    nearest = np.rint(microvolts)
    invalid = ~np.isfinite(nearest)
    nearest[invalid] = 0.0
    clipped = np.abs(nearest) > 32767
    return np.clip(nearest, -32767, 32767).astype(np.int16), invalid, clipped


@dataclass(frozen=True)
class Windows:
    """Windows of one record.

    Attributes
    ----------
    signal : ndarray, shape (W, L, T)
        The windows, in order of time; a view of the record where that is as long as a window.
    valid_samples : ndarray of int64, shape (W,)
        Samples of each that come from the record: T, or fewer where its end is padding (0 mV).
    start_s : ndarray of float64, shape (W,)
        Where each begins in the record, in seconds.
    """

    signal: NDArray[np.floating]
    valid_samples: NDArray[np.int64]
    start_s: NDArray[np.float64]


def cut(
    signal: NDArray[np.floating],
    fs: float,
    seconds: float | None,
    *,
    long: str = "crop",
    short: str = "pad",
    stride: float | None = None,
    source: str = "record",
) -> Windows:
    """Windows of one length out of a record of any length.

    Parameters
    ----------
    signal : ndarray, shape (L, T)
        The record.
    fs : float
        Its sampling frequency in Hz.
    seconds : float or None
        Length of a window; None keeps the record as it is.
    long : {'crop', 'centre', 'slide'}
        A longer record: keep its start, or its middle, or take windows every `stride` seconds, of which the last ends
        where the record ends, so that every sample is in one.
    short : {'pad', 'refuse'}
        A shorter record: append 0 mV, with the count of valid samples beside it, or refuse.
    stride : float, optional
        Seconds between windows of 'slide'; by default the length of a window.
    source : str
        Name of the record, for the sentence.

    Raises
    ------
    UserError
        If the record is empty or, with ``short='refuse'``, too short; if an option is not one of the above.
    """
    for name, value, options in (("long", long, LONG), ("short", short, SHORT)):
        if value not in options:
            raise UserError(f"{name}={value!r} found; expected {' or '.join(options)}.")
    leads, have = signal.shape
    if have == 0:
        raise UserError(f"{source}: no samples found; expected an ECG.")
    want = have if seconds is None else _samples(seconds, fs, "seconds")
    step = want if stride is None else _samples(stride, fs, "stride")
    if step > want:
        raise UserError(
            f"stride={stride:g} s leaves gaps between windows of {seconds:g} s; expected at most their length."
        )
    if have < want:
        if short == "refuse":
            raise UserError(f"{source}: {have / fs:g} s found, expected at least {seconds:g} s.")
        padded = np.zeros((1, leads, want), dtype=signal.dtype)
        padded[0, :, :have] = signal
        return Windows(padded, np.array([have]), np.zeros(1))
    spare = have - want
    if spare == 0:
        return Windows(signal[None], np.array([want]), np.zeros(1))
    starts = window_starts(spare, step, long)
    windows = np.stack([signal[:, start : start + want] for start in starts])
    return Windows(windows, np.full(len(starts), want), starts / fs)


def window_starts(spare: int, step: int, long: str) -> NDArray[np.int64]:
    """Where windows begin in a record that is `spare` samples longer than one of them, by a rule of `cut`."""
    if long == "slide":
        return np.unique(np.append(np.arange(0, spare + 1, step), spare))
    return np.array([spare // 2 if long == "centre" else 0])


def _samples(seconds: float, fs: float, name: str) -> int:
    if not (np.isfinite(seconds) and seconds * fs >= 1):
        raise UserError(f"{name}={seconds:g} found; expected a positive time of at least one sample at {fs:g} Hz.")
    return round(seconds * fs)
