"""Principal component analysis (PCA).

There are three ways to fit it: from samples, from their mean and covariance, or by random projection. The random
projection is for samples whose covariance matrix does not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def variance_along(projection: NDArray[Any], covariance: NDArray[Any]) -> tuple[Float64, Float64]:
    """Return the directions of a projection, and the share of the variance of some samples along each of them.

    The projection may be fitted to other samples. Its principal components are orthogonal. Of rows that are not, each
    counts only for what the rows before it do not contain. So the sum of the shares is the share of the variance that
    is left if the samples are projected onto all rows.

    Parameters
    ----------
    projection
        ``(k, d)`` with k at most d; rows of any length.
    covariance
        Of the samples, ``(d, d)``.

    Returns
    -------
    directions : ndarray (k, d)
        Orthonormal rows. A row that the rows before it contain is zero.
    shares : ndarray (k,)
        Between 0 and 1.
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    rows = np.asarray(projection, dtype=np.float64)
    basis, triangle = np.linalg.qr(rows.T)

    # The diagonal is the length of what a row adds, with a sign. A rounding error adds nothing.
    added = np.diag(triangle)
    is_new = np.abs(added) > 1e-6 * np.linalg.norm(rows, axis=1)
    directions = basis.T * np.where(is_new, np.sign(added), 0.0)[:, None]
    variances = np.einsum("ki,ij,kj->k", directions, matrix, directions)
    total = np.trace(matrix)
    return directions, variances / (total if total > 0 else 1.0)


class PCA:
    """Principal component analysis.

    The components are the eigenvectors of the covariance matrix. They are sorted by eigenvalue, the largest first. The
    sign of a component is chosen so that its coefficient of largest magnitude is positive. So the same data always
    give the same signs.

    Parameters
    ----------
    k
        Number of components. None keeps all components.
    whiten
        Divide each component by its standard deviation, so that all components have unit variance. A direction whose
        eigenvalue is at most `tolerance` times the largest eigenvalue contains only noise. It is dropped, because
        whitening would amplify the noise. So there may be fewer than `k` components.
    tolerance
        See `whiten`. None means ``d`` times the float64 machine epsilon, which is the accuracy of the eigenvalues.
        Signals that were rounded to steps of size s contain noise with a variance of about s^2 in every direction. For
        such signals, use s^2 divided by the largest eigenvalue.

    Attributes
    ----------
    mean_ : ndarray (d,)
    components_ : ndarray (k, d)
        Orthonormal rows.
    explained_variance_ : ndarray (k,)
        The eigenvalues, which are the variances along the components.
    explained_variance_ratio_ : ndarray (k,)
        The eigenvalues divided by the total variance over all `d` directions.
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
            If there are fewer than 2 samples, if a sample is not finite, or if `k` is not within 1 ... d.
        """
        samples = np.asarray(x, dtype=np.float64)
        if samples.ndim != 2 or len(samples) < 2:
            raise ValueError(f"PCA needs at least 2 samples as an array (n, d), found shape {samples.shape}")
        mean = samples.mean(axis=0)
        centred = samples - mean
        covariance = centred.T @ centred / (len(samples) - 1)
        return self.fit_covariance(mean, covariance)

    def fit_covariance(self, mean: NDArray[Any], covariance: NDArray[Any]) -> Self:
        """Fit the mean ``(d,)`` and covariance ``(d, d)`` of samples, for example from `moments.lead_moments`.

        Raises
        ------
        ValueError
            If `k` is not within 1 ... d, if a value is not finite, or if the data to whiten do not vary.
        """
        matrix = np.asarray(covariance, dtype=np.float64)
        d = len(matrix)
        if self.k is not None and not 1 <= self.k <= d:
            raise ValueError(f"PCA: k must lie within 1 and {d}, the number of dimensions, found {self.k}")
        if not np.isfinite(matrix).all():
            raise ValueError("PCA: the samples contain values that are not finite")

        # `eigh` sorts in ascending order. Rounding can make an eigenvalue of zero slightly negative.
        values, vectors = np.linalg.eigh(matrix)
        variances = np.maximum(values[::-1], 0.0)
        components = vectors.T[::-1]

        num_components = d if self.k is None else self.k
        if self.whiten:
            tolerance = d * np.finfo(np.float64).eps if self.tolerance is None else self.tolerance
            rank = int((variances > tolerance * variances[0]).sum())
            if rank == 0:
                raise ValueError("PCA: the samples do not vary, so they cannot be whitened")
            num_components = min(num_components, rank)
        return self._set_components(
            np.asarray(mean, dtype=np.float64),
            components[:num_components],
            variances[:num_components],
            variances.sum(),
        )

    def _set_components(self, mean: Float64, components: Float64, variances: Float64, total: float) -> Self:
        """Store components ``(k, d)`` and their variances, with the signs that the class documents."""
        largest_index = np.abs(components).argmax(axis=1)[:, None]
        largest = np.take_along_axis(components, largest_index, axis=1)
        self.mean_ = mean
        self.components_ = components * np.where(largest < 0, -1.0, 1.0)
        self.explained_variance_ = variances
        self.explained_variance_ratio_ = variances / (total if total > 0 else 1.0)
        return self

    def transform(self, x: NDArray[Any]) -> Float64:
        """Map samples ``(n, d)`` to their coordinates along the components, ``(n, k)``."""
        scores: Float64 = (np.asarray(x, dtype=np.float64) - self.mean_) @ self.components_.T
        if self.whiten:
            return scores / np.sqrt(self.explained_variance_)
        return scores

    def inverse_transform(self, scores: NDArray[Any]) -> Float64:
        """Map coordinates ``(n, k)`` back to samples ``(n, d)``.

        The result is exact at full rank. Otherwise it is the nearest point in the span of the components.
        """
        coordinates = np.asarray(scores, dtype=np.float64)
        if self.whiten:
            coordinates = coordinates * np.sqrt(self.explained_variance_)
        return coordinates @ self.components_ + self.mean_


