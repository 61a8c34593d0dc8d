"""Permutation importance: how much a model depends on each feature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def permutation_importance(
    predict: Callable[[Float], Float], x: Float, y: Float, score: Callable[[Float, Float], float], seed: int
) -> Float:
    """Measure how much the score falls if one feature is permuted among the records.

    If two features carry the same information, the model can use one instead of the other. Then both have a small
    importance.

    Parameters
    ----------
    predict : callable
        Table (n, F) -> probabilities (n, K).
    x, y : ndarray
        Table (n, F) and labels (n, K) of records on which the model was not fitted.
    score : callable
        (labels, probabilities) -> number. A higher number is better.
    seed : int
        Seed of the permutation. All features have the same permutation.

    Returns
    -------
    ndarray, shape (F,)
        The fall of the score. It is about zero, positive or negative, for a feature that the model does not need.

    References
    ----------
    Breiman, "Random forests", Machine Learning 45:5, 2001, section 10.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    full_score = score(y, predict(x))
    importance = np.zeros(x.shape[1])
    for feature in range(x.shape[1]):
        permuted = x.copy()
        permuted[:, feature] = x[order, feature]
        importance[feature] = full_score - score(y, predict(permuted))
    return importance
