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
from einthoven.functional.beat_measures import measure_beats
from einthoven.functional.beat_summaries import BeatSummaries, summarize_beats
from einthoven.functional.delineation import Boundaries
from einthoven.functional.summaries import Summary

Float = NDArray[np.float64]

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
    x: NDArray[np.floating], fs: float, leads: Sequence[str], boundaries: Boundaries, patients: Sequence[Patient]
) -> list[Measurements]:
    """Measure records.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV.
    fs : float
        Sampling frequency in Hz.
    leads : sequence of L str
        The axes need I and aVF.
    boundaries : Boundaries
        Of these records: arrays (n, B), in seconds from the start of each.
    patients : sequence of n Patient

    Returns
    -------
    list of n Measurements
        Those of a record do not depend on the other records.
    """
    beats = measure_beats(x, fs, boundaries)
    num_beats = np.isfinite(boundaries.qrs_onset).sum(axis=1)

    # The rhythm decides which values have a meaning.
    has_p_waves = rhythm.has_p_waves(np.isfinite(boundaries.p_end), boundaries.qrs_onset)
    is_paced = rhythm.spike_share(x, fs, boundaries.qrs_onset) >= rhythm.SPIKE_BEATS
    is_paced |= np.array([patient.is_paced for patient in patients], bool)
    has_fibrillation = ~is_paced & rhythm.is_possibly_fibrillation(beats.rr, has_p_waves)

    has_signal = _has_signal(x)
    summaries = summarize_beats(beats, _axis_rows(leads))
    measurements = []
    for row, patient in enumerate(patients):
        why_no_pr = _why_no_pr(bool(is_paced[row]), bool(has_fibrillation[row]), bool(has_p_waves[row]))
        why_no_qt = _why_no_qt(beats.t_height[row])
        values = _rhythm_values(summaries, row)
        values |= _intervals(summaries, row, why_no_pr, why_no_qt)
        cautions = qtc.cautions(bool(is_paced[row]), bool(has_fibrillation[row]), values["qrs"].value)
        values |= _corrected(summaries, row, cautions, patient.sex, why_no_qt)
        values |= _axes(summaries, row, _why_no_axis(leads, has_signal[row]), has_p=bool(has_p_waves[row]))
        values |= _st_levels(summaries, row, leads, has_signal[row])
        if not num_beats[row]:
            values = {name: Measurement(None, value.unit, reason=NO_BEAT) for name, value in values.items()}

        notes = []
        if patient.age is not None and patient.age < ADULT:
            age = f"age {patient.age:g}"
            notes.append(f"{age}: outside of the model and of the limits, which are of adults from {ADULT:g}")
        rhythms = (bool(has_fibrillation[row]), bool(is_paced[row]))
        measurements.append(Measurements(values, int(num_beats[row]), *rhythms, tuple(notes)))
    return measurements


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


def _measurement(
    summary: Summary, index: int | tuple[int, int], unit: str, reason: str, notes: tuple[str, ...] = ()
) -> Measurement:
    """Return the median and the spread of one row of a summary. `reason` explains why there is none."""
    count = int(summary.count[index])
    if not count:
        return Measurement(None, unit, reason=reason)
    spread = float(summary.spread[index]) if count > 1 else None
    return Measurement(float(summary.median[index]), unit, count, spread, notes=notes)


def _rhythm_values(summaries: BeatSummaries, row: int) -> dict[str, Measurement]:
    """Return heart rate, SDNN and RMSSD of a record."""
    count = int(summaries.rr.count[row])
    values = {"heart_rate": _measurement(summaries.rate, row, UNITS["heart_rate"], ONE_BEAT)}
    if count < 2 or not summaries.rr_difference.count[row]:
        reason = ONE_BEAT if not count else "fewer than three beats"
        values |= {name: Measurement(None, UNITS[name], reason=reason) for name in ("rr_sdnn", "rr_rmssd")}
        return values
    values["rr_sdnn"] = Measurement(float(summaries.sdnn[row]), UNITS["rr_sdnn"], count)
    values["rr_rmssd"] = Measurement(float(summaries.rmssd[row]), UNITS["rr_rmssd"], count)
    return values


