"""Principal component analysis (PCA).

There are three ways to fit it: from samples, from their mean and covariance, or by random projection. The random
projection is for samples whose covariance matrix does not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# A chunk is converted to float64 in pieces of this many records, so that memory stays bounded for chunks of any size.
_RECORDS_PER_PIECE = 256

# Integers are converted in smaller pieces, of about this many samples of a lead, which stay in the cache of a core.
_SAMPLES_IN_CACHE = 2**14


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


class Moments(NamedTuple):
    """Mean ``(d,)`` and covariance ``(d, d)``, normalized by the number of samples."""

    mean: Float64
    covariance: Float64


class _RunningMoments:
    """Mean and scatter matrix of samples that arrive in pieces.

    All samples together need not fit into memory. Each piece is centred on its own mean. The pieces are combined by
    the pairwise update of Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979. Everything is float64. So a large offset of the samples causes no cancellation.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(0)
        self.scatter: Float64 = np.zeros((0, 0))

    def add(self, samples: Float64, *, overwrite: bool = False) -> None:
        """Add samples ``(d, n)``. With `overwrite`, the array is used as working memory."""
        piece_count = samples.shape[1]
        if not piece_count:
            return

        piece_mean = samples.mean(axis=1)
        centred = np.subtract(samples, piece_mean[:, None], out=samples if overwrite else None)
        self._combine(piece_count, piece_mean, centred @ centred.T)

    def add_sums(self, piece_count: int, sums: Float64, products: Float64) -> None:
        """Add samples, given their sums ``(d,)`` and the sums of their products ``(d, d)``.

        The sums must be exact, as those of integers are. Then the subtraction of the means loses no digits.
        """
        self._combine(piece_count, sums / piece_count, products - np.outer(sums, sums) / piece_count)

    def _combine(self, piece_count: int, piece_mean: Float64, piece_scatter: Float64) -> None:
        if self.count == 0:
            self.count = piece_count
            self.mean = piece_mean
            self.scatter = piece_scatter
            return

        # The two means differ, which adds a term to the sum of the two scatter matrices.
        gap = piece_mean - self.mean
        total = self.count + piece_count
        self.mean = self.mean + gap * (piece_count / total)
        self.scatter = self.scatter + piece_scatter + np.outer(gap, gap) * (self.count * piece_count / total)
        self.count = total

    def moments(self, scale: float, quantity: str) -> Moments:
        """Return the mean and the covariance, both multiplied into another unit by `scale`."""
        if self.count == 0:
            raise ValueError(f"no samples to compute the mean and covariance of {quantity} from")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scatter).all()):
            raise ValueError("the signals contain samples that are not finite, so their covariance is undefined")
        return Moments(self.mean * scale, self.scatter * (scale * scale / self.count))


def lead_moments(chunks: Iterable[NDArray[Any]], scale: float = 1.0) -> LeadMoments:
    """Accumulate the moments of the leads. The records need not fit into memory together.

    Parameters
    ----------
    chunks
        Arrays ``(n, C, T)``, integer or floating. `n` and `T` may differ between chunks.
    scale
        Factor from the unit of the chunks to the unit of the result. It is 1e-3 for stored microvolts and moments in
        millivolts.

    Raises
    ------
    ValueError
        If there is no sample, or if a sample is not finite.
    """
    running = _RunningMoments()
    leads_first = np.empty((0, 0, 0))
    for piece in _pieces(chunks, _RECORDS_PER_PIECE):
        records, leads, samples = piece.shape
        if piece.dtype == np.int16:
            if piece.size:
                running.add_sums(records * samples, *_exact_sums(piece))
            continue
        # New memory costs more than the arithmetic, so the pieces of one shape use the same array.
        if leads_first.shape != (leads, records, samples):
            leads_first = np.empty((leads, records, samples))
        np.copyto(leads_first, np.moveaxis(piece, 1, 0))
        running.add(leads_first.reshape(leads, -1), overwrite=True)
    mean, covariance = running.moments(scale, "the leads")

    # By the law of total variance, the overall variance is the mean of the variances plus the variance of the means.
    # This holds because all leads have the same number of samples.
    scalar_mean = float(mean.mean())
    variance = float(np.diag(covariance).mean() + ((mean - scalar_mean) ** 2).mean())
    return LeadMoments(mean, covariance, scalar_mean, variance**0.5)


def _exact_sums(piece: NDArray[np.int16]) -> tuple[Float64, Float64]:
    """Return the sums ``(C,)`` of the samples of each lead of ``(n, C, T)``, and those of their products ``(C, C)``.

    A float64 holds each integer below 2^53, so all sums of up to 2^23 products of int16 are exact.
    """
    records, leads, samples = piece.shape
    at_once = max(1, _SAMPLES_IN_CACHE // samples)
    buffer = np.empty((leads, min(at_once, records), samples))
    sums = np.zeros(leads)
    products = np.zeros((leads, leads))
    for first in range(0, records, at_once):
        part = piece[first : first + at_once]
        values = buffer[:, : len(part)]
        np.copyto(values, np.moveaxis(part, 1, 0))
        by_lead = values.reshape(leads, -1)
        sums += by_lead.sum(axis=1)
        products += by_lead @ by_lead.T
    return sums, products


def window_moments(chunks: Iterable[NDArray[Any]], width: int, stride: int = 1, scale: float = 1.0) -> Moments:
    """Accumulate the moments of short windows of single leads. All leads and all records are pooled.

    The eigenvectors of this covariance are the principal shapes of a window. They are called Karhunen-Loève functions.
    Moody and Mark 1989, "QRS morphology representation and noise estimation using the Karhunen-Loève transform", use
    them on ECGs.

    Parameters
    ----------
    chunks, scale
        As in `lead_moments`.
    width
        Length of a window, in samples.
    stride
        Distance between the starts of two successive windows, in samples.

    Raises
    ------
    ValueError
        If every record is shorter than a window, or if a sample is not finite.
    """
    running = _RunningMoments()
    records_per_piece = max(1, _RECORDS_PER_PIECE // width)
    for piece in _pieces(chunks, records_per_piece):
        if piece.shape[2] >= width:
            values = np.asarray(piece, dtype=np.float64)
            windows = np.lib.stride_tricks.sliding_window_view(values, width, axis=2)[:, :, ::stride]
            running.add(windows.reshape(-1, width).T)
    return running.moments(scale, f"windows of {width} samples")


def _pieces(chunks: Iterable[NDArray[Any]], size: int) -> Iterable[NDArray[Any]]:
    """Yield the records of all chunks as arrays of at most `size` records."""
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield np.asarray(chunk[start : start + size])


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
        """Fit the mean ``(d,)`` and covariance ``(d, d)`` of samples, for example from `lead_moments`.

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
        samples: Float64 = coordinates @ self.components_ + self.mean_
        return samples


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
    # First pass: the mean and the total variance. The update is that of `_RunningMoments`, for the diagonal only.
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
