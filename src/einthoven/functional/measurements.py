"""The measurements of an ECG: heart rate, intervals, axes and ST levels, each with its spread, or why there is none.

Not for clinical use. A value is the median over the beats of a record, and its spread is the interquartile range
divided by 1.349 (the standard deviation, if the beats are normally distributed). So single premature beats change
neither much. The heart's rhythm decides what is measured:

- **Pacing**: no PR. A pacemaker starts the ventricles, and its P wave may be a spike.
- **Possible atrial fibrillation** (`functional.rhythm`): no PR. There is no P wave.
- QTc is flagged in both, and if QRS is wide: then QT is long because QRS is.

QT is not measured if T is flat in each lead. The end of a flat wave is a guess.

The limits hold for adults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from einthoven.functional import qtc, rhythm
from einthoven.functional.beat_measures import BeatMeasures, measure_beats, t_heights
from einthoven.functional.beats import frontal_axis
from einthoven.functional.delineation import Boundaries

Float = NDArray[np.float64]

NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution with a standard deviation of one."""

ADULT = 18.0
"""Years from which on the limits hold."""

NO_BEAT = "no beat"
ONE_BEAT = "one beat"
NO_P = "no P wave in most beats"
NO_COMPLETE_P = "no complete P wave"
NO_T = "no complete T wave"

FLAT_T = 0.1
"""mV. T is flat in a lead if it is lower (Rautaharju et al., "AHA/ACCF/HRS recommendations: part IV", Circulation
119:e241, 2009: flat between -0.1 and 0.1 mV)."""

NO_CLEAR_T = f"flat T wave: below {FLAT_T:g} mV in each lead"

AXIS_LEADS = ("I", "aVF")
"""The leads from which the frontal axes are computed."""

UNITS = {
    "heart_rate": "1/min",
    "rr_sdnn": "ms",
    "rr_rmssd": "ms",
    "pr": "ms",
    "qrs": "ms",
    "qt": "ms",
    "qtc_fridericia": "ms",
    "qtc_bazett": "ms",
    "axis_p": "°",
    "axis_qrs": "°",
    "axis_t": "°",
}
"""Each measurement with its unit, and in the order in which they are told. ``st_LEAD`` in mV follow."""


@dataclass(frozen=True)
class Patient:
    """What is known about the patient of a record.

    Attributes
    ----------
    age : float or None
        Years.
    sex : str or None
        ``male`` or ``female``.
    is_paced : bool
        Whether the header or a statement says that the rhythm is paced.
    """

    age: float | None = None
    sex: str | None = None
    is_paced: bool = False


@dataclass(frozen=True)
class Measurement:
    """One quantity of one record.

    Attributes
    ----------
    value : float or None
        Median over the beats; None if it was not measured.
    unit : str
    beats : int
        Number of beats, or of RR intervals, that the value rests on.
    spread : float or None
        Robust standard deviation between beats; None with fewer than two beats.
    reason : str
        Why there is no value; empty if there is one.
    notes : tuple of str
        What a reader of the value must know.
    """

    value: float | None
    unit: str
    beats: int = 0
    spread: float | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurements:
    """All quantities of one record.

    Attributes
    ----------
    values : dict of str to Measurement
        The names of `UNITS`, and ``st_LEAD`` for each lead.
    beats : int
        Number of beats in the record.
    has_fibrillation, is_paced : bool
        The rhythms that were recognized.
    notes : tuple of str
        What a reader of all values must know.
    """

    values: dict[str, Measurement]
    beats: int
    has_fibrillation: bool
    is_paced: bool
    notes: tuple[str, ...] = ()


