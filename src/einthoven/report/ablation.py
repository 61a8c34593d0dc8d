"""Ablation figure: a metric for each choice of one part, compared with a reference choice."""

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
    """Draw a final metric of every choice, the best at the top: all runs, their mean and its standard error.

    Runs with the same seed differ only in the choice, so choices are compared seed by seed. The text at the right is
    the mean difference from the reference and its standard error over the seeds.

    Parameters
    ----------
    reference : str
        Label of the choice that the others are compared with.
    title : str
        The question that the figure answers.
    metric : str
        A final metric; higher is better.
    names : mapping, optional
        See `Trial.label`. The name of a metric is the label of its axis.

    Raises
    ------
    UserError
        If no run is the reference, or a run does not have the metric.
    """
    names = names or {}
    groups: dict[str, dict[str, float]] = {}  # label -> seed -> metric
    for label, members in by_label(trials, names).items():
        groups[label] = {trial.params["seed"]: trial.last(metric) for trial in members}
    if reference not in groups:
        raise UserError(f"figure.reference={reference}: there is no such run; choose one of {', '.join(groups)}.")
    base = groups[reference]
    means = {label: float(np.mean(list(values.values()))) for label, values in groups.items()}
    ranked = sorted(groups, key=lambda label: means[label])
    with use_style():
        figure = new_figure(9, 1.9 + 0.42 * len(groups), title)
        axes = figure.add_subplot()
        for row, label in enumerate(ranked):
            values = np.array(list(groups[label].values()))
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            gain, gain_error = difference(groups[label], base)

            # A difference of more than two standard errors has a colour.
            if label == reference:
                color = INK
            elif gain > 2 * gain_error:
                color = BLUE
            elif gain < -2 * gain_error:
                color = VERMILLION
            else:
                color = UNDECIDED
            axes.plot(values, np.full(len(values), row), "o", color=color, alpha=0.35, markersize=5)
            axes.errorbar(values.mean(), row, xerr=error, fmt="D", color=color, markersize=7, capsize=4)
            text = "reference" if label == reference else f"{gain:+.3f} ± {gain_error:.3f}"
            axes.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=color)
        axes.axvline(means[reference], color=FAINT, linewidth=1.5, linestyle=(0, (4, 4)), zorder=1)
        axes.set_yticks(range(len(ranked)), ranked)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{names.get(metric, metric)}: runs, mean and standard error")
        figure.supxlabel(
            f"right: difference from {reference}, seed by seed; in colour beyond two standard errors", fontsize=12
        )
    return figure


def difference(values: Mapping[str, float], base: Mapping[str, float]) -> tuple[float, float]:
    """Return the mean of ``values - base`` over the shared seeds, and its standard error (0 for a single seed)."""
    gains = np.array([values[seed] - base[seed] for seed in values if seed in base])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return float(gains.mean()), float(error)
