"""Pictures of the loss around, between and along weights."""

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


def landscape_figure(found: Arrays) -> Figure:
    """Draw the loss along one random direction and in the plane of two, the weights in the middle.

    Parameters
    ----------
    found : mapping of str to ndarray
        ``line/step``, ``line/loss`` (n,), ``plane/step`` (m,), ``plane/loss`` (m, m).
    """
    with use_style():
        figure = new_figure(11, 4.8)
        left, right = figure.subplots(1, 2)
        left.plot(found["line/step"], found["line/loss"], color=BLUE)
        left.axvline(0, color=FAINT, linestyle="--", zorder=0)
        left.set_xticks([-1, -0.5, 0, 0.5, 1])
        left.set(xlabel="step, 1 = as long as the weights", ylabel="loss", title="Along one random direction")
        step = found["plane/step"]
        _contours(figure, right, step, step, found["plane/loss"])
        right.plot(0, 0, "o", color=VERMILLION, markeredgecolor="white", label="the weights")
        right.set(xlabel="first direction", ylabel="second direction", title="In the plane of two")
        right.legend(loc="upper right", frameon=True)
    return figure


def path_figure(found: Arrays) -> Figure:
    """Draw the way of the weights in the plane of its principal components, over the loss there.

    Parameters
    ----------
    found : mapping of str to ndarray
        ``path/points`` (E, 2), ``path/explained`` (2,), ``path/x``, ``path/y`` (m,), ``path/loss`` (m, m).
    """
    with use_style():
        figure = new_figure(7.5, 6)
        axes = figure.add_subplot()
        _contours(figure, axes, found["path/x"], found["path/y"], found["path/loss"])
        x, y = found["path/points"].T
        axes.plot(x, y, color=INK, linewidth=1.2, marker=".", markersize=6)
        axes.plot(x[0], y[0], "s", color=BLUE, markeredgecolor="white", label="first epoch")
        axes.plot(x[-1], y[-1], "o", color=VERMILLION, markeredgecolor="white", label="last epoch")
        names = (f"component {k} ({share:.0%} of the way)" for k, share in enumerate(found["path/explained"], 1))
        axes.set(**dict(zip(("xlabel", "ylabel"), names, strict=True)), title="The way of the weights")
        axes.legend(loc="best", frameon=True)
    return figure


def interpolation_figure(trials: Sequence[Trial], *, title: str) -> Figure:
    """Draw the loss on the line from the weights of another run to those of each of these.

    Parameters
    ----------
    trials
        Runs with ``analysis=interpolation``.
    title : str

    Raises
    ------
    UserError
        If a run has left no losses.
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


def _contours(
    figure: Figure, axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], losses: NDArray[np.float64]
) -> None:
    """Fill between lines of equal loss, closer to each other where it is small; `losses` is (len(x), len(y))."""
    low, high = float(losses.min()), float(losses.max())
    levels = low + (high - low) * np.linspace(0, 1, LEVELS) ** 2 if high > low else LEVELS
    filled = axes.contourf(x, y, losses.T, levels=levels, cmap="cividis_r")
    axes.grid(False)
    figure.colorbar(filled, ax=axes, label="loss", format="%.2g")
