"""Figure of the positions of tokens: how similar each position is to each other one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.style import BLUE, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def positions_figure(similarity: npt.ArrayLike, *, title: str) -> Figure:
    """Draw the similarity of positions as a matrix, and its mean over pairs of the same distance.

    Parameters
    ----------
    similarity : array-like, shape (N, N)
        Cosines of the angles between two positions, from -1 to 1; 1 if they are alike.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If it is not a square matrix.
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise UserError(f"A figure of positions needs a matrix (N, N), found {matrix.shape}.")
    by_distance = [np.diagonal(matrix, distance).mean() for distance in range(len(matrix))]
    with use_style():
        figure = new_figure(12, 5)
        square, line = figure.subplots(1, 2)
        image = square.imshow(matrix, cmap="RdBu_r", vmin=-1.0, vmax=1.0)
        square.set(xlabel="token", ylabel="token")
        square.set_title(title)
        square.grid(visible=False)
        for axis in (square.xaxis, square.yaxis, line.xaxis):
            axis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, ax=square, label="cosine: 1 alike, 0 unrelated, \N{MINUS SIGN}1 opposite")
        line.plot(range(len(matrix)), by_distance, color=BLUE)
        line.set(xlabel="distance in tokens", ylabel="mean cosine between two positions", ylim=(-1.05, 1.05))
        line.set_title("By distance (1: the order has no effect)")
    return figure
