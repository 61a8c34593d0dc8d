"""Figures of the loss landscape: around the weights, along the path of the training, between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.report.style import BLUE, FAINT, INK, VERMILLION, new_figure, series_style, use_style
from einthoven.report.trials import Trial, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arrays = Mapping[str, NDArray[Any]]
LEVELS = 14


def landscape_figure(landscape: Arrays) -> Figure:
    """Draw the loss along one random direction and in the plane of two, with the weights in the middle.

    Parameters
    ----------
    landscape : mapping of str to ndarray
        ``line/step``, ``line/loss`` (n,), ``plane/step`` (m,), ``plane/loss`` (m, m).
    """
    with use_style():
        figure = new_figure(11, 4.8)
        left, right = figure.subplots(1, 2)
        left.plot(landscape["line/step"], landscape["line/loss"], color=BLUE)
        left.axvline(0, color=FAINT, linestyle="--", zorder=0)
        left.set_xticks([-1, -0.5, 0, 0.5, 1])
        left.set(xlabel="step, 1 = as long as the weights", ylabel="loss", title="Along one random direction")
        step = landscape["plane/step"]
        _draw_contours(figure, right, step, step, landscape["plane/loss"])
        right.plot(0, 0, "o", color=VERMILLION, markeredgecolor="white", label="the weights")
        right.set(xlabel="first direction", ylabel="second direction", title="In the plane of two random directions")
        right.legend(loc="upper right", frameon=True)
    return figure


def path_figure(landscape: Arrays) -> Figure:
    """Draw the path of the weights in the plane of its principal components, over the loss in this plane.

    Parameters
    ----------
    landscape : mapping of str to ndarray
        ``path/points`` (E, 2), ``path/explained`` (2,), ``path/x``, ``path/y`` (m,), ``path/loss`` (m, m).
    """
    with use_style():
        figure = new_figure(7.5, 6)
        axes = figure.add_subplot()
        _draw_contours(figure, axes, landscape["path/x"], landscape["path/y"], landscape["path/loss"])
        x, y = landscape["path/points"].T
        axes.plot(x, y, color=INK, linewidth=1.2, marker=".", markersize=6)
        axes.plot(x[0], y[0], "s", color=BLUE, markeredgecolor="white", label="first epoch")
        axes.plot(x[-1], y[-1], "o", color=VERMILLION, markeredgecolor="white", label="last epoch")
        first_share, second_share = landscape["path/explained"]
        axes.set(
            xlabel=f"component 1 ({first_share:.0%} of the path)",
            ylabel=f"component 2 ({second_share:.0%} of the path)",
            title="The path of the weights",
        )
        axes.legend(loc="best", frameon=True)
    return figure


def interpolation_figure(trials: Sequence[Trial], *, title: str) -> Figure:
    """Draw the loss on the line from the weights of another run to the weights of each given run.

    Parameters
    ----------
    trials
        Runs with ``analysis=interpolation``.
    title : str

    Raises
    ------
    UserError
        If a run has no such losses.
    """
    with use_style():
        figure = new_figure(8, 5)
        axes = figure.add_subplot()
        for number, (label, runs) in enumerate(by_label(trials, {}).items()):
            for run in runs:
                share = run.array("interpolation/share", "interpolation")
                axes.plot(share, run.array("interpolation/loss", "interpolation"), **series_style(number), label=label)
        for end in (0, 1):
            axes.axvline(end, color=FAINT, linestyle="--", zorder=0)
        axes.set_xticks([0, 0.5, 1], ["other run", "half way", "this run"])
        axes.set(ylabel="loss", title=title)
        if len(trials) > 1:
            axes.legend()
    return figure


def _draw_contours(
    figure: Figure, axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], losses: NDArray[np.float64]
) -> None:
    """Fill the areas between lines of equal loss, which are closer at small losses. `losses` is (len(x), len(y))."""
    low = float(losses.min())
    high = float(losses.max())
    levels = low + (high - low) * np.linspace(0, 1, LEVELS) ** 2 if high > low else LEVELS
    filled = axes.contourf(x, y, losses.T, levels=levels, cmap="cividis_r")
    axes.grid(False)
    figure.colorbar(filled, ax=axes, label="loss", format="%.2g")
