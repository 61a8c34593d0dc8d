"""What the splits hold before anything is trained: labels and how they drift, signals and patients in two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EVERY = 10  # of the samples of a signal, one in so many is looked at
DIRECTIONS = 16  # random directions that a signal is told by
SAME = 0.02  # distance of two signals of unit norm from which on they are two: a correlation of 0.9998
FLAT = 0.5  # µV of standard deviation, below which a signal is constant up to rounding


@dataclass(frozen=True)
class Signatures:
    """What tells signals apart, whatever their gain and the offset of their leads.

    Attributes
    ----------
    points : ndarray of float64, shape (n, 16)
        Random projections of the signals, whose leads are centred and whose norm is 1: distances between two are
        those between the signals, give or take (Johnson and Lindenstrauss 1984).
    flat : ndarray of bool, shape (n,)
        Signals of which every lead is constant; they have no signature.
    """

    points: FloatArray
    flat: NDArray[np.bool_]


def signatures(chunks: Iterable[NDArray[np.int16]]) -> Signatures:
    """Signatures of the signals of a split: one pass over them, one sample in ten.

    Parameters
    ----------
    chunks : iterable of int16 arrays, shape (c, L, T)
        Signals in µV.
    """
    points, flat = [np.empty((0, DIRECTIONS))], [np.empty(0, bool)]
    directions = None
    for chunk in chunks:
        x = chunk[:, :, ::EVERY].astype(np.float32)
        x -= x.mean(axis=2, keepdims=True)
        rows = x.reshape(len(x), -1)
        if directions is None:
            drawn = np.random.default_rng(0).standard_normal((rows.shape[1], DIRECTIONS))
            directions = (drawn / np.sqrt(DIRECTIONS)).astype(np.float32)
        norm = np.linalg.norm(rows, axis=1)
        constant = norm < FLAT * np.sqrt(rows.shape[1])
        points.append((rows @ directions).astype(np.float64) / np.where(constant, 1.0, norm)[:, None])
        flat.append(constant)
    return Signatures(np.concatenate(points), np.concatenate(flat))


def twins(among: Signatures, of: Signatures) -> NDArray[np.bool_]:
    """Which signals are also among others: equal, or equal after a change of gain and of offset.

    Returns
    -------
    ndarray of bool, shape (n,)
        A row for each of `of`; false for constant signals.
    """
    from scipy.spatial import KDTree

    found = np.zeros(len(of.points), bool)
    known = np.unique(among.points[~among.flat], axis=0)
    if len(known) and not of.flat.all():
        distance, _ = KDTree(known).query(of.points[~of.flat], distance_upper_bound=SAME)
        found[~of.flat] = np.isfinite(distance)
    return found


def repeated(within: Signatures) -> NDArray[np.bool_]:
    """Which signals of a split are there more than once; constant ones are not counted."""
    from scipy.spatial import KDTree

    found = np.zeros(len(within.points), bool)
    known, first, count = np.unique(within.points[~within.flat], axis=0, return_inverse=True, return_counts=True)
    if len(known) > 1:
        distance = np.asarray(KDTree(known).query(known, k=2, distance_upper_bound=SAME)[0])
        count = count + np.isfinite(distance[:, 1])
    found[~within.flat] = count[first.ravel()] > 1
    return found


def label_drift(reference: NDArray[np.floating], other: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """How far the labels of a split lie from those of the reference, class by class, in nats.

    The shares are counted with half a record more on either side (Krichevsky and Trofimov 1981), so that a class that
    one split lacks gives a finite number.

    Parameters
    ----------
    reference, other : array, shape (n, K) and (m, K)
        Labels, 0 or 1.

    Returns
    -------
    kl : ndarray (K,)
        Bernoulli KL(other || reference).
    psi : ndarray (K,)
        Population stability index, ``sum (p - q) ln(p / q)`` over positive and negative: the KL of both directions
        together. In credit scoring, where it comes from, 0.1 is worth a look and 0.25 a different population
        (Siddiqi 2006). Of splits drawn alike, its mean is ``1/n + 1/m``.
    """
    p, q = ((np.sum(y, axis=0, dtype=np.float64) + 0.5) / (len(y) + 1) for y in (other, reference))
    log_odds = np.log(p / q), np.log((1 - p) / (1 - q))
    kl: FloatArray = p * log_odds[0] + (1 - p) * log_odds[1]
    psi: FloatArray = (p - q) * (log_odds[0] - log_odds[1])
    return kl, psi


@dataclass(frozen=True)
class Split:
    """What is looked at of a split: signals in chunks (c, L, T), patients (n,), and, of classes, labels (n, K)."""

    signals: Iterable[NDArray[np.int16]]
    patients: NDArray[np.int64]
    labels: NDArray[np.floating] | None


def examine(splits: Mapping[str, Split], classes: tuple[str, ...]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Look at the splits of a corpus before training.

    Parameters
    ----------
    splits : mapping of str to Split
        The first is the one that is trained on.
    classes : tuple of K str

    Returns
    -------
    table : dict of str to list
        Columns ``measure``, ``split``, ``class`` (empty where there is none) and ``value``. Measures are ``records``,
        ``flat`` (constant signals), ``repeated`` (signals that the split holds more than once), ``duplicates`` of
        ``<split>-<other>`` (signals of the other split that the split has too), ``patients`` of ``<split>-<other>``
        (patients in both), ``share`` of each class, and of all but the first split ``kl`` and ``psi``, means over the
        classes.
    facts : dict
        The same for `einthoven.diagnostics.advice`: ``records``, ``flat``, ``repeated`` and ``positives`` by split,
        ``duplicates`` and ``patients`` by ``<split>-<other>``, ``psi`` by split and class.
    """
    seen = {name: signatures(split.signals) for name, split in splits.items()}
    records = {name: len(each.flat) for name, each in seen.items()}
    facts: dict[str, Any] = {
        "records": records,
        "flat": {name: int(each.flat.sum()) for name, each in seen.items()},
        "repeated": {name: int(repeated(each).sum()) for name, each in seen.items()},
        "duplicates": {f"{a}-{b}": int(twins(seen[a], seen[b]).sum()) for a, b in combinations(splits, 2)},
        "patients": {
            f"{a}-{b}": len(np.intersect1d(splits[a].patients, splits[b].patients)) for a, b in combinations(splits, 2)
        },
    }
    rows: list[tuple[str, str, str, float]] = []
    for fact, counts in facts.items():
        rows += [(fact, split, "", float(count)) for split, count in counts.items()]
    labels = {name: split.labels for name, split in splits.items() if split.labels is not None}
    if labels:
        facts |= {"positives": {}, "psi": {}}
        first = next(iter(labels.values()))
    for name, y in labels.items():
        rows += [("share", name, c, float(share)) for c, share in zip(classes, y.mean(axis=0), strict=True)]
        facts["positives"][name] = dict(zip(classes, y.sum(axis=0).astype(int).tolist(), strict=True))
        if y is not first:
            kl, psi = label_drift(first, y)
            rows += [("kl", name, "", float(kl.mean())), ("psi", name, "", float(psi.mean()))]
            facts["psi"][name] = dict(zip(classes, psi.tolist(), strict=True))
    columns = zip(*rows, strict=True)
    return {
        name: list(column) for name, column in zip(("measure", "split", "class", "value"), columns, strict=True)
    }, facts
