"""Importance of options: the share of the variance between runs that each option explains."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Largest number of combinations of options at which the surrogate model is evaluated.
_MAX_POINTS = 20_000
_TREES = 100


def option_importance(options: Sequence[Mapping[str, str]], values: Sequence[float]) -> dict[str, float]:
    """Compute the first-order share of the variance of each option: ``S_j = Var(E[f | x_j]) / Var(f)``.

    ``f`` is the value of a configuration. If a configuration was run with several seeds, it is the mean of these runs.
    For configurations that were not run, it is the mean prediction of fully grown randomized trees. The trees reproduce
    the values of the configurations that were run.

    The options are treated as independent. Each value is as frequent as among the configurations that were run. If they
    are a full grid, the trees predict nothing that was not run, and the shares equal those of a classic analysis of
    variance (η²). The difference between one and the sum of the shares is due to combinations of options. With few runs
    and many options, the result is a rough guess.

    Source: Sobol 1993. The forest is that of Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for assessing
    hyperparameter importance", section 3. Here only its predictions are used.

    Parameters
    ----------
    options : sequence of mapping
        Option -> value, for each run. An option that a run does not have counts as another value.
    values : sequence of float
        The result of each run.

    Returns
    -------
    dict of str to float
        Option -> share, the largest first. All shares are zero if the results do not differ.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    # One row per configuration: the mean result of its runs.
    names = list(dict.fromkeys(name for run_options in options for name in run_options))
    results: dict[tuple[str, ...], list[float]] = {}
    for run_options, value in zip(options, values, strict=True):
        configuration = tuple(run_options.get(name, "") for name in names)
        results.setdefault(configuration, []).append(value)
    means = [float(np.mean(runs)) for runs in results.values()]

    # Each value of an option becomes the index of its level, and each level has features for the trees.
    columns = [list(column) for column in zip(*results, strict=True)]
    indices = []
    level_features = []
    for column in columns:
        levels = _levels(column)
        indices.append(np.array([levels.index(value) for value in column]))
        level_features.append(_level_features(levels))
    forest = ExtraTreesRegressor(_TREES, random_state=0).fit(_stack_features(level_features, indices), means)

    points = _points(indices)
    f = forest.predict(_stack_features(level_features, list(points.T)))
    variance = float(np.var(f))
    if variance <= 1e-12 * max(1.0, float(np.mean(f**2))):
        return dict.fromkeys(names, 0.0)
    shares = {name: _variance_of_means(column, f) / variance for name, column in zip(names, points.T, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def parse_numbers(values: Sequence[str]) -> list[float] | None:
    """Return the values of an option as numbers. None if one of them is not a finite number."""
    try:
        parsed = [float(value) for value in values]
    except ValueError:
        return None
    return parsed if np.isfinite(parsed).all() else None


def _levels(column: Sequence[str]) -> list[str]:
    """Return the distinct values of an option. Numbers are sorted."""
    distinct = list(dict.fromkeys(column))
    parsed = parse_numbers(distinct)
    if parsed is None:
        return distinct
    return [distinct[k] for k in np.argsort(parsed, kind="stable")]


def _level_features(levels: Sequence[str]) -> FloatArray:
    """Return the features (levels, F) of an option: the rank of a number, or a one-hot code of a name.

    Trees use only the order of numbers, so the rank is sufficient.
    """
    if parse_numbers(levels) is None:
        return np.eye(len(levels))
    return np.arange(len(levels), dtype=np.float64)[:, None]


def _stack_features(level_features: Sequence[FloatArray], indices: Sequence[NDArray[np.int64]]) -> FloatArray:
    """Return the features (n, sum of F) of points that are given by the indices of their levels."""
    return np.hstack([features[index] for features, index in zip(level_features, indices, strict=True)])


def _points(indices: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return combinations of options (points, options). Each value is as frequent as in `indices`."""
    # If there are not too many, take all combinations of the values of all configurations.
    if np.prod([float(len(column)) for column in indices]) <= _MAX_POINTS:
        return np.array(list(itertools.product(*indices)))

    # If all levels of each option are equally frequent, it is sufficient to take each level once.
    distinct = [np.unique(column) for column in indices]
    is_balanced = all(np.ptp(np.unique(column, return_counts=True)[1]) == 0 for column in indices)
    if is_balanced and np.prod([float(len(column)) for column in distinct]) <= _MAX_POINTS:
        return np.array(list(itertools.product(*distinct)))

    # Otherwise draw a random sample.
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(column, _MAX_POINTS) for column in indices], axis=1)


def _variance_of_means(column: NDArray[np.int64], f: FloatArray) -> float:
    """Return the variance of the mean of `f` between the levels of an option."""
    count = np.bincount(column)
    total = np.bincount(column, f)
    occurs = count > 0
    means = total[occurs] / count[occurs]
    return float(np.average((means - f.mean()) ** 2, weights=count[occurs]))
