"""Features of ECGs: what a reader measures with calipers, for many records at once.

Arrays are ``(n, L, T)``, mV. A feature that a record does not allow (no two beats, no QRS with an onset, a lead without
deflection) is NaN: it was not measured. Nothing is filled in here; who uses the table says what becomes of NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.beats import (
    AFTER,
    detect_beats,
    fiducial,
    frontal_axis,
    heart_rate,
    qrs_edges,
    representative_beat,
    rr_intervals,
)

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

BASELINE = 0.02  # s before the QRS whose mean is the isoelectric line, as in `beats.qrs_area`
P_WINDOW = (0.22, 0.02)  # s before the onset of QRS within which P is looked for
ST_POINT = 0.06  # s behind the end of QRS (J point) where the ST level is read, the mean of 20 ms to either side
NO_R = 0.02  # mV: a QRS that rises no higher is a QS, and all of it is Q
T_START, T_SHARE = 0.10, 0.6  # s behind the J point, and share of the RR interval behind QRS, between which T lies


@dataclass(frozen=True)
class Features:
    """A table of features, and the beat that most of them were measured on.

    Attributes
    ----------
    names : tuple of F str
        Names with their units, such as ``heart_rate_bpm`` and ``st_V2_mv``.
    values : ndarray, shape (n, F)
        NaN where a feature could not be measured.
    beat : ndarray, shape (n, L, W)
        Representative beat of each record above its isoelectric line, mV; NaN where there is none.
    """

    names: tuple[str, ...]
    values: Float
    beat: Float


def ecg_features(x: NDArray[np.floating], fs: float, leads: Sequence[str]) -> Features:
    """Measure rhythm, intervals, axes and amplitudes.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        mV.
    fs : float
        Hz.
    leads : sequence of L str
        Canonical names. Axes need I and aVF, the voltage criteria their own leads; where those are missing, so are
        the features.

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
    beat = beat - _mean(beat, _between(time, onset - BASELINE, onset))[..., None]
    rr = rr_intervals(beats, fs)
    centre = fiducial(fs) / fs
    after = np.minimum(AFTER, T_SHARE * np.nan_to_num(_row_mean(rr), nan=AFTER / T_SHARE))

    qrs = _between(time, onset, end)
    p_wave = _between(time, onset - P_WINDOW[0], onset - P_WINDOW[1])
    t_wave = _between(time, end + T_START, centre + after)
    r = np.maximum(_extreme(beat, qrs[:, None, :], np.maximum), 0.0)
    peak = np.where(qrs[:, None, :], np.nan_to_num(beat), -np.inf).argmax(axis=-1) / fs
    peak = np.where(r > NO_R, peak, np.inf)[..., None]  # (n, L, 1)
    q = qrs[:, None, :] & (time < peak)
    s = qrs[:, None, :] & (time > peak)
    waves = {
        "q": np.minimum(_extreme(beat, q, np.minimum), 0.0),
        "r": r,
        "s": np.minimum(_extreme(beat, s, np.minimum), 0.0),
        "qrs_net": _mean(beat, qrs),
        "j": _mean(beat, _between(time, end, end + BASELINE)),
        "st": _mean(beat, _between(time, end + ST_POINT - 0.02, end + ST_POINT + 0.02)),
        "t": _signed_extreme(beat, t_wave),
        "p": _signed_extreme(beat, p_wave),
    }
    columns = {
        "heart_rate_bpm": heart_rate(beats, fs),
        **_rhythm(rr),
        "qrs_duration_ms": 1000 * (end - onset),
        "qrs_to_t_peak_ms": 1000 * (_peak_time(beat, t_wave, time) - onset),
        "p_peak_to_qrs_ms": 1000 * (onset - _peak_time(beat, p_wave, time)),
        **_combined(waves, list(leads)),
    }
    for wave, values in waves.items():
        columns |= {f"{wave}_{lead}_mv": values[:, k] for k, lead in enumerate(leads)}
    return Features(tuple(columns), np.stack(list(columns.values()), axis=1), beat)


