"""Onset and end of the QRS of representative beats, and its duration and net area.

A beat is an array ``(n, L, W)`` in mV, as from `functional.representative_beat`.

Both edges are where the QRS becomes visible: where the first lead leaves its level before the QRS by more than 25 µV,
and where the last lead comes nearer than 25 µV to its ST segment. So they are global edges (Kligfield et al.,
Circulation 115:1306, 2007). 25 µV is a choice of this project. IEC 60601-2-51:2003 (annex GG) counts a deflection as a
wave from 30 µV and 6 ms on, so a wave begins below 30 µV.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.beats import BEFORE, MIN_AMPLITUDE, band_pass
from einthoven.functional.conform import resample
from einthoven.functional.crossings import first_quiet, mean_and_deviation, positive
from einthoven.functional.qrs_end import end_at_curve, end_at_line

Float = NDArray[np.float64]
Int = NDArray[np.int64]

VISIBLE = 0.025
"""Deviation in mV from which a deflection is visible."""

VISIBLE_SHARE = 0.05
"""The limit is at most this share of the largest deflection of the beat, so that a QRS of low voltage has edges."""

ONSET_NOISE = 3.0
"""A deviation at the onset is at least so many times the standard deviation of the level before the QRS."""

QUIET = 0.006
"""The leads are at their level for so many seconds before the onset, the shortest duration of a wave."""

PQ = (0.02, 0.006)
"""The level before the QRS, the isoelectric line, is the mean between these two times, in seconds before the onset."""

SEARCH_START = 0.03
"""The search for the onset begins so many seconds after the estimate of it, or at the steepest point of the QRS."""

LEVEL_NOISE = 0.03
"""The noise of the level is measured from so many seconds before the onset."""

STEEP_TAIL = 0.004
"""The QRS ends at most so many seconds before the end of its steep part."""

VALLEY = 0.8
"""ST elevation can begin where the velocity is at most this share of its next peak."""

ST_ELEVATION = 0.1
"""Rise of the largest lead in mV from which it is ST elevation (Thygesen et al., "Fourth universal definition of
myocardial infarction", Circulation 138:e618, 2018: at least 0.1 mV at the J point)."""

STAYS_ELEVATED = 0.9
"""ST elevation keeps at least this share of its largest height. A late wave of QRS comes back."""

QRS_REACH = 0.10
"""Seconds before and after the centre of the QRS within which the QRS is steepest."""

NOISE_REACH = 0.16
"""Seconds before the centre of the QRS in which the noise of the slopes is measured."""

ST_REACH = (0.03, 0.14)
"""Seconds after the steepest point of the QRS in which the slope of ST is measured."""

SLOPE_CUTOFF = 40.0
"""Cutoff in Hz of the low-pass filter for slopes. With it, slopes do not depend on the sampling frequency."""

ONSET_SLOPE = 0.03
"""The first estimate of the onset is where the spatial velocity crosses this share of its maximum."""

END_SLOPE = 0.06
"""The first estimate of the end is where the spatial velocity crosses this share of its maximum."""

SLOPE_NOISE = 2.5
"""The velocity at the first estimate of the onset is at least so many times that of the quietest part before it."""

ST_SLOPE = 2.0
"""The velocity at the first estimate of the end is at least so many times that of the flattest part of ST."""

LARGEST_SLOPE = 0.25
"""If a limit of the velocity is above this share of its maximum, the QRS does not stand out and has no edges."""

SLOPE_QUIET = 0.02
"""Seconds in which the velocity is below its limit at the first estimates."""

EDGE_FS = 500.0
"""Lowest sampling frequency in Hz at which edges are searched. Beats with a lower one are interpolated."""


def qrs_edges(beat: Float, fs: float, before: float = BEFORE) -> tuple[Float, Float]:
    """Find the onset and the end ``(n,)`` of the QRS of beats ``(n, L, W)``, in seconds from the start of the beat.

    A first estimate of both comes from the spatial velocity, the root of the summed squares of the slopes of all leads.
    Then the onset is the last point before the QRS at which all leads are at their level for `QUIET` seconds. The end
    is the last point at which a lead is not at its ST segment. Both are interpolated between samples, and both are NaN
    if the beat is not finite, or if one of them cannot be found.

    Parameters
    ----------
    beat : ndarray, shape (n, L, W)
        Beats in mV.
    fs : float
        Sampling frequency in Hz.
    before : float
        Seconds from the start of the beat to the centre of its QRS.
    """
    is_finite = np.isfinite(beat).all(axis=(1, 2))
    beat, fs = _interpolated(np.nan_to_num(beat), fs)
    velocity = _spatial_velocity(beat, fs)
    steepest, first_onset, first_end = _steep_part(velocity, fs, round(before * fs))
    is_found = is_finite & np.isfinite(first_onset) & np.isfinite(first_end)
    steepest = np.where(is_found, steepest, 0)

    # The limits are lower for a QRS of low voltage.
    visible = np.minimum(VISIBLE, VISIBLE_SHARE * np.abs(beat).max(axis=(1, 2)))
    onset = np.where(is_found, first_onset, 0.0)
    # The level of the first estimate can contain the beginning of a slow QRS.
    for _ in range(2):
        onset = _visible_onset(beat, fs, onset, steepest, visible)
    first_end = _end_before_st_elevation(beat, velocity, fs, steepest, onset, np.where(is_found, first_end, 0.0))

    # The line is better at the end of a wide QRS. The curve is better at a small last wave and at a bent ST segment.
    # Where one of them follows the end of the QRS, it finds an end that is too early. So the latest one is taken.
    line_end = end_at_line(beat, fs, first_end, visible)
    curve_end = end_at_curve(beat, fs, first_end, visible)
    end = np.maximum(np.maximum(line_end, curve_end), first_end - STEEP_TAIL)
    return np.where(is_found, onset, np.nan), np.where(is_found, end, np.nan)


def _interpolated(beat: Float, fs: float) -> tuple[Float, float]:
    """Interpolate beats (n, L, W) so that their sampling frequency is at least `EDGE_FS`. Also return it."""
    factor = math.ceil(EDGE_FS / fs)
    if factor == 1:
        return beat, fs
    records, leads, samples = beat.shape
    rows = resample(beat.reshape(records * leads, samples), fs, factor * fs)
    return rows.reshape(records, leads, -1), factor * fs


def _spatial_velocity(beat: Float, fs: float) -> Float:
    """Return the root of the summed squares of the slopes of all leads (n, W), in mV per sample."""
    slope = np.gradient(band_pass(beat, fs, None, SLOPE_CUTOFF), axis=-1)
    return np.asarray(np.sqrt(np.square(slope).sum(axis=1)))


def _steep_part(velocity: Float, fs: float, centre: int) -> tuple[Int, Float, Float]:
    """Find the steepest sample (n,) of the QRS, and the edges (n,) of its steep part in seconds.

    An edge is the first point, away from the steepest one, at which the spatial velocity is below a limit for
    `SLOPE_QUIET` seconds. It is NaN if there is no such point.
    """
    from scipy.ndimage import uniform_filter1d

    reach = round(QRS_REACH * fs)
    first = max(centre - reach, 0)
    near_qrs = velocity[:, first : centre + reach + 1]
    top = near_qrs.max(axis=1)
    steepest = near_qrs.argmax(axis=1) + first

    # The limits are higher where noise or a steep ST segment is.
    num_quiet = max(round(SLOPE_QUIET * fs), 1)
    mean_velocity = uniform_filter1d(velocity, num_quiet, axis=1)
    noise = mean_velocity[:, max(centre - round(NOISE_REACH * fs), 0) : centre].min(axis=1)
    since_steepest = (np.arange(velocity.shape[1]) - steepest[:, None]) / fs
    is_st = (since_steepest >= ST_REACH[0]) & (since_steepest <= ST_REACH[1])
    st_velocity = np.where(is_st, mean_velocity, np.inf).min(axis=1)
    # A beat that ends within the QRS has no ST segment.
    st_velocity = np.where(np.isfinite(st_velocity), st_velocity, 0.0)
    onset_limit = np.maximum(ONSET_SLOPE * top, SLOPE_NOISE * noise)
    end_limit = np.maximum(END_SLOPE * top, ST_SLOPE * st_velocity)
    onset = first_quiet(velocity / positive(onset_limit)[:, None], steepest, -1, num_quiet)
    end = first_quiet(velocity / positive(end_limit)[:, None], steepest, 1, num_quiet)
    has_slope = (top > 0) & (np.maximum(onset_limit, end_limit) <= LARGEST_SLOPE * top)
    return steepest, np.where(has_slope, onset / fs, np.nan), np.where(has_slope, end / fs, np.nan)


def _visible_onset(beat: Float, fs: float, onset: Float, steepest: Int, visible: Float) -> Float:
    """Find where the QRS becomes visible (n,), in seconds. `onset` (n,) is an estimate of it, `visible` (n,) in mV."""
    time = np.arange(beat.shape[-1]) / fs
    since_onset = time - onset[:, None]
    level, _ = mean_and_deviation(beat, (since_onset >= -PQ[0]) & (since_onset < -PQ[1]))
    _, noise = mean_and_deviation(beat, (since_onset >= -LEVEL_NOISE) & (since_onset < -PQ[1]))
    limit = np.maximum(visible[:, None], ONSET_NOISE * noise)
    deviation = (np.abs(beat - level[..., None]) / positive(limit)[..., None]).max(axis=1)

    # The search begins within the QRS.
    start = np.minimum(steepest, np.rint((onset + SEARCH_START) * fs).astype(np.int64))
    position = first_quiet(deviation, start, -1, max(round(QUIET * fs), 1))
    return np.where(np.isfinite(position), position / fs, onset)


def _end_before_st_elevation(beat: Float, velocity: Float, fs: float, steepest: Int, onset: Float, end: Float) -> Float:
    """Return the end of the steep part (n,) in seconds, without ST elevation that begins at the end of the QRS.

    Such an elevation is as steep as the end of the QRS, so the velocity has no quiet part between the two. It has a
    valley there. A late wave of the QRS also begins at a valley, but it comes back.
    """
    samples = beat.shape[-1]
    rows = np.arange(len(beat))
    sample = np.arange(samples)
    last = np.clip(np.rint(end * fs).astype(np.int64), 0, samples - 1)
    is_before_end = sample <= last[:, None]

    # The valley is after the last part of the QRS that is as steep as no ST segment.
    is_steep = is_before_end & (velocity > LARGEST_SLOPE * velocity[rows, steepest][:, None])
    last_steep = samples - 1 - is_steep[:, ::-1].argmax(axis=1)
    velocity_before_end = np.where(is_before_end, velocity, 0.0)
    next_peak = np.maximum.accumulate(velocity_before_end[:, ::-1], axis=1)[:, ::-1]
    is_between = is_before_end & (sample > last_steep[:, None])
    share = np.where(is_between, velocity / positive(next_peak), np.inf)
    valley = share.argmin(axis=1)

    # Elevation leads away from the level before the QRS, and stays.
    since_onset = sample / fs - onset[:, None]
    level, _ = mean_and_deviation(beat, (since_onset >= -PQ[0]) & (since_onset < -PQ[1]))
    height = np.abs(beat - level[..., None]).max(axis=1)
    is_after_valley = is_before_end & (sample >= valley[:, None])
    largest_height = np.where(is_after_valley, height, 0.0).max(axis=1)
    height_at_end = height[rows, last]
    is_elevation = (share[rows, valley] <= VALLEY) & (height_at_end - height[rows, valley] >= ST_ELEVATION)
    is_elevation &= height_at_end >= STAYS_ELEVATED * largest_height
    return np.where(is_elevation, valley / fs, end)


def qrs_duration(beat: Float, fs: float) -> Float:
    """Return the QRS duration ``(n,)`` of representative beats in seconds.

    The duration is NaN if it cannot be measured.
    """
    onset, end = qrs_edges(beat, fs)
    return end - onset


def qrs_area(beat: Float, fs: float) -> Float:
    """Return the net area ``(n, L)`` of the QRS of representative beats in mV s, above the level between P and QRS.

    The area is NaN if it cannot be measured, also in a lead without deflection.
    """
    onset, end = qrs_edges(beat, fs)
    time = np.arange(beat.shape[-1]) / fs

    # The isoelectric line is the level between P and QRS. Half a sample more on each side, so the window is not empty.
    half = 0.5 / fs
    is_before = (time >= onset[:, None] - PQ[0] - half) & (time < onset[:, None] - PQ[1] + half)
    baseline, _ = mean_and_deviation(np.nan_to_num(beat), is_before)

    is_qrs = (time >= onset[:, None]) & (time <= end[:, None])
    qrs = (beat - baseline[..., None]) * is_qrs[:, None, :]
    is_known = np.isfinite(onset + end)[:, None] & (np.ptp(beat, axis=-1) > MIN_AMPLITUDE)
    return np.asarray(np.where(is_known, qrs.sum(axis=-1) / fs, np.nan))
