"""Features of ECGs: the quantities that a cardiologist measures by hand, for many records at once.

Signals are arrays ``(n, L, T)`` in mV. A feature that cannot be measured in a record is NaN. Examples are records with
fewer than two beats or with a QRS that has no clear onset, and leads without deflection. This module never fills in
NaN. The caller decides what to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.beats import (
    AFTER,
    MIN_AMPLITUDE,
    detect_beats,
    fiducial,
    frontal_axis,
    heart_rate,
    rr_intervals,
)
from einthoven.functional.qrs_edges import PQ, qrs_edges
from einthoven.functional.representative_beat import representative_beat

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

P_END = 0.02
"""P ends so many seconds before the onset of QRS."""

P_START = (0.16, 0.30)
"""P begins at most so many seconds before the onset of QRS: in a fast and in a slow rhythm. Between the two, it begins
where T of the beat before it ends, usually or as measured."""

T_PEAK_SHARE = 0.79
"""T has its peak at this share of the QT interval in healthy people (Gupta et al., J. Electrocardiol. 41:567, 2008)."""

ST_POINT = 0.06
"""Seconds after the end of QRS (the J point) at which the ST level is read. It is the mean over 20 ms on each side."""

J_LENGTH = 0.02
"""Seconds after the J point whose mean is its level."""

MIN_KNOWN = 0.5
"""Smallest share of the samples of a lead that are finite, so that the median beat is not one of missing samples."""

MIN_R = 0.02
"""Height in mV of the smallest R wave. A QRS without an R wave is a QS complex, and all of it counts as Q."""

VERSION = 3
"""Version of the features. It changes whenever a record gets other values, because a model that was fitted to the old
values must not read the new ones."""

USUAL_QT = 0.40
"""Usual QT interval in seconds at an RR interval of 1 s. It is multiplied by the cube root of RR (Fridericia, Acta Med.
Scand. 53:469, 1920)."""

T_START_SHARE = 0.5
"""T begins at this share of the usual QT interval after the onset of QRS, but not before the end of QRS."""

SHOWN_BEFORE = 0.30
"""Seconds before the QRS from which on the representative beat is returned."""

T_END_SHARE = 0.6
"""T ends at this share of the RR interval after the QRS."""

WAVES = ("q", "r", "s", "qrs_net", "j", "st", "t", "p")
"""Waves and levels that are measured in each lead."""

AXIS_LEADS = {"I", "aVF"}
SOKOLOW_LYON_LEADS = {"V1", "V5", "V6"}
CORNELL_LEADS = {"aVL", "V3"}
"""Leads that the features of these names need."""


@dataclass(frozen=True)
class Features:
    """A table of features, and the representative beats on which most of them were measured.

    Attributes
    ----------
    names : tuple of F str
        Names with their units, such as ``heart_rate_bpm`` and ``st_V2_mv``.
    values : ndarray, shape (n, F)
        NaN if a feature could not be measured.
    beat : ndarray, shape (n, L, W)
        Representative beat of each record above its isoelectric line, in mV. NaN if a record has none.
    """

    names: tuple[str, ...]
    values: Float
    beat: Float


def feature_names(leads: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features of records with these leads, in the order of the table."""
    names = ["heart_rate_bpm", "rr_spread", "rr_step", "rr_shortest", "rr_longest"]
    names += ["qrs_duration_ms", "qrs_to_t_peak_ms", "p_peak_to_qrs_ms"]
    if set(leads) >= AXIS_LEADS:
        names += ["qrs_axis_deg", "t_axis_deg", "qrs_t_angle_deg"]
    if set(leads) >= SOKOLOW_LYON_LEADS:
        names.append("sokolow_lyon_mv")
    if set(leads) >= CORNELL_LEADS:
        names.append("cornell_mv")
    return (*names, *(f"{wave}_{lead}_mv" for wave in WAVES for lead in leads))


