"""Checks of the splits before training: duplicate signals, shared patients, label drift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STRIDE = 10  # a signature uses every tenth sample of a signal
DIRECTIONS = 16  # number of random projections in a signature
LARGEST_DISTANCE = 0.02  # between two equal signals of norm 1; it corresponds to a correlation of 0.9998
FLAT = 0.5  # µV; a signal with a smaller standard deviation is constant up to rounding


@dataclass(frozen=True)
class Signatures:
    """Short vectors by which signals are compared. They do not depend on the gain or on the offsets of the leads.

    Attributes
    ----------
    points : ndarray of float64, shape (n, 16)
        Random projections of the signals, after each lead is centred and each signal is scaled to norm 1. Distances
        between points approximate distances between signals (Johnson and Lindenstrauss 1984).
    flat : ndarray of bool, shape (n,)
        True if every lead of the signal is constant. Such a signal has no signature.
    size : ndarray of float64, shape (n,)
        Standard deviation of each signal in µV, over all leads after each one is centred.
    """

    points: FloatArray
    flat: NDArray[np.bool_]
    size: FloatArray


class Signer:
    """Computes the signatures of the signals of a split, from every tenth sample, while they are read."""

    def __init__(self) -> None:
        self._points = [np.empty((0, DIRECTIONS))]
        self._flat = [np.empty(0, bool)]
        self._size = [np.empty(0)]
        self._directions: NDArray[np.float32] | None = None

    def sign(self, chunks: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
        """Yield the chunks (c, L, T) in µV as they are, and compute the signatures of their signals."""
        for chunk in chunks:
            self._add(chunk)
            yield chunk

    def signatures(self) -> Signatures:
        """Return the signatures of all signals so far."""
        return Signatures(np.concatenate(self._points), np.concatenate(self._flat), np.concatenate(self._size))

    def _add(self, chunk: NDArray[np.int16]) -> None:
        x = chunk[:, :, ::STRIDE].astype(np.float32)
        x -= x.mean(axis=2, keepdims=True)
        rows = x.reshape(len(x), -1)

        # All chunks share the same random directions. Their size is known from the first chunk.
        if self._directions is None:
            gaussian = np.random.default_rng(0).standard_normal((rows.shape[1], DIRECTIONS))
            self._directions = (gaussian / np.sqrt(DIRECTIONS)).astype(np.float32)

        norm = np.linalg.norm(rows, axis=1)
        size = norm / np.sqrt(rows.shape[1])
        is_flat = size < FLAT
        scale = np.where(is_flat, 1.0, norm)[:, None]
        self._points.append((rows @ self._directions).astype(np.float64) / scale)
        self._flat.append(is_flat)
        self._size.append(size.astype(np.float64))


def _is_duplicate(signals: Signatures, reference: Signatures) -> NDArray[np.bool_]:
    """Return whether each signal (n,) also occurs in a reference, up to gain and offset. Constant signals do not."""
    from scipy.spatial import KDTree

    duplicate = np.zeros(len(signals.points), bool)
    reference_points = np.unique(reference.points[~reference.flat], axis=0)
    if len(reference_points) and not signals.flat.all():
        tree = KDTree(reference_points)
        distance, _ = tree.query(signals.points[~signals.flat], distance_upper_bound=LARGEST_DISTANCE)
        # The tree returns an infinite distance if no point is near enough.
        duplicate[~signals.flat] = np.isfinite(distance)
    return duplicate


def is_repeated(signals: Signatures) -> NDArray[np.bool_]:
    """Return whether each signal occurs more than once in its split; False for constant signals."""
    from scipy.spatial import KDTree

    repeated = np.zeros(len(signals.points), bool)
    points, row, count = np.unique(signals.points[~signals.flat], axis=0, return_inverse=True, return_counts=True)
    if len(points) > 1:
        # The nearest neighbour of a point is the point itself, so the second nearest is the other signal.
        distance = np.asarray(KDTree(points).query(points, k=2, distance_upper_bound=LARGEST_DISTANCE)[0])
        count = count + np.isfinite(distance[:, 1])
    repeated[~signals.flat] = count[row.ravel()] > 1
    return repeated


def label_drift(reference: NDArray[np.floating], other: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Return how much the labels of a split differ from those of a reference, for each class, in nats.

    Half a record is added to the positive and to the negative records (Krichevsky and Trofimov 1981). So the result is
    finite for a class that is absent from one split.

    Parameters
    ----------
    reference, other : array, shape (n, K) and (m, K)
        Labels, 0 or 1.

    Returns
    -------
    kl : ndarray (K,)
        Bernoulli KL(other ‖ reference).
    psi : ndarray (K,)
        Population stability index, ``sum (p - q) ln(p / q)`` over positive and negative: the sum of the KL in both
        directions. It comes from credit scoring. There, 0.1 deserves a look and 0.25 is a different population
        (Siddiqi 2006). If both splits are drawn from one population, its mean is ``1/n + 1/m``.
    """
    p = (np.sum(other, axis=0, dtype=np.float64) + 0.5) / (len(other) + 1)
    q = (np.sum(reference, axis=0, dtype=np.float64) + 0.5) / (len(reference) + 1)
    log_ratio_positive = np.log(p / q)
    log_ratio_negative = np.log((1 - p) / (1 - q))
    kl: FloatArray = p * log_ratio_positive + (1 - p) * log_ratio_negative
    psi: FloatArray = (p - q) * (log_ratio_positive - log_ratio_negative)
    return kl, psi


