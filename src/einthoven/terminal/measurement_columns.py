"""The columns of CSV with the measurements of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from einthoven.functional.measurements import UNITS


class MeasurementColumns:
    """Two columns for each measurement, its value and its spread, and one with what a reader must know.

    Parameters
    ----------
    leads : sequence of str
        Each has a column with its ST level.
    """

    def __init__(self, leads: Sequence[str]) -> None:
        self._measured = [*UNITS, *(f"st_{lead}" for lead in leads)]
        values = [column for name in self._measured for column in (name, f"{name}_spread")]
        self.names = [*values, "measurement_notes"]

    def cells(self, measurements: Mapping[str, Any]) -> list[str]:
        """Return the cells of a record, from `einthoven.predict.measuring.measurements_to_json`."""
        cells = []
        notes = []
        for name in self._measured:
            measured = _find(measurements, name)
            for key in ("value", "spread"):
                number = measured.get(key)
                cells.append("" if number is None else f"{number:.6g}")
            remarks = [measured["reason"]] if "reason" in measured else measured.get("notes", [])
            notes += [f"{name}: {remark}" for remark in remarks]
        return [*cells, "; ".join([*measurements["notes"], *notes])]


def _find(measurements: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a measurement by its name, such as ``pr``, ``axis_qrs`` or ``st_V1``."""
    by_name: Mapping[str, Any] = measurements
    for prefix, group in (("axis_", "axes"), ("st_", "st")):
        if name.startswith(prefix):
            by_name = measurements[group]
            name = name.removeprefix(prefix)
    return dict(by_name.get(name, {}))
