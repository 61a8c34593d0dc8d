"""Where training ends from several starts: at one optimum, or each at its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import FAINT, new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTE = "apart: median distance of the weights of two starts, over their norm; 1.4 where they have nothing in common"
MOST = 20_000  # weights of a panel; of more, every so many are drawn


def starts_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw what training minimizes from several starts, and each weight at the end of one start against another.

    To the left, the loss with its penalty, a line a start. Then a panel a configuration: a point a weight, where two
    starts, its first, took it; on the diagonal, they took it to the same value. Above stands the median distance of
    the weights of every two starts, ``‖a - b‖ / sqrt(‖a‖ ‖b‖)``: 0 where they are the same, 1.41 where they have
    nothing in common.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=weights, two or more seeds of each configuration.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.

    Raises
    ------
    UserError
        If a configuration has a single run.
    """
    groups = by_label(trials, names or {})
    for label, members in groups.items():
        if len(members) < 2:
            raise UserError(f"figure: one run of {label}; expected two seeds or more, as seed=0,1.")
    with use_style():
        figure = new_figure(4.8 * (len(groups) + 1), 5.2)
        descents, *places = figure.subplots(1, len(groups) + 1)
        for i, (axes, (label, members)) in enumerate(zip(places, groups.items(), strict=True)):
            style = series_style(i)
            for j, (steps, values) in enumerate(map(objective, members)):
                descents.loglog(steps, values, color=style["color"], alpha=0.7, label=label if j == 0 else None)
            _draw_weights(axes, members, str(style["color"]))
            axes.set_title(f"{label}: starts end {np.median(distances(members)):.2g} apart")
        descents.set(xlabel="step, on all records", ylabel="loss and penalty")
        descents.set_title(f"{max(map(len, groups.values()))} starts each")
        descents.legend()
        figure.supxlabel(NOTE, fontsize=12)
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
    return figure


def distances(trials: Sequence[Trial]) -> FloatArray:
    """Distance of the final weights, biases apart, of every two runs, relative to their norms."""
    every, norm = [_weights(trial) for trial in trials], np.linalg.norm
    return np.array([norm(a - b) / np.sqrt(norm(a) * norm(b)) for a, b in combinations(every, 2)])


def _weights(trial: Trial) -> FloatArray:
    if not trial.arrays:
        raise UserError("figure: the runs left no weights; run them with analysis=weights.")
    matrices = [np.ravel(values) for _, values in sorted(trial.arrays.items()) if values.ndim > 1]
    return np.concatenate(matrices).astype(np.float64)


def objective(trial: Trial) -> tuple[FloatArray, FloatArray]:
    """What training minimizes, at each step: the loss and, where there is one, the penalty."""
    steps, loss = trial.series("train/loss")
    return steps, loss + (trial.series("train/penalty")[1] if "train/penalty" in trial.history else 0.0)


def _draw_weights(axes: Axes, trials: Sequence[Trial], color: str) -> None:
    one, other = (_weights(trial) for trial in trials[:2])
    few = slice(None, None, -(-len(one) // MOST))
    most = 1.2 * float(np.quantile(np.abs([one, other]), 0.999)) or 1.0  # a few far away must not shrink the others
    axes.plot([-most, most], [-most, most], color=FAINT, linewidth=1.5, linestyle=(0, (4, 4)), zorder=1)
    axes.plot(one[few], other[few], ".", color=color, markersize=3, alpha=0.4, rasterized=True)
    axes.set(xlim=(-most, most), ylim=(-most, most), aspect="equal")
    axes.locator_params(nbins=5)
    axes.set(xlabel="weights from one start", ylabel="the same weights from another")
