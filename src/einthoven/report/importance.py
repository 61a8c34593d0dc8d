"""The figure of what a model of features leans on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.report.style import BLUE, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20


def importance_figure(names: Sequence[str], importance: npt.ArrayLike, *, title: str) -> Figure:
    """Bars of the most important features.

    Parameters
    ----------
    names : sequence of F str
    importance : array-like, shape (F,)
        AUROC lost when the feature is permuted.
    title : str
        The line above.
    """
    values = np.asarray(importance, dtype=np.float64)
    order = np.argsort(-values, kind="stable")[:SHOWN]
    with use_style():
        figure = new_figure(8, 1.2 + 0.28 * len(order))
        axes = figure.add_subplot()
        axes.barh([names[k] for k in order], values[order], color=BLUE)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="macro AUROC lost when permuted")
        axes.set_title(title)
    return figure