def beat_samples(fs: float) -> int:
    """Return the number of samples of the representative beats of `Features`."""
    return round(SHOWN_BEFORE * fs) + round(AFTER * fs)


def ecg_features(x: NDArray[np.floating], fs: float, leads: Sequence[str]) -> Features:
    """Measure rhythm, intervals, axes and amplitudes.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV.
    fs : float
        Sampling frequency in Hz.
    leads : sequence of L str
        Canonical names. The axes need the leads I and aVF. The voltage criteria need V1, V5 and V6, or aVL and V3. The
        table has no such feature if its leads are missing.

    Returns
    -------
    Features

    References
    ----------
    Sokolow & Lyon, Am. Heart J. 37:161, 1949 (S in V1 + R in V5 or V6); Casale et al., J. Am. Coll. Cardiol. 6:572,
    1985 (Cornell voltage: R in aVL + S in V3); J point, ST level and axes as in Rautaharju et al., "AHA/ACCF/HRS
    recommendations ... part IV", Circulation 119:e241, 2009.
    """
    beats = detect_beats(x, fs)
    beat = representative_beat(x, beats, fs)
    onset, end = qrs_edges(beat, fs)
    time = np.arange(beat.shape[-1]) / fs
    beat = beat - _mean(np.nan_to_num(beat), _mask_between(time, onset - PQ[0], onset - PQ[1]))[..., None]
    # A record without a beat has no masks, and no deflection: its features are NaN at the end.
    known_beat = np.nan_to_num(beat)

    # T ends with the representative beat, or earlier if the heart beats fast.
    rr = rr_intervals(beats, fs)
    mean_rr = np.nan_to_num(_row_mean(rr), nan=AFTER / T_END_SHARE)
    t_end = fiducial(fs) / fs + np.minimum(AFTER, T_END_SHARE * mean_rr)
    usual_qt = USUAL_QT * np.cbrt(mean_rr)
    t_start = np.maximum(end, onset + T_START_SHARE * usual_qt)

    # T ends and P begins after the usual QT interval. If the peak of T shows that QT is longer, they do so later.
    to_t_peak = _peak_time(known_beat, _mask_between(time, t_start, t_end), time) - onset
    longest_qt = np.maximum(usual_qt, np.nan_to_num(to_t_peak) / T_PEAK_SHARE)
    t_end = np.minimum(t_end, onset + longest_qt)
    p_start = np.clip(mean_rr - longest_qt, *P_START)

    # Masks of the parts of the beat.
    is_qrs = _mask_between(time, onset, end)
    is_p = _mask_between(time, onset - p_start, onset - P_END)
    is_t = _mask_between(time, t_start, t_end)
    is_j = _mask_between(time, end, end + J_LENGTH)
    is_st = _mask_between(time, end + ST_POINT - 0.02, end + ST_POINT + 0.02)

    # Q, R and S are peaks, so that a level of ST at the end of QRS is no wave. Q is before R, and S is after R. Without
    # R, all of QRS is Q.
    is_top = is_qrs[:, None, :] & _is_peak(known_beat, 1)
    is_bottom = is_qrs[:, None, :] & _is_peak(known_beat, -1)
    r = np.maximum(_extreme(known_beat, is_top, 1), 0.0)
    r_time = np.where(is_top, known_beat, -np.inf).argmax(axis=-1) / fs
    r_time = np.where(r > MIN_R, r_time, np.inf)[..., None]
    is_q = is_bottom & (time < r_time)
    is_s = is_bottom & (time > r_time)

    waves = {
        "q": np.minimum(_extreme(known_beat, is_q, -1), 0.0),
        "r": r,
        "s": np.minimum(_extreme(known_beat, is_s, -1), 0.0),
        "qrs_net": _mean(known_beat, is_qrs),
        "j": _mean(known_beat, is_j),
        "st": _mean(known_beat, is_st),
        "t": _signed_extreme(known_beat, is_t),
        "p": _signed_extreme(known_beat, is_p),
    }
    # A lead that is flat, or missing in more than half of the record, has no waves. Their height is not 0 mV.
    has_deflection = (np.ptp(beat, axis=-1) > MIN_AMPLITUDE) & (np.isfinite(x).mean(axis=-1) >= MIN_KNOWN)
    waves = {wave: np.where(has_deflection, heights, np.nan) for wave, heights in waves.items()}
    columns = {
        "heart_rate_bpm": heart_rate(beats, fs),
        **_rhythm(rr),
        "qrs_duration_ms": 1000 * (end - onset),
        "qrs_to_t_peak_ms": 1000 * to_t_peak,
        "p_peak_to_qrs_ms": 1000 * (onset - _peak_time(known_beat, is_p, time)),
        **_combined(waves, list(leads)),
    }
    for wave, values in waves.items():
        for k, lead in enumerate(leads):
            columns[f"{wave}_{lead}_mv"] = values[:, k]
    # Before this part, the beat contains only the P wave of a long PR interval, or T of the beat before it.
    shown_beat = beat[..., fiducial(fs) - round(SHOWN_BEFORE * fs) :]
    names = feature_names(leads)
    return Features(names, np.stack([columns[name] for name in names], axis=1), shown_beat)