def _intervals(summaries: BeatSummaries, row: int, why_no_pr: str, why_no_qt: str) -> dict[str, Measurement]:
    """Return PR, QRS and QT of a record in ms."""
    values = {
        "pr": _measurement(summaries.pr, row, UNITS["pr"], NO_COMPLETE_P),
        "qrs": _measurement(summaries.qrs, row, UNITS["qrs"], NO_BEAT),
        "qt": _measurement(summaries.qt, row, UNITS["qt"], NO_T),
    }
    for name, reason in (("pr", why_no_pr), ("qt", why_no_qt)):
        if reason:
            values[name] = Measurement(None, UNITS[name], reason=reason)
    return values


def _corrected(
    summaries: BeatSummaries, row: int, cautions: tuple[str, ...], sex: str | None, why_no_qt: str
) -> dict[str, Measurement]:
    """Return QTc of a record in ms."""
    reason = (why_no_qt or NO_T) if summaries.rr.count[row] else ONE_BEAT
    values = {}
    for name, summary in (("qtc_fridericia", summaries.qtc_fridericia), ("qtc_bazett", summaries.qtc_bazett)):
        measured = _measurement(summary, row, UNITS[name], reason)
        if why_no_qt:
            measured = Measurement(None, UNITS[name], reason=reason)
        if measured.value is not None:
            measured = replace(measured, notes=(*cautions, *qtc.exceeded_limits(measured.value, sex)))
        values[name] = measured
    return values


def _axis_rows(leads: Sequence[str]) -> list[int]:
    """Return the rows of the leads of the axes; empty if one of them is missing."""
    return [list(leads).index(lead) for lead in AXIS_LEADS] if set(AXIS_LEADS) <= {*leads} else []


def _why_no_axis(leads: Sequence[str], has_signal: NDArray[np.bool_]) -> str:
    """Return why a record has no frontal axis; empty if it may have one. `has_signal` is (L,)."""
    rows = _axis_rows(leads)
    if not rows:
        return "leads I and aVF are needed"
    # A flat lead has areas of 0, which would turn the axis to 0 or 90 degrees.
    return "" if has_signal[rows].all() else "no signal in lead I or aVF"


def _axes(summaries: BeatSummaries, row: int, why_no_axis: str, *, has_p: bool) -> dict[str, Measurement]:
    """Return the frontal axes of P, QRS and T of a record in degrees."""
    why_no_areas = {"axis_p": NO_COMPLETE_P if has_p else NO_P, "axis_qrs": "no complete QRS", "axis_t": NO_T}
    values = {}
    for name, no_areas in why_no_areas.items():
        unit = UNITS[name]
        if why_no_axis:
            values[name] = Measurement(None, unit, reason=why_no_axis)
            continue
        axis = summaries.axes[name]
        angle = float(axis.angle[row])
        if not axis.has_areas[row] or (name == "axis_p" and not has_p):
            values[name] = Measurement(None, unit, reason=no_areas)
        elif not np.isfinite(angle):
            values[name] = Measurement(None, unit, reason="no deflection in I and aVF")
        else:
            values[name] = replace(_measurement(axis.deviation, row, unit, no_areas), value=angle)
    return values


def _st_levels(
    summaries: BeatSummaries, row: int, leads: Sequence[str], has_signal: NDArray[np.bool_]
) -> dict[str, Measurement]:
    """Return the ST level of each lead of a record in mV. `has_signal` is (L,)."""
    values = {}
    for column, lead in enumerate(leads):
        name = f"st_{lead}"
        if has_signal[column]:
            values[name] = _measurement(summaries.st, (row, column), "mV", "no complete ST segment")
        else:
            values[name] = Measurement(None, "mV", reason="no signal in this lead")
    return values


def _has_signal(x: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return whether each lead (n, L, T) is not flat and not missing."""
    if not x.shape[-1]:
        return np.zeros(x.shape[:-1], bool)
    is_finite = np.isfinite(x)
    highest = np.where(is_finite, x, -np.inf).max(axis=-1)
    lowest = np.where(is_finite, x, np.inf).min(axis=-1)
    return np.asarray(highest > lowest)
