"""Figures of a training: gradients and updates of the stages, entropy and divergences, co-occurrence of classes."""

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

COLUMNS = 160  # largest number of columns of a heat map; more measurements are averaged
MANY = 8  # with more stages, the colour of a line shows the depth
USUAL = 1e-3  # usual size of a step relative to the weights
INFORMATION = {  # metric -> (panel, label)
    "watch/diag/entropy": (0, "of the predictions"),
    "watch/diag/entropy_labels": (0, "of the labels"),
    "watch/diag/kl_labels": (1, "labels ‖ predictions, per record"),
    "watch/diag/kl_prior": (1, "labels ‖ predictions, of their means"),
    "watch/diag/kl_drift": (1, "last evaluation ‖ this one"),
    "watch/diag/kl_windows": (1, "between the windows of a record"),
}


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
    steps = next(iter(series.values()))[0]
    rows = np.stack([values[: len(steps)] for _, values in series.values()])

    # Several measurements share a cell. Its value is the geometric mean of the positive ones.
    edges = np.unique(np.linspace(0, len(steps), min(len(steps), COLUMNS) + 1).astype(int))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(rows > 0, np.log(rows), np.nan)
        counts = np.add.reduceat(np.isfinite(logs), edges[:-1], axis=1)
        sums = np.add.reduceat(np.nan_to_num(logs, posinf=0.0), edges[:-1], axis=1)
        cells = np.ma.masked_invalid(np.exp(sums / counts))
    last_edge = steps[-1] + max(steps[-1] - steps[edges[-2]], 1)
    step_edges = np.append(steps[edges[:-1]], last_edge)
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
    """Draw the size of the steps of each stage relative to its weights, with a line at the usual value 0.001.

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
    depth = matplotlib.colormaps["viridis"]
    with use_style():
        figure = new_figure(9, 4.8)
        axes = figure.add_subplot()
        for number, (stage, (steps, values)) in enumerate(series.items()):
            # There are not enough distinct colours for many stages. Then dark is the input and light is the output.
            style = {"color": depth(0.95 * number / len(series))} if len(series) > MANY else series_style(number)
            axes.plot(steps, np.where(values > 0, values, np.nan), **style, linewidth=1.6, label=stage)
        axes.axhline(USUAL, color=INK, linewidth=1.2, linestyle=(0, (6, 4)), zorder=1)
        axes.annotate(
            "0.001: usual",
            (1.0, USUAL),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=11,
        )
        axes.set_yscale("log")
        # The last steps of a schedule can be very small. They must not flatten the rest of the curves.
        largest = max(float(np.nanmax(values)) for _, values in series.values())
        if 0 < largest < np.inf:
            axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-5 * largest))
        axes.set(xlabel="step", ylabel="size of the step / size of the weights", title="Updates of each stage")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 if len(series) <= 14 else 2)
    return figure


def information_figure(history: History) -> Figure:
    """Draw the entropy of the predictions and their divergences over the steps.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        Any of ``watch/diag/entropy``, ``watch/diag/entropy_labels`` and ``watch/diag/kl_…``, in nats.

    Raises
    ------
    UserError
        If nothing was measured.
    """
    panels: list[dict[str, str]] = [{}, {}]
    for name, (panel, label) in INFORMATION.items():
        if name in history:
            panels[panel][name] = label
    used = [panel for panel in panels if panel]
    if not used:
        raise UserError(f"A figure of information needs one of {', '.join(INFORMATION)}, found none in the history.")
    with use_style():
        figure = new_figure(9, 3.6 * len(used))
        places = figure.subplots(len(used), squeeze=False, sharex=True)[:, 0]
        for axes, names in zip(places, used, strict=True):
            is_divergence = names is panels[1]
            for number, (name, label) in enumerate(names.items()):
                steps, values = (np.asarray(part, np.float64) for part in history[name])
                if is_divergence:
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
            axes.set(ylabel="nats", title="Divergence (KL)" if is_divergence else "Entropy")
            axes.set_yscale("log" if is_divergence else "linear")
            axes.legend(loc="best")
        axes.set_xlabel("step")
    return figure


def cooccurrence_figure(labels: npt.ArrayLike, classes: Sequence[str], *, title: str) -> Figure:
    """Draw which classes occur together: the share of the records with the class of a row that have that of a column.

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
        If there are not K names.
    """
    y = np.asarray(labels, np.float64)
    if y.ndim != 2 or y.shape[1] != len(classes):
        raise UserError(f"A figure of labels needs (n, K) and K names, found {y.shape} and {len(classes)} names.")
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
        size = 12 if k <= 12 else min(11, 500 / k)
        names = [drawable(name, 20) for name in classes]
        names_with_count = [f"{name} ({n:,.0f})" for name, n in zip(names, count, strict=True)]
        axes.set_xticks(range(k), names, rotation=0 if k <= 6 else 90, fontsize=min(size, 11))
        axes.set_yticks(range(k), names_with_count, fontsize=min(size, 11))
        axes.grid(visible=False)
        axes.set(xlabel="have this class too (%)", ylabel="of the records with this class (number)", title=title)
        if k <= 25:
            for (row, column), value in np.ndenumerate(share):
                if np.isfinite(value):
                    color = "white" if value > 60 else INK
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=color)
        figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    return figure


def _measured(history: History, stages: Sequence[str], metric: str) -> Mapping[str, tuple[FloatArray, FloatArray]]:
    series = {}
    for stage in stages:
        name = f"{metric}/{stage}"
        if name in history:
            steps, values = (np.asarray(part, np.float64) for part in history[name])
            if len(steps):
                series[stage] = (steps, values)
    if not series:
        raise UserError(f"A figure of {metric} needs this metric for at least one stage, found none in the history.")
    return series


def _limits(values: np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return the limits of a logarithmic scale: at least one decade, and at most the highest twelve decades."""
    high = float(values.max()) if values.count() else 1.0
    low = float(values.min()) if values.count() else 1.0
    middle = np.sqrt(low * high)
    return max(min(low, middle / 10**0.5), high * 1e-12), max(high, middle * 10**0.5)