def _rhythm(rr: Float) -> dict[str, Float]:
    """Measure how irregular the beats are, from RR intervals (n, B - 1) in seconds. Short rows are filled with NaN.

    The features are SDNN and RMSSD (Task Force, Circulation 93:1043, 1996) and the shortest and the longest interval,
    all divided by the mean interval. So they show an irregular rhythm at any heart rate. The shortest interval shows a
    premature beat, the longest interval a pause.
    """
    mean = _row_mean(rr)
    sdnn = np.sqrt(_row_mean(np.square(rr - mean[:, None])))
    rmssd = np.sqrt(_row_mean(np.square(np.diff(rr, axis=1))))
    is_finite = np.isfinite(rr)
    shortest = np.where(is_finite, rr, np.inf).min(axis=1, initial=np.inf)
    longest = np.where(is_finite, rr, -np.inf).max(axis=1, initial=-np.inf)
    return {
        "rr_spread": sdnn / mean,
        "rr_step": rmssd / mean,
        "rr_shortest": np.where(np.isfinite(mean), shortest / mean, np.nan),
        "rr_longest": np.where(np.isfinite(mean), longest / mean, np.nan),
    }


def _combined(waves: dict[str, Float], leads: list[str]) -> dict[str, Float]:
    """Compute axes in degrees and two voltage criteria in mV, if their leads are present."""

    def amplitude(wave: str, lead: str) -> Float:
        return waves[wave][:, leads.index(lead)]

    features: dict[str, Float] = {}
    if set(leads) >= AXIS_LEADS:
        qrs_axis = frontal_axis(amplitude("qrs_net", "I"), amplitude("qrs_net", "aVF"))
        t_axis = frontal_axis(amplitude("t", "I"), amplitude("t", "aVF"))
        features["qrs_axis_deg"] = qrs_axis
        features["t_axis_deg"] = t_axis
        features["qrs_t_angle_deg"] = np.abs((qrs_axis - t_axis + 180) % 360 - 180)
    if set(leads) >= SOKOLOW_LYON_LEADS:
        features["sokolow_lyon_mv"] = np.maximum(amplitude("r", "V5"), amplitude("r", "V6")) - amplitude("s", "V1")
    if set(leads) >= CORNELL_LEADS:
        features["cornell_mv"] = amplitude("r", "aVL") - amplitude("s", "V3")
    return features


def _row_mean(values: Float) -> Float:
    """Return the mean of the finite values of each row. NaN if a row has none."""
    is_finite = np.isfinite(values)
    count = is_finite.sum(axis=1)
    total = np.where(is_finite, values, 0.0).sum(axis=1)
    return np.asarray(np.where(count, total, np.nan) / np.maximum(count, 1))


