"""Figure of the importance of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.report.style import BLUE, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20  # largest number of features in the figure


def importance_figure(
    names: Sequence[str], importance: npt.ArrayLike, *, title: str, label: str = "macro AUROC lost when permuted"
) -> Figure:
    """Draw the most important features as bars.

    Parameters
    ----------
    names : sequence of F str
    importance : array-like, shape (F,)
        Decrease of the AUROC when the values of the feature are permuted, or another measure.
    title : str
        Title of the figure.
    label : str
        Name and unit of the measure.
    """
    values = np.asarray(importance, dtype=np.float64)
    order = np.argsort(-values, kind="stable")[:MOST]
    with use_style():
        figure = new_figure(8, 1.2 + 0.28 * len(order))
        axes = figure.add_subplot()
        axes.barh([names[k] for k in order], values[order], color=BLUE)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=label)
        axes.set_title(title)
    return figure
