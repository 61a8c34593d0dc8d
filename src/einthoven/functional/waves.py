"""The wave of the heartbeat (P, QRS, ST or T) to which a sample belongs.

It is derived from the positions of the QRS complexes alone. It marks intervals around each QRS and does not delineate
the waves. In atrial fibrillation there is no P wave. Then "P" marks the interval in which a P wave would be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.beats import detect_beats, fiducial, rr_intervals
from einthoven.functional.qrs_edges import qrs_edges
from einthoven.functional.representative_beat import representative_beat

WAVES = ("P", "QRS", "ST", "T")

PR = 0.20
"""Seconds before the QRS at which P begins: the upper limit of normal."""

J_TO_T = 0.08
"""Seconds after the QRS at which ST ends and T begins. Clinicians read the ST segment at J + 80 ms."""

QT = 0.44
"""Seconds from the onset of QRS to the end of T at an RR interval of 1 s: the upper limit of normal. It is multiplied
by √RR (Bazett 1920)."""

HALF_QRS = 0.05
"""Seconds before and after the centre of the QRS that count as QRS if its edges cannot be measured."""

DEFAULT_RR = 1.0
"""RR interval in seconds of a record with a single beat."""

Int8 = NDArray[np.int8]


def waves(x: NDArray[np.floating], fs: float) -> Int8:
    """Find the wave of each sample ``(n, T)``: 0 for none, 1 to 4 for the entries of `WAVES`.

    QRS lasts from its onset to its end, as measured in the representative beat of the record. P is the `PR` seconds
    before QRS. ST is the `J_TO_T` seconds after QRS. T lasts from the end of ST until `QT` √RR after the onset of QRS.
    Where intervals overlap, QRS has the highest priority, then ST, then T, then P.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV.
    fs : float
        Sampling frequency in Hz.
    """
    beats = detect_beats(x, fs)
    wave_of_sample = np.zeros((len(x), x.shape[-1]), np.int8)
    if not beats.shape[1]:
        return wave_of_sample

    # Onset and end of the QRS, in seconds from its centre.
    onset, end = qrs_edges(representative_beat(x, beats, fs), fs)
    centre = fiducial(fs) / fs
    onset = np.where(np.isnan(onset), -HALF_QRS, onset - centre)
    end = np.where(np.isnan(end), HALF_QRS, end - centre)

    intervals = rr_intervals(beats, fs)
    has_interval = np.isfinite(intervals).any(axis=1) if intervals.shape[1] else np.zeros(len(x), bool)
    rr = np.full(len(x), DEFAULT_RR)
    rr[has_interval] = np.nanmedian(intervals[has_interval], axis=1)

    # The wave with the highest priority comes last, because it overwrites the others.
    intervals_of_wave = {
        1: (onset - PR, onset),
        4: (end + J_TO_T, onset + QT * np.sqrt(rr)),
        3: (end, end + J_TO_T),
        2: (onset, end),
    }
    for wave, (start, stop) in intervals_of_wave.items():
        wave_of_sample[_is_inside(beats, start, stop, fs, x.shape[-1])] = wave
    return wave_of_sample


def _is_inside(
    beats: NDArray[np.int64], start: NDArray[np.float64], stop: NDArray[np.float64], fs: float, samples: int
) -> NDArray[np.bool_]:
    """Mark the samples ``(n, T)`` that lie from `start` to `stop` seconds (n,) after any beat of the record."""
    start_offset = np.rint(start * fs).astype(int)[:, None]
    stop_offset = np.rint(stop * fs).astype(int)[:, None]
    first = np.clip(beats + start_offset, 0, samples)
    last = np.clip(beats + stop_offset, 0, samples)
    is_counted = (beats >= 0) & (last > first)

    # Add 1 where an interval begins and -1 where it ends. The running sum is the number of open intervals.
    rows = np.broadcast_to(np.arange(len(beats))[:, None], beats.shape)
    steps = np.zeros((len(beats), samples + 1), np.int64)
    np.add.at(steps, (rows, first), is_counted)
    np.add.at(steps, (rows, last), -is_counted.astype(int))
    return np.asarray(steps.cumsum(axis=1)[:, :samples] > 0)
