"""Figure of the prior and the posterior of weights, for penalties of different strengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.report.style import BLUE, FAINT, INK, VERMILLION, new_figure, use_style
from einthoven.report.trials import FloatArray, Trial, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANALYSIS = "weight_posterior"
MOST_WEIGHTS = 32  # weights whose posteriors are drawn


def prior_posterior_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the prior of a weight, and the posteriors of the weights of the last layer: one panel per configuration.

    Each density is divided by its largest value. The posterior that is narrowest relative to the prior is marked. The
    title of a panel has the share of the weights that the records determine, rather than the prior (MacKay 1992, "The
    evidence framework applied to classification networks").

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=weight_posterior. The first seed of each configuration is drawn.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.
    """
    groups = by_label(trials, names or {})
    with use_style():
        columns = min(2, len(groups))
        rows = -(-len(groups) // columns)
        figure = new_figure(6.0 * columns, 3.4 * rows + 1.2, title)
        places = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, (label, members) in zip(places, groups.items(), strict=False):
            share = _draw(axes, members[0])
            axes.set_title(f"{label}: data determine {share:.0%} of the weights", fontsize=12)
        for axes in places[len(groups) :]:
            axes.remove()
        places[0].set_ylabel("density, largest = 1")
        places[0].set_yticks([0, 1])
        for axes in places[max(len(groups) - columns, 0) : len(groups)]:
            axes.set_xlabel("weight of the last layer")
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, trial: Trial) -> float:
    """Draw prior and posteriors of one run. Return the share of the weights that the records determine."""
    mean = trial.array("mean", ANALYSIS).astype(np.float64).ravel()
    deviation = trial.array("deviation", ANALYSIS).astype(np.float64).ravel()
    prior = float(trial.array("prior_deviation", ANALYSIS))
    low = min(-2.5 * prior, float((mean - 3 * deviation).min()))
    high = max(2.5 * prior, float((mean + 3 * deviation).max()))
    grid = np.linspace(low, high, 801)
    axes.fill_between(grid, density(grid, 0.0, prior), color=FAINT, alpha=0.6, linewidth=0, label="prior")
    narrowest = int(deviation.argmin())
    chosen = np.linspace(0, len(mean) - 1, min(MOST_WEIGHTS, len(mean))).astype(int)
    for number in chosen:
        label = "posteriors, one line a weight" if number == 0 else None
        curve = density(grid, mean[number], deviation[number])
        axes.plot(grid, curve, color=BLUE, linewidth=0.8, alpha=0.5, label=label)
    curve = density(grid, mean[narrowest], deviation[narrowest])
    axes.plot(grid, curve, color=VERMILLION, linewidth=1.6, label="the narrowest posterior")
    axes.axvline(0.0, color=INK, linewidth=0.8)
    axes.grid(visible=False)
    return float(trial.array("determined", ANALYSIS)) / len(mean)


def density(x: FloatArray, mean: float, deviation: float) -> FloatArray:
    """Return the density of a normal distribution, divided by its largest value."""
    return np.exp(-0.5 * np.square((x - mean) / deviation))
