"""One result of several runs that differ in their seed alone: mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from einthoven.errors import UserError


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and number of the values of one metric."""

    mean: float
    sd: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.sd:.4f}"


def across_seeds(results: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Spread of every metric that all runs have.

    The standard deviation has n - 1 in its denominator. It is the spread of trainings, on one and the same test set;
    an interval from a bootstrap is the spread of test sets, for one and the same training. Neither contains the other.

    Parameters
    ----------
    results : sequence of mapping of str to float
        The metrics of each run.

    Raises
    ------
    UserError
        If there are fewer than two runs, or they have no metric in common.
    """
    if len(results) < 2:
        raise UserError(f"A spread over seeds needs two runs or more, found {len(results)}.")
    shared = [name for name in results[0] if all(name in result for result in results[1:])]
    if not shared:
        raise UserError(f"The {len(results)} runs have no metric in common.")
    values = {name: np.array([result[name] for result in results], dtype=np.float64) for name in shared}
    return {name: Spread(float(v.mean()), float(v.std(ddof=1)), len(v)) for name, v in values.items()}
