"""Parallel coordinates: every run of a sweep as a line through its options to what it reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from einthoven.evaluation.option_importance import option_importance, parse_numbers
from einthoven.report.style import INK, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
Scale = tuple[FloatArray, list[tuple[float, str]]]  # heights of the runs, 0 ... 1, and the ticks

AXES = 9  # options at most, the most important ones
_SPREAD = 0.05  # of the height, by which runs of the same value are told apart
_COLORS = "cividis_r"  # light to dark with any colour vision: the best is the darkest
_NONE = "not set"


def parallel_coordinates_figure(options: Sequence[Mapping[str, str]], values: npt.ArrayLike, *, metric: str) -> Figure:
    """Draw each run as a line from option to option, the important ones first, to its value.

    Numbers stand on a logarithmic axis where their median is nearer to its middle, names at equal distances in the
    order of the mean value of their runs. Where several runs have the same value they pass it beside each other, the
    best above. The darker a line, the better its run; the best is the thick one.

    Parameters
    ----------
    options : sequence of mapping
        Option -> value of each run.
    values : array-like, shape (runs,)
        What they are judged by; more is better.
    metric : str
        Name of that.
    """
    from matplotlib import colormaps

    judged = np.asarray(values, dtype=np.float64)
    names = list(option_importance(options, judged.tolist()))
    scales = [_scale([each.get(name, _NONE) for each in options], judged) for name in names[:AXES]]
    scales.append(_numeric(judged, logarithmic=False))
    heights = np.stack([heights for heights, _ in scales], axis=1)
    relative = scales[-1][0]
    with use_style():
        figure = new_figure(max(8.0, 1.2 + 2.0 * len(scales)), 5.2)
        axes = figure.add_subplot()
        for run in np.argsort(judged, kind="stable"):
            best = run == np.argmax(judged)
            color = colormaps[_COLORS](0.15 + 0.85 * relative[run])
            axes.plot(*_curve(heights[run]), color=color, linewidth=4.0 if best else 1.5, solid_capstyle="round")
        _draw_axes(axes, [*names[:AXES], metric], scales)
        left_out = f"; {len(names) - AXES} options that mattered less are left out" if len(names) > AXES else ""
        axes.set_title(f"{len(judged)} runs, the best thick: {judged.max():.4g}{left_out}", pad=28)
    return figure


def _draw_axes(axes: Axes, names: Sequence[str], scales: Sequence[Scale]) -> None:
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    for x, (name, (_, ticks)) in enumerate(zip(names, scales, strict=True)):
        axes.axvline(x, color=INK, linewidth=1.2, zorder=3)
        axes.annotate(name, (x, 1.07), ha="center", va="bottom", fontsize=11, annotation_clip=False)
        for height, text in ticks:
            axes.plot([x - 0.015, x + 0.015], [height, height], color=INK, linewidth=1.2, zorder=4)
            axes.annotate(
                text,
                (x, height),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=11,
                bbox=box,
                zorder=5,
                annotation_clip=False,
            )
    axes.set(xlim=(-0.15, len(names) - 0.55), ylim=(-0.06, 1.06))
    axes.axis("off")


def _curve(heights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A line through the heights at 0, 1, 2 …, level where it meets an axis, so that it can be followed there."""
    t = np.linspace(0, 1, 30)
    ease = t * t * (3 - 2 * t)
    pieces = [start + (end - start) * ease for start, end in pairwise(heights)]
    places = [k + t for k in range(len(pieces))]
    return np.concatenate(places), np.concatenate(pieces)


def _scale(values: Sequence[str], judged: FloatArray) -> Scale:
    """Where each run passes the axis of an option."""
    found = parse_numbers(values)
    many = len(set(values)) > 6
    if found is not None and many:
        array = np.array(found)
        return _numeric(array, logarithmic=bool((array > 0).all()) and _off_centre(np.log(array)) < _off_centre(array))
    means = {value: float(np.mean(judged[[v == value for v in values]])) for value in set(values)}
    order = sorted(means, key=(lambda value: (means[value], value)) if found is None else float)
    return _named(values, order, judged)


def _off_centre(values: FloatArray) -> float:
    """How far the median is from the middle, of the range."""
    return abs(float(np.median(values) - values.min()) / float(np.ptp(values)) - 0.5)


def _named(values: Sequence[str], order: Sequence[str], judged: FloatArray) -> Scale:
    """Equal distances, and runs of one value beside each other in the order of what they reached."""
    at = {value: (k + 0.5) / len(order) if len(order) > 1 else 0.5 for k, value in enumerate(order)}
    lowest, highest = at[order[0]], at[order[-1]]
    stretch = 1.0 if len(order) == 1 else (1 - 2 * _SPREAD) / (highest - lowest)
    at = {value: 0.5 + (height - 0.5) * stretch for value, height in at.items()}
    heights = np.array([at[value] for value in values])
    for value in order:
        own = np.flatnonzero([v == value for v in values])
        if len(own) > 1:
            rank = np.argsort(np.argsort(judged[own], kind="stable"))
            heights[own] += _SPREAD * (2 * rank / (len(own) - 1) - 1)
    return heights, [(at[value], value) for value in order]


def _numeric(values: FloatArray, *, logarithmic: bool) -> Scale:
    """A linear or logarithmic axis from the smallest to the largest, with ticks at both ends and between."""
    scaled = np.log10(values) if logarithmic else values
    low, span = float(scaled.min()), float(np.ptp(scaled)) or 1.0
    ends = np.linspace(low, low + float(np.ptp(scaled)), 5)
    ticks = {f"{10**each if logarithmic else each:.3g}": (float(each) - low) / span for each in ends}
    return (scaled - low) / span, [(height, text) for text, height in ticks.items()]
