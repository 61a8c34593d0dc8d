"""Measurements of records: heart rate, intervals, axes and ST levels, from the waves that the delineator finds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor.plausible import from_comments
from einthoven.data.formats.record import Record
from einthoven.functional import qtc
from einthoven.functional.delineation import delineate
from einthoven.functional.measurements import UNITS, Measurement, Measurements, Patient, measure

LONGEST_S = 300.0
"""Of a longer record, the first five minutes are measured. That is the length of a short recording of heart rate
variability (Task Force, Circulation 93:1043, 1996)."""

LONGEST_GAP_S = 0.04
"""A gap in all leads that is longer divides a record. It could hide a wave, whose shortest duration this is
(`functional.delineation.SHORTEST`)."""

SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}


class WaveFinder(Protocol):
    """What finds the waves: a `Delineator`."""

    def probabilities(self, signals: NDArray[np.floating], fs: float, leads: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability of P, QRS and T at each sample, ``(n, 3, T)``."""


def measure_records(delineator: WaveFinder, records: Sequence[Record]) -> list[Measurements]:
    """Measure records.

    Records with the same length, sampling frequency and leads are delineated together, which is faster.

    Parameters
    ----------
    delineator : WaveFinder
        As from `load_delineator`.
    records : sequence of Record

    Returns
    -------
    list of Measurements
        One for each record, in order.
    """
    parts = [_measured_part(record) for record in records]
    rows_by_layout: dict[tuple[object, ...], list[int]] = {}
    for row, (record, part) in enumerate(zip(records, parts, strict=True)):
        rows_by_layout.setdefault((part.signal.shape, record.fs, record.leads), []).append(row)

    measurements: dict[int, Measurements] = {}
    for rows in rows_by_layout.values():
        first = records[rows[0]]
        signals = np.stack([parts[row].signal for row in rows])
        boundaries = delineate(delineator.probabilities(signals, first.fs, first.leads), first.fs)
        patients = [patient_of(records[row].comments) for row in rows]
        measured = measure(signals, first.fs, first.leads, boundaries, patients)
        for row, measured_record in zip(rows, measured, strict=True):
            measurements[row] = replace(measured_record, notes=(*measured_record.notes, *parts[row].notes))
    return [measurements[row] for row in range(len(records))]


@dataclass(frozen=True)
class _Part:
    """The part of a record that is measured, in mV, and what a reader must know about it."""

    signal: NDArray[np.float32]
    notes: tuple[str, ...]


def _measured_part(record: Record) -> _Part:
    """Return the longest part without a gap in all leads, and of that at most the first `LONGEST_S` seconds.

    An RR interval or a wave across such a gap would be wrong.
    """
    seconds = record.signal.shape[1] / record.fs
    is_known: NDArray[np.bool_] = np.asarray(np.isfinite(record.signal).any(axis=0))
    first, stop = _longest_part(is_known, LONGEST_GAP_S * record.fs)
    part = record.signal[:, first:stop]
    notes = []
    if part.shape[1] < record.signal.shape[1]:
        length = part.shape[1] / record.fs
        notes.append(f"measured in the longest part without a gap in all leads, {length:.1f} s of {seconds:.1f} s")
    longest = round(LONGEST_S * record.fs)
    if part.shape[1] > longest:
        notes.append(f"measured in the first {LONGEST_S:g} s of {part.shape[1] / record.fs:.0f} s")
    return _Part(part[:, :longest], tuple(notes))


def _longest_part(is_known: NDArray[np.bool_], longest_gap: float) -> tuple[int, int]:
    """Return the first sample and the end of the longest part of a record whose gaps are at most so many samples.

    The whole record if no sample is known.
    """
    known = np.flatnonzero(is_known)
    if not len(known):
        return 0, len(is_known)
    missing = np.diff(known) - 1
    is_break = missing > longest_gap
    starts = known[np.concatenate([[True], is_break])]
    stops = known[np.concatenate([is_break, [True]])] + 1
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def patient_of(comments: Iterable[str]) -> Patient:
    """Read age, sex and pacing from header comments such as ``Age: 63``, ``Sex: Female`` and ``Dx: 10370003``."""
    lines = tuple(comments)
    age, is_paced = from_comments(lines)
    sex = None
    for line in lines:
        match = re.fullmatch(r"\s*(?:sex|gender)\s*:\s*(\w+)\s*", line, re.IGNORECASE)
        if match:
            sex = SEXES.get(match[1].lower())
    return Patient(None if np.isnan(age) else age, sex, is_paced)


def measurements_to_json(measurements: Measurements) -> dict[str, Any]:
    """Return measurements in values that JSON can express. Unknown values are None, with their reason."""
    values = {name: _to_json(value) for name, value in measurements.values.items()}
    content: dict[str, Any] = {name: values[name] for name in UNITS if not name.startswith("axis_")}
    for name in ("qtc_fridericia", "qtc_bazett"):
        content[name]["upper_limit"] = {qtc.NAMES[sex]: limit for sex, limit in qtc.LIMITS.items()}
    content["qtc"] = content["qtc_fridericia"]
    content["axes"] = {name.removeprefix("axis_"): values[name] for name in UNITS if name.startswith("axis_")}
    content["st"] = {name.removeprefix("st_"): value for name, value in values.items() if name.startswith("st_")}
    content["beats"] = measurements.beats
    content["rhythm"] = {
        "possible_atrial_fibrillation": measurements.has_fibrillation,
        "paced": measurements.is_paced,
    }
    content["notes"] = list(measurements.notes)
    return content


def _to_json(measurement: Measurement) -> dict[str, Any]:
    if measurement.value is None:
        return {"value": None, "unit": measurement.unit, "reason": measurement.reason}
    content: dict[str, Any] = {
        "value": measurement.value,
        "spread": measurement.spread,
        "beats": measurement.beats,
        "unit": measurement.unit,
    }
    if measurement.notes:
        content["notes"] = list(measurement.notes)
    return content
