"""How much of the spread of some runs follows from each of the options in which they differ."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_POINTS = 20_000  # combinations of options at most, at which the surrogate is asked
_TREES = 100


def option_importance(options: Sequence[Mapping[str, str]], values: Sequence[float]) -> dict[str, float]:
    """First-order share of the variance of each option: ``S_j = Var(E[f | x_j]) / Var(f)``.

    ``f`` is what a configuration is worth: the mean of its runs where there are several seeds, and between the
    configurations that were run, the mean of fully grown randomized trees, which go through each of those means. The
    options are taken as independent, each as frequent as it was among the configurations. On a full grid the trees
    are never asked for what was not run, and the shares are those of a classic analysis of variance (η²). What the
    shares lack of one is due to combinations. Of few runs in many options it is a rough guess.

    Source: Sobol 1993; Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for assessing hyperparameter
    importance", section 3, whose forest is used here through its predictions.

    Parameters
    ----------
    options : sequence of mapping
        Option -> value of each run; an option that a run lacks is a value of its own.
    values : sequence of float
        What each run is judged by.

    Returns
    -------
    dict of str to float
        Option -> share, the largest first; zero of all where nothing differs.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    names = list(dict.fromkeys(name for each in options for name in each))
    rows = [tuple(each.get(name, "") for name in names) for each in options]
    means = {row: float(np.mean([v for r, v in zip(rows, values, strict=True) if r == row])) for row in rows}
    columns = [list(column) for column in zip(*means, strict=True)]
    codes = [_encoded(column) for column in columns]
    forest = ExtraTreesRegressor(_TREES, random_state=0).fit(
        np.hstack([code[column] for code, column in zip(codes, map(_places, columns), strict=True)]),
        list(means.values()),
    )
    places = [np.array(_places(column)) for column in columns]
    points = _points(places)
    f = forest.predict(np.hstack([code[column] for code, column in zip(codes, points.T, strict=True)]))
    variance = float(np.var(f))
    if variance <= 1e-12 * max(1.0, float(np.mean(f**2))):
        return dict.fromkeys(names, 0.0)
    shares = {name: _between(column, f) / variance for name, column in zip(names, points.T, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def numbers(values: Sequence[str]) -> list[float] | None:
    """Values of an option as numbers, if all of them are."""
    try:
        found = [float(value) for value in values]
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def _levels(column: Sequence[str]) -> list[str]:
    distinct = list(dict.fromkeys(column))
    found = numbers(distinct)
    return distinct if found is None else [distinct[k] for k in np.argsort(found, kind="stable")]


def _places(column: Sequence[str]) -> list[int]:
    levels = _levels(column)
    return [levels.index(value) for value in column]


def _encoded(column: Sequence[str]) -> FloatArray:
    """Features of each level: its rank, of which trees use the order alone; of names, one for each."""
    levels = _levels(column)
    ranks = np.arange(len(levels), dtype=np.float64)[:, None]
    return np.eye(len(levels)) if numbers(levels) is None else ranks


def _points(places: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Combinations of options: all of them, or as many as are drawn from each option alone."""
    if np.prod([float(len(column)) for column in places]) <= _POINTS:
        return np.array(list(itertools.product(*places)))
    distinct = [np.unique(column) for column in places]
    balanced = all(np.ptp(np.unique(column, return_counts=True)[1]) == 0 for column in places)
    if balanced and np.prod([float(len(column)) for column in distinct]) <= _POINTS:
        return np.array(list(itertools.product(*distinct)))
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(column, _POINTS) for column in places], axis=1)


def _between(column: NDArray[np.int64], f: FloatArray) -> float:
    """Variance of the mean of `f` over the levels of an option."""
    count, total = np.bincount(column), np.bincount(column, f)
    seen = count > 0
    means = total[seen] / count[seen]
    return float(np.average((means - f.mean()) ** 2, weights=count[seen]))
