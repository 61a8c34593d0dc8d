"""Figures of a training: gradients and updates of the stages, entropy and divergence, classes that occur together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.figures import History, smooth
from einthoven.report.style import FAINT, INK, drawable, new_figure, series_style, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

MOST_COLUMNS = 160
"""A heat map has at most this many columns. A column is the mean of several measurements if there are more of them."""

MOST_COLOURS = 8
"""With more stages than this, the colour of a line shows the depth of its stage."""

USUAL_RATIO = 1e-3
"""Usual size of a step relative to the size of the weights."""

ENTROPY = "Entropy"
DIVERGENCE = "Divergence (KL)"
INFORMATION_METRICS = {
    "watch/diag/entropy": (ENTROPY, "predictions"),
    "watch/diag/entropy_labels": (ENTROPY, "labels"),
    "watch/diag/kl_labels": (DIVERGENCE, "labels ‖ predictions, per record"),
    "watch/diag/kl_prior": (DIVERGENCE, "mean label ‖ mean prediction"),
    "watch/diag/kl_drift": (DIVERGENCE, "previous predictions ‖ current predictions"),
    "watch/diag/kl_windows": (DIVERGENCE, "between the windows of a record"),
}
"""Metric -> title of its panel, and label of its line."""


def gradient_flow_figure(history: History, stages: Sequence[str], *, metric: str = "watch/grad/norm") -> Figure:
    """Draw the gradient of each stage over the steps as a heat map, on a logarithmic scale.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        ``<metric>/<stage>``. Stages without a measurement are left out.
    stages : sequence of str
        Stages from the input to the output. The first one is at the bottom.
    metric : str
        Metric name without the stage.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If nothing was measured.
    """
    from matplotlib.colors import LogNorm

    series = _measured(history, stages, metric)

    # A stage is not measured while it is frozen, so the stages need not have the same steps.
    steps = np.unique(np.concatenate([stage_steps for stage_steps, _ in series.values()]))
    rows = np.full((len(series), len(steps)), np.nan)
    for row, (stage_steps, values) in zip(rows, series.values(), strict=True):
        row[np.searchsorted(steps, stage_steps)] = values

    # A cell covers several measurements. Its value is the geometric mean of those that are positive and finite.
    edges = np.unique(np.linspace(0, len(steps), min(len(steps), MOST_COLUMNS) + 1).astype(int))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(rows > 0, np.log(rows), np.nan)
        counts = np.add.reduceat(np.isfinite(logs), edges[:-1], axis=1)
        sums = np.add.reduceat(np.nan_to_num(logs, posinf=0.0), edges[:-1], axis=1)
        cells = np.ma.masked_invalid(np.exp(sums / counts))

    # A column starts at its first step. The last column also needs an end, behind the last step.
    last_width = max(steps[-1] - steps[edges[-2]], 1)
    step_edges = np.append(steps[edges[:-1]], steps[-1] + last_width)
    with use_style():
        figure = new_figure(9, max(3.2, 1.6 + 0.45 * len(series)))
        axes = figure.add_subplot()
        axes.set_facecolor(FAINT)  # colour of cells without a gradient
        scale = LogNorm(*_limits(cells))
        stage_edges = np.arange(len(series) + 1)
        image = axes.pcolormesh(step_edges, stage_edges, cells, cmap="viridis", norm=scale, rasterized=True)
        axes.set_yticks(np.arange(len(series)) + 0.5, list(series))
        axes.grid(visible=False)
        axes.set(xlabel="step", title="Gradient norm of each stage, input at the bottom")
        figure.colorbar(image, ax=axes, label=metric, pad=0.02)
    return figure


def update_ratio_figure(history: History, stages: Sequence[str]) -> Figure:
    """Draw the size of the steps of each stage, divided by the size of its weights. A line marks the usual value 0.001.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        ``watch/update/ratio/<stage>``.
    stages : sequence of str
        Stages from the input to the output.

    Raises
    ------
    UserError
        If nothing was measured.
    """
    import matplotlib

    series = _measured(history, stages, "watch/update/ratio")
    colour_of_depth = matplotlib.colormaps["viridis"]
    with use_style():
        figure = new_figure(9, 4.8)
        axes = figure.add_subplot()
        for number, (stage, (steps, values)) in enumerate(series.items()):
            style = series_style(number)
            if len(series) > MOST_COLOURS:
                # From dark at the input to light at the output
                style = {"color": colour_of_depth(0.95 * number / len(series))}
            axes.plot(steps, np.where(values > 0, values, np.nan), **style, linewidth=1.6, label=stage)
        axes.axhline(USUAL_RATIO, color=INK, linewidth=1.2, linestyle=(0, (6, 4)), zorder=1)
        axes.annotate(
            "0.001: usual",
            (1.0, USUAL_RATIO),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=11,
        )
        axes.set_yscale("log")
        # The last steps of a schedule can be very small. The axis leaves them out, and shows the other steps well.
        largest = max(float(np.nanmax(values)) for _, values in series.values())
        if 0 < largest < np.inf:
            axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-5 * largest))
        axes.set(xlabel="step", ylabel="size of the step / size of the weights", title="Updates of each stage")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 if len(series) <= 14 else 2)
    return figure


def information_figure(history: History) -> Figure:
    """Draw the entropies and the divergences over the steps, in two panels.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        Any of ``watch/diag/entropy``, ``watch/diag/entropy_labels`` and ``watch/diag/kl_…``, in nats.

    Raises
    ------
    UserError
        If nothing was measured.
    """
    # Title of a panel -> metric -> label of its line
    panels: dict[str, dict[str, str]] = {}
    for name, (title, label) in INFORMATION_METRICS.items():
        if name in history:
            panels.setdefault(title, {})[name] = label
    of_labels = "watch/diag/entropy_labels"
    if of_labels in history and not np.any(history[of_labels][1]) and len(panels[ENTROPY]) > 1:
        # A flat line at 0 says less than the title.
        lines = {name: label for name, label in panels.pop(ENTROPY).items() if name != of_labels}
        panels = {f"{ENTROPY} (that of the labels is 0: each is certain)": lines} | panels
    if not panels:
        expected = ", ".join(INFORMATION_METRICS)
        raise UserError(f"The information figure needs one of the metrics {expected}; found none in the history.")
    with use_style():
        figure = new_figure(9, 3.6 * len(panels))
        all_axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
        for axes, (title, labels) in zip(all_axes, panels.items(), strict=True):
            is_divergence = title == DIVERGENCE
            for number, (name, label) in enumerate(labels.items()):
                steps, values = (np.asarray(part, np.float64) for part in history[name])
                if is_divergence:
                    # A logarithmic axis has no place for 0.
                    values = np.where(values > 0, values, np.nan)
                is_long = len(steps) > 50
                axes.plot(
                    steps,
                    smooth(values, len(values) // 25 if is_long else 1),
                    **series_style(number),
                    label=label,
                    marker=None if is_long else "o",
                    markersize=4,
                )
            axes.set(ylabel="nats", title=title)
            axes.set_yscale("log" if is_divergence else "linear")
            axes.legend(loc="best")
        axes.set_xlabel("step")
    return figure


def cooccurrence_figure(labels: npt.ArrayLike, classes: Sequence[str], *, title: str) -> Figure:
    """Draw which classes occur together.

    A cell shows how many percent of the records with the class of the row also have the class of the column.

    Parameters
    ----------
    labels : array-like, shape (n, K)
        Labels, 0 or 1.
    classes : sequence of K str
    title : str
        Title of the figure.

    Raises
    ------
    UserError
        If the number of names is not K.
    """
    y = np.asarray(labels, np.float64)
    if y.ndim != 2 or y.shape[1] != len(classes):
        raise UserError(
            f"The figure of classes needs labels (n, K) and K names; found labels {y.shape} and {len(classes)} names."
        )
    k = len(classes)
    both = y.T @ y  # records that have both classes
    count = np.diag(both)
    share = np.divide(100 * both, count[:, None], out=np.full_like(both, np.nan), where=count[:, None] > 0)
    with use_style():
        side = max(5.5, min(2.5 + 0.55 * k, 14))
        figure = new_figure(side + 1.4, side)
        axes = figure.add_subplot()
        axes.set_facecolor("#F2F2F2")
        image = axes.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=100)
        font_size = 12 if k <= 12 else min(11, 500 / k)
        names = [drawable(name, 20) for name in classes]
        names_with_count = [f"{name} ({n:,.0f})" for name, n in zip(names, count, strict=True)]
        axes.set_xticks(range(k), names, rotation=0 if k <= 6 else 90, fontsize=min(font_size, 11))
        axes.set_yticks(range(k), names_with_count, fontsize=min(font_size, 11))
        axes.grid(visible=False)
        axes.set(xlabel="share that also has this class (%)", ylabel="records with this class (number)", title=title)
        if k <= 25:
            for (row, column), value in np.ndenumerate(share):
                if np.isfinite(value):
                    color = "white" if value > 60 else INK
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=font_size, color=color)
        figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    return figure


def _measured(history: History, stages: Sequence[str], metric: str) -> Mapping[str, tuple[FloatArray, FloatArray]]:
    """Return stage -> (steps, values) of a metric, for the stages with at least one measurement."""
    series = {}
    for stage in stages:
        name = f"{metric}/{stage}"
        if name in history:
            steps, values = (np.asarray(part, np.float64) for part in history[name])
            if len(steps):
                series[stage] = (steps, values)
    if not series:
        raise UserError(f"The figure of {metric} needs this metric for at least one stage; found none in the history.")
    return series


def _limits(values: np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return the limits of a logarithmic scale. They are one to twelve decades apart, and contain the largest value."""
    largest = float(values.max()) if values.count() else 1.0
    smallest = float(values.min()) if values.count() else 1.0
    # One decade around the middle is the least.
    middle = np.sqrt(smallest * largest)
    low = min(smallest, middle / 10**0.5)
    high = max(largest, middle * 10**0.5)
    return max(low, largest * 1e-12), high
