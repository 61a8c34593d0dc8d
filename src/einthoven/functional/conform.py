"""Bring records of any sampling frequency and length to one sampling frequency and one length."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError

Float = TypeVar("Float", bound=np.floating)

MAX_FACTORS = (1_000, 100_000)
"""Limits of the factors of the ratio of the sampling frequencies. The second limit is used if the first one gives a
drift above `GOOD_DRIFT`."""

GOOD_DRIFT = 0.01
"""Drift at the end of the record, in output samples, that needs no better ratio."""

MAX_DRIFT = 0.5
"""Largest drift at the end of the record that is accepted, in output samples."""

PASS_SHARE = 0.8
"""Share of the lower Nyquist frequency up to which amplitudes do not change (see `resample`)."""

STOP_SHARE = 1.04
"""Share of the lower Nyquist frequency from which nothing is left (see `resample`). If a tone just above that frequency
stays, it has an alias just below it. No transition is steep enough to keep all below and to remove all above."""

RIPPLE = 0.003
"""Largest error of the amplitude in the two bands, as the design of the filter estimates it."""

LONG_RULES = ("crop", "centre", "slide")
"""Rules for a record that is longer than a window, see `cut_record`."""

SHORT_RULES = ("pad", "refuse")
"""Rules for a record that is shorter than a window, see `cut_record`."""


@lru_cache
def rate_ratio(fs: float, target: float, samples: int) -> tuple[int, int]:
    """Return whole numbers `up` and `down` whose ratio is ``target / fs``.

    The ratio is exact if both factors are at most 1000. This includes every pair of whole sampling frequencies up to
    1000 Hz. Otherwise it is the nearest ratio. At the end of a record with `samples` samples, the error of the time is
    at most half an output sample.

    Raises
    ------
    UserError
        If a sampling frequency is not a positive number, or if no ratio with factors up to 100,000 is accurate enough.
    """
    for rate in (fs, target):
        if not (np.isfinite(rate) and rate > 0):
            raise UserError(f"sampling frequency {rate:g} Hz found; expected a positive number.")
    exact = Fraction(target) / Fraction(fs)

    # The larger of the two factors determines the length of the filter, so this factor is limited.
    at_most_one = min(exact, 1 / exact)
    for max_factor in MAX_FACTORS:
        ratio = max(at_most_one.limit_denominator(max_factor), Fraction(1, max_factor))
        if exact > 1:
            ratio = 1 / ratio
        drift = abs(ratio - exact) * samples
        if drift <= GOOD_DRIFT:
            return ratio.numerator, ratio.denominator
    if drift > MAX_DRIFT:
        raise UserError(
            f"{fs!r} Hz cannot be resampled to {target!r} Hz: after {samples} samples the time would be wrong by "
            f"{float(drift):.1f} samples; expected sampling frequencies with a simpler ratio."
        )
    return ratio.numerator, ratio.denominator


def fill_gaps(signal: NDArray[Float]) -> NDArray[np.float64]:
    """Fill the invalid samples of each lead (L, T) with a straight line between their neighbours.

    Before the first and after the last valid sample, its value is held. A lead without a valid sample becomes 0.
    """
    filled = signal.astype(np.float64)
    is_invalid = ~np.isfinite(filled)
    for row in np.flatnonzero(is_invalid.any(axis=-1)):
        is_gap = is_invalid[row]
        valid = np.flatnonzero(~is_gap)
        if valid.size:
            filled[row, is_gap] = np.interp(np.flatnonzero(is_gap), valid, filled[row, valid])
        else:
            filled[row] = 0.0
    return filled


def resample(signal: NDArray[Float], fs: float, target: float) -> NDArray[Float]:
    """Resample a record to another sampling frequency.

    The method is a zero-phase low-pass filter (`_low_pass`) and polyphase resampling (``scipy.signal.resample_poly``).
    N is the lower of the two Nyquist frequencies. The amplitude of a tone changes by at most 0.5 % up to 0.8 N (40 Hz
    at 100 Hz). At most 0.5 % of a tone above 1.04 N (52 Hz at 100 Hz) is left, so that at most this much becomes an
    alias. Between both, the amplitude falls: it is 50 % at 0.92 N. Output sample k is at time ``k / target``.
    `rate_ratio` gives the ratio of the sampling frequencies. The filter is linear, so the limb-lead laws still hold.
    Constants stay exactly the same.

    Parameters
    ----------
    signal : ndarray, shape (L, T)
        NaN marks invalid samples.
    fs, target : float
        Sampling frequency of the record, and the new sampling frequency, in Hz.

    Returns
    -------
    ndarray, shape (L, ceil(T * target / fs))
        The resampled signal, with the same dtype. If the sampling frequencies are equal, it is `signal` itself. An
        output sample is NaN if an input sample in its interval is NaN. Gaps are filled with a straight line before
        filtering, so that the other samples stay valid.

    Raises
    ------
    UserError
        As in `rate_ratio`.
    """
    samples = signal.shape[-1]
    up, down = rate_ratio(fs, target, samples)
    if up == down or samples == 0:
        return signal

    from scipy.signal import resample_poly

    invalid = ~np.isfinite(signal)
    filled = fill_gaps(signal)

    # Filter the difference from the line between the first and the last sample. The filter sees zeros beyond the ends,
    # so there is no step at the edges, and constants and slopes pass exactly. Resampling stays linear.
    first = filled[:, :1].copy()
    slope = (filled[:, -1:] - first) / max(samples - 1, 1)
    position = np.arange(samples, dtype=np.float64)
    for lead, lead_first, lead_slope in zip(filled, first, slope, strict=True):
        lead -= lead_first + lead_slope * position
    # The types of SciPy do not know that a filter can be given by its taps.
    filtered = resample_poly(filled, up, down, axis=-1, window=_low_pass(up, down))  # type: ignore[call-overload]
    resampled: NDArray[np.float64] = np.asarray(filtered)
    resampled += first + slope * (np.arange(resampled.shape[-1]) * (down / up))
    if invalid.any():
        resampled[_invalid_outputs(invalid, up, down, resampled.shape[-1])] = np.nan
    return resampled.astype(signal.dtype)


@lru_cache(maxsize=16)
def _low_pass(up: int, down: int) -> NDArray[np.float64]:
    """Design the symmetric low-pass filter of `resample`, for a rate of `up` times that of the record.

    It is a sinc function with a Kaiser window. Its length follows from `PASS_SHARE`, `STOP_SHARE` and `RIPPLE` (Kaiser
    1974, "Nonrecursive digital filter design using the I0-sinh window function"; ``scipy.signal.kaiserord``).
    """
    from scipy.signal import firwin, kaiserord

    # All frequencies are shares of half of the high rate. There the lower Nyquist frequency is 1 / max(up, down).
    nyquist = 1 / max(up, down)
    num_taps, beta = kaiserord(-20 * np.log10(RIPPLE), (STOP_SHARE - PASS_SHARE) * nyquist)
    centre = (PASS_SHARE + STOP_SHARE) / 2 * nyquist
    # An odd number of taps is symmetric about a sample, so that times do not change.
    return np.asarray(firwin(num_taps | 1, centre, window=("kaiser", beta)), dtype=np.float64)


def _invalid_outputs(invalid: NDArray[np.bool_], up: int, down: int, samples: int) -> NDArray[np.bool_]:
    """Mark the output samples (L, samples) with an invalid input sample near them.

    Near means closer than one input sample or half an output sample.
    """
    # Positions are in input samples.
    centre = np.arange(samples) * (down / up)
    reach = max(down / up / 2, 1 - 1e-9)
    first = np.clip(np.ceil(centre - reach).astype(int), 0, invalid.shape[-1])
    last = np.clip(np.floor(centre + reach).astype(int) + 1, 0, invalid.shape[-1])

    # The difference of two cumulative counts is the number of invalid samples in an interval.
    count = np.concatenate([np.zeros((len(invalid), 1), int), np.cumsum(invalid, axis=-1)], axis=-1)
    return count[:, last] > count[:, first]


def round_to_int16(
    microvolts: NDArray[np.floating],
) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.bool_]]:
    """Round µV of any shape to int16, half to even. Also return which samples are invalid and which are clipped.

    Invalid samples become 0.
    """
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
        The windows, in order of time. If the record is as long as a window, it is a view of the record.
    valid_samples : ndarray of int64, shape (W,)
        Number of samples of each window that come from the record. The rest is padding with 0 mV.
    start_s : ndarray of float64, shape (W,)
        Start of each window in the record, in seconds.
    """

    signal: NDArray[np.floating]
    valid_samples: NDArray[np.int64]
    start_s: NDArray[np.float64]


