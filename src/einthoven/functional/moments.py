"""Mean and covariance of samples that need not fit into memory together: of the leads, and of short windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

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
