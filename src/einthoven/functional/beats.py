"""Beats of many records at once: QRS complexes, heart rate, RR intervals and the frontal axis.

Signals are arrays ``(n, L, T)`` in mV, with any sampling frequency from 50 Hz. A sample that is not finite counts as
zero.

The detection follows Elgendi, "Fast QRS detection with an optimized knowledge-based method: evaluation on 11 standard
ECG databases", PLoS ONE 8(9):e73557, 2013. It compares two moving averages of the energy between 8 and 20 Hz. One
average is as long as a QRS, the other as long as a beat. The method has no state, so it needs no loop over samples.
In this module, the energy is that of all leads together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BAND = (8.0, 20.0)
"""Frequency band in Hz in which a QRS is larger than P waves, T waves and muscle noise (Elgendi 2013, table 2)."""

SLOWEST_FS = 20.0
"""Lowest sampling frequency in Hz. A slower record does not show the waves of a beat, and the band has no width."""

QRS_WINDOW = 0.097
"""Length of the short moving average in seconds (Elgendi 2013, section "Optimization")."""

BEAT_WINDOW = 0.611
"""Length of the long moving average in seconds (Elgendi 2013, section "Optimization")."""

ENERGY_OFFSET = 0.08
"""Offset of the threshold, as a share of the mean energy (Elgendi 2013, section "Optimization")."""

REFRACTORY = 0.2
"""Seconds after a beat within which no ventricle can beat again (Pan & Tompkins, IEEE Trans. Biomed. Eng. 32:230,
1985)."""

MIN_PEAK_SHARE = 0.15
"""Smallest peak of a beat, as a share of the median peak. P and T waves are below it. A QRS whose amplitude varies is
far above it."""

MIN_AMPLITUDE = 1e-3
"""Amplitude in mV, inside of the band, below which a lead contains no beats. No recorder resolves less."""

BEFORE = 0.40
"""Seconds of a beat before its QRS. So a P wave with a PR interval of 0.3 s is inside."""

AFTER = 0.50
"""Seconds of a beat after its QRS."""


def fiducial(fs: float) -> int:
    """Return the sample of the QRS in a beat that begins `BEFORE` seconds before it."""
    return round(BEFORE * fs)


def band_pass(x: NDArray[np.floating], fs: float, low: float | None, high: float | None) -> Float:
    """Filter along the last axis with a second-order Butterworth filter, forwards and backwards, without phase shift.

    Parameters
    ----------
    low, high : float or None
        Corner frequencies in Hz. Without `low` the filter is a low-pass, without `high` it is a high-pass. `high` is
        limited to 0.45 `fs`.
    """
    # SciPy takes about a second to import, so it is imported only where it is used.
    from scipy.signal import sosfiltfilt

    if high is not None:
        high = min(high, 0.45 * fs)
    sections = _filter_sections(fs, low, high)
    pad = min(x.shape[-1] - 1, int(fs))
    return np.asarray(sosfiltfilt(sections, x, axis=-1, padlen=pad), dtype=np.float64)


# For a single record, the design of a filter takes longer than the filtering, so designs are cached.
@lru_cache(maxsize=256)
def _filter_sections(fs: float, low: float | None, high: float | None) -> Float:
    """Design the filter of `band_pass` as second-order sections."""
    from scipy.signal import butter

    if low is not None and high is not None:
        return np.asarray(butter(2, (low, high), "bandpass", fs=fs, output="sos"))
    if low is not None:
        return np.asarray(butter(2, low, "highpass", fs=fs, output="sos"))
    assert high is not None, "one corner at least"
    return np.asarray(butter(2, high, "lowpass", fs=fs, output="sos"))


def _qrs_energy(x: NDArray[np.floating], fs: float) -> Float:
    """Return the energy ``(n, T)`` between 8 and 20 Hz, scaled so that a QRS has an energy of about one.

    It is the mean over the leads. Each lead is divided by its median peak, which is measured in pieces of two seconds,
    and is limited to one. So neither a large lead nor an artefact in one lead dominates the mean. Leads with less than
    1 µV are left out.
    """
    energy = np.square(band_pass(np.nan_to_num(x), fs, *BAND))

    # The median over pieces of two seconds is the typical peak of a lead. An artefact changes only a few pieces.
    samples = energy.shape[-1]
    piece = min(int(2 * fs), samples)
    pieces = energy[..., : samples // piece * piece].reshape(*energy.shape[:-1], -1, piece)
    typical_peak = np.median(pieces.max(axis=-1), axis=-1)

    # A lead without beats is divided by infinity, so it adds nothing to the total.
    has_beats = typical_peak > MIN_AMPLITUDE**2
    energy /= np.where(has_beats, typical_peak, np.inf)[..., None]
    total = np.minimum(energy, 1.0, out=energy).sum(axis=1)
    return np.asarray(total / np.maximum(has_beats.sum(axis=1), 1)[:, None])


def detect_beats(x: NDArray[np.floating], fs: float) -> Int:
    """Find the QRS complexes.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV, with any number of leads. More leads make the detection more reliable.
    fs : float
        Sampling frequency in Hz.

    Returns
    -------
    ndarray of int, shape (n, B)
        Sample of each QRS (the centre of its energy), in ascending order. B is the largest number of beats in a record.
        The row of a record with fewer beats is filled with -1.

    References
    ----------
    Elgendi 2013, equations 1 to 4. The thresholds are the constants of this module.
    """
    from scipy.ndimage import maximum_filter1d, uniform_filter1d

    energy = _qrs_energy(x, fs)
    samples = energy.shape[1]

    # The lengths of the two moving averages are odd, so that the averages are centred on a sample.
    qrs_length = max(round(QRS_WINDOW * fs) | 1, 3)
    beat_length = max(round(BEAT_WINDOW * fs) | 1, 3)
    qrs_average = uniform_filter1d(energy, qrs_length, axis=1, mode="reflect")
    beat_average = uniform_filter1d(energy, beat_length, axis=1, mode="reflect")

    # A QRS is the largest value within the refractory period. It also lies above the average over a beat.
    local_maximum = maximum_filter1d(qrs_average, 2 * round(REFRACTORY * fs) - 1, axis=1)
    is_peak = (qrs_average == local_maximum) & (qrs_average > 0)
    is_peak &= qrs_average > beat_average + ENERGY_OFFSET * energy.mean(axis=1, keepdims=True)
    # If neighbouring samples are equal, only the first one is a peak.
    is_peak[:, 1:] &= ~is_peak[:, :-1]

    # Peaks that are much smaller than the median peak are P or T waves. The sort puts NaN last.
    count = is_peak.sum(axis=1)
    sorted_heights = np.sort(np.where(is_peak, qrs_average, np.nan), axis=1)
    median_height = sorted_heights[np.arange(len(x)), np.maximum(count - 1, 0) // 2]
    is_peak &= qrs_average >= MIN_PEAK_SHARE * np.nan_to_num(median_height)[:, None]
    return _positions(is_peak, samples)


def _positions(is_peak: NDArray[np.bool_], samples: int) -> Int:
    """Convert a mask (n, T) to sample indices (n, B). Short rows are filled with -1."""
    most_beats = int(is_peak.sum(axis=1).max(initial=0))
    indices = np.sort(np.where(is_peak, np.arange(samples), samples), axis=1)[:, :most_beats]
    return np.where(indices < samples, indices, -1)


def heart_rate(beats: Int, fs: float) -> Float:
    """Return the ventricular rate ``(n,)`` in beats per minute, from the mean RR interval.

    It is NaN for a record with fewer than two beats.
    """
    count = (beats >= 0).sum(axis=1)
    if beats.shape[1] == 0:
        return np.full(len(beats), np.nan)
    last = np.take_along_axis(beats, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 1, 60.0 * fs * (count - 1) / (last - beats[:, 0]), np.nan))


def rr_intervals(beats: Int, fs: float) -> Float:
    """Return the seconds between successive beats ``(n, B - 1)``. Short rows are filled with NaN."""
    return np.where(beats[:, 1:] >= 0, np.diff(beats, axis=1) / fs, np.nan)


def frontal_axis(i: NDArray[np.floating], avf: NDArray[np.floating]) -> Float:
    """Return the frontal axis in degrees (-180, 180]. 0 points to the left arm, 90 points to the feet.

    It is NaN without deflection. aVF is measured against the two arms, so it is smaller by √3/2 than a lead on
    Einthoven's triangle. It is multiplied by 2/√3 (Einthoven, Fahr & de Waart, Pflügers Arch. 150:275, 1913;
    Goldberger, Am. Heart J. 23:483, 1942).

    Parameters
    ----------
    i, avf : ndarray, shape (n,)
        Net areas or amplitudes of a wave in leads I and aVF.
    """
    angle = np.degrees(np.arctan2(avf * 2.0 / np.sqrt(3.0), i))
    return np.asarray(np.where((i == 0) & (avf == 0), np.nan, angle), dtype=np.float64)