def cut_record(
    signal: NDArray[np.floating],
    fs: float,
    seconds: float | None,
    *,
    long: str = "crop",
    short: str = "pad",
    stride: float | None = None,
    source: str = "record",
) -> Windows:
    """Cut windows of one length out of a record of any length.

    Parameters
    ----------
    signal : ndarray, shape (L, T)
        The record.
    fs : float
        Sampling frequency of the record in Hz.
    seconds : float or None
        Length of a window. None returns the record as it is.
    long : {'crop', 'centre', 'slide'}
        Rule for a longer record. 'crop' takes its start and 'centre' takes its middle. 'slide' takes a window every
        `stride` seconds, and a last window that ends with the record. So every sample is in a window.
    short : {'pad', 'refuse'}
        Rule for a shorter record. 'pad' appends 0 mV. 'refuse' raises an error.
    stride : float, optional
        Seconds between the starts of the windows of 'slide'. By default the length of a window.
    source : str
        Name of the record for error messages.

    Raises
    ------
    UserError
        If the record is empty, if it is too short with ``short='refuse'``, or if an option is invalid.
    """
    if long not in LONG_RULES:
        raise UserError(f"long={long!r} found; expected {' or '.join(LONG_RULES)}.")
    if short not in SHORT_RULES:
        raise UserError(f"short={short!r} found; expected {' or '.join(SHORT_RULES)}.")
    leads, samples = signal.shape
    if samples == 0:
        raise UserError(f"{source}: no samples found; expected an ECG.")
    window = samples if seconds is None else _to_samples(seconds, fs, "seconds")
    step = window if stride is None else _to_samples(stride, fs, "stride")
    if step > window:
        raise UserError(
            f"stride={stride:g} s leaves gaps between windows of {seconds:g} s; expected at most their length."
        )

    if samples < window:
        if short == "refuse":
            raise UserError(f"{source}: {samples / fs:g} s found, expected at least {seconds:g} s.")
        padded = np.zeros((1, leads, window), dtype=signal.dtype)
        padded[0, :, :samples] = signal
        return Windows(padded, np.array([samples]), np.zeros(1))
    if samples == window:
        return Windows(signal[None], np.array([window]), np.zeros(1))
    starts = window_starts(samples - window, step, long)
    windows = np.stack([signal[:, start : start + window] for start in starts])
    return Windows(windows, np.full(len(starts), window), starts / fs)


def window_starts(spare: int, step: int, long: str) -> NDArray[np.int64]:
    """Return the first samples of the windows, by a rule of `cut_record`.

    The record is `spare` samples longer than a window.
    """
    if long == "slide":
        return np.unique(np.append(np.arange(0, spare + 1, step), spare))
    return np.array([spare // 2 if long == "centre" else 0])


def _to_samples(seconds: float, fs: float, name: str) -> int:
    """Convert a time to samples. Refuse a time that is shorter than a sample."""
    if not (np.isfinite(seconds) and seconds * fs >= 1):
        raise UserError(f"{name}={seconds:g} found; expected a positive time of at least one sample at {fs:g} Hz.")
    return round(seconds * fs)
