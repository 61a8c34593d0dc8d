"""Attributes of records that define subgroups: age, sex, site, device and noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from einthoven.evaluation.subgroups import age_bands

if TYPE_CHECKING:
    from pandas import DataFrame

TEXT_COLUMNS = ("site", "device", "source")
NOISE_COLUMNS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
CODED_COLUMNS = {"sex": {"0": "male", "1": "female"}, "validated_by_human": {"true": "yes", "false": "no"}}


def attributes(table: DataFrame) -> dict[str, list[str | None]]:
    """Return the value of each attribute in each row of a table; None if it is not known.

    The table has some of the columns of PTB-XL's. A noise column lists the leads with noise; it is empty if there is
    none.
    """
    values: dict[str, list[str | None]] = {}
    if "age" in table:
        values["age"] = age_bands(table["age"].to_numpy(np.float64))
    for name in (*CODED_COLUMNS, *TEXT_COLUMNS, *NOISE_COLUMNS):
        if name not in table:
            continue
        texts = [_as_text(value) for value in table[name]]
        if name in NOISE_COLUMNS:
            values[name] = ["yes" if text else "no" for text in texts]
        elif name in CODED_COLUMNS:
            values[name] = [CODED_COLUMNS[name].get((text or "").lower()) for text in texts]
        else:
            values[name] = [*texts]
    return values


def _as_text(value: object) -> str | None:
    """Return a value as text with single blanks.

    A missing value turns the integers of its column into floats. They are written as integers again.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()) or None
