"""What the figure of a sweep knows of its runs, and how it names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]
End = tuple[float, str, Mapping[str, Any]]  # of a line: y, name, colour and line style
MANY = 50  # values of a line, from which on they are not marked one by one
LABEL_GAP = 0.062  # of the height of the axes, between two lines of text


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes
    ----------
    options : mapping of str to str
        The overrides in which the runs of the sweep differ, seeds apart: ``{"model.activation": "relu"}``.
    params : mapping of str to str
        Every option of the run by its dotted name.
    history : mapping of str to (steps, values)
        Every metric, as it was recorded.
    arrays : mapping of str to ndarray
        The arrays of the run's analysis.
    """

    options: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    history: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def series(self, metric: str) -> tuple[FloatArray, FloatArray]:
        """Steps and values of a metric; a `UserError` if the run has none of that name."""
        if metric not in self.history:
            raise UserError(f"figure: no run of this sweep recorded {metric}; there are {', '.join(self.history)}.")
        return self.history[metric]

    def last(self, metric: str) -> float:
        """The last value of a metric."""
        return float(self.series(metric)[1][-1])

    def array(self, name: str, analysis: str) -> npt.NDArray[Any]:
        """An array of the run's analysis; a `UserError` if it has none of that name."""
        if name not in self.arrays:
            raise UserError(f"figure: the runs left no {name}; run them with analysis={analysis}.")
        return self.arrays[name]

    def number(self, option: str) -> float:
        """An option as a number."""
        try:
            return float(self.params[option])
        except (KeyError, ValueError):
            found = self.params.get(option, "nothing")
            raise UserError(f"figure: {option}: expected an option with numbers, found {found}.") from None

    def label(self, names: Mapping[str, str], leave_out: str | None = None) -> str:
        """What tells this run from the others, as text.

        Parameters
        ----------
        names
            ``option=value`` -> what to call it; empty text leaves it out.
        leave_out
            An option that is told otherwise.
        """
        shown = [
            names.get(f"{option}={value}", _plain(option, value))
            for option, value in self.options.items()
            if option != leave_out
        ]
        return ", ".join(part for part in shown if part) or "run"


def by_label(trials: Sequence[Trial], names: Mapping[str, str], leave_out: str | None = None) -> dict[str, list[Trial]]:
    """Runs of the same label together: they differ in their seed (or in what is left out) alone.

    Raises
    ------
    UserError
        If there are no runs.
    """
    if not trials:
        raise UserError("figure: no run of this sweep came to its end; there is nothing to draw.")
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.label(names, leave_out), []).append(trial)
    return groups


def mean_series(trials: Sequence[Trial], metric: str) -> tuple[FloatArray, FloatArray]:
    """A metric over the steps that all the given runs recorded, averaged over the runs, `without_final`."""
    all_series = [trial.series(metric) for trial in trials]
    steps = all_series[0][0]
    for other, _ in all_series[1:]:
        steps = np.intersect1d(steps, other)
    return without_final(steps, np.mean([values[np.isin(at, steps)] for at, values in all_series], axis=0))


def without_final(steps: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A series without the value of the final evaluation.

    Of what is recorded once an epoch, that is the last value where it stands a step behind the last epoch.
    """
    final = len(steps) > 2 and steps[-1] - steps[-2] == 1 < steps[1] - steps[0]
    return (steps[:-1], values[:-1]) if final else (steps, values)


def label_ends(axes: Axes, ends: Sequence[End], *, size: float = 11) -> None:
    """Name lines at the right edge of the axes, where they end, moved apart where they would overlap.

    Call it when the limits of the axes are final. Where lines are told apart by more than their colours, a piece of
    the line stands before its name.

    Parameters
    ----------
    ends : sequence of (y, text, style)
        In data coordinates; where y is not finite, the text stands at the bottom. The style is as of `series_style`.
    """
    from matplotlib.lines import Line2D

    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    placed = []
    for y, text, style in ends:
        height = float(to_axes.transform((x, y))[1]) if np.isfinite(y) else 0.0
        placed.append((min(max(height, 0.0), 1.0) if np.isfinite(height) else 0.0, text, style))
    placed.sort(key=lambda end: end[:2])
    heights = np.array([height for height, _, _ in placed])
    for _ in range(200):  # move neighbours apart, half of what is missing each
        missing = LABEL_GAP - np.diff(heights)
        if not (missing > 1e-6).any():
            break
        push = np.maximum(missing, 0.0) / 2
        heights[:-1] -= push
        heights[1:] += push
    if len(heights):
        heights += max(0.0, -heights[0]) - max(0.0, heights[-1] - 1.0)
    sampled = len({style.get("linestyle", "-") for _, _, style in ends}) > 1
    for height, (_, text, style) in zip(heights, placed, strict=True):
        if sampled:
            line = Line2D([1.01, 1.05], [height, height], transform=axes.transAxes, clip_on=False, **style)
            axes.add_artist(line)
        axes.annotate(
            text,
            (1.05 if sampled else 1.0, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=style["color"],
            fontsize=size,
            annotation_clip=False,
        )


def _plain(option: str, value: str) -> str:
    """`relu` speaks for itself, `true` and `3` do not."""
    speaks = value not in ("true", "false", "null") and not value.replace(".", "").lstrip("-+").isdigit()
    return value if speaks else f"{option.rsplit('.', 1)[-1]} {value}"
