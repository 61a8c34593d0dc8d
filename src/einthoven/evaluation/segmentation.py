"""Judge masks of P, QRS and T: the overlap with the true masks, and the errors of the boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from einthoven.evaluation.intervals import Interval, compute_interval
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.resampling import mean_of_valid, number_groups, resample_statistic
from einthoven.functional.delineation import Boundaries, delineate

THRESHOLD = 0.5
"""A sample belongs to a wave if its probability is at least this."""

SAME_BEAT = 0.1
"""Seconds. Two QRS are the same beat if their middles are at most this far apart. A normal QRS lasts as long."""


def overlap_counts(y: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Count the samples that the Dice coefficient compares.

    Parameters
    ----------
    y, p : ndarray, shape (n, K, T)
        Masks, and probabilities.

    Returns
    -------
    overlap, size : ndarray, shape (n, K)
        Samples of both masks, and the sum of the samples of each mask.
    """
    is_true = y >= THRESHOLD
    is_found = p >= THRESHOLD
    overlap = (is_true & is_found).sum(axis=2)
    size = is_true.sum(axis=2) + is_found.sum(axis=2)
    return overlap.astype(np.float64), size.astype(np.float64)


def dice(overlap: FloatArray, size: FloatArray, counts: FloatArray | None = None) -> FloatArray:
    """Compute the Dice coefficient of all samples of all records, ``2 |A ∩ B| / (|A| + |B|)``, for each mask.

    It is equal to the F1 score of the samples.

    Parameters
    ----------
    overlap, size : ndarray, shape (n, K)
        From `overlap_counts`.
    counts : ndarray, shape (B, n), optional
        How often each record occurs in each resample. By default there is one row in which each record occurs once.

    Returns
    -------
    ndarray, shape (B, K)
        NaN for a mask that is empty in all records, true and predicted.

    References
    ----------
    Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945.
    """
    if counts is None:
        counts = np.ones((1, len(overlap)))
    total_overlap = counts @ overlap
    total_size = counts @ size
    is_defined = total_size > 0
    return np.where(is_defined, 2 * total_overlap / np.where(is_defined, total_size, 1.0), np.nan)


def dice_interval(
    y: FloatArray,
    p: FloatArray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Interval | None:
    """Compute the percentile bootstrap interval of the mean Dice coefficient of the masks.

    Parameters
    ----------
    y, p
        As in `overlap_counts`.
    resamples, seed, groups
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Returns
    -------
    Interval or None
        None if no mask is defined.
    """
    overlap, size = overlap_counts(y, p)
    group_of_record = number_groups(groups, len(y))
    values = resample_statistic(
        lambda counts: mean_of_valid(dice(overlap, size, counts)), group_of_record, resamples, seed
    )
    defined = values[~np.isnan(values)]
    return compute_interval(defined, 0.95) if len(defined) else None


@dataclass(frozen=True)
class BoundaryErrors:
    """How far predicted boundaries are from the true ones.

    Attributes
    ----------
    errors : mapping of str to ndarray
        ``p_onset``, ``p_end``, ``qrs_onset``, ``qrs_end``, ``t_onset``, ``t_end`` -> predicted minus true time in ms,
        of each boundary that both have.
    missed, invented : mapping of str to float
        ``p``, ``qrs``, ``t`` -> share of the true waves that were not found, and share of the waves found that are not
        there. NaN without a wave to count. P and T are counted in the beats that both have.
    """

    errors: Mapping[str, FloatArray]
    missed: Mapping[str, float]
    invented: Mapping[str, float]


def boundary_errors(y: FloatArray, p: FloatArray, fs: float) -> BoundaryErrors:
    """Compare the boundaries of probabilities with those of the true masks, beat by beat.

    Both come from `einthoven.functional.delineation.delineate`.

    Parameters
    ----------
    y, p : ndarray, shape (n, 3, T)
        Masks and probabilities of P, QRS and T.
    fs : float
        Sampling frequency in Hz.
    """
    return compare_boundaries(delineate(y, fs), delineate(p, fs))


def compare_boundaries(true: Boundaries, predicted: Boundaries) -> BoundaryErrors:
    """Compare the boundaries of the same n records. Parameters as in `boundary_errors`."""
    record, true_beat, predicted_beat = _match_beats(true, predicted)
    errors = {}
    for name in ("p_onset", "p_end", "qrs_onset", "qrs_end", "t_onset", "t_end"):
        difference = getattr(predicted, name)[record, predicted_beat] - getattr(true, name)[record, true_beat]
        errors[name] = 1000.0 * difference[np.isfinite(difference)]

    # The rates of P and T are those of the matched beats.
    missed = {}
    invented = {}
    for wave in ("p", "t"):
        is_true = _has_wave(true, wave)[record, true_beat]
        is_predicted = _has_wave(predicted, wave)[record, predicted_beat]
        missed[wave] = _share(is_true & ~is_predicted, is_true)
        invented[wave] = _share(is_predicted & ~is_true, is_predicted)
    missed["qrs"] = _unmatched_share(len(record), true.qrs_onset)
    invented["qrs"] = _unmatched_share(len(record), predicted.qrs_onset)
    return BoundaryErrors(errors, missed, invented)


def _match_beats(
    true: Boundaries, predicted: Boundaries
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return record, true beat and predicted beat of each pair. Each is nearest to the other, within `SAME_BEAT`."""
    true_middle = (true.qrs_onset + true.qrs_end) / 2
    predicted_middle = (predicted.qrs_onset + predicted.qrs_end) / 2
    nothing = np.zeros(0, np.intp)
    if not true_middle.shape[1] or not predicted_middle.shape[1]:
        return nothing, nothing, nothing

    # A missing beat is infinitely far away.
    distance = np.abs(true_middle[:, :, None] - predicted_middle[:, None, :])
    distance = np.where(np.isfinite(distance), distance, np.inf)
    nearest_predicted = distance.argmin(axis=2)
    nearest_true = distance.argmin(axis=1)
    is_mutual = np.take_along_axis(nearest_true, nearest_predicted, axis=1) == np.arange(true_middle.shape[1])
    is_match = is_mutual & (distance.min(axis=2) <= SAME_BEAT)
    record, true_beat = np.nonzero(is_match)
    return record, true_beat, nearest_predicted[record, true_beat]


def _has_wave(boundaries: Boundaries, wave: str) -> NDArray[np.bool_]:
    """Return whether a beat has a wave (n, B). One of its boundaries may be outside of the record."""
    onset = getattr(boundaries, f"{wave}_onset")
    end = getattr(boundaries, f"{wave}_end")
    return np.asarray(np.isfinite(onset) | np.isfinite(end))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    """Return the share of a set of beats; NaN if there is none."""
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def _unmatched_share(matched: int, qrs_onset: FloatArray) -> float:
    """Return the share of beats without a partner; NaN if there is no beat."""
    count = int(np.isfinite(qrs_onset).sum())
    return (count - matched) / count if count else float("nan")
