"""The curves of several runs over one another, as vector pictures."""

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

GROUPS: Mapping[str, Mapping[str, str]] = {  # heading -> metric -> what it is called
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
    },
}
METRICS = tuple(metric for group in GROUPS.values() for metric in group)
LOGARITHMIC = (  # where the values span more than a decade
    "watch/optim/lr",
    "watch/grad/norm",
    "watch/grad/vanishing",
    "watch/grad/noise_scale",
    "watch/diag/sharpness",
    "watch/diag/kl_",
)
OFTEN = 60  # values, from which on a series is smoothed
DRAWN = 300  # points of a curve, at most
ASTRAY = 4.0  # times the usual range, beyond which a curve leaves its panel
DEPTH = 1e-4  # of the largest value, below which a logarithmic axis does not go


def groups(histories: Sequence[History]) -> dict[str, dict[str, str]]:
    """Of `GROUPS`, what any of the runs has a curve of.

    Where the training loss is the negative log-likelihood, the two are one curve.
    """
    found = {
        heading: {metric: name for metric, name in group.items() if any(_drawn(each, metric) for each in histories)}
        for heading, group in GROUPS.items()
    }
    if all(
        _same(each["val/nll"][1], each["val/loss"][1]) for each in histories if {"val/nll", "val/loss"} <= set(each)
    ):
        found["Loss"].pop("val/nll", None)
    return {heading: group for heading, group in found.items() if group}


def curve(history: History, metric: str) -> tuple[FloatArray, FloatArray]:
    """Steps and values of a metric as they are drawn.

    What is recorded once an epoch is drawn as it is, but for the final evaluation. A longer series is smoothed over a
    25th of its length and drawn at `DRAWN` points at most.
    """
    steps, values = without_final(*(np.asarray(part, np.float64) for part in history[metric]))
    if len(steps) <= OFTEN:
        return steps, values
    kept = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), DRAWN)).astype(int))
    return steps[kept], smooth(values, len(values) // 25)[kept]


def overlaid_figure(histories: Mapping[str, History], metrics: Mapping[str, str]) -> Figure:
    """Draw some metrics of several runs, a panel each; the runs are named at the end of their curves.

    Parameters
    ----------
    histories : mapping of str to History
        Short name of a run -> its metrics; the style of the curves follows their order.
    metrics : mapping of str to str
        Metric -> title of its panel.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with use_style():
        figure, places = panels(len(metrics), 4.2, 3.0)
        ends = [_draw(axes, histories, metric) for axes, metric in zip(places, metrics, strict=True)]
        for axes, title, of in zip(places, metrics.values(), ends, strict=True):
            axes.set_title(title, fontsize=13)
            if len(histories) > 1:
                label_ends(axes, of, size=10)
        figure.supxlabel("step", fontsize=12)
    return figure


def described(histories: Mapping[str, History], metrics: Mapping[str, str]) -> str:
    """In words what `overlaid_figure` shows: where each curve ends."""
    told = []
    for metric, title in metrics.items():
        ends = [f"{name} {_last(curve(each, metric)[1]):.3g}" for name, each in histories.items() if metric in each]
        told.append(f"{title}: {', '.join(ends)}")
    return f"Curves over the steps; their last values: {'; '.join(told)}."


def svg(figure: Figure) -> bytes:
    """A figure as SVG, the same for the same figure."""
    import matplotlib

    place = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "einthoven"}):
        figure.savefig(place, format="svg", metadata={"Date": None})
    return place.getvalue()


def _same(a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, equal_nan=True)


def _drawn(history: History, metric: str) -> bool:
    return metric in history and bool(np.isfinite(curve(history, metric)[1]).sum() > 1)


def _draw(axes: Axes, histories: Mapping[str, History], metric: str) -> list[End]:
    """Draw one metric of those runs that have it; where its curves end."""
    drawn = {
        name: (*curve(history, metric), series_style(number))
        for number, (name, history) in enumerate(histories.items())
        if _drawn(history, metric)
    }
    for steps, values, style in drawn.values():
        marker = "o" if len(steps) <= OFTEN // 2 else None
        axes.plot(steps, values, **style, linewidth=1.6, marker=marker, markersize=3)
    _limit(axes, [values[np.isfinite(values)] for _, values, _ in drawn.values()], metric.startswith(LOGARITHMIC))
    return [(_last(values), name, style) for name, (_, values, style) in drawn.items()]


def _limit(axes: Axes, series: Sequence[FloatArray], logarithmic: bool) -> None:
    """Show where most runs are: one that went astray must not flatten the others."""
    together = np.concatenate(series)
    positive, largest = together[together > 0], float(together.max())
    if logarithmic and len(positive) and largest > 10 * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(bottom=max(axes.get_ylim()[0], DEPTH * largest))
        return
    low, tops = float(together.min()), sorted(float(values.max()) for values in series)
    usual = tops[(len(tops) - 1) // 2]
    high = max(top for top in tops if top <= low + ASTRAY * (usual - low))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _last(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")
