"""Principal component analysis: from samples, from moments, or by random projection where neither fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


class Moments(NamedTuple):
    """Mean ``(d,)`` and covariance ``(d, d)``, normalized by the number of samples."""

    mean: Float64
    covariance: Float64


class _Running:
    """Mean and scatter of samples that come in pieces, which need not fit into memory together.

    Two passes within a piece, and the pairwise update of Chan, Golub & LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances", 1979, between pieces, all in float64: no cancellation,
    whatever the offset.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(0)
        self.scatter: Float64 = np.zeros((0, 0))

    def add(self, samples: Float64) -> None:
        """Take samples ``(d, n)`` in."""
        added = samples.shape[1]
        if not added:
            return
        added_mean = samples.mean(axis=1)
        samples = samples - added_mean[:, None]  # not in place: it may be a view of the caller's array
        added_scatter = samples @ samples.T
        if self.count == 0:
            self.count, self.mean, self.scatter = added, added_mean, added_scatter
            return
        gap = added_mean - self.mean
        total = self.count + added
        self.mean = self.mean + gap * (added / total)
        self.scatter = self.scatter + added_scatter + np.outer(gap, gap) * (self.count * added / total)
        self.count = total

    def moments(self, scale: float, what: str) -> Moments:
        """Mean and covariance, in another unit."""
        if self.count == 0:
            raise ValueError(f"no samples to compute the mean and covariance of {what} from")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scatter).all()):
            raise ValueError("the signals contain samples that are not finite, so their covariance is undefined")
        return Moments(self.mean * scale, self.scatter * (scale * scale / self.count))


def lead_moments(chunks: Iterable[NDArray[Any]], scale: float = 1.0) -> LeadMoments:
    """Accumulate the moments of the leads, over records that need not fit into memory together.

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
    running = _Running()
    for piece in _pieces(chunks, _RECORDS_AT_ONCE):
        running.add(np.moveaxis(piece, 1, 0).reshape(piece.shape[1], -1))
    mean, covariance = running.moments(scale, "the leads")
    scalar_mean = float(mean.mean())
    # Law of total variance over the leads, which all have the same number of samples.
    variance = float(np.diag(covariance).mean() + ((mean - scalar_mean) ** 2).mean())
    return LeadMoments(mean, covariance, scalar_mean, variance**0.5)


def window_moments(chunks: Iterable[NDArray[Any]], width: int, stride: int = 1, scale: float = 1.0) -> Moments:
    """Accumulate the moments of short windows of single leads, all leads and records pooled.

    The eigenvectors of this covariance are the principal shapes of a window: Karhunen-Loève functions, as
    used on ECGs by Moody and Mark 1989, "QRS morphology representation and noise estimation using the
    Karhunen-Loève transform".

    Parameters
    ----------
    chunks, scale
        As in `lead_moments`.
    width, stride
        Samples of a window, and from the beginning of one to that of the next.

    Raises
    ------
    ValueError
        If no record is as long as a window, or a sample is not finite.
    """
    running = _Running()
    for piece in _pieces(chunks, max(1, _RECORDS_AT_ONCE // width)):
        if piece.shape[2] >= width:
            windows = np.lib.stride_tricks.sliding_window_view(piece, width, axis=2)[:, :, ::stride]
            running.add(windows.reshape(-1, width).T)
    return running.moments(scale, f"windows of {width} samples")


def sample_moments(chunks: Iterable[NDArray[Any]]) -> Moments:
    """Accumulate the moments of samples ``(n, d)``: with `PCA.fit_covariance`, an exact incremental PCA.

    Raises
    ------
    ValueError
        If there is no sample, or one that is not finite.
    """
    running = _Running()
    for chunk in chunks:
        running.add(np.asarray(chunk, dtype=np.float64).T)
    return running.moments(1.0, "the samples")


def _pieces(chunks: Iterable[NDArray[Any]], size: int) -> Iterable[Float64]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield np.asarray(chunk[start : start + size], dtype=np.float64)


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
        return self._keep(np.asarray(mean, dtype=np.float64), components[:kept], variances[:kept], variances.sum())

    def _keep(self, mean: Float64, components: Float64, variances: Float64, total: float) -> Self:
        """Take components ``(k, d)`` and their variances over, with the signs that the class promises."""
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        self.mean_ = mean
        self.components_ = components * np.where(largest < 0, -1.0, 1.0)
        self.explained_variance_ = variances
        self.explained_variance_ratio_ = variances / (total if total > 0 else 1.0)
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


def randomized_pca(
    chunks: Callable[[], Iterable[NDArray[Any]]], k: int, *, oversampling: int = 10, iterations: int = 3, seed: int = 0
) -> PCA:
    """Find the first `k` principal components of samples too many, and too long, for a covariance matrix.

    Randomized subspace iteration (Halko, Martinsson and Tropp 2011, "Finding structure with randomness",
    algorithm 4.4) on the centred samples, which are read `iterations` + 3 times, in float64: for records as
    vectors of 12 T numbers, whose covariance would be (12 T)². It holds d (k + oversampling) numbers. Exact
    where the samples have no more than k + oversampling dimensions; else the error falls geometrically with
    `iterations`, the faster the steeper the spectrum.

    Parameters
    ----------
    chunks
        Called once for each reading; gives arrays ``(n, d)``, `d` the same in all.
    k
        Number of components.
    oversampling
        Dimensions of the random subspace beyond `k`.
    iterations
        Power iterations.
    seed
        Of the random subspace.

    Returns
    -------
    PCA
        Fitted, with the unbiased covariance (normalized by n - 1).

    Raises
    ------
    ValueError
        If there are fewer than 2 samples, one is not finite, or `k` is not within 1 ... d.
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros(0)
    for samples in map(_as_float64, chunks()):
        if not len(samples):
            continue
        total, added = count + len(samples), samples.mean(axis=0)
        if not np.isfinite(added).all():
            raise ValueError("PCA: the samples contain values that are not finite")
        mean = mean if count else np.zeros_like(added)
        gap = added - mean
        inner = ((samples - added) ** 2).sum(axis=0) + gap**2 * (count * len(samples) / total)
        scatter = scatter + inner if count else inner
        mean, count = mean + gap * (len(samples) / total), total
    if count < 2:
        raise ValueError(f"PCA needs at least 2 samples, found {count}")
    if not 1 <= k <= len(mean):
        raise ValueError(f"PCA: k must lie within 1 and {len(mean)}, the number of dimensions, found {k}")

    width = min(k + oversampling, len(mean))
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(mean), width)))[0]
    for _ in range(iterations + 1):
        image = np.zeros_like(basis)
        for samples in map(_as_float64, chunks()):
            centred = samples - mean
            image += centred.T @ (centred @ basis)
        basis = np.linalg.qr(image)[0]
    small = np.zeros((width, width))
    for samples in map(_as_float64, chunks()):
        scores = (samples - mean) @ basis
        small += scores.T @ scores
    values, vectors = np.linalg.eigh(small / (count - 1))
    variances = np.maximum(values[::-1], 0.0)[:k]
    return PCA(k)._keep(mean, (basis @ vectors[:, ::-1][:, :k]).T, variances, float(scatter.sum()) / (count - 1))


def _as_float64(samples: NDArray[Any]) -> Float64:
    return np.asarray(samples, dtype=np.float64)
