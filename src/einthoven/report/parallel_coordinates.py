"""Parallel coordinates: each run of a sweep is a line through its options to its result."""

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

AXES = 9  # largest number of options; the most important ones are taken
_SPREAD = 0.05  # runs with the same value are spread over this share of the height, up and down
_COLORS = "cividis_r"  # light to dark for any colour vision; the best run is the darkest
_NONE = "not set"


def parallel_coordinates_figure(options: Sequence[Mapping[str, str]], values: npt.ArrayLike, *, metric: str) -> Figure:
    """Draw each run as a line through the axes of its options, the most important first, to the axis of its result.

    An axis of numbers is logarithmic if that puts the median closer to the middle of the axis. Names have equal
    distances and are ordered by the mean result of their runs. Runs with the same value are spread around it, the best
    at the top. A darker line is a better run. The best run is the thick line.

    Parameters
    ----------
    options : sequence of mapping
        Option -> value, for each run.
    values : array-like, shape (runs,)
        Result of each run; more is better.
    metric : str
        Name of the result.
    """
    from matplotlib import colormaps

    results = np.asarray(values, dtype=np.float64)
    names = list(option_importance(options, results.tolist()))
    scales = []
    for name in names[:AXES]:
        values_of_runs = [options_of_run.get(name, _NONE) for options_of_run in options]
        scales.append(_scale(values_of_runs, results))
    result_scale = _numeric(results, logarithmic=False)
    scales.append(result_scale)
    heights = np.stack([heights for heights, _ in scales], axis=1)
    relative_results, _ = result_scale
    with use_style():
        figure = new_figure(max(8.0, 1.2 + 2.0 * len(scales)), 5.2)
        axes = figure.add_subplot()
        # Good runs are drawn last, so that they are on top.
        for run in np.argsort(results, kind="stable"):
            is_best = run == np.argmax(results)
            color = colormaps[_COLORS](0.15 + 0.85 * relative_results[run])
            axes.plot(*_curve(heights[run]), color=color, linewidth=4.0 if is_best else 1.5, solid_capstyle="round")
        _draw_axes(axes, [*names[:AXES], metric], scales)
        left_out = f"; {len(names) - AXES} options that mattered less are left out" if len(names) > AXES else ""
        axes.set_title(f"{len(results)} runs, the best thick: {results.max():.4g}{left_out}", pad=28)
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
    """Return a smooth curve through the heights at x = 0, 1, 2 …. It is horizontal where it crosses an axis."""
    t = np.linspace(0, 1, 30)
    ease = t * t * (3 - 2 * t)
    pieces = [start + (end - start) * ease for start, end in pairwise(heights)]
    places = [k + t for k in range(len(pieces))]
    return np.concatenate(places), np.concatenate(pieces)


def _scale(values: Sequence[str], results: FloatArray) -> Scale:
    """Return the scale of an option: a numeric axis for many numbers, otherwise one place for each value."""
    as_numbers = parse_numbers(values)
    distinct = set(values)
    if as_numbers is not None and len(distinct) > 6:
        array = np.array(as_numbers)
        is_positive = bool((array > 0).all())
        return _numeric(array, logarithmic=is_positive and _off_centre(np.log(array)) < _off_centre(array))

    # Numbers are ordered by size, names by the mean result of their runs.
    if as_numbers is not None:
        return _named(values, sorted(distinct, key=float), results)
    means = {value: float(np.mean(results[[v == value for v in values]])) for value in distinct}
    return _named(values, sorted(distinct, key=lambda value: (means[value], value)), results)


def _off_centre(values: FloatArray) -> float:
    """Return the distance of the median from the middle of the range, as a share of the range."""
    return abs(float(np.median(values) - values.min()) / float(np.ptp(values)) - 0.5)


def _named(values: Sequence[str], order: Sequence[str], results: FloatArray) -> Scale:
    """Return a scale with equal distances between values. Runs with the same value are spread by their results."""
    positions = {value: (k + 0.5) / len(order) if len(order) > 1 else 0.5 for k, value in enumerate(order)}
    lowest = positions[order[0]]
    highest = positions[order[-1]]

    # The first and the last value, with their spread, reach the ends of the axis.
    stretch = 1.0 if len(order) == 1 else (1 - 2 * _SPREAD) / (highest - lowest)
    positions = {value: 0.5 + (position - 0.5) * stretch for value, position in positions.items()}
    heights = np.array([positions[value] for value in values])
    for value in order:
        runs = np.flatnonzero([v == value for v in values])
        if len(runs) > 1:
            rank = np.argsort(np.argsort(results[runs], kind="stable"))
            heights[runs] += _SPREAD * (2 * rank / (len(runs) - 1) - 1)
    return heights, [(positions[value], value) for value in order]


def _numeric(values: FloatArray, *, logarithmic: bool) -> Scale:
    """Return a linear or logarithmic scale from the smallest to the largest value, with five ticks."""
    scaled = np.log10(values) if logarithmic else values
    low = float(scaled.min())
    span = float(np.ptp(scaled)) or 1.0
    ticks = {}  # text -> height; equal texts are one tick
    for tick in np.linspace(low, low + float(np.ptp(scaled)), 5):
        text = f"{10**tick if logarithmic else tick:.3g}"
        ticks[text] = (float(tick) - low) / span
    return (scaled - low) / span, [(height, text) for text, height in ticks.items()]
