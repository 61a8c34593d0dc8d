"""Figure of the metrics of several runs over the steps."""

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
    """Draw metrics over the steps: one panel per metric, one line per configuration (the mean over its seeds).

    Parameters
    ----------
    title : str
        The question that the figure answers.
    metrics : sequence of str
        Metrics to draw, from top to bottom. A long series is smoothed over a twentieth of its length.
    names : mapping, optional
        See `Trial.label`.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(10, 3.6 * len(metrics) + 0.8, title)
        panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axes, metric in zip(panels, metrics, strict=True):
            is_rate = metric == "watch/optim/lr"
            ends = []
            curves_after_start = []
            for i, (label, members) in enumerate(groups.items()):
                steps, values = mean_series(members, metric)
                is_long = len(values) > MANY
                curve = smooth(values, len(values) // 20) if is_long and not is_rate else values
                style = series_style(i)
                axes.plot(steps, curve, marker=None if is_long else "o", markersize=4, **style)
                ends.append((float(curve[-1]), label, style))
                curves_after_start.append(curve[len(curve) // 20 :])
            axes.set_ylabel(metric)
            axes.margins(x=0.01)

            # The first steps, or a run that diverged, must not flatten the other curves.
            if not is_rate:
                values = np.concatenate(curves_after_start)
                low, high = np.quantile(values[np.isfinite(values)], [0.0, 0.98])
                axes.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-9)
            figure.draw_without_rendering()
            label_ends(axes, ends)
        panels[-1].set_xlabel("step")
    return figure
