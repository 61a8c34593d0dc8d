"""Curves of several runs in one figure, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.report.figures import History, smooth
from einthoven.report.style import panels, series_style, use_style
from einthoven.report.trials import End, label_ends, without_final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

GROUPS: Mapping[str, Mapping[str, str]] = {  # heading -> metric -> name on the page
    "Loss": {"train/loss": "training loss", "val/loss": "validation loss", "val/nll": "validation NLL (nats)"},
    "Validation": {
        "val/macro_auroc": "macro AUROC",
        "val/macro_auprc": "macro AUPRC",
        "val/fmax": "Fmax",
        "val/accuracy": "accuracy",
        "val/challenge_score": "challenge score",
        "val/mae": "mean absolute error",
        "val/rmse": "root mean squared error",
        "val/r2": "R²",
        "val/mutual_information": "mutual information bound (nats)",
        "val/partner_found": "partners found",
        "val/future_found": "futures found",
        "val/elbo": "evidence, at least (nats per value)",
        "val/kl": "divergence from the prior (nats)",
        "val/probe_auroc": "macro AUROC of a linear probe",
    },
    "Optimization": {
        "watch/optim/lr": "learning rate",
        "watch/grad/norm": "gradient norm",
        "watch/grad/vanishing": "gradient, first / last stage",
        "watch/grad/noise_scale": "gradient noise scale",
        "watch/diag/sharpness": "largest Hessian eigenvalue",
    },
    "Predictions": {
        "watch/diag/entropy": "entropy (nats)",
        "watch/diag/kl_labels": "KL(labels ‖ predictions)",
        "watch/diag/kl_prior": "KL of their means",
        "watch/diag/kl_drift": "KL(last ‖ this evaluation)",
        "watch/diag/kl_windows": "KL between windows",
        "watch/diag/calibration_gap": "calibration gap",
        "watch/diag/confident_wrong": "share confident and wrong",
        "watch/act/effective_rank": "effective rank of features",
        "watch/act/alignment": "alignment of views",
        "watch/act/uniformity": "uniformity of records",
        "watch/act/collapsed": "share of collapsed dimensions",
        "watch/act/active_latents": "share of active latents",
    },
}
METRICS = tuple(metric for group in GROUPS.values() for metric in group)
LOGARITHMIC = (  # start of a metric with a logarithmic axis, if its values span more than a decade
    "watch/optim/lr",
    "watch/grad/norm",
    "watch/grad/vanishing",
    "watch/grad/noise_scale",
    "watch/diag/sharpness",
    "watch/diag/kl_",
)
SMOOTH_ABOVE = 60  # a series with more values is smoothed
MAX_POINTS = 300  # largest number of points of a curve
OUTLIER = 4.0  # a curve whose range is this many times the usual range may leave its panel
LOWEST_SHARE = 1e-4  # a logarithmic axis starts at this share of the largest value or above


def groups(histories: Sequence[History]) -> dict[str, dict[str, str]]:
    """Return the part of `GROUPS` for which any of the runs has a curve.

    If the loss is the negative log-likelihood in all runs, ``val/nll`` is left out, as it is the same curve.
    """
    available: dict[str, dict[str, str]] = {}
    for heading, group in GROUPS.items():
        available[heading] = {
            metric: name for metric, name in group.items() if any(_has_curve(history, metric) for history in histories)
        }
    with_both = [history for history in histories if "val/nll" in history and "val/loss" in history]
    if all(_is_same(history["val/nll"][1], history["val/loss"][1]) for history in with_both):
        available["Loss"].pop("val/nll", None)
    return {heading: group for heading, group in available.items() if group}


def curve(history: History, metric: str) -> tuple[FloatArray, FloatArray]:
    """Return the steps and values that are drawn for a metric.

    A short series is drawn without the final evaluation. A longer series is smoothed over a 25th of its length and
    drawn with at most `MAX_POINTS` points.
    """
    all_steps, all_values = (np.asarray(part, np.float64) for part in history[metric])
    steps, values = without_final(all_steps, all_values)
    if len(steps) <= SMOOTH_ABOVE:
        return steps, values
    points = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MAX_POINTS)).astype(int))
    return steps[points], smooth(values, len(values) // 25)[points]


def overlaid_figure(histories: Mapping[str, History], metrics: Mapping[str, str]) -> Figure:
    """Draw some metrics of several runs, one panel per metric. The name of a run is at the end of its curve.

    Parameters
    ----------
    histories : mapping of str to History
        Short name of a run -> its metrics. The order decides the style of the curves.
    metrics : mapping of str to str
        Metric -> title of its panel.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with use_style():
        figure, places = panels(len(metrics), 4.2, 3.0)
        # The limits of all panels must be final before the names are placed.
        ends_of_panels = [_draw(axes, histories, metric) for axes, metric in zip(places, metrics, strict=True)]
        for axes, title, ends in zip(places, metrics.values(), ends_of_panels, strict=True):
            axes.set_title(title, fontsize=13)
            if len(histories) > 1:
                label_ends(axes, ends, size=10)
        figure.supxlabel("step", fontsize=12)
    return figure


def describe(histories: Mapping[str, History], metrics: Mapping[str, str]) -> str:
    """Describe `overlaid_figure` in words for readers who do not see it: the last value of each curve."""
    panels_in_words = []
    for metric, title in metrics.items():
        ends = []
        for name, history in histories.items():
            if metric in history:
                ends.append(f"{name} {_last(curve(history, metric)[1]):.3g}")
        panels_in_words.append(f"{title}: {', '.join(ends)}")
    return f"Curves over the steps; their last values: {'; '.join(panels_in_words)}."


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG. The same figure gives the same bytes."""
    import matplotlib

    # Without these two options, the file contains random identifiers and the date.
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "einthoven"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _is_same(a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, equal_nan=True)


def _has_curve(history: History, metric: str) -> bool:
    return metric in history and bool(np.isfinite(curve(history, metric)[1]).sum() > 1)


def _draw(axes: Axes, histories: Mapping[str, History], metric: str) -> list[End]:
    """Draw one metric of the runs that have it, and return the ends of the curves."""
    ends: list[End] = []
    finite_values = []
    for number, (name, history) in enumerate(histories.items()):
        if not _has_curve(history, metric):
            continue
        steps, values = curve(history, metric)
        style = series_style(number)
        marker = "o" if len(steps) <= SMOOTH_ABOVE // 2 else None
        axes.plot(steps, values, **style, linewidth=1.6, marker=marker, markersize=3)
        finite_values.append(values[np.isfinite(values)])
        ends.append((_last(values), name, style))
    _set_limits(axes, finite_values, metric.startswith(LOGARITHMIC))
    return ends


def _set_limits(axes: Axes, series: Sequence[FloatArray], logarithmic: bool) -> None:
    """Set the vertical limits so that most runs are visible. One diverged run must not flatten the others."""
    all_values = np.concatenate(series)
    positive = all_values[all_values > 0]
    largest = float(all_values.max())
    if logarithmic and len(positive) and largest > 10 * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST_SHARE * largest))
        return

    # The median of the maxima is usual. Curves far above it are cut off.
    low = float(all_values.min())
    tops = sorted(float(values.max()) for values in series)
    usual = tops[(len(tops) - 1) // 2]
    high = max(top for top in tops if top <= low + OUTLIER * (usual - low))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _last(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")