def randomized_pca(
    chunks: Callable[[], Iterable[NDArray[Any]]], k: int, *, oversampling: int = 10, iterations: int = 3, seed: int = 0
) -> PCA:
    """Find the first `k` principal components of samples that are too many and too long for a covariance matrix.

    The method is randomized subspace iteration on the centred samples (Halko, Martinsson and Tropp 2011, "Finding
    structure with randomness", algorithm 4.4). It is made for records as vectors of 12 T numbers, whose covariance
    would have (12 T)² entries. It reads the samples `iterations` + 3 times, in float64, and holds
    d (k + oversampling) numbers in memory. The result is exact if the samples have at most k + oversampling
    dimensions. Otherwise the error falls geometrically with `iterations`. It falls faster if the spectrum is steeper.

    Parameters
    ----------
    chunks
        Function that yields arrays ``(n, d)``. It is called once for each pass over the samples. `d` is the same in
        all arrays.
    k
        Number of components.
    oversampling
        Number of dimensions of the random subspace beyond `k`.
    iterations
        Number of power iterations.
    seed
        Seed of the random subspace.

    Returns
    -------
    PCA
        Fitted with the unbiased covariance (normalized by n - 1).

    Raises
    ------
    ValueError
        If there are fewer than 2 samples, if a sample is not finite, or if `k` is not within 1 ... d.
    """
    # First pass: the mean and the total variance. The update is that of `functional.moments`, for the diagonal only.
    count = 0
    mean = np.zeros(0)
    scatter = np.zeros(0)
    for samples in map(_as_float64, chunks()):
        if not len(samples):
            continue
        total = count + len(samples)
        chunk_mean = samples.mean(axis=0)
        if not np.isfinite(chunk_mean).all():
            raise ValueError("PCA: the samples contain values that are not finite")
        if count == 0:
            mean = np.zeros_like(chunk_mean)
        gap = chunk_mean - mean
        chunk_scatter = ((samples - chunk_mean) ** 2).sum(axis=0) + gap**2 * (count * len(samples) / total)
        scatter = scatter + chunk_scatter if count else chunk_scatter
        mean = mean + gap * (len(samples) / total)
        count = total
    if count < 2:
        raise ValueError(f"PCA needs at least 2 samples, found {count}")
    if not 1 <= k <= len(mean):
        raise ValueError(f"PCA: k must lie within 1 and {len(mean)}, the number of dimensions, found {k}")

    # Each multiplication by the covariance turns the random subspace towards the directions of largest variance.
    width = min(k + oversampling, len(mean))
    random_directions = np.random.default_rng(seed).standard_normal((len(mean), width))
    basis = np.linalg.qr(random_directions)[0]
    for _ in range(iterations + 1):
        image = np.zeros_like(basis)
        for samples in map(_as_float64, chunks()):
            centred = samples - mean
            image += centred.T @ (centred @ basis)
        basis = np.linalg.qr(image)[0]

    # Last pass: an exact PCA inside of the small subspace, whose eigenvectors are mapped back to d dimensions.
    small = np.zeros((width, width))
    for samples in map(_as_float64, chunks()):
        scores = (samples - mean) @ basis
        small += scores.T @ scores
    values, vectors = np.linalg.eigh(small / (count - 1))
    variances = np.maximum(values[::-1], 0.0)[:k]
    components = (basis @ vectors[:, ::-1][:, :k]).T
    total_variance = float(scatter.sum()) / (count - 1)
    return PCA(k)._set_components(mean, components, variances, total_variance)


def _as_float64(samples: NDArray[Any]) -> Float64:
    return np.asarray(samples, dtype=np.float64)
