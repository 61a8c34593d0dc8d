"""Figures of distributions that change over the epochs: weights, gradients, activations, probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.style import VERMILLION, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 200
"""The figure shows at most this many epochs, at even distances."""

_FEW = 0.1  # percent of the values


def histogram_figure(
    epochs: npt.ArrayLike, counts: npt.ArrayLike, edges: npt.ArrayLike, *, title: str, label: str, log: bool
) -> Figure:
    """Draw a distribution over the epochs: one column for each epoch, darker where more values are.

    A line marks the median of each epoch. On a logarithmic axis, the first bin holds the zeros. It is not drawn: the
    title says how many there are.

    Parameters
    ----------
    epochs : array-like, shape (n,)
        Two or more, increasing.
    counts : array-like, shape (n, bins)
    edges : array-like, shape (bins + 1,)
    title : str
    label : str
        Name of the values.
    log : bool
        Whether the axis of the values is logarithmic. Then bins at its ends are left out if few values are in them.

    Raises
    ------
    UserError
        If there are fewer than two epochs.
    """
    from matplotlib.ticker import MaxNLocator

    x = np.asarray(epochs, np.float64)
    numbers = np.asarray(counts, np.float64)
    limits = np.asarray(edges, np.float64)
    if len(x) < 2:
        raise UserError(f"A histogram over the epochs needs two epochs or more; found {len(x)}.")
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_COLUMNS)).astype(int))
    x = x[chosen]
    numbers = numbers[chosen]
    shares = 100 * numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1)

    medians = [_median(row, limits) for row in shares]
    if log:
        zeros = shares[:, 0]
        if zeros.max() >= 1:
            title += f" ({zeros[-1]:.0f} % are zero in the last epoch)"
        medians = [median if median >= limits[1] else np.nan for median in medians]
        used = 1 + np.flatnonzero((shares[:, 1:] >= _FEW).any(axis=0))
        first = used[0] if len(used) else 1
        last = used[-1] if len(used) else shares.shape[1] - 1
        shares = shares[:, first : last + 1]
        limits = limits[first : last + 2]

    # A column reaches half of the way to its neighbours.
    middles = (x[1:] + x[:-1]) / 2
    columns = np.concatenate([[2 * x[0] - middles[0]], middles, [2 * x[-1] - middles[-1]]])
    with use_style():
        figure = new_figure(9, 4.2)
        axes = figure.add_subplot()
        image = axes.pcolormesh(columns, limits, np.ma.masked_equal(shares.T, 0.0), cmap="Blues", rasterized=True)
        axes.plot(x, medians, color=VERMILLION, linewidth=1.5, label="median")
        axes.set_yscale("log" if log else "linear")
        axes.grid(visible=False)
        axes.set(xlabel="epoch", ylabel=label, title=title, ylim=(limits[0], limits[-1]))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper right")
        figure.colorbar(image, ax=axes, label="share of the values (%)", pad=0.02)
    return figure


def _median(shares: npt.NDArray[np.float64], limits: npt.NDArray[np.float64]) -> float:
    """Return the middle of the bin with the median; not a number without values."""
    sums = np.cumsum(shares)
    if not sums[-1]:
        return float("nan")
    k = int(np.searchsorted(sums, sums[-1] / 2))
    return float((limits[k] + limits[k + 1]) / 2)
