"""Usual ranges of adults: a value outside of its range gets a remark.

From 120 ms on, QRS is as long as in a complete bundle branch block (Surawicz et al., "AHA/ACCF/HRS recommendations for
the standardization and interpretation of the electrocardiogram, part III", Circulation 119:e235, 2009, which also has
the range of the axis). The ranges of heart rate and PR are the usual ones of textbooks. QTc has remarks of its own
(`einthoven.functional.qtc`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

RANGES = {
    "heart_rate": (60, 100, "60 to 100 per minute"),
    "pr": (120, 200, "120 to 200 ms"),
    "qrs": (0, 119, "below 120 ms"),
    "axis": (-30, 90, "-30° to 90°"),
}
"""Measurement -> lowest and highest usual value, and both in words."""

ADULT = 18.0
"""Years. The ranges are those of patients of this age or older."""


def with_remarks(measurements: Mapping[str, Any], age: float | None) -> dict[str, Any]:
    """Return a copy of measurements that adds the usual range to the ``notes`` of each value that is outside of it.

    The measurements are those of `einthoven.predict.measuring.measurements_to_json`. A value is judged as it is
    printed: in whole numbers. A patient below 18 years gets no remark, because the ranges are those of adults.
    """
    content = deepcopy(dict(measurements))
    if age is not None and age < ADULT:
        return content
    values = {"heart_rate": content["heart_rate"], "pr": content["pr"], "qrs": content["qrs"]}
    values["axis"] = content["axes"]["qrs"]
    for name, measurement in values.items():
        low, high, words = RANGES[name]
        if measurement["value"] is not None and not low <= round(measurement["value"]) <= high:
            measurement["notes"] = [*measurement.get("notes", []), f"usual in adults: {words}"]
    return content
