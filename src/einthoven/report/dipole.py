"""Heart vectors: true and predicted loops in three planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.style import FAINT, INK, VERMILLION, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLANES = (("frontal", 0, 1), ("horizontal", 0, 2), ("sagittal", 2, 1))
"""Name of a plane, and the axes of the vector that are drawn to the right and downwards (x left, y feet, z back)."""

DIRECTIONS = ("left", "feet", "back")


def dipole_figure(true: npt.ArrayLike, predicted: npt.ArrayLike, titles: Sequence[str]) -> Figure:
    """Draw the loops of true and predicted heart vectors, a row for each record.

    Parameters
    ----------
    true, predicted : array-like, shape (n, 3, T)
        In mV; x to the left, y to the feet, z to the back.
    titles : sequence of n str

    Raises
    ------
    UserError
        If the arrays have different shapes, or are no vectors.
    """
    true_vectors = np.asarray(true, np.float64)
    predicted_vectors = np.asarray(predicted, np.float64)
    is_vector = true_vectors.ndim == 3 and true_vectors.shape[1] == 3
    if not is_vector or true_vectors.shape != predicted_vectors.shape or len(true_vectors) != len(titles):
        raise UserError(
            f"Heart vectors of shapes {true_vectors.shape} and {predicted_vectors.shape} with {len(titles)} titles: "
            "expected two arrays (n, 3, T) and n titles."
        )
    with use_style():
        figure = new_figure(11, 3.6 * len(true_vectors))
        rows = figure.subplots(len(true_vectors), len(PLANES), squeeze=False)
        for row, title, vector, guess in zip(rows, titles, true_vectors, predicted_vectors, strict=True):
            for axes, (plane, right, down) in zip(row, PLANES, strict=True):
                axes.plot(vector[right], vector[down], color=INK, linewidth=1.2, label="true")
                axes.plot(guess[right], guess[down], color=VERMILLION, linewidth=1.0, alpha=0.8, label="predicted")
                axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
                axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
                axes.set_aspect("equal", adjustable="datalim")
                axes.invert_yaxis()
                axes.set(xlabel=f"{DIRECTIONS[right]} (mV)", ylabel=f"{DIRECTIONS[down]} (mV)")
                axes.set_title(plane)
            row[0].set_title(f"{title}: frontal")
        rows[0][-1].legend()
    return figure
