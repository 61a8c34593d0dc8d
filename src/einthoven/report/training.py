"""What went on inside a training: gradients and updates of the stages, and what the predictions say, over the steps."""

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

COLUMNS = 160  # of a heat map, at most: measurements are averaged to so many
MANY = 8  # stages, beyond which their lines are told by depth
USUAL = 1e-3  # size of a step over that of the weights that a healthy training has, about
INFORMATION = {  # in which panel, as what
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
        ``<metric>/<stage>``; stages that were not measured are left out.
    stages : sequence of str
        From the input to the output: the first is drawn at the bottom, as the signal flows upwards.
    metric : str
        What is drawn.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If nothing was measured.
    """
    from matplotlib.colors import LogNorm

    found = _measured(history, stages, metric)
    steps = next(iter(found.values()))[0]
    rows = np.stack([values[: len(steps)] for _, values in found.values()])
    edges = np.unique(np.linspace(0, len(steps), min(len(steps), COLUMNS) + 1).astype(int))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(rows > 0, np.log(rows), np.nan)
        counts = np.add.reduceat(np.isfinite(logs), edges[:-1], axis=1)
        cells = np.exp(np.add.reduceat(np.nan_to_num(logs, posinf=0.0), edges[:-1], axis=1) / counts)
    shown = np.ma.masked_invalid(cells)
    with use_style():
        figure = new_figure(9, max(3.2, 1.6 + 0.45 * len(found)))
        axes = figure.add_subplot()
        axes.set_facecolor(FAINT)  # where there is no gradient
        at = np.append(steps[edges[:-1]], steps[-1] + max(steps[-1] - steps[edges[-2]], 1))
        scale = LogNorm(*_limits(shown))
        image = axes.pcolormesh(at, np.arange(len(found) + 1), shown, cmap="viridis", norm=scale, rasterized=True)
        axes.set_yticks(np.arange(len(found)) + 0.5, list(found))
        axes.grid(visible=False)
        axes.set(xlabel="step", title="Gradient norm of each stage, input at the bottom")
        figure.colorbar(image, ax=axes, label=metric, pad=0.02)
    return figure


def update_ratio_figure(history: History, stages: Sequence[str]) -> Figure:
    """Draw how large the steps of each stage are beside its weights, with a guide at 0.001.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        ``watch/update/ratio/<stage>``.
    stages : sequence of str
        From the input to the output.

    Raises
    ------
    UserError
        If nothing was measured.
    """
    import matplotlib

    found = _measured(history, stages, "watch/update/ratio")
    depth = matplotlib.colormaps["viridis"]
    with use_style():
        figure = new_figure(9, 4.8)
        axes = figure.add_subplot()
        for number, (stage, (steps, values)) in enumerate(found.items()):
            many = {"color": depth(0.95 * number / len(found))}  # more lines than told colours: dark is the input
            style = many if len(found) > MANY else series_style(number)
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
        largest = max(float(np.nanmax(values)) for _, values in found.values())
        if 0 < largest < np.inf:  # what a schedule leaves of the last steps must not flatten the rest
            axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-5 * largest))
        axes.set(xlabel="step", ylabel="size of the step / size of the weights", title="Updates of each stage")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 if len(found) <= 14 else 2)
    return figure


def information_figure(history: History) -> Figure:
    """Draw the entropy of the predictions, and the divergences that are measured of them, over the steps.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        What of ``watch/diag/entropy``, ``watch/diag/entropy_labels`` and ``watch/diag/kl_…`` is there, in nats.

    Raises
    ------
    UserError
        If nothing was measured.
    """
    panels = [
        {name: label for name, (panel, label) in INFORMATION.items() if panel == i and name in history} for i in (0, 1)
    ]
    used = [panel for panel in panels if panel]
    if not used:
        raise UserError(f"A figure of information needs one of {', '.join(INFORMATION)}, found none in the history.")
    with use_style():
        figure = new_figure(9, 3.6 * len(used))
        for axes, names in zip(figure.subplots(len(used), squeeze=False, sharex=True)[:, 0], used, strict=True):
            divergences = names is panels[1]
            for number, (name, label) in enumerate(names.items()):
                steps, values = (np.asarray(part, np.float64) for part in history[name])
                values = np.where(values > 0, values, np.nan) if divergences else values
                often = len(steps) > 50
                axes.plot(
                    steps,
                    smooth(values, len(values) // 25 if often else 1),
                    **series_style(number),
                    label=label,
                    marker=None if often else "o",
                    markersize=4,
                )
            axes.set(ylabel="nats", title="Divergence (KL)" if divergences else "Entropy")
            axes.set_yscale("log" if divergences else "linear")
            axes.legend(loc="best")
        axes.set_xlabel("step")
    return figure


def cooccurrence_figure(labels: npt.ArrayLike, classes: Sequence[str], *, title: str) -> Figure:
    """Draw which classes stand together: of the records with the class of a row, the share with that of a column.

    Parameters
    ----------
    labels : array-like, shape (n, K)
        0 or 1.
    classes : sequence of K str
    title : str
        The line above.

    Raises
    ------
    UserError
        If there are not K names.
    """
    y = np.asarray(labels, np.float64)
    if y.ndim != 2 or y.shape[1] != len(classes):
        raise UserError(f"A figure of labels needs (n, K) and K names, found {y.shape} and {len(classes)} names.")
    together, k = y.T @ y, len(classes)
    count = np.diag(together)
    share = np.divide(100 * together, count[:, None], out=np.full_like(together, np.nan), where=count[:, None] > 0)
    with use_style():
        side = max(5.5, min(2.5 + 0.55 * k, 14))
        figure = new_figure(side + 1.4, side)
        axes = figure.add_subplot()
        axes.set_facecolor("#F2F2F2")
        image = axes.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=100)
        size = 12 if k <= 12 else min(11, 500 / k)
        shown = [drawable(name, 20) for name in classes]
        axes.set_xticks(range(k), shown, rotation=0 if k <= 6 else 90, fontsize=min(size, 11))
        axes.set_yticks(
            range(k), [f"{name} ({n:,.0f})" for name, n in zip(shown, count, strict=True)], fontsize=min(size, 11)
        )
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
    found = {}
    for stage in stages:
        if f"{metric}/{stage}" in history:
            steps, values = (np.asarray(part, np.float64) for part in history[f"{metric}/{stage}"])
            if len(steps):
                found[stage] = (steps, values)
    if not found:
        raise UserError(f"A figure of {metric} needs it of a stage, found none in the history.")
    return found


def _limits(values: np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Lowest and highest value, at least a decade apart; of twelve decades at most, the highest."""
    high = float(values.max()) if values.count() else 1.0
    low = float(values.min()) if values.count() else 1.0
    middle = np.sqrt(low * high)
    return max(min(low, middle / 10**0.5), high * 1e-12), max(high, middle * 10**0.5)
