"""What an option does to a result: metrics against its values, with the spread over seeds."""

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

MANY_TICKS = 16  # values of an option, up to which each is named on its axis


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
    """Draw final metrics against an option: a line for what else differs, every run, mean and SD over the seeds.

    Parameters
    ----------
    option : str
        An option with numbers, such as ``pca.k``.
    title, xlabel : str
        The question that the figure answers; what the option means.
    metrics : sequence of str
        Final metrics, one panel each, from above to below.
    names : mapping, optional
        See `Trial.label`; a metric's name stands for its axis.
    log : bool
        Draw the option on a logarithmic axis.

    Raises
    ------
    UserError
        If the option has no numbers, or the runs lack a metric.
    """
    names = names or {}
    groups = by_label(trials, names, leave_out=option)
    with use_style():
        figure = new_figure(9, 1.4 + 3.3 * len(metrics))
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
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
    return figure


def _answer(x: FloatArray, mean: FloatArray, spread: FloatArray) -> str:
    """The value of the highest mean, and the first that comes as near to it as its seeds to each other."""
    best = int(np.argmax(mean))
    first = x[mean >= mean[best] - spread[best]][0]
    found = f"Highest at {x[best]:g}: {mean[best]:.3f} ± {spread[best]:.3f}"
    return found if first == x[best] else f"{found}; the first within that spread is {first:g}"


def _draw(
    axes: Axes, trials: Sequence[Trial], option: str, metric: str, style: Mapping[str, Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw the runs of one line; return the values of the option, mean and SD of the metric at each."""
    x = np.array([trial.number(option) for trial in trials])
    y = np.array([trial.last(metric) for trial in trials])
    values = np.unique(x)
    mean = np.array([y[x == value].mean() for value in values])
    spread = np.array([y[x == value].std(ddof=1) if (x == value).sum() > 1 else 0.0 for value in values])
    axes.fill_between(values, mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(values, mean, marker="o", markersize=6, **style)
    axes.plot(x, y, "o", color=style["color"], alpha=0.35, markersize=4, linestyle="none")
    return values, mean, spread


def range_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the training loss against the learning rate of a range test, and mark where it falls fastest.

    The rate suggested is that of the steepest descent of the smoothed loss per decade, before its minimum; Smith 2017,
    "Cyclical learning rates", section 3.3, reads it off the same curve by eye.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(9, 5.5)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        ends, starts, lows = [], [], []
        for i, (label, members) in enumerate(groups.items()):
            rates, losses = mean_series(members, "watch/optim/lr")[1], mean_series(members, "train/loss")[1]
            curve, style = smooth(losses, max(5, len(losses) // 15)), series_style(i)
            axes.plot(rates, curve, **style)
            at = steepest(rates, curve)
            axes.plot(rates[at], curve[at], "o", markersize=9, color=style["color"])
            axes.annotate(
                f"{rates[at]:.1g}",
                (rates[at], curve[at]),
                xytext=(8, 6),
                textcoords="offset points",
                color=style["color"],
            )
            ends.append((float(curve[-1]), label, style))
            starts.append(curve[0])
            lows.append(np.nanmin(curve))
        axes.set(xlabel="learning rate, rising by the same factor at every step", ylabel="train/loss, smoothed")
        low, high = min(lows), max(starts)
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
        figure.draw_without_rendering()
        label_ends(axes, ends)
    return figure


def steepest(rates: FloatArray, losses: FloatArray) -> int:
    """Index of the steepest descent of the loss per decade of the learning rate, before the loss is least.

    Raises
    ------
    UserError
        If there are fewer than three rates, or the rate does not rise.
    """
    if len(rates) < 3 or not (np.diff(rates) > 0).all():
        raise UserError("figure: a range test needs a learning rate that rises, over three steps or more.")
    slope = smooth(np.gradient(losses, np.log10(rates)), len(rates) // 8)  # one lucky batch is not a trend
    end = max(2, int(np.nanargmin(losses)))
    return int(np.nanargmin(slope[:end]))