@dataclass(frozen=True)
class SplitData:
    """Patients (n,) of a split, and labels (n, K) in tasks with classes."""

    patients: NDArray[np.int64]
    labels: NDArray[np.floating] | None


SignalCounts = dict[str, dict[str, float]]
"""Measure of signals -> split, or ``<split>-<other>`` -> count or size. See `compare_signals`."""


def compare_signals(signatures: Mapping[str, Signatures]) -> SignalCounts:
    """Count the constant and the equal signals of a corpus, and measure the size of the others.

    Parameters
    ----------
    signatures : mapping of str to Signatures
        Of each split. The first one is the training split.

    Returns
    -------
    dict
        By split: ``records``, ``flat`` (constant signals), ``repeated`` (signals that the split contains more than
        once) and ``size`` (median standard deviation of the signals that are not constant, in mV; 0 without such a
        signal). By ``<split>-<other>``: ``duplicates`` (signals of the other split that the split contains too).
    """
    counts: SignalCounts = {
        "records": {name: len(signals.flat) for name, signals in signatures.items()},
        "flat": {name: int(signals.flat.sum()) for name, signals in signatures.items()},
        "repeated": {name: int(is_repeated(signals).sum()) for name, signals in signatures.items()},
        "size": {name: _typical_size(signals) for name, signals in signatures.items()},
        "duplicates": {},
    }
    for first, second in combinations(signatures, 2):
        counts["duplicates"][f"{first}-{second}"] = int(_is_duplicate(signatures[second], signatures[first]).sum())
    return counts


def _typical_size(signals: Signatures) -> float:
    """Return the median size of the signals that are not constant, in mV; 0 if there is none."""
    sizes = signals.size[~signals.flat]
    return float(np.median(sizes)) / 1000 if len(sizes) else 0.0


def compare_splits(
    counts: SignalCounts, splits: Mapping[str, SplitData], classes: tuple[str, ...]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Compare the splits of a corpus before training.

    Parameters
    ----------
    counts
        As `compare_signals` returns them.
    splits : mapping of str to SplitData
        The first one is the training split.
    classes : tuple of K str

    Returns
    -------
    table : dict of str to list
        Columns ``measure``, ``split``, ``class`` (can be empty) and ``value``. The measures are those of `counts`,
        ``patients`` of ``<split>-<other>`` (patients in both), and ``share`` of each class. For all but the first
        split, there are also ``kl`` and ``psi``, the means over the classes.
    facts : dict
        The same values for `einthoven.diagnostics.advice`: `counts`, ``positives`` by split, ``patients`` by
        ``<split>-<other>``, ``psi`` by split and class.
    """
    facts: dict[str, Any] = {**counts, "patients": {}}
    for first, second in combinations(splits, 2):
        shared_patients = np.intersect1d(splits[first].patients, splits[second].patients)
        facts["patients"][f"{first}-{second}"] = len(shared_patients)

    rows: list[tuple[str, str, str, float]] = []
    for measure, counts_of_measure in facts.items():
        for split, count in counts_of_measure.items():
            rows.append((measure, split, "", float(count)))

    # Labels exist only in tasks with classes.
    labels = {name: split.labels for name, split in splits.items() if split.labels is not None}
    if labels:
        facts["positives"] = {}
        facts["psi"] = {}
        reference = next(iter(labels.values()))
    for name, y in labels.items():
        for label, share in zip(classes, y.mean(axis=0), strict=True):
            rows.append(("share", name, label, float(share)))
        facts["positives"][name] = dict(zip(classes, y.sum(axis=0).astype(int).tolist(), strict=True))
        if y is not reference:
            kl, psi = label_drift(reference, y)
            rows.append(("kl", name, "", float(kl.mean())))
            rows.append(("psi", name, "", float(psi.mean())))
            facts["psi"][name] = dict(zip(classes, psi.tolist(), strict=True))

    columns = [list(column) for column in zip(*rows, strict=True)]
    table = dict(zip(("measure", "split", "class", "value"), columns, strict=True))
    return table, facts
