"""The figure of how much each option of a sweep has mattered."""

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
    """Bars of the share of the variance between configurations that follows from each option alone.

    The rest, a grey bar, follows from combinations of options. Below stands what the same configuration differs by
    from seed to seed: options that move less than that have not been told from chance.

    Parameters
    ----------
    options : sequence of mapping
        Option -> value of each run.
    values : array-like, shape (runs,)
        What they are judged by.
    metric : str
        Name of that.
    """
    judged = np.asarray(values, dtype=np.float64)
    shares = option_importance(options, judged.tolist())
    bars = {**shares, "combinations": max(0.0, 1.0 - sum(shares.values()))}
    groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for each, value in zip(options, judged, strict=True):
        groups.setdefault(tuple(sorted(each.items())), []).append(float(value))
    between = float(np.std([np.mean(group) for group in groups.values()], ddof=1)) if len(groups) > 1 else 0.0
    repeated = [np.var(group, ddof=1) for group in groups.values() if len(group) > 1]
    seeds = f", {np.sqrt(np.mean(repeated)):.2g} from seed to seed" if repeated else ""
    with use_style():
        figure = new_figure(8, 1.6 + 0.4 * len(bars))
        axes = figure.add_subplot()
        drawn = axes.barh(list(bars), [100 * share for share in bars.values()], color=BLUE)
        drawn[-1].set_color(FAINT)
        axes.bar_label(drawn, fmt="%.0f %%", padding=4)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 112), xlabel=f"% of the variance of {metric} between {len(groups)} configurations")
        axes.set_xticks(range(0, 101, 20))
        axes.set_title("Which option mattered?")
        figure.supxlabel(f"standard deviation: {between:.2g} between configurations{seeds}", fontsize=11)
    return figure
