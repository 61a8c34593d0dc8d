"""The runs of a sweep as input of its figure, and the labels of its lines."""

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
End = tuple[float, str, Mapping[str, Any]]  # end of a line: y, label, colour and line style
MANY = 50  # a line with more values has no markers
LABEL_GAP = 0.062  # smallest distance of two labels, as a share of the height of the axes


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes
    ----------
    options : mapping of str to str
        The overrides in which the runs of the sweep differ, without the seed: ``{"model.activation": "relu"}``.
    params : mapping of str to str
        All options of the run by their dotted name.
    history : mapping of str to (steps, values)
        All recorded values of each metric.
    arrays : mapping of str to ndarray
        Arrays that the analysis of the run returned.
    """

    options: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    history: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def series(self, metric: str) -> tuple[FloatArray, FloatArray]:
        """Return the steps and values of a metric. Raise a `UserError` if the run does not have it."""
        if metric not in self.history:
            raise UserError(
                f"figure: a run of the sweep has no metric {metric}; choose one of {', '.join(self.history)}."
            )
        return self.history[metric]

    def last(self, metric: str) -> float:
        """Return the last value of a metric."""
        return float(self.series(metric)[1][-1])

    def array(self, name: str, analysis: str) -> npt.NDArray[Any]:
        """Return an array of the analysis of the run. Raise a `UserError` if the run does not have it."""
        if name not in self.arrays:
            raise UserError(f"figure: the runs have no array {name}; run them with analysis={analysis}.")
        return self.arrays[name]

    def number(self, option: str) -> float:
        """Return the value of an option as a number."""
        try:
            return float(self.params[option])
        except (KeyError, ValueError):
            value = self.params.get(option, "nothing")
            raise UserError(f"figure: {option}: expected an option with numbers, found {value}.") from None

    def label(self, names: Mapping[str, str], leave_out: str | None = None) -> str:
        """Return the options in which this run differs from the others, as text.

        Parameters
        ----------
        names
            ``option=value`` -> text for the label. An empty text leaves the option out.
        leave_out
            An option that is not part of the label, because the figure shows it in another way.
        """
        parts = []
        for option, value in self.options.items():
            if option != leave_out:
                parts.append(names.get(f"{option}={value}", _option_text(option, value)))
        return ", ".join(part for part in parts if part) or "run"


def by_label(trials: Sequence[Trial], names: Mapping[str, str], leave_out: str | None = None) -> dict[str, list[Trial]]:
    """Group runs by their label. Runs of a group differ only in their seed, and in the option that is left out.

    Raises
    ------
    UserError
        If there are no runs.
    """
    if not trials:
        raise UserError("figure: no run of this sweep finished, so there is nothing to draw.")
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.label(names, leave_out), []).append(trial)
    return groups


def seeds_by_label(trials: Sequence[Trial], names: Mapping[str, str]) -> dict[str, list[Trial]]:
    """Group runs by their label, as `by_label`.

    Raises
    ------
    UserError
        If there are no runs, or a group has only one.
    """
    groups = by_label(trials, names)
    for label, members in groups.items():
        if len(members) < 2:
            raise UserError(f"figure: {label} has only one run; expected two or more seeds, for example seed=0,1.")
    return groups


def mean_series(trials: Sequence[Trial], metric: str) -> tuple[FloatArray, FloatArray]:
    """Return the mean of a metric over several runs, at the steps that all of them have, `without_final`."""
    all_series = [trial.series(metric) for trial in trials]
    common_steps = all_series[0][0]
    for steps, _ in all_series[1:]:
        common_steps = np.intersect1d(common_steps, steps)
    values_of_runs = [values[np.isin(steps, common_steps)] for steps, values in all_series]
    return without_final(common_steps, np.mean(values_of_runs, axis=0))


def without_final(steps: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a series without the value of the final evaluation.

    A metric that is recorded once per epoch has this value one step after the last epoch.
    """
    has_final = len(steps) > 2 and steps[-1] - steps[-2] == 1 < steps[1] - steps[0]
    return (steps[:-1], values[:-1]) if has_final else (steps, values)


def label_ends(axes: Axes, ends: Sequence[End], *, size: float = 11) -> None:
    """Write the labels of lines at the right edge of the axes, at the ends of the lines, without overlap.

    Call it when the limits of the axes are final. If lines differ in their line style, a sample of the line stands
    before its label.

    Parameters
    ----------
    ends : sequence of (y, text, style)
        y is in data coordinates. If it is not finite, the text is at the bottom. The style comes from `series_style`.
    """
    from matplotlib.lines import Line2D

    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    labels = []
    for y, text, style in ends:
        height = float(to_axes.transform((x, y))[1]) if np.isfinite(y) else 0.0
        if not np.isfinite(height):
            height = 0.0
        labels.append((min(max(height, 0.0), 1.0), text, style))
    labels.sort(key=lambda label: label[:2])

    # Move neighbours apart until all gaps are large enough. Each of the two moves half of the missing distance.
    heights = np.array([height for height, _, _ in labels])
    for _ in range(200):
        missing = LABEL_GAP - np.diff(heights)
        if not (missing > 1e-6).any():
            break
        push = np.maximum(missing, 0.0) / 2
        heights[:-1] -= push
        heights[1:] += push
    if len(heights):
        heights += max(0.0, -heights[0]) - max(0.0, heights[-1] - 1.0)
    has_samples = len({style.get("linestyle", "-") for _, _, style in ends}) > 1
    for height, (_, text, style) in zip(heights, labels, strict=True):
        if has_samples:
            line = Line2D([1.01, 1.05], [height, height], transform=axes.transAxes, clip_on=False, **style)
            axes.add_artist(line)
        axes.annotate(
            text,
            (1.05 if has_samples else 1.0, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=style["color"],
            fontsize=size,
            annotation_clip=False,
        )


def _option_text(option: str, value: str) -> str:
    """Return the value alone if it is a word such as `relu`, otherwise with the name of the option: `layers 3`."""
    is_number = value.replace(".", "").lstrip("-+").isdigit()
    is_word = value not in ("true", "false", "null") and not is_number
    return value if is_word else f"{option.rsplit('.', 1)[-1]} {value}"
