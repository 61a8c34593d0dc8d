"""The score of the PhysioNet/CinC Challenges 2020 and 2021: accuracy, with partial credit for near misses."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError

NORMAL = "NSR"


@cache
def challenge_weights() -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """The scored classes, and the reward (true class, stated class) of each pair, both of the challenge."""
    lines = (files("einthoven.evaluation") / "cinc2021_weights.csv").read_text(encoding="utf-8").splitlines()
    (_, *classes), *rows = csv.reader(lines)
    weights = np.array([row[1:] for row in rows], dtype=np.float64)
    weights.setflags(write=False)
    return tuple(classes), weights


def challenge_score(y_true: npt.ArrayLike, stated: npt.ArrayLike, classes: Sequence[str]) -> float:
    """Score of binary decisions: 1 for the true labels, 0 for stating sinus rhythm in every record.

    With A the confusion matrix in which a record counts 1 over the number of classes that are true or stated in it,
    and s(A) the sum of A times the weights: ``(s(A) - s(inactive)) / (s(true) - s(inactive))``.

    Parameters
    ----------
    y_true, stated : array-like of 0 and 1, shape (n, K)
    classes : sequence of K str
        Names of the columns, among the scored classes; scored classes that are left out count as absent.

    Returns
    -------
    float
        0 where the true labels score no better than sinus rhythm everywhere, as in the challenge.

    Raises
    ------
    UserError
        If a class is not a scored one.

    References
    ----------
    Reyna et al., "Will two do? Varying dimensions in electrocardiography: the PhysioNet/Computing in Cardiology
    Challenge 2021", section 2.4.
    """
    scored, weights = challenge_weights()
    if unknown := sorted(set(classes) - set(scored)):
        raise UserError(f"class {unknown[0]} is not scored in the challenge; expected some of {', '.join(scored)}.")
    columns = [scored.index(name) for name in classes]
    truth, decided = np.zeros((2, len(np.asarray(y_true)), len(scored)))
    truth[:, columns], decided[:, columns] = np.asarray(y_true), np.asarray(stated)
    inactive = np.zeros_like(truth)
    inactive[:, scored.index(NORMAL)] = 1.0

    def reward(outputs: npt.NDArray[np.float64]) -> float:
        count = np.maximum(np.logical_or(truth, outputs).sum(axis=1), 1)
        return float((weights * ((truth / count[:, None]).T @ outputs)).sum())

    best, worst = reward(truth), reward(inactive)
    return (reward(decided) - worst) / (best - worst) if best != worst else 0.0
