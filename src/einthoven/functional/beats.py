"""Beats of many records at once: where the QRS complexes are, the representative beat, rate, QRS axis and duration.

Arrays are ``(n, L, T)``, mV, any sampling frequency from 50 Hz on. A sample that is not finite counts as zero.
Detection follows Elgendi, "Fast QRS detection with an optimized knowledge-based method: evaluation on 11 standard ECG
databases", PLoS ONE 8(9):e73557, 2013: two moving averages of the energy between 8 and 20 Hz, one as long as a QRS, one
as long as a beat. It has no state, hence no loop over samples; here the energy is that of all leads together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BAND = (8.0, 20.0)  # Hz, where a QRS is larger than P, T and muscle (Elgendi 2013, table 2)
QRS_WINDOW, BEAT_WINDOW = 0.097, 0.611  # s (Elgendi 2013, section "Optimization")
OFFSET = 0.08  # of the mean energy (ibid.)
REFRACTORY = 0.2  # s: no ventricle answers sooner (Pan & Tompkins, IEEE Trans. Biomed. Eng. 32:230, 1985)
FAINTEST = 0.15  # of the median peak: below lie P and T waves, far above an amplitude-modulated QRS
LEAST = 1e-3  # mV in the band: nothing a recorder resolves; below, a lead holds no beats

BEFORE, AFTER = 0.30, 0.50  # s of the representative beat around its QRS
HALF_QRS = 0.10  # s to either side of the fiducial point within which a QRS has begun and ended
NEAR = 0.15  # s to either side of the QRS within which beats are compared: less of the wander
EDGE = 0.08  # of the largest spatial velocity, where QRS begins and ends: bias below half a sample on generated ECGs
SMOOTH = 40.0  # Hz: slopes are those of the QRS, at any sampling frequency


def band_pass(x: NDArray[np.floating], fs: float, low: float | None, high: float | None) -> Float:
    """Butterworth of second order, forwards and backwards, along the last axis; no phase shift.

    Parameters
    ----------
    low, high : float or None
        Corners in Hz. Without `low` a low-pass, without `high` a high-pass; `high` beyond 0.45 `fs` is set there.
    """
    from scipy.signal import sosfiltfilt  # a second of imports

    sections = _sections(fs, low, None if high is None else min(high, 0.45 * fs))
    pad = min(x.shape[-1] - 1, int(fs))
    return np.asarray(sosfiltfilt(sections, x, axis=-1, padlen=pad), dtype=np.float64)


@lru_cache(maxsize=256)  # of a single record, the design takes longer than the filtering
def _sections(fs: float, low: float | None, high: float | None) -> Float:
    from scipy.signal import butter

    if low is not None and high is not None:
        return np.asarray(butter(2, (low, high), "bandpass", fs=fs, output="sos"))
    if low is not None:
        return np.asarray(butter(2, low, "highpass", fs=fs, output="sos"))
    assert high is not None, "one corner at least"
    return np.asarray(butter(2, high, "lowpass", fs=fs, output="sos"))


def qrs_energy(x: NDArray[np.floating], fs: float) -> Float:
    """Energy ``(n, T)`` between 8 and 20 Hz, the mean over leads, each of which has a QRS of about one.

    A lead is measured by its median peak in pieces of two seconds and cut off at one, so that neither a large lead nor
    an artefact in one lead speaks for all. Leads below 1 µV say nothing.
    """
    energy = np.square(band_pass(np.nan_to_num(x), fs, *BAND))
    samples = energy.shape[-1]
    piece = min(int(2 * fs), samples)
    pieces = energy[..., : samples // piece * piece].reshape(*energy.shape[:-1], -1, piece)
    level = np.median(pieces.max(axis=-1), axis=-1)
    heard = level > LEAST**2
    energy /= np.where(heard, level, np.inf)[..., None]
    total = np.minimum(energy, 1.0, out=energy).sum(axis=1)
    return np.asarray(total / np.maximum(heard.sum(axis=1), 1)[:, None])


def detect_beats(x: NDArray[np.floating], fs: float) -> Int:
    """Find the QRS complexes.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        mV. Any number of leads; more make it surer.
    fs : float
        Hz.

    Returns
    -------
    ndarray of int, shape (n, B)
        Sample of each QRS (the centre of its energy), in ascending order; B is that of the record with the most, and
        rows with fewer end in -1.

    References
    ----------
    Elgendi 2013, equations 1 to 4; thresholds at the top of this file.
    """
    from scipy.ndimage import maximum_filter1d, uniform_filter1d

    energy = qrs_energy(x, fs)
    samples = energy.shape[1]
    qrs, beat = (max(round(seconds * fs) | 1, 3) for seconds in (QRS_WINDOW, BEAT_WINDOW))
    event = uniform_filter1d(energy, qrs, axis=1, mode="reflect")
    cycle = uniform_filter1d(energy, beat, axis=1, mode="reflect")
    peak = (event == maximum_filter1d(event, 2 * round(REFRACTORY * fs) - 1, axis=1)) & (event > 0)
    peak &= event > cycle + OFFSET * energy.mean(axis=1, keepdims=True)
    peak[:, 1:] &= ~peak[:, :-1]  # the first of equals
    heights = np.where(peak, event, np.nan)
    count = peak.sum(axis=1)
    ordered = np.sort(heights, axis=1)  # NaN last
    median = ordered[np.arange(len(x)), np.maximum(count - 1, 0) // 2]
    peak &= event >= FAINTEST * np.nan_to_num(median)[:, None]
    return _positions(peak, samples)


def _positions(peak: NDArray[np.bool_], samples: int) -> Int:
    """Boolean (n, T) -> places (n, B), -1 beyond the last of each row."""
    most = int(peak.sum(axis=1).max(initial=0))
    places = np.sort(np.where(peak, np.arange(samples), samples), axis=1)[:, :most]
    return np.where(places < samples, places, -1)


def heart_rate(beats: Int, fs: float) -> Float:
    """Ventricular rate ``(n,)`` in beats per minute, from the mean RR interval; NaN with fewer than two beats."""
    count = (beats >= 0).sum(axis=1)
    if beats.shape[1] == 0:
        return np.full(len(beats), np.nan)
    last = np.take_along_axis(beats, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 1, 60.0 * fs * (count - 1) / (last - beats[:, 0]), np.nan))


def rr_intervals(beats: Int, fs: float) -> Float:
    """Seconds between successive beats ``(n, B - 1)``, NaN beyond the last."""
    return np.where(beats[:, 1:] >= 0, np.diff(beats, axis=1) / fs, np.nan)


def representative_beat(x: NDArray[np.floating], beats: Int, fs: float) -> Float:
    """Median beat of each lead, which noise and single ectopic beats do not shape.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        mV; its baseline is removed below 0.5 Hz.
    beats : ndarray, shape (n, B)
        As from `detect_beats`.

    Returns
    -------
    ndarray, shape (n, L, W)
        mV from `BEFORE` to `AFTER` the QRS, which lies at sample ``fiducial(fs)``; NaN where no beat is whole.
    """
    return _median(*_windows(x, beats, fs))


def _median(pieces: Float, whole: NDArray[np.bool_]) -> Float:
    """The representative beat of beats that are cut out; `pieces` are not what they were afterwards."""
    if not whole.any():
        return np.full((len(pieces), *pieces.shape[:1:-1]), np.nan)
    pieces[~whole] = np.inf
    pieces.sort(axis=1)
    count, rows = whole.sum(axis=1), np.arange(len(pieces))
    middle = (pieces[rows, np.maximum(count - 1, 0) // 2] + pieces[rows, count // 2]) / 2
    middle[count == 0] = np.nan
    return np.asarray(middle.transpose(0, 2, 1))


def beat_and_repeatability(x: NDArray[np.floating], beats: Int, fs: float) -> tuple[Float, Float]:
    """`representative_beat`, and how much of a lead follows the heartbeat, of beats that are cut out once.

    The latter is the correlation ``(n, L)`` of the means of two halves of the beats. One half are the beats 1, 4, 5, 8,
    …, the other 2, 3, 6, 7, …, so that alternation (bigeminy) falls into both. Near 1 in an ECG, near 0 in noise; NaN
    with fewer than two whole beats or in a lead without any amplitude. The split-half reliability of test theory
    (Brown, Br. J. Psychol. 3:296, 1910), of beats in place of test items.
    """
    pieces, whole = _windows(x, beats, fs)
    repeats = _repeatability(pieces, whole, fs)
    return _median(pieces, whole), repeats


def _repeatability(pieces: Float, whole: NDArray[np.bool_], fs: float) -> Float:
    near = slice(max(fiducial(fs) - round(NEAR * fs), 0), fiducial(fs) + round(NEAR * fs) + 1)
    pieces = pieces[:, :, near]  # the waves that wander shapes least
    order = np.cumsum(whole, axis=1)
    halves = []
    for half in ((0, 1), (2, 3)):
        chosen = whole & np.isin(order % 4, half)
        share = chosen / np.where(chosen.any(axis=1), chosen.sum(axis=1), np.nan)[:, None]
        mean = np.einsum("nbwl,nb->nlw", pieces, share)
        halves.append(mean - mean.mean(axis=-1, keepdims=True))
    a, b = halves
    norm = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    return np.asarray((a * b).sum(axis=-1) / np.where(norm > LEAST**2, norm, np.nan))


def _windows(x: NDArray[np.floating], beats: Int, fs: float) -> tuple[Float, NDArray[np.bool_]]:
    """Each beat cut out of the leads without baseline (n, B, W, L), and whether it is whole (n, B)."""
    flat = band_pass(np.nan_to_num(x), fs, 0.5, None)
    window = np.arange(-fiducial(fs), round(AFTER * fs))
    whole = (beats + window[0] >= 0) & (beats + window[-1] < x.shape[-1]) & (beats >= 0)
    at = np.where(whole[:, :, None], beats[:, :, None] + window, 0)
    return flat[np.arange(len(x))[:, None, None], :, at], whole


def fiducial(fs: float) -> int:
    """Sample of the QRS in a representative beat."""
    return round(BEFORE * fs)


def qrs_edges(beat: Float, fs: float) -> tuple[Float, Float]:
    """Onset and end of the QRS of representative beats ``(n, L, W)``, in seconds from their start ``(n,)``.

    Where the spatial velocity, the root of the summed squares of all leads' slopes, last rises through and first falls
    below `EDGE` of its maximum for 20 ms, interpolated between samples. NaN where it never does.
    """
    slope = np.gradient(band_pass(np.nan_to_num(beat), fs, None, SMOOTH), axis=-1)
    speed = np.sqrt(np.square(slope).sum(axis=1))
    centre, reach = fiducial(fs), round(HALF_QRS * fs)
    inside = speed[:, centre - reach : centre + reach + 1]
    top = inside.max(axis=1)
    peak = inside.argmax(axis=1) + centre - reach
    level = EDGE * top
    found = [_edge(speed, peak, level, step, max(round(0.02 * fs), 1)) / fs for step in (-1, 1)]
    known = (top > 0) & np.isfinite(beat).all(axis=(1, 2))
    onset, end = (np.where(known, edge, np.nan) for edge in found)
    return onset, end


def _edge(speed: Float, peak: Int, level: Float, step: int, quiet: int) -> Float:
    """First place from `peak` on, in steps of ±1, where `quiet` samples lie below `level`; NaN where none."""
    samples = speed.shape[1]
    below = speed < level[:, None]
    for shift in range(1, quiet):  # below here and at the next ones outwards
        moved = np.roll(speed, -step * shift, axis=1) < level[:, None]
        below = below & moved
    distance = (np.arange(samples) - peak[:, None]) * step
    candidate = below & (distance > 0)
    where = np.where(candidate, distance, samples).argmin(axis=1)
    rows = np.arange(len(speed))
    outer, inner = speed[rows, where], speed[rows, np.clip(where - step, 0, samples - 1)]
    part = (inner - level) / np.maximum(inner - outer, 1e-12)
    return np.where(candidate.any(axis=1), where - step + step * np.clip(part, 0.0, 1.0), np.nan)


def qrs_duration(beat: Float, fs: float) -> Float:
    """QRS duration ``(n,)`` in s of representative beats, resolved to about half a sample; NaN where unknown."""
    onset, end = qrs_edges(beat, fs)
    return end - onset


def qrs_amplitude(beat: Float, fs: float) -> Float:
    """Peak-to-peak QRS amplitude ``(n, L)`` of representative beats, mV."""
    return np.asarray(np.ptp(_around_qrs(beat, fs), axis=-1))


def qrs_area(beat: Float, fs: float) -> Float:
    """Net area ``(n, L)`` under the QRS of representative beats, mV s, above the level between P and QRS."""
    return np.asarray(_around_qrs(beat, fs).sum(axis=-1) / fs)


def _around_qrs(beat: Float, fs: float) -> Float:
    """The QRS (n, L, W) above the isoelectric line, zero outside of its edges."""
    onset, end = qrs_edges(beat, fs)
    time = np.arange(beat.shape[-1]) / fs
    before = (time >= onset[:, None] - 0.02) & (time <= onset[:, None])
    weight = before / np.maximum(before.sum(axis=1, keepdims=True), 1)
    line = np.einsum("nlw,nw->nl", np.nan_to_num(beat), weight)
    inside = (time >= onset[:, None]) & (time <= end[:, None])
    qrs = (beat - line[..., None]) * inside[:, None, :]
    return np.where(np.isfinite(onset + end)[:, None, None], qrs, np.nan)


def frontal_axis(i: NDArray[np.floating], avf: NDArray[np.floating]) -> Float:
    """Frontal axis in degrees (-180, 180]: 0 towards the left arm, 90 towards the feet; NaN without deflection.

    aVF is measured against the two arms and is smaller by √3/2 than a lead on Einthoven's triangle, so that it is
    multiplied by 2/√3 (Einthoven, Fahr & de Waart, Pflügers Arch. 150:275, 1913; Goldberger, Am. Heart J. 23:483,
    1942).

    Parameters
    ----------
    i, avf : ndarray, shape (n,)
        Net areas (or amplitudes) of a wave in I and aVF.
    """
    angle = np.degrees(np.arctan2(avf * 2.0 / np.sqrt(3.0), i))
    return np.asarray(np.where((i == 0) & (avf == 0), np.nan, angle), dtype=np.float64)