def measure(
    x: NDArray[np.floating], fs: float, leads: Sequence[str], boundaries: Boundaries, patient: Patient | None = None
) -> Measurements:
    """Measure one record.

    Parameters
    ----------
    x : ndarray, shape (L, T)
        Signal in mV.
    fs : float
        Sampling frequency in Hz.
    leads : sequence of L str
        The axes need I and aVF.
    boundaries : Boundaries
        Of this record: arrays (1, B), in seconds from its start.
    patient : Patient, optional

    Returns
    -------
    Measurements
    """
    patient = patient or Patient()
    beats = measure_beats(x[None], fs, boundaries)
    num_beats = int(np.isfinite(boundaries.qrs_onset).sum())

    # The rhythm decides which values have a meaning.
    has_p = np.isfinite(boundaries.p_end)
    has_p_waves = rhythm.has_p_waves(has_p, boundaries.qrs_onset)
    spikes = float(rhythm.spike_share(x[None], fs, boundaries.qrs_onset)[0])
    is_paced = patient.is_paced or spikes >= rhythm.SPIKE_BEATS
    has_fibrillation = not is_paced and bool(rhythm.is_possibly_fibrillation(beats.rr, has_p_waves)[0])

    values = _rhythm_values(beats.rr[0])
    why_no_qt = _why_no_qt(t_heights(x[None], fs, boundaries)[0])
    values |= _intervals(beats, _why_no_pr(is_paced, has_fibrillation, bool(has_p_waves[0])), why_no_qt)
    cautions = qtc.cautions(is_paced, has_fibrillation, values["qrs"].value)
    values |= _corrected(beats, cautions, patient.sex, why_no_qt)
    values |= _axes(beats, x, leads, has_p=bool(has_p_waves[0]))
    values |= _st_levels(beats, x, leads)
    if not num_beats:
        values = {name: Measurement(None, value.unit, reason=NO_BEAT) for name, value in values.items()}

    notes = []
    if patient.age is not None and patient.age < ADULT:
        notes.append(f"age {patient.age:g}: outside of the model and of the limits, which are of adults from {ADULT:g}")
    return Measurements(values, num_beats, has_fibrillation, is_paced, tuple(notes))


def _why_no_pr(is_paced: bool, has_fibrillation: bool, has_p_waves: bool) -> str:
    """Return why a record has no PR interval; empty if it has one."""
    if is_paced:
        return qtc.PACED
    if has_fibrillation:
        return qtc.FIBRILLATION
    return "" if has_p_waves else NO_P


def _why_no_qt(heights: Float) -> str:
    """Return why a record with T waves of these heights (L,) in mV has no QT interval; empty if it may have one."""
    known = heights[np.isfinite(heights)]
    if not len(known):
        return NO_T
    return "" if known.max() >= FLAT_T else NO_CLEAR_T


