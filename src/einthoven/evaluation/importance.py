"""How much a model leans on each feature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def permutation_importance(
    predict: Callable[[Float], Float], x: Float, y: Float, score: Callable[[Float, Float], float], seed: int
) -> Float:
    """Score lost when one feature is permuted among the records, so that it tells nothing about them.

    Two features that say the same stand in for each other: both then lose little.

    Parameters
    ----------
    predict : callable
        Table (n, F) -> probabilities (n, K).
    x, y : ndarray
        Table (n, F) and labels (n, K) that the model was not fitted to.
    score : callable
        (labels, probabilities) -> number, higher for better.
    seed : int
        Of the permutation, one for all features.

    Returns
    -------
    ndarray, shape (F,)
        About zero, of either sign, for a feature without use.

    References
    ----------
    Breiman, "Random forests", Machine Learning 45:5, 2001, section 10.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    whole = score(y, predict(x))
    lost = np.zeros(x.shape[1])
    for feature in range(x.shape[1]):
        shuffled = x.copy()
        shuffled[:, feature] = x[order, feature]
        lost[feature] = whole - score(y, predict(shuffled))
    return lost
