"""Where training ends from several starts: at one optimum, or each at its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import FAINT, INK, new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST = 1e-8  # float32 tells a loss of about 1 no better


def starts_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw what training minimizes from several starts, above the lowest that any reached, and how far apart they end.

    A panel a configuration, a line a seed; the last panel has the distance of the final weights of each two seeds,
    ``‖a - b‖ / sqrt(‖a‖ ‖b‖)``: 0 where they are the same, √2 where they have nothing in common.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with probe=weights, two or more seeds of each configuration.
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
        figure = new_figure(4.8 * (len(groups) + 1), 5.0)
        *places, apart = figure.subplots(1, len(groups) + 1)
        for axes, (label, members) in zip(places, groups.items(), strict=True):
            _draw_descents(axes, members)
            axes.set_title(label)
            axes.sharey(places[0])
        places[0].set_ylabel("loss and penalty, above the lowest of all starts")
        _draw_distances(apart, groups)
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
    return figure


def distances(trials: Sequence[Trial]) -> FloatArray:
    """Distance of the final weights of every two runs, relative to their norms."""
    every = [np.concatenate([values.ravel() for values in _weights(trial).values()]) for trial in trials]
    norm = np.linalg.norm
    return np.array([norm(a - b) / np.sqrt(norm(a) * norm(b)) for a, b in combinations(every, 2)])


def _weights(trial: Trial) -> dict[str, FloatArray]:
    if not trial.arrays:
        raise UserError("figure: the runs left no weights; run them with probe=weights.")
    return {name: np.asarray(values, dtype=np.float64) for name, values in sorted(trial.arrays.items())}


def objective(trial: Trial) -> tuple[FloatArray, FloatArray]:
    """What training minimizes, at each step: the loss and, where there is one, the penalty."""
    steps, loss = trial.series("train/loss")
    return steps, loss + (trial.series("train/penalty")[1] if "train/penalty" in trial.history else 0.0)


def _draw_descents(axes: Axes, trials: Sequence[Trial]) -> None:
    curves = [objective(trial) for trial in trials]
    lowest = min(float(values.min()) for _, values in curves)
    for i, (steps, values) in enumerate(curves):
        axes.loglog(steps, np.maximum(values - lowest, SMALLEST), **series_style(i))
    axes.set_xlabel(f"step; {len(trials)} starts")


def _draw_distances(axes: Axes, groups: Mapping[str, Sequence[Trial]]) -> None:
    for place, members in enumerate(groups.values()):
        found = distances(members)
        spread = np.linspace(-0.12, 0.12, len(found)) if len(found) > 1 else np.zeros(1)
        axes.plot(place + spread, found, "o", color=series_style(place)["color"], markersize=8, alpha=0.8)
        axes.annotate(
            f"{np.median(found):.1g}", (place + 0.2, float(np.median(found))), va="center", color=INK, fontsize=13
        )
    axes.axhline(np.sqrt(2), color=FAINT, linewidth=1.5, linestyle=(0, (4, 4)), zorder=1)
    axes.annotate("√2: nothing in common", (0.02, np.sqrt(2)), xycoords=("axes fraction", "data"), va="bottom")
    axes.set_yscale("log")
    axes.set_ylim(top=4)
    axes.set_xlim(-0.5, len(groups) - 0.3)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_title("Distance of the weights at the end")
    axes.set_ylabel("of every two starts, relative to their norm")
