"""Principal component analysis, from samples or from moments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Records are turned into float64 this many at a time, whatever the size of the chunks: bounded memory.
_RECORDS_AT_ONCE = 256


class LeadMoments(NamedTuple):
    """First and second moments of the samples of a set of records, in the signal's unit (and its square)."""

    mean: Float64
    """Mean of each lead, ``(C,)``."""
    covariance: Float64
    """Covariance between leads over all samples, ``(C, C)``, normalized by the number of samples."""
    scalar_mean: float
    """Mean over all leads and samples."""
    scalar_std: float
    """Standard deviation over all leads and samples."""


def lead_moments(chunks: Iterable[NDArray[Any]], scale: float = 1.0) -> LeadMoments:
    """Accumulate the moments of records that need not fit into memory together.

    Two passes within a piece, and the pairwise update of Chan, Golub & LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances", 1979, between pieces, all in float64: no cancellation,
    whatever the offset of a lead.

    Parameters
    ----------
    chunks
        Arrays ``(n, C, T)``, integer or floating; `n` and `T` may differ from one to the next.
    scale
        Unit of the result over the unit of the chunks: 1e-3 for stored microvolts and moments in millivolts.

    Raises
    ------
    ValueError
        If there is no sample, or one that is not finite.
    """
    count = 0
    mean: Float64 = np.zeros(0)
    scatter: Float64 = np.zeros((0, 0))
    for chunk in chunks:
        for start in range(0, len(chunk), _RECORDS_AT_ONCE):
            piece = np.asarray(chunk[start : start + _RECORDS_AT_ONCE], dtype=np.float64)
            leads = np.moveaxis(piece, 1, 0).reshape(piece.shape[1], -1)
            if not leads.size:
                continue
            added = leads.shape[1]
            added_mean = leads.mean(axis=1)
            leads = leads - added_mean[:, None]  # not in place: it may be a view of the caller's array
            added_scatter = leads @ leads.T
            if count == 0:
                count, mean, scatter = added, added_mean, added_scatter
                continue
            gap = added_mean - mean
            total = count + added
            mean = mean + gap * (added / total)
            scatter = scatter + added_scatter + np.outer(gap, gap) * (count * added / total)
            count = total
    if count == 0:
        raise ValueError("no samples to compute the mean and covariance of the leads from")
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise ValueError("the signals contain samples that are not finite, so their covariance is undefined")
    mean = mean * scale
    covariance = scatter * (scale * scale / count)
    scalar_mean = float(mean.mean())
    # Law of total variance over the leads, which all have the same number of samples.
    variance = float(np.diag(covariance).mean() + ((mean - scalar_mean) ** 2).mean())
    return LeadMoments(mean, covariance, scalar_mean, variance**0.5)


class PCA:
    """Principal component analysis.

    The eigenvectors of the covariance matrix, by falling eigenvalue. Each is turned so that its largest
    coefficient in magnitude is positive, so the same data always give the same signs.

    Parameters
    ----------
    k
        Number of components; all of them where it is None.
    whiten
        Divide each component by its standard deviation, so that all have unit variance. Directions whose
        eigenvalue is at most `tolerance` times the largest hold nothing but noise: they are dropped instead
        of blown up, so fewer than `k` components may be left.
    tolerance
        See `whiten`. None stands for ``d`` times the float64 machine epsilon, the accuracy of the eigenvalues
        themselves. Signals that were rounded to steps of size s carry a noise variance of the order of s^2
        in every direction: give s^2 over the largest eigenvalue.

    Attributes
    ----------
    mean_ : ndarray (d,)
    components_ : ndarray (k, d)
        Orthonormal rows.
    explained_variance_ : ndarray (k,)
        Eigenvalues: the variance along each component.
    explained_variance_ratio_ : ndarray (k,)
        The same as fractions of the total variance over all `d` directions.
    """

    mean_: Float64
    components_: Float64
    explained_variance_: Float64
    explained_variance_ratio_: Float64

    def __init__(self, k: int | None = None, whiten: bool = False, *, tolerance: float | None = None) -> None:
        self.k = k
        self.whiten = whiten
        self.tolerance = tolerance

    def fit(self, x: NDArray[Any]) -> Self:
        """Fit samples `x`, ``(n, d)``, with the unbiased covariance (normalized by n - 1).

        Raises
        ------
        ValueError
            If there are fewer than 2 samples, one is not finite, or `k` is not within 1 ... d.
        """
        samples = np.asarray(x, dtype=np.float64)
        if samples.ndim != 2 or len(samples) < 2:
            raise ValueError(f"PCA needs at least 2 samples as an array (n, d), found shape {samples.shape}")
        mean = samples.mean(axis=0)
        centred = samples - mean
        return self.fit_covariance(mean, centred.T @ centred / (len(samples) - 1))

    def fit_covariance(self, mean: NDArray[Any], covariance: NDArray[Any]) -> Self:
        """Fit the mean ``(d,)`` and covariance ``(d, d)`` of samples, for example from `lead_moments`.

        Raises
        ------
        ValueError
            If `k` is not within 1 ... d, a value is not finite, or whitening is asked of data without
            variance.
        """
        matrix = np.asarray(covariance, dtype=np.float64)
        d = len(matrix)
        if self.k is not None and not 1 <= self.k <= d:
            raise ValueError(f"PCA: k must lie within 1 and {d}, the number of dimensions, found {self.k}")
        if not np.isfinite(matrix).all():
            raise ValueError("PCA: the samples contain values that are not finite")
        values, vectors = np.linalg.eigh(matrix)
        # eigh sorts upwards; an eigenvalue of nothing comes out as plus or minus rounding.
        variances = np.maximum(values[::-1], 0.0)
        components = vectors.T[::-1]
        kept = d if self.k is None else self.k
        if self.whiten:
            tolerance = d * np.finfo(np.float64).eps if self.tolerance is None else self.tolerance
            rank = int((variances > tolerance * variances[0]).sum())
            if rank == 0:
                raise ValueError("PCA: the samples do not vary, so they cannot be whitened")
            kept = min(kept, rank)
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        total = variances.sum()
        self.mean_ = np.asarray(mean, dtype=np.float64)
        self.components_ = (components * np.where(largest < 0, -1.0, 1.0))[:kept]
        self.explained_variance_ = variances[:kept]
        self.explained_variance_ratio_ = variances[:kept] / (total if total > 0 else 1.0)
        return self

    def transform(self, x: NDArray[Any]) -> Float64:
        """Map samples ``(n, d)`` to their coordinates along the components, ``(n, k)``."""
        scores: Float64 = (np.asarray(x, dtype=np.float64) - self.mean_) @ self.components_.T
        return scores / np.sqrt(self.explained_variance_) if self.whiten else scores

    def inverse_transform(self, scores: NDArray[Any]) -> Float64:
        """Map coordinates ``(n, k)`` back to ``(n, d)``: exact at full rank, else the nearest in the span."""
        coordinates = np.asarray(scores, dtype=np.float64)
        if self.whiten:
            coordinates = coordinates * np.sqrt(self.explained_variance_)
        samples: Float64 = coordinates @ self.components_ + self.mean_
        return samples
