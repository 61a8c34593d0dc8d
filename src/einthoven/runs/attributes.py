"""By what the records of a table are told apart when a run is evaluated: age, sex, site, device, noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from einthoven.evaluation.subgroups import age_bands

if TYPE_CHECKING:
    from pandas import DataFrame

NAMED = ("site", "device", "source")
FLAGS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
KNOWN = {"sex": {"0": "male", "1": "female"}, "validated_by_human": {"true": "yes", "false": "no"}}


def attributes(table: DataFrame) -> dict[str, list[str | None]]:
    """Attribute -> its value in each row, None where it is not known, by the columns of PTB-XL's table that are there.

    Parameters
    ----------
    table : DataFrame
        A row a record. A column of noise says in which leads there is some; where it is empty, there is none.
    """
    found: dict[str, list[str | None]] = {}
    if "age" in table:
        found["age"] = age_bands(table["age"].to_numpy(np.float64))
    text = {name: [_text(value) for value in table[name]] for name in (*KNOWN, *NAMED, *FLAGS) if name in table}
    for name, values in text.items():
        if name in FLAGS:
            found[name] = ["yes" if value else "no" for value in values]
        elif name in KNOWN:
            found[name] = [KNOWN[name].get((value or "").lower()) for value in values]
        else:
            found[name] = [*values]
    return found


def _text(value: object) -> str | None:
    """A value as text with single blanks; a number that a gap in its column has made a float is the whole number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return " ".join(str(whole).split()) or None
