"""Measurements of records: heart rate, intervals, axes and ST levels, from the waves that the delineator finds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor.plausible import from_comments
from einthoven.data.formats.record import Record
from einthoven.functional import qtc
from einthoven.functional.delineation import Boundaries, delineate
from einthoven.functional.measurements import UNITS, Measurement, Measurements, Patient, measure

LONGEST_S = 300.0
"""Of a longer record, the first five minutes are measured. That is the length of a short recording of heart rate
variability (Task Force, Circulation 93:1043, 1996)."""

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
    rows_by_layout: dict[tuple[object, ...], list[int]] = {}
    for row, record in enumerate(records):
        rows_by_layout.setdefault((record.signal.shape, record.fs, record.leads), []).append(row)

    measurements: dict[int, Measurements] = {}
    for rows in rows_by_layout.values():
        first = records[rows[0]]
        signals = np.stack([_beginning(records[row]) for row in rows])
        boundaries = delineate(delineator.probabilities(signals, first.fs, first.leads), first.fs)
        for position, row in enumerate(rows):
            patient = patient_of(records[row].comments)
            own = _boundaries_of(boundaries, position)
            measured = measure(signals[position], first.fs, first.leads, own, patient)
            seconds = first.signal.shape[1] / first.fs
            if seconds > LONGEST_S:
                note = f"measured in the first {LONGEST_S:g} s of {seconds:.0f} s"
                measured = replace(measured, notes=(*measured.notes, note))
            measurements[row] = measured
    return [measurements[row] for row in range(len(records))]


def _beginning(record: Record) -> NDArray[np.float32]:
    """Return the part of a record that is measured, in mV."""
    return record.signal[:, : round(LONGEST_S * record.fs)]


def _boundaries_of(boundaries: Boundaries, row: int) -> Boundaries:
    """Return the boundaries of one record, as arrays (1, B)."""
    return Boundaries(*(values[row : row + 1] for values in vars(boundaries).values()))


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