def _rhythm(rr: Float) -> dict[str, Float]:
    """How irregular the beats are: RR intervals (n, B - 1) in s, NaN beyond the last.

    SDNN and RMSSD (Task Force, Circulation 93:1043, 1996) as shares of the mean interval, which tell an irregular
    rhythm at any rate; the shortest and the longest interval show a premature beat and a pause.
    """
    mean = _row_mean(rr)
    steps = np.diff(rr, axis=1)
    spread = np.sqrt(_row_mean(np.square(rr - mean[:, None])))
    known = np.isfinite(rr)
    shortest = np.where(known, rr, np.inf).min(axis=1, initial=np.inf) / mean
    longest = np.where(known, rr, -np.inf).max(axis=1, initial=-np.inf) / mean
    return {
        "rr_spread": spread / mean,
        "rr_step": np.sqrt(_row_mean(np.square(steps))) / mean,
        "rr_shortest": np.where(np.isfinite(mean), shortest, np.nan),
        "rr_longest": np.where(np.isfinite(mean), longest, np.nan),
    }


def _combined(waves: dict[str, Float], leads: list[str]) -> dict[str, Float]:
    """Axes in degrees, and the two voltage criteria in mV, of the leads that there are."""

    def of(wave: str, lead: str) -> Float:
        return waves[wave][:, leads.index(lead)]

    found: dict[str, Float] = {}
    if {"I", "aVF"} <= set(leads):
        axes = {name: frontal_axis(of(wave, "I"), of(wave, "aVF")) for name, wave in (("qrs", "qrs_net"), ("t", "t"))}
        found |= {f"{name}_axis_deg": axis for name, axis in axes.items()}
        found["qrs_t_angle_deg"] = np.abs((axes["qrs"] - axes["t"] + 180) % 360 - 180)
    if {"V1", "V5", "V6"} <= set(leads):
        found["sokolow_lyon_mv"] = np.maximum(of("r", "V5"), of("r", "V6")) - of("s", "V1")
    if {"aVL", "V3"} <= set(leads):
        found["cornell_mv"] = of("r", "aVL") - of("s", "V3")
    return found


def _row_mean(values: Float) -> Float:
    """Mean of the finite values of each row; NaN where there are none."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.asarray(np.where(count, np.where(known, values, 0.0).sum(axis=1), np.nan) / np.maximum(count, 1))


def _between(time: Float, start: Float, stop: Float) -> Bool:
    """Samples (n, W) of a window of each record; none where an end is NaN."""
    half = 0.5 * (time[1] - time[0])  # a window shorter than a sample holds the one next to it
    return np.asarray((time >= start[:, None] - half) & (time < stop[:, None] + half))


def _mean(beat: Float, window: Bool) -> Float:
    """Mean (n, L) of beats (n, L, W) over windows (n, W); NaN over an empty one."""
    count = window.sum(axis=1)[:, None]
    total = np.einsum("nlw,nw->nl", np.nan_to_num(beat), window.astype(np.float64))
    return _known(beat, np.where(count, total, np.nan) / np.maximum(count, 1))


def _extreme(beat: Float, window: Bool, ufunc: np.ufunc) -> Float:
    """Minimum or maximum (n, L) over windows (n, 1 or L, W): 0, the isoelectric line, over an empty one."""
    return _known(beat, ufunc.reduce(np.where(window, np.nan_to_num(beat), 0.0), axis=-1))


def _signed_extreme(beat: Float, window: Bool) -> Float:
    """The value (n, L) of largest magnitude over windows (n, W), with its sign; NaN over an empty one."""
    inside = np.where(window[:, None, :], np.nan_to_num(beat), 0.0)
    at = np.abs(inside).argmax(axis=-1)[..., None]
    values = np.take_along_axis(inside, at, axis=-1)[..., 0]
    return _known(beat, np.where(np.any(window, axis=1, keepdims=True), values, np.nan))


def _peak_time(beat: Float, window: Bool, time: Float) -> Float:
    """Second (n,) at which the root of the summed squares of all leads is largest within windows (n, W)."""
    size = np.where(window, np.square(np.nan_to_num(beat)).sum(axis=1), -1.0)
    return np.asarray(np.where(np.any(window, axis=1), time[np.argmax(size, axis=1)], np.nan))


def _known(beat: Float, values: Float) -> Float:
    return np.where(np.all(np.isfinite(beat), axis=(1, 2), keepdims=True)[..., 0], values, np.nan)
