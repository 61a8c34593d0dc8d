"""Figure of the importance of each option of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.evaluation.option_importance import option_importance
from einthoven.report.style import BLUE, FAINT, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def option_importance_figure(options: Sequence[Mapping[str, str]], values: npt.ArrayLike, *, metric: str) -> Figure:
    """Draw, for each option, the share of the variance between configurations that the option alone explains.

    A grey bar shows the rest, which combinations of options explain. The line below the axis has the standard
    deviation between seeds of one configuration. An option with a smaller effect can be chance.

    Parameters
    ----------
    options : sequence of mapping
        Option -> value, for each run.
    values : array-like, shape (runs,)
        Value of the metric of each run.
    metric : str
        Name of the metric.
    """
    scores = np.asarray(values, dtype=np.float64)
    shares = option_importance(options, scores.tolist())
    bars = {**shares, "combinations": max(0.0, 1.0 - sum(shares.values()))}

    # Runs with the same options differ only in their seed.
    groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for options_of_run, score in zip(options, scores, strict=True):
        groups.setdefault(tuple(sorted(options_of_run.items())), []).append(float(score))
    between = float(np.std([np.mean(group) for group in groups.values()], ddof=1)) if len(groups) > 1 else 0.0
    variances = [np.var(group, ddof=1) for group in groups.values() if len(group) > 1]
    seeds = f", {np.sqrt(np.mean(variances)):.2g} from seed to seed" if variances else ""
    with use_style():
        figure = new_figure(8, 1.6 + 0.4 * len(bars))
        axes = figure.add_subplot()
        rectangles = axes.barh(list(bars), [100 * share for share in bars.values()], color=BLUE)
        rectangles[-1].set_color(FAINT)
        axes.bar_label(rectangles, fmt="%.0f %%", padding=4)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 112), xlabel=f"% of the variance of {metric} between {len(groups)} configurations")
        axes.set_xticks(range(0, 101, 20))
        axes.set_title("Which option mattered?")
        figure.supxlabel(f"standard deviation: {between:.2g} between configurations{seeds}", fontsize=11)
    return figure
