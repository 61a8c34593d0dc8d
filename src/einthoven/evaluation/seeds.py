"""Mean and standard deviation of the metrics of several runs that differ only in their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from einthoven.errors import UserError


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and number of values of one metric."""

    mean: float
    sd: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.sd:.4f}"


def across_seeds(results: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Compute the spread of every metric that all runs have.

    The standard deviation has n - 1 in its denominator. It measures the variation between trainings, on the same test
    set. A bootstrap interval measures the variation between test sets, for the same training. Neither includes the
    other.

    Parameters
    ----------
    results : sequence of mapping of str to float
        The metrics of each run.

    Raises
    ------
    UserError
        If there are fewer than two runs, or if they have no metric in common.
    """
    if len(results) < 2:
        raise UserError(f"A spread over seeds needs two runs or more, found {len(results)}.")
    shared = [name for name in results[0] if all(name in result for result in results[1:])]
    if not shared:
        raise UserError(f"The {len(results)} runs have no metric in common.")
    spreads = {}
    for name in shared:
        values = np.array([result[name] for result in results], dtype=np.float64)
        spreads[name] = Spread(float(values.mean()), float(values.std(ddof=1)), len(values))
    return spreads
