"""Final metrics of a run as text."""

from __future__ import annotations

import math
from collections.abc import Mapping

SPLIT_WORDS = {"val": "validation", "test": "test"}
"""Each split that has final metrics -> what tables and sentences call it."""


def metric_text(metrics: Mapping[str, float], name: str, between: str = " to ", note: str = "") -> str:
    """Return a metric with its interval in brackets, if it has one: ``0.912 (0.901 to 0.923)``.

    Parameters
    ----------
    metrics : mapping
        Final metrics. The ends of an interval are ``{name}_low`` and ``{name}_high``.
    name : str
        A metric that is not there is written as ``nan``.
    between : str
        Text between the ends of the interval.
    note : str
        Text behind the ends.
    """
    value = f"{metrics.get(name, math.nan):.3f}"
    low = metrics.get(f"{name}_low")
    high = metrics.get(f"{name}_high")
    if low is None or high is None:
        return value
    return f"{value} ({low:.3f}{between}{high:.3f}{note})"
