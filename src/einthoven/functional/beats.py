"""Beats of many records at once: QRS complexes, the representative beat, heart rate, QRS axis and QRS duration.

Signals are arrays ``(n, L, T)`` in mV, with any sampling frequency from 50 Hz. A sample that is not finite counts as
zero.

The detection follows Elgendi, "Fast QRS detection with an optimized knowledge-based method: evaluation on 11 standard
ECG databases", PLoS ONE 8(9):e73557, 2013. It compares two moving averages of the energy between 8 and 20 Hz. One
average is as long as a QRS, the other as long as a beat. The method has no state, so it needs no loop over samples.
In this module, the energy is that of all leads together.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.conform import resample

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BAND = (8.0, 20.0)
"""Frequency band in Hz in which a QRS is larger than P waves, T waves and muscle noise (Elgendi 2013, table 2)."""

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

BEFORE = 0.30
"""Seconds of the representative beat before its QRS."""

AFTER = 0.50
"""Seconds of the representative beat after its QRS."""

QRS_REACH = 0.10
"""Seconds before and after the centre of the QRS within which the QRS begins and ends."""

NOISE_REACH = 0.16
"""Seconds before the centre of the QRS in which the noise of a beat is measured. They contain the level between P and
QRS."""

COMPARED_REACH = 0.15
"""Seconds before and after the QRS in which beats are compared. A short part contains little baseline wander."""

ONSET_SHARE = 0.03
"""The QRS begins where the spatial velocity crosses this share of its maximum. The slope of a small q wave is above
it."""

END_SHARE = 0.08
"""The QRS ends where the spatial velocity crosses this share of its maximum. It is higher than `ONSET_SHARE`, because
the ST segment may have a slope."""

NOISE_FACTOR = 2.5
"""The velocity at the onset is at least so many times that of the quietest 20 ms before the QRS."""

SLOPE_CUTOFF = 40.0
"""Cutoff in Hz of the low-pass filter for slopes. With it, slopes do not depend on the sampling frequency."""

ONSET_DELAY = 0.0065
"""Seconds from the crossing to the onset: the low-pass filter spreads the slopes of the QRS to times before it. On
generated ECGs at 100, 250, 500 and 1,000 Hz the median error is then below 2 ms."""

END_DELAY = 0.004
"""Seconds from the crossing to the end of the QRS: below `END_SHARE`, the slopes of the QRS go on for so long in
generated ECGs."""

EDGE_FS = 500.0
"""Lowest sampling frequency in Hz at which edges are searched. Beats with a lower one are interpolated."""

PQ = (0.03, 0.01)
"""The level between P and QRS is the mean between these two times, in seconds before the onset of QRS. The last 10 ms
are left out, because the onset is not exact."""

USUAL_ONSET = 0.045
"""Seconds from the onset to the centre of the QRS, for a record in which the onset cannot be measured."""


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


def representative_beat(x: NDArray[np.floating], beats: Int, fs: float) -> Float:
    """Compute the median beat of each lead. Noise and single ectopic beats change it little.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV. The baseline is subtracted: a curve through the levels between P and QRS of all beats.
    beats : ndarray, shape (n, B)
        Samples of the QRS complexes, as from `detect_beats`.

    Returns
    -------
    ndarray, shape (n, L, W)
        The beat in mV, from `BEFORE` seconds before the QRS to `AFTER` seconds after it. The QRS is at sample
        ``fiducial(fs)``. The beat is NaN if the record contains no complete beat.
    """
    return _median_beat(*_cut_beats(x, beats, fs))


def _median_beat(cut_beats: Float, is_complete: NDArray[np.bool_]) -> Float:
    """Return the representative beat of beats from `_cut_beats`. The array `cut_beats` is overwritten."""
    if not is_complete.any():
        return np.full((len(cut_beats), *cut_beats.shape[:1:-1]), np.nan)

    # Incomplete beats become infinite, so the sort puts them behind all others.
    cut_beats[~is_complete] = np.inf
    cut_beats.sort(axis=1)
    count = is_complete.sum(axis=1)
    rows = np.arange(len(cut_beats))
    median = (cut_beats[rows, np.maximum(count - 1, 0) // 2] + cut_beats[rows, count // 2]) / 2
    median[count == 0] = np.nan
    return np.asarray(median.transpose(0, 2, 1))


def beat_and_repeatability(x: NDArray[np.floating], beats: Int, fs: float) -> tuple[Float, Float]:
    """Compute `representative_beat`, and the repeatability ``(n, L)`` of the beats in each lead.

    The repeatability is the correlation between the means of two halves of the beats. One half has the beats 1, 4, 5,
    8, …, the other half has the beats 2, 3, 6, 7, …. So beats that alternate (bigeminy) are in both halves. The
    repeatability is near 1 in an ECG and near 0 in noise. It is NaN with fewer than two complete beats, and in a lead
    without any amplitude. Test theory calls it the split-half reliability (Brown, Br. J. Psychol. 3:296, 1910). Here
    beats take the place of test items.
    """
    cut_beats, is_complete = _cut_beats(x, beats, fs)
    # `_median_beat` overwrites the beats, so the repeatability comes first.
    repeatability = _repeatability(cut_beats, is_complete, fs)
    return _median_beat(cut_beats, is_complete), repeatability


def _repeatability(cut_beats: Float, is_complete: NDArray[np.bool_], fs: float) -> Float:
    """Return the correlation (n, L) between the means of two halves of the beats."""
    # Only the samples near the QRS are compared, because baseline wander changes them least.
    reach = round(COMPARED_REACH * fs)
    centre = fiducial(fs)
    near_qrs = cut_beats[:, :, max(centre - reach, 0) : centre + reach + 1]

    beat_number = np.cumsum(is_complete, axis=1)
    halves = []
    for remainders in ((0, 1), (2, 3)):
        is_in_half = is_complete & np.isin(beat_number % 4, remainders)
        weight = is_in_half / np.where(is_in_half.any(axis=1), is_in_half.sum(axis=1), np.nan)[:, None]
        mean = np.einsum("nbwl,nb->nlw", near_qrs, weight)
        halves.append(mean - mean.mean(axis=-1, keepdims=True))
    first, second = halves
    norm = np.sqrt(np.square(first).sum(axis=-1) * np.square(second).sum(axis=-1))
    return np.asarray((first * second).sum(axis=-1) / np.where(norm > MIN_AMPLITUDE**2, norm, np.nan))


def _cut_beats(x: NDArray[np.floating], beats: Int, fs: float) -> tuple[Float, NDArray[np.bool_]]:
    """Cut the beats (n, B, W, L) out of the leads without baseline. Also return which beats are complete (n, B)."""
    offsets = np.arange(-fiducial(fs), round(AFTER * fs))
    is_complete = (beats + offsets[0] >= 0) & (beats + offsets[-1] < x.shape[-1]) & (beats >= 0)
    index = np.where(is_complete[:, :, None], beats[:, :, None] + offsets, 0)
    rows = np.arange(len(x))[:, None, None]

    # A high-pass filter shifts P, R and ST by up to 0.07 mV. Here it only serves to find the onset of QRS.
    filtered = band_pass(np.nan_to_num(x), fs, 0.5, None)
    onset, _ = qrs_edges(_median_beat(filtered[rows, :, index], is_complete), fs)
    before_centre = np.where(np.isfinite(onset), fiducial(fs) / fs - onset, USUAL_ONSET)
    without_baseline = _subtract_baseline(np.nan_to_num(x), beats, before_centre, fs)
    return without_baseline[rows, :, index], is_complete


def _subtract_baseline(x: NDArray[np.floating], beats: Int, before_centre: Float, fs: float) -> Float:
    """Subtract a curve through the levels between P and QRS of all beats, from each lead (n, L, T).

    The curve is a cubic spline (Meyer & Keiser, Comput. Biomed. Res. 10:459, 1977). Before the first and after the last
    level it is constant. A record without a level is centred on its mean. `before_centre` (n,) are the seconds from the
    onset to the centre of the QRS.
    """
    from scipy.interpolate import make_interp_spline

    samples = x.shape[-1]
    result: Float = np.asarray(x, dtype=np.float64) - x.mean(axis=-1, keepdims=True, dtype=np.float64)
    length = max(round((PQ[0] - PQ[1]) * fs), 1)
    time = np.arange(samples)
    for row, seconds in enumerate(before_centre):
        first = beats[row] - round((seconds + PQ[0]) * fs)
        first = first[(beats[row] >= 0) & (first >= 0) & (first + length <= samples)]
        if not len(first):
            continue
        levels = result[row][:, first[:, None] + np.arange(length)].mean(axis=-1)
        centre = first + (length - 1) / 2
        # A spline of degree k needs k + 1 levels.
        spline = make_interp_spline(centre, levels, k=min(3, len(centre) - 1), axis=-1)
        result[row] -= spline(np.clip(time, centre[0], centre[-1]))
    return result


def fiducial(fs: float) -> int:
    """Return the sample of the QRS in a representative beat."""
    return round(BEFORE * fs)


def qrs_edges(beat: Float, fs: float) -> tuple[Float, Float]:
    """Find the onset and the end ``(n,)`` of the QRS of representative beats ``(n, L, W)``.

    Both are in seconds from the start of the beat.

    The spatial velocity is the root of the summed squares of the slopes of all leads. The onset is the last point
    before the peak of the velocity at which the velocity is below `ONSET_SHARE` of the peak for 20 ms, and
    `ONSET_DELAY` later. In noise the limit is higher (`NOISE_FACTOR`). The end is the first point after the peak at
    which the velocity is below `END_SHARE` of the peak for 20 ms, and `END_DELAY` later. Both are interpolated between
    samples. Both are NaN if there is no such point.
    """
    from scipy.ndimage import uniform_filter1d

    is_finite = np.isfinite(beat).all(axis=(1, 2))
    centre_time = fiducial(fs) / fs
    beat, fs = _interpolated(np.nan_to_num(beat), fs)
    slope = np.gradient(band_pass(beat, fs, None, SLOPE_CUTOFF), axis=-1)
    velocity = np.sqrt(np.square(slope).sum(axis=1))

    centre = round(centre_time * fs)
    reach = round(QRS_REACH * fs)
    near_qrs = velocity[:, centre - reach : centre + reach + 1]
    top = near_qrs.max(axis=1)
    peak = near_qrs.argmax(axis=1) + centre - reach

    # The noise of the beat is that of its quietest part before the QRS.
    num_quiet = max(round(0.02 * fs), 1)
    first = max(centre - round(NOISE_REACH * fs), 0)
    noise = uniform_filter1d(velocity, num_quiet, axis=1)[:, first:centre].min(axis=1)
    onset_level = np.maximum(ONSET_SHARE * top, NOISE_FACTOR * noise)
    is_measured = (top > 0) & is_finite
    onset = _edge(velocity, peak, onset_level, -1, num_quiet) / fs + ONSET_DELAY
    end = _edge(velocity, peak, END_SHARE * top, 1, num_quiet) / fs + END_DELAY
    return np.where(is_measured, onset, np.nan), np.where(is_measured, end, np.nan)


def _interpolated(beat: Float, fs: float) -> tuple[Float, float]:
    """Interpolate beats (n, L, W) so that their sampling frequency is at least `EDGE_FS`. Also return it."""
    factor = math.ceil(EDGE_FS / fs)
    if factor == 1:
        return beat, fs
    records, leads, samples = beat.shape
    rows = resample(beat.reshape(records * leads, samples), fs, factor * fs)
    return rows.reshape(records, leads, -1), factor * fs


def _edge(velocity: Float, peak: Int, level: Float, step: int, num_quiet: int) -> Float:
    """Walk from `peak` in steps of ±1 to the first `num_quiet` samples below `level`. NaN if there are none."""
    samples = velocity.shape[1]

    # A sample is quiet if it and the next samples, away from the peak, are below the level.
    is_quiet = velocity < level[:, None]
    for shift in range(1, num_quiet):
        is_quiet = is_quiet & (np.roll(velocity, -step * shift, axis=1) < level[:, None])
    distance = (np.arange(samples) - peak[:, None]) * step
    is_candidate = is_quiet & (distance > 0)
    edge = np.where(is_candidate, distance, samples).argmin(axis=1)

    # The velocity crosses the level between the edge and the sample before it. A straight line gives the position.
    rows = np.arange(len(velocity))
    outer = velocity[rows, edge]
    inner = velocity[rows, np.clip(edge - step, 0, samples - 1)]
    fraction = (inner - level) / np.maximum(inner - outer, 1e-12)
    position = edge - step + step * np.clip(fraction, 0.0, 1.0)
    return np.where(is_candidate.any(axis=1), position, np.nan)


def qrs_duration(beat: Float, fs: float) -> Float:
    """Return the QRS duration ``(n,)`` of representative beats in seconds.

    The duration is NaN if it cannot be measured.
    """
    onset, end = qrs_edges(beat, fs)
    return end - onset


def qrs_area(beat: Float, fs: float) -> Float:
    """Return the net area ``(n, L)`` of the QRS of representative beats in mV s, above the level between P and QRS."""
    onset, end = qrs_edges(beat, fs)
    time = np.arange(beat.shape[-1]) / fs

    # The isoelectric line is the level between P and QRS.
    is_before = (time >= onset[:, None] - PQ[0]) & (time <= onset[:, None] - PQ[1])
    weight = is_before / np.maximum(is_before.sum(axis=1, keepdims=True), 1)
    baseline = np.einsum("nlw,nw->nl", np.nan_to_num(beat), weight)

    is_qrs = (time >= onset[:, None]) & (time <= end[:, None])
    qrs = (beat - baseline[..., None]) * is_qrs[:, None, :]
    is_known = np.isfinite(onset + end)[:, None, None]
    return np.asarray(np.where(is_known, qrs, np.nan).sum(axis=-1) / fs)


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
