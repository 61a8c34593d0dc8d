"""Runs against each other, over their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.report.figures import smooth
from einthoven.report.style import new_figure, series_style, use_style
from einthoven.report.trials import MANY, Trial, by_label, label_ends, mean_series

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def race_figure(
    trials: Sequence[Trial],
    *,
    title: str,
    metrics: Sequence[str] = ("train/loss", "val/macro_auroc"),
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Draw metrics over the steps, one panel a metric and one line a configuration: the mean over its seeds.

    Parameters
    ----------
    title : str
        The question that the figure answers.
    metrics : sequence of str
        What to draw, from above to below. Those recorded at every step are smoothed over a twentieth of the run.
    names : mapping, optional
        See `Trial.label`.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(10, 3.6 * len(metrics) + 0.8)
        panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axes, metric in zip(panels, metrics, strict=True):
            ends, shown = [], []
            for i, (label, members) in enumerate(groups.items()):
                steps, values = mean_series(members, metric)
                often = len(values) > MANY and metric != "watch/optim/lr"
                drawn = smooth(values, len(values) // 20) if often else values
                style = series_style(i)
                axes.plot(steps, drawn, marker=None if len(values) > MANY else "o", markersize=4, **style)
                ends.append((float(drawn[-1]), label, style))
                shown.append(drawn[len(drawn) // 20 :])
            axes.set_ylabel(metric)
            axes.margins(x=0.01)
            if metric != "watch/optim/lr":  # one that diverged, or the first steps, must not flatten the others
                finite = np.concatenate(shown)
                low, high = np.quantile(finite[np.isfinite(finite)], [0.0, 0.98])
                axes.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-9)
            figure.draw_without_rendering()
            label_ends(axes, ends)
        panels[-1].set_xlabel("step")
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
    return figure