def _median(values: Float, unit: str, reason: str, notes: tuple[str, ...] = ()) -> Measurement:
    """Return the median and the spread of the finite values (B,). `reason` explains why there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Measurement(None, unit, reason=reason)
    low, median, high = np.percentile(finite, (25, 50, 75))
    spread = float(high - low) / NORMAL_IQR if len(finite) > 1 else None
    return Measurement(float(median), unit, len(finite), spread, notes=notes)


def _rhythm_values(rr: Float) -> dict[str, Measurement]:
    """Return heart rate, SDNN and RMSSD of all RR intervals (B - 1,) in seconds.

    SDNN and RMSSD as in Task Force, Circulation 93:1043, 1996. Premature beats are not taken out.
    """
    known = rr[np.isfinite(rr)]
    difference = np.diff(rr)
    difference = difference[np.isfinite(difference)]
    values = {"heart_rate": _median(60.0 / rr, UNITS["heart_rate"], ONE_BEAT)}
    if len(known) < 2 or not len(difference):
        reason = ONE_BEAT if not len(known) else "fewer than three beats"
        values |= {name: Measurement(None, UNITS[name], reason=reason) for name in ("rr_sdnn", "rr_rmssd")}
        return values
    sdnn = 1e3 * float(known.std(ddof=1))
    rmssd = 1e3 * float(np.sqrt(np.mean(np.square(difference))))
    values["rr_sdnn"] = Measurement(sdnn, UNITS["rr_sdnn"], len(known))
    values["rr_rmssd"] = Measurement(rmssd, UNITS["rr_rmssd"], len(known))
    return values


def _intervals(beats: BeatMeasures, why_no_pr: str, why_no_qt: str) -> dict[str, Measurement]:
    """Return PR, QRS and QT in ms."""
    pr = np.full_like(beats.pr[0], np.nan) if why_no_pr else beats.pr[0]
    qt = np.full_like(beats.qt[0], np.nan) if why_no_qt else beats.qt[0]
    return {
        "pr": _median(1e3 * pr, UNITS["pr"], why_no_pr or NO_COMPLETE_P),
        "qrs": _median(1e3 * beats.qrs[0], UNITS["qrs"], NO_BEAT),
        "qt": _median(1e3 * qt, UNITS["qt"], why_no_qt or NO_T),
    }


def _corrected(
    beats: BeatMeasures, cautions: tuple[str, ...], sex: str | None, why_no_qt: str
) -> dict[str, Measurement]:
    """Return QTc in ms. Each QT is corrected by the median RR interval of the record, because QT follows RR slowly."""
    rr = beats.rr[0]
    known = rr[np.isfinite(rr)]
    median_rr = float(np.median(known)) if len(known) else float("nan")
    reason = (why_no_qt or NO_T) if len(known) else ONE_BEAT
    qt = np.full_like(beats.qt[0], np.nan) if why_no_qt else beats.qt[0]
    values = {}
    for name, correct in (("qtc_fridericia", qtc.fridericia), ("qtc_bazett", qtc.bazett)):
        measured = _median(correct(1e3 * qt, median_rr), UNITS[name], reason)
        if measured.value is not None:
            measured = replace(measured, notes=(*cautions, *qtc.exceeded_limits(measured.value, sex)))
        values[name] = measured
    return values


def _axes(beats: BeatMeasures, x: NDArray[np.floating], leads: Sequence[str], *, has_p: bool) -> dict[str, Measurement]:
    """Return the frontal axes of P, QRS and T in degrees, from the median net areas in I and aVF."""
    rows = [list(leads).index(lead) for lead in AXIS_LEADS if lead in leads]
    reason = ""
    if len(rows) < len(AXIS_LEADS):
        reason = "leads I and aVF are needed"
    elif not all(_has_signal(x[row]) for row in rows):
        # A flat lead has areas of 0, which would turn the axis to 0 or 90 degrees.
        reason = "no signal in lead I or aVF"
    if reason:
        return {name: Measurement(None, UNITS[name], reason=reason) for name in ("axis_p", "axis_qrs", "axis_t")}
    no_p = NO_COMPLETE_P if has_p else NO_P
    p_area = beats.p_area[0, rows] if has_p else np.full_like(beats.p_area[0, rows], np.nan)
    return {
        "axis_p": _axis(p_area, no_p),
        "axis_qrs": _axis(beats.qrs_area[0, rows], "no complete QRS"),
        "axis_t": _axis(beats.t_area[0, rows], NO_T),
    }


def _axis(areas: Float, reason: str) -> Measurement:
    """Return the axis of the areas (2, B) in I and aVF. `reason` explains why there is none."""
    unit = UNITS["axis_qrs"]
    areas = areas[:, np.isfinite(areas).all(axis=0)]
    if not areas.shape[1]:
        return Measurement(None, unit, reason=reason)
    axis = float(frontal_axis(*np.median(areas, axis=1, keepdims=True))[0])
    if not np.isfinite(axis):
        return Measurement(None, unit, reason="no deflection in I and aVF")
    # Angles are compared as differences from the axis, so that 179 and -179 degrees are neighbours.
    deviation = (frontal_axis(*areas) - axis + 180.0) % 360.0 - 180.0
    return replace(_median(deviation, unit, reason), value=axis)


def _st_levels(beats: BeatMeasures, x: NDArray[np.floating], leads: Sequence[str]) -> dict[str, Measurement]:
    """Return the ST level of each lead in mV."""
    values = {}
    for row, lead in enumerate(leads):
        if _has_signal(x[row]):
            values[f"st_{lead}"] = _median(beats.st[0, row], "mV", "no complete ST segment")
        else:
            values[f"st_{lead}"] = Measurement(None, "mV", reason="no signal in this lead")
    return values


def _has_signal(lead: NDArray[np.floating]) -> bool:
    """Return whether a lead (T,) is not flat and not missing."""
    finite = lead[np.isfinite(lead)]
    return len(finite) > 0 and bool(np.ptp(finite) > 0)
