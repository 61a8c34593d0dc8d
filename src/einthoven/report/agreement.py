"""Agreement of predicted and true quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.style import BLUE, FAINT, INK, VERMILLION, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def agreement_figure(true: npt.ArrayLike, error: npt.ArrayLike, name: str, unit: str) -> Figure:
    """Draw predicted against true values, and the difference against the mean of both.

    The left panel has the line on which both are equal. The right panel has the mean difference (the bias) and the
    limits that contain 95 % of a normal distribution.

    Parameters
    ----------
    true, error : array-like, shape (n,)
        True values, and predicted minus true values. For angles, the error is the smaller arc, so that the points are
        near the line.
    name, unit : str
        Name and unit of the quantity.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the shapes differ or there are no values.

    References
    ----------
    Bland & Altman, "Statistical methods for assessing agreement between two methods of clinical measurement",
    Lancet 1986, figure 2.
    """
    x = np.asarray(true, dtype=np.float64)
    e = np.asarray(error, dtype=np.float64)
    if x.ndim != 1 or x.shape != e.shape or not len(x):
        raise UserError(f"A figure of agreement needs two series, found shapes {x.shape} and {e.shape}.")
    predicted = x + e
    ends = [min(x.min(), predicted.min()), max(x.max(), predicted.max())]
    bias = float(e.mean())
    limit = 1.96 * float(e.std())
    dots = {"s": float(np.clip(2e4 / len(x), 4, 30)), "color": BLUE, "alpha": 0.35, "linewidths": 0}
    with use_style():
        figure = new_figure(11, 5)
        both, difference = figure.subplots(1, 2)
        both.plot(ends, ends, color=FAINT, linewidth=1.5)
        both.scatter(x, predicted, **dots)
        both.set(xlabel=f"true ({unit})", ylabel=f"predicted ({unit})", aspect="equal")
        both.set_title(f"{name} of {len(x):,} records")
        difference.scatter(x + e / 2, e, **dots)
        for value, style, color in ((bias, "-", VERMILLION), (bias - limit, "--", INK), (bias + limit, "--", INK)):
            difference.axhline(value, color=color, linewidth=1.2, linestyle=style)
            difference.annotate(
                f"{value:+.3g}",
                (1.0, value),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
                color=color,
            )
        difference.set(xlabel=f"mean of both ({unit})", ylabel=f"predicted − true ({unit})")
        difference.set_title(f"Bias and limits of agreement; MAE {np.abs(e).mean():.3g} {unit}")
    return figure