def _mask_between(time: Float, start: Float, stop: Float) -> Bool:
    """Mark the samples (n, W) from `start` to `stop` (n,) in each record. No sample if one of them is NaN."""
    # Half a sample on each side makes sure that an interval shorter than a sample contains one sample.
    half = 0.5 * (time[1] - time[0])
    return np.asarray((time >= start[:, None] - half) & (time < stop[:, None] + half))


def _mean(beat: Float, mask: Bool) -> Float:
    """Return the mean (n, L) of beats (n, L, W) over masks (n, W). NaN if a mask is empty."""
    count = mask.sum(axis=1)[:, None]
    total = np.einsum("nlw,nw->nl", beat, mask.astype(np.float64))
    return np.asarray(np.where(count, total, np.nan) / np.maximum(count, 1))


def _extreme(beat: Float, mask: Bool, sign: int) -> Float:
    """Return the maximum (`sign` 1) or minimum (-1) (n, L) over masks (n, 1 or L, W).

    It includes 0, the isoelectric line.
    """
    inside = np.where(mask, beat, 0.0)
    return _peak_value(beat, inside, (sign * inside).argmax(axis=-1))


def _is_peak(beat: Float, sign: int) -> Bool:
    """Return which samples (n, L, W) are peaks: tops (`sign` 1) or bottoms (-1)."""
    signed = sign * beat
    result = np.zeros(beat.shape, dtype=bool)
    result[..., 1:-1] = (signed[..., 1:-1] >= signed[..., :-2]) & (signed[..., 1:-1] > signed[..., 2:])
    return result


def _signed_extreme(beat: Float, mask: Bool) -> Float:
    """Return the height (n, L) of the largest peak over masks (n, W), with its sign. NaN if a mask is empty.

    A peak is a sample that is larger, or smaller, than both neighbours. So the end of another wave at the edge of the
    mask does not count. Without a peak, the height is the value of largest magnitude.
    """
    inside = np.where(mask[:, None, :], beat, 0.0)
    slope = np.diff(beat, axis=-1)
    is_peak = np.zeros(beat.shape, dtype=bool)
    is_peak[..., 1:-1] = (slope[..., :-1] * slope[..., 1:] < 0) & mask[:, None, 1:-1]
    has_peak = is_peak.any(axis=-1, keepdims=True)
    inside = np.where(is_peak | ~has_peak, inside, 0.0)
    values = _peak_value(beat, inside, np.abs(inside).argmax(axis=-1))
    return np.where(np.any(mask, axis=1, keepdims=True), values, np.nan)


def _peak_value(beat: Float, inside: Float, index: NDArray[np.int64]) -> Float:
    """Return the height (n, L) of the peaks at samples `index` (n, L) of `inside` (n, L, W), between samples.

    The height is that of the parabola through the sample and its neighbours in the beat. It is the sample itself where
    that is not the largest or the smallest of the three, such as at the end of a mask.
    """
    last = beat.shape[-1] - 1

    def sample_at(position: NDArray[np.int64]) -> Float:
        clipped = np.clip(position, 0, last)[..., None]
        return np.asarray(np.take_along_axis(beat, clipped, axis=-1)[..., 0])

    value = np.take_along_axis(inside, index[..., None], axis=-1)[..., 0]
    before = sample_at(index - 1)
    after = sample_at(index + 1)
    curvature = before - 2 * value + after
    is_peak = (value - before) * (value - after) > 0
    is_peak &= (index > 0) & (index < last) & (value == sample_at(index))
    correction = np.square(before - after) / np.where(is_peak, 8 * curvature, 1.0)
    return np.where(is_peak, value - correction, value)


def _peak_time(beat: Float, mask: Bool, time: Float) -> Float:
    """Return the time (n,) in seconds, within masks (n, W), at which the sum of squares over the leads is largest."""
    energy = np.where(mask, np.square(beat).sum(axis=1), -1.0)
    return np.asarray(np.where(np.any(mask, axis=1), time[np.argmax(energy, axis=1)], np.nan))
