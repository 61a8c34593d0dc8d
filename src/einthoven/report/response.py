"""Figures of the response to an option: metrics over its values, and the learning-rate range test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from einthoven.errors import UserError
from einthoven.report.figures import smooth
from einthoven.report.style import new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, by_label, label_ends, mean_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY_TICKS = 16  # up to this number of values, each value has a tick


def response_figure(
    trials: Sequence[Trial],
    *,
    option: str,
    title: str,
    xlabel: str,
    metrics: Sequence[str] = ("val/macro_auroc",),
    names: Mapping[str, str] | None = None,
    log: bool = False,
) -> Figure:
    """Draw final metrics over an option: all runs, and their mean and standard deviation over the seeds.

    Runs that also differ in other options have separate lines.

    Parameters
    ----------
    option : str
        An option with numbers, such as ``pca.k``.
    title, xlabel : str
        The question that the figure answers, and the meaning of the option.
    metrics : sequence of str
        Final metrics, one panel each, from top to bottom.
    names : mapping, optional
        See `Trial.label`. The name of a metric is the label of its axis.
    log : bool
        Use a logarithmic axis for the option.

    Raises
    ------
    UserError
        If the option has no numbers, or a run does not have a metric.
    """
    names = names or {}
    groups = by_label(trials, names, leave_out=option)
    with use_style():
        figure = new_figure(9, 1.4 + 3.3 * len(metrics), title)
        places = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axes, metric in zip(places, metrics, strict=True):
            if log:
                axes.set_xscale("log")
            ends = []
            for i, (label, members) in enumerate(groups.items()):
                x, mean, spread = _draw(axes, members, option, metric, series_style(i))
                ends.append((float(mean[-1]), label, series_style(i)))
                if len(x) <= MANY_TICKS and not log:
                    axes.set_xticks(x)
            axes.set_ylabel(names.get(metric, metric))
            figure.draw_without_rendering()
            if len(groups) > 1:
                label_ends(axes, ends)
            elif axes is places[0] and spread.any():
                axes.set_title(_answer(x, mean, spread))
        places[-1].set_xlabel(xlabel)
    return figure


def _answer(x: FloatArray, mean: FloatArray, spread: FloatArray) -> str:
    """Return the best value of the option as text, and the first value within its spread over the seeds."""
    best = int(np.argmax(mean))
    first = x[mean >= mean[best] - spread[best]][0]
    text = f"Highest at {x[best]:g}: {mean[best]:.3f} ± {spread[best]:.3f}"
    return text if first == x[best] else f"{text}; the first within that spread is {first:g}"


def _draw(
    axes: Axes, trials: Sequence[Trial], option: str, metric: str, style: Mapping[str, Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw the runs of one line. Return the values of the option, and mean and standard deviation of the metric."""
    x = np.array([trial.number(option) for trial in trials])
    y = np.array([trial.last(metric) for trial in trials])
    values = np.unique(x)
    runs_of_values = [y[x == value] for value in values]
    mean = np.array([runs.mean() for runs in runs_of_values])
    spread = np.array([runs.std(ddof=1) if len(runs) > 1 else 0.0 for runs in runs_of_values])
    axes.fill_between(values, mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(values, mean, marker="o", markersize=6, **style)
    axes.plot(x, y, "o", color=style["color"], alpha=0.35, markersize=4, linestyle="none")
    return values, mean, spread


def range_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the training loss over the learning rate of a range test, and mark the steepest descent.

    The marked rate is the one at which the smoothed loss falls fastest per decade, before its minimum. Smith 2017,
    "Cyclical learning rates", section 3.3, finds it in the same curve by eye.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(9, 5.5, title)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        ends = []
        starts = []
        lows = []
        for i, (label, members) in enumerate(groups.items()):
            _, rates = mean_series(members, "watch/optim/lr")
            _, losses = mean_series(members, "train/loss")
            curve = smooth(losses, max(5, len(losses) // 15))
            style = series_style(i)
            axes.plot(rates, curve, **style)
            marked = _steepest(rates, curve)
            axes.plot(rates[marked], curve[marked], "o", markersize=9, color=style["color"])
            axes.annotate(
                f"{rates[marked]:.1g}",
                (rates[marked], curve[marked]),
                xytext=(8, 6),
                textcoords="offset points",
                color=style["color"],
            )
            ends.append((float(curve[-1]), label, style))
            starts.append(curve[0])
            lows.append(np.nanmin(curve))
        axes.set(xlabel="learning rate, rising by the same factor at every step", ylabel="train/loss, smoothed")
        # After the best rate the loss explodes. The limits leave this part out.
        low = min(lows)
        high = max(starts)
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        figure.draw_without_rendering()
        label_ends(axes, ends)
    return figure


def _steepest(rates: FloatArray, losses: FloatArray) -> int:
    """Return the index of the steepest descent of the loss per decade of the learning rate, before its minimum.

    There must be three rates or more, and they must increase.
    """
    if len(rates) < 3 or not (np.diff(rates) > 0).all():
        raise UserError("figure: a range test needs a learning rate that increases over three or more steps.")
    # The slope is smoothed so that a single easy batch does not count.
    slope = smooth(np.gradient(losses, np.log10(rates)), len(rates) // 8)
    end = max(2, int(np.nanargmin(losses)))
    return int(np.nanargmin(slope[:end]))
