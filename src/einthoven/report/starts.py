"""Figure of trainings from several random starts, and comparison of their final weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import FAINT, new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, seeds_by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTE = "apart: median distance of the weights of two starts divided by their norm; 1.4 for unrelated weights"
MOST = 20_000  # largest number of weights in a panel


def starts_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the objective of several starts over the steps, and compare the final weights of two starts.

    The left panel shows the loss plus the penalty, one line per start. Each configuration has another panel with one
    point per weight: its final value in the first start and in the second. A point on the diagonal has the same value
    in both. The title has the median over all pairs of starts of the distance ``‖a - b‖ / sqrt(‖a‖ ‖b‖)``. It is 0 for
    equal weights and 1.41 for unrelated weights.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=weights, with two or more seeds per configuration.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.

    Raises
    ------
    UserError
        If a configuration has only one run.
    """
    groups = seeds_by_label(trials, names or {})
    with use_style():
        figure = new_figure(4.8 * (len(groups) + 1), 5.2, title)
        descents, *places = figure.subplots(1, len(groups) + 1)
        for i, (axes, (label, members)) in enumerate(zip(places, groups.items(), strict=True)):
            style = series_style(i)
            for j, trial in enumerate(members):
                steps, values = objective(trial)
                descents.loglog(steps, values, color=style["color"], alpha=0.7, label=label if j == 0 else None)
            _draw_weights(axes, members, str(style["color"]))
            axes.set_title(f"{label}: starts end {np.median(distances(members)):.2g} apart")
        descents.set(xlabel="step, on all records", ylabel="loss and penalty")
        descents.set_title(f"{max(map(len, groups.values()))} starts each")
        descents.legend()
        figure.supxlabel(NOTE, fontsize=12)
    return figure


def distances(trials: Sequence[Trial]) -> FloatArray:
    """Return the relative distances of the final weights (without biases) for all pairs of runs."""
    norm = np.linalg.norm
    weights = [_weights(trial) for trial in trials]
    return np.array([norm(a - b) / np.sqrt(norm(a) * norm(b)) for a, b in combinations(weights, 2)])


def _weights(trial: Trial) -> FloatArray:
    if not trial.arrays:
        raise UserError("figure: the runs have no weights; run them with analysis=weights.")
    matrices = [np.ravel(values) for _, values in sorted(trial.arrays.items()) if values.ndim > 1]
    return np.concatenate(matrices).astype(np.float64)


def objective(trial: Trial) -> tuple[FloatArray, FloatArray]:
    """Return the steps and the objective of the training: the loss plus the penalty, if there is one."""
    steps, loss = trial.series("train/loss")
    if "train/penalty" not in trial.history:
        return steps, loss
    _, penalty = trial.series("train/penalty")
    return steps, loss + penalty


def _draw_weights(axes: Axes, trials: Sequence[Trial], color: str) -> None:
    first, second = (_weights(trial) for trial in trials[:2])
    stride = -(-len(first) // MOST)

    # A few very large weights must not determine the scale of the panel.
    limit = 1.2 * float(np.quantile(np.abs([first, second]), 0.999)) or 1.0
    axes.plot([-limit, limit], [-limit, limit], color=FAINT, linewidth=1.5, linestyle=(0, (4, 4)), zorder=1)
    axes.plot(first[::stride], second[::stride], ".", color=color, markersize=3, alpha=0.4, rasterized=True)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.locator_params(nbins=5)
    axes.set(xlabel="weights from one start", ylabel="the same weights from another")
