"""Two rhythms in which some intervals mean nothing: atrial fibrillation and pacing.

The rules find what forbids a measurement. They are no diagnosis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.beats import band_pass

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

IRREGULAR = 0.1
"""RR intervals are irregular if RMSSD is more than this share of the mean RR interval."""

FEWEST_INTERVALS = 4
"""With fewer RR intervals, nothing is said about their regularity."""

P_SHARE = 0.5
"""A record has P waves if at least this share of its beats has one."""

ROOM_FOR_P = 0.3
"""Seconds before the first QRS of a record within which a P wave would be visible."""

SPIKE_FS = 250.0
"""Lowest sampling frequency in Hz at which a pacing spike of 0.5 to 2 ms is visible above 100 Hz."""

FULL_SPIKE_FS = 500.0
"""From this sampling frequency on, a spike keeps most of its height."""

SPIKE = (0.05, 0.15)
"""Smallest height of a spike above 100 Hz in mV, below and from `FULL_SPIKE_FS`. A QRS has little power there."""

SPIKE_NOISE = 12.0
"""A spike is at least so many times as high as the median absolute value above 100 Hz. Muscle noise is below it."""

SPIKE_BEATS = 0.5
"""The rhythm is paced if at least this share of the beats has a spike. A single artefact is below it."""


def has_p_waves(has_p: Bool, qrs_onset: Float) -> Bool:
    """Return whether at least half of the beats of each record have a P wave ``(n,)``.

    A beat without P counts only if its P wave would be inside of the record.

    Parameters
    ----------
    has_p : ndarray of bool, shape (n, B)
    qrs_onset : ndarray, shape (n, B)
        Seconds; NaN behind the last beat of a record.
    """
    counts = has_p | (qrs_onset >= ROOM_FOR_P)
    num_p = (has_p & counts).sum(axis=1)
    return np.asarray((num_p > 0) & (num_p >= P_SHARE * counts.sum(axis=1)))


def is_possibly_fibrillation(rr: Float, has_p_waves: Bool) -> Bool:
    """Return whether each record ``(n,)`` may be one of atrial fibrillation: irregular RR and no P in most beats.

    These are the two signs by which the guideline defines it on an ECG. Atrial flutter with a varying block, and other
    irregular rhythms without visible P waves, show them too.

    Parameters
    ----------
    rr : ndarray, shape (n, B - 1)
        RR intervals in seconds; NaN is ignored.
    has_p_waves : ndarray of bool, shape (n,)
        As from `has_p_waves`.

    References
    ----------
    Hindricks et al., "2020 ESC Guidelines for the diagnosis and management of atrial fibrillation", Eur. Heart J.
    42:373, 2021. Dash et al., "Automatic real time detection of atrial fibrillation", Ann. Biomed. Eng. 37:1701, 2009
    (RMSSD divided by the mean RR interval).
    """
    num_intervals = np.isfinite(rr).sum(axis=1)
    mean = np.nansum(rr, axis=1) / np.maximum(num_intervals, 1)
    difference = np.diff(rr, axis=1)
    num_differences = np.isfinite(difference).sum(axis=1)
    rmssd = np.sqrt(np.nansum(np.square(difference), axis=1) / np.maximum(num_differences, 1))
    is_irregular = (num_intervals >= FEWEST_INTERVALS) & (rmssd > IRREGULAR * mean)
    return np.asarray(is_irregular & ~has_p_waves)


def spike_share(x: NDArray[np.floating], fs: float, beats: Float) -> Float:
    """Return the share of the beats ``(n,)`` that begin with a pacing spike. NaN below `SPIKE_FS`, or without a beat.

    A spike is high in absolute terms and compared with the noise above 100 Hz. It is looked for from 120 ms before to
    20 ms after each beat.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV.
    fs : float
        Sampling frequency in Hz.
    beats : ndarray, shape (n, B)
        Middle or onset of each QRS in seconds; NaN behind the last beat of a record.
    """
    num_beats = np.isfinite(beats).sum(axis=1)
    if fs < SPIKE_FS or not beats.shape[1]:
        return np.full(len(x), np.nan)
    fast = np.abs(band_pass(np.nan_to_num(x), fs, 100.0, None))
    noise = np.median(fast, axis=-1, keepdims=True)
    height = SPIKE[int(fs >= FULL_SPIKE_FS)]
    is_spike = np.asarray(((fast > height) & (fast > SPIKE_NOISE * noise)).any(axis=1))

    around_beat = np.arange(-round(0.12 * fs), round(0.02 * fs))
    centre = np.rint(np.nan_to_num(beats) * fs).astype(np.int64)
    samples = np.clip(centre[:, :, None] + around_beat, 0, x.shape[-1] - 1)
    rows = np.arange(len(x))[:, None, None]
    has_spike = is_spike[rows, samples].any(axis=-1) & np.isfinite(beats)
    return np.where(num_beats > 0, has_spike.sum(axis=1) / np.maximum(num_beats, 1), np.nan)
