"""One part at a time: what a metric is with each choice of it, against one of them, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import BLUE, FAINT, INK, VERMILLION, new_figure, use_style
from einthoven.report.trials import Trial, by_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


UNDECIDED = "#707070"


def ablation_figure(
    trials: Sequence[Trial],
    *,
    reference: str,
    title: str,
    metric: str = "val/macro_auroc",
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a final metric of every choice, best above: each run, the mean over the seeds and its standard error.

    The runs of one seed differ in the choice alone, so choices are compared seed by seed: the text to the right is the
    mean difference from the reference, and its standard error over the seeds.

    Parameters
    ----------
    reference : str
        Label of the choice that the others are compared with.
    title : str
        The question that the figure answers.
    metric : str
        A final metric; higher is better.
    names : mapping, optional
        See `Trial.label`; a metric's name stands for its axis.

    Raises
    ------
    UserError
        If no run is the reference, or the runs lack the metric.
    """
    names = names or {}
    groups = {
        label: {trial.params["seed"]: trial.last(metric) for trial in members}
        for label, members in by_label(trials, names).items()
    }
    if reference not in groups:
        raise UserError(f"figure.reference={reference}: no such run; there are {', '.join(groups)}.")
    base = groups[reference]
    ranked = sorted(groups, key=lambda label: float(np.mean(list(groups[label].values()))))
    with use_style():
        figure = new_figure(9, 1.9 + 0.42 * len(groups))
        axes = figure.add_subplot()
        for row, label in enumerate(ranked):
            values = np.array(list(groups[label].values()))
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            gain, sure = difference(groups[label], base)
            color = BLUE if gain > 2 * sure else VERMILLION if gain < -2 * sure else UNDECIDED
            color = INK if label == reference else color
            axes.plot(values, np.full(len(values), row), "o", color=color, alpha=0.35, markersize=5)
            axes.errorbar(values.mean(), row, xerr=error, fmt="D", color=color, markersize=7, capsize=4)
            text = "reference" if label == reference else f"{gain:+.3f} ± {sure:.3f}"
            axes.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=color)
        axes.axvline(float(np.mean(list(base.values()))), color=FAINT, linewidth=1.5, linestyle=(0, (4, 4)), zorder=1)
        axes.set_yticks(range(len(ranked)), ranked)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{names.get(metric, metric)}: runs, mean and standard error")
        figure.supxlabel(
            f"right: difference from {reference}, seed by seed; in colour beyond two standard errors", fontsize=12
        )
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
    return figure


def difference(values: Mapping[str, float], base: Mapping[str, float]) -> tuple[float, float]:
    """Mean over the shared seeds of what `values` are above `base`, and its standard error (0 for a single seed)."""
    gains = np.array([values[seed] - base[seed] for seed in values if seed in base])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return float(gains.mean()), float(error)
