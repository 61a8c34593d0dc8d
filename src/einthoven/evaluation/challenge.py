"""The score of the PhysioNet/CinC Challenges 2020 and 2021: accuracy with partial credit for similar classes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError

NORMAL = "NSR"
"""Name of sinus rhythm in the challenge."""


@cache
def challenge_weights() -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Return the classes that the challenge scores, and the reward of each pair (true class, predicted class)."""
    lines = (files("einthoven.evaluation") / "cinc2021_weights.csv").read_text(encoding="utf-8").splitlines()
    (_, *classes), *rows = csv.reader(lines)
    weights = np.array([row[1:] for row in rows], dtype=np.float64)
    weights.setflags(write=False)
    return tuple(classes), weights


def challenge_score(y_true: npt.ArrayLike, decisions: npt.ArrayLike, classes: Sequence[str]) -> float:
    """Compute the score of binary decisions. It is 1 for the true labels, and 0 for sinus rhythm in every record.

    A is the confusion matrix of all classes. The weight of a record in A is 1 over the number of classes that are true
    or predicted in it. s(A) is the sum of A times the rewards. The score is
    ``(s(A) - s(inactive)) / (s(true) - s(inactive))``, where "inactive" predicts sinus rhythm in every record.

    Parameters
    ----------
    y_true, decisions : array-like of 0 and 1, shape (n, K)
        Labels and decisions.
    classes : sequence of K str
        Names of the columns. All must be scored in the challenge. A scored class without a column is absent in every
        record.

    Returns
    -------
    float
        The score. As in the challenge, it is 0 if the true labels score no better than sinus rhythm in every record.

    Raises
    ------
    UserError
        If the challenge does not score a class.

    References
    ----------
    Reyna et al., "Will two do? Varying dimensions in electrocardiography: the PhysioNet/Computing in Cardiology
    Challenge 2021", section 2.4.
    """
    scored, weights = challenge_weights()
    unknown = sorted(set(classes) - set(scored))
    if unknown:
        raise UserError(f"class {unknown[0]} is not scored in the challenge; expected some of {', '.join(scored)}.")

    # Put the columns at their places among all scored classes.
    columns = [scored.index(name) for name in classes]
    shape = (len(np.asarray(y_true)), len(scored))
    truth = np.zeros(shape)
    truth[:, columns] = np.asarray(y_true)
    predicted = np.zeros(shape)
    predicted[:, columns] = np.asarray(decisions)
    inactive = np.zeros(shape)
    inactive[:, scored.index(NORMAL)] = 1.0

    def total_reward(outputs: npt.NDArray[np.float64]) -> float:
        count = np.maximum(np.logical_or(truth, outputs).sum(axis=1), 1)
        confusion = (truth / count[:, None]).T @ outputs
        return float((weights * confusion).sum())

    best = total_reward(truth)
    worst = total_reward(inactive)
    if best == worst:
        return 0.0
    return (total_reward(predicted) - worst) / (best - worst)
