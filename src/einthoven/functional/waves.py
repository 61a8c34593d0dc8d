"""Which wave of the heartbeat a sample belongs to, from the place of the QRS complexes alone.

Windows, not a delineation: where atria do not beat (atrial fibrillation), "P" is where a P wave would stand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.beats import detect_beats, fiducial, qrs_edges, representative_beat, rr_intervals

WAVES = ("P", "QRS", "ST", "T")
PR = 0.20  # s before the QRS that a P wave begins at the earliest: the upper limit of normal
J_TO_T = 0.08  # s after the QRS at which the ST segment is judged (J + 80 ms): here T begins
QT = 0.44  # s from the QRS to the end of T at an RR interval of 1 s: upper limit of normal, times √RR (Bazett 1920)
HALF_QRS = 0.05  # s to either side, where no edge of the QRS is found
RR = 1.0  # s, where there is one beat

Int8 = NDArray[np.int8]


def waves(x: NDArray[np.floating], fs: float) -> Int8:
    """Wave of each sample ``(n, T)``: 0 for none, 1 to 4 for those of `WAVES`.

    QRS lasts from its onset to its end, as measured in the representative beat of the record; P is the `PR` seconds
    before it, ST the `J_TO_T` seconds after it, T what follows until `QT` √RR after the onset. Where windows meet, a
    QRS goes before ST, ST before T, and T before P.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        mV.
    fs : float
        Hz.
    """
    beats = detect_beats(x, fs)
    found = np.zeros((len(x), x.shape[-1]), np.int8)
    if not beats.shape[1]:
        return found
    onset, end = (edge - fiducial(fs) / fs for edge in qrs_edges(representative_beat(x, beats, fs), fs))
    onset, end = np.where(np.isnan(onset), -HALF_QRS, onset), np.where(np.isnan(end), HALF_QRS, end)
    intervals = rr_intervals(beats, fs)
    known = np.isfinite(intervals).any(axis=1) if intervals.shape[1] else np.zeros(len(x), bool)
    rr = np.full(len(x), RR)
    rr[known] = np.nanmedian(intervals[known], axis=1)
    spans = {
        1: (onset - PR, onset),
        4: (end + J_TO_T, onset + QT * np.sqrt(rr)),
        3: (end, end + J_TO_T),
        2: (onset, end),
    }
    for wave, (first, stop) in spans.items():
        found[_inside(beats, first, stop, fs, x.shape[-1])] = wave
    return found


def _inside(
    beats: NDArray[np.int64], first: NDArray[np.float64], stop: NDArray[np.float64], fs: float, samples: int
) -> NDArray[np.bool_]:
    """Samples ``(n, T)`` within `first` … `stop` seconds (n,) from any beat of the record; none if stop < first."""
    rows = np.arange(len(beats))[:, None]
    start, end = (np.clip(beats + np.rint(offset * fs).astype(int)[:, None], 0, samples) for offset in (first, stop))
    counted = (beats >= 0) & (end > start)
    steps = np.zeros((len(beats), samples + 1), np.int64)
    np.add.at(steps, (np.broadcast_to(rows, beats.shape), start), counted)
    np.add.at(steps, (np.broadcast_to(rows, beats.shape), end), -counted.astype(int))
    return np.asarray(steps.cumsum(axis=1)[:, :samples] > 0)
