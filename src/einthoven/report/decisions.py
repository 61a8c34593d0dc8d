"""Figures of probabilities and decisions: reliability, decision curves, risk over coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.operating_points import net_benefit
from einthoven.evaluation.scores import calibration_error_per_class, reliability
from einthoven.evaluation.selective import RiskCoverage
from einthoven.report.style import FAINT, INK, drawable, panels, series_style, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12  # largest number of classes in a figure; those with the most positive records are taken


def reliability_figure(y_true: npt.ArrayLike, stated: Mapping[str, npt.ArrayLike], classes: Sequence[str]) -> Figure:
    """Draw a reliability diagram of each class: observed share against predicted probability, in bins of equal number.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    stated : mapping of str to array-like, shape (n, K)
        Name -> probabilities, for example those before and after calibration.
    classes : sequence of K str

    Raises
    ------
    UserError
        If there is nothing to draw. See also `einthoven.evaluation.scores.reliability`.
    """
    labels = np.asarray(y_true)
    if not stated or labels.ndim != 2 or labels.shape[1] != len(classes):
        raise UserError(f"A reliability diagram needs probabilities and {len(classes)} columns, found {labels.shape}.")
    errors = {name: calibration_error_per_class(labels, p) for name, p in stated.items()}
    columns = _most_frequent(labels)
    with use_style():
        figure, places = panels(len(columns), 4.2, 4.2, sharey=True)
        for axes, k in zip(places, columns, strict=True):
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 4)))
            for i, (name, p) in enumerate(stated.items()):
                curve = reliability(labels[:, k], np.asarray(p)[:, k], bins=10)
                label = f"{name}  ECE {errors[name][k]:.3f}"
                axes.plot(curve.stated, curve.observed, marker="o", markersize=4, label=label, **series_style(3 * i))
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.set_title(drawable(classes[k]))
            axes.legend(loc="upper left", fontsize=9)
        figure.supxlabel("predicted probability")
        figure.supylabel("share of positives")
    return figure


def decision_curve_figure(y_true: npt.ArrayLike, p: npt.ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw the net benefit of treating by the predictions, over the threshold, compared with always and never treating.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and probabilities.
    classes : sequence of K str

    Raises
    ------
    UserError
        If the shapes do not fit. See also `einthoven.evaluation.operating_points.net_benefit`.
    """
    labels = np.asarray(y_true)
    probability = np.asarray(p)
    if labels.ndim != 2 or labels.shape[1] != len(classes):
        raise UserError(f"A decision curve needs {len(classes)} columns, found {labels.shape}.")
    thresholds = np.linspace(0.0, 0.95, 96)
    columns = _most_frequent(labels)
    with use_style():
        figure, places = panels(len(columns), 4.6, 3.4)
        for axes, k in zip(places, columns, strict=True):
            model, always = net_benefit(labels[:, k], probability[:, k], thresholds)
            axes.axhline(0, color=INK, linewidth=1, label="never")
            axes.plot(thresholds, always, color=FAINT, label="always")
            axes.plot(thresholds, model, label="model", **series_style(0))
            top = max(float(model.max()), float(labels[:, k].mean()), 0.01)
            axes.set_ylim(-0.25 * top, 1.1 * top)
            axes.set_title(drawable(classes[k]))
        places[0].legend(loc="upper right", fontsize=9)
        figure.supxlabel("threshold probability")
        figure.supylabel("net benefit (true positives per record)")
    return figure


def risk_coverage_figure(curve: RiskCoverage) -> Figure:
    """Draw the share of wrong decisions over the share of records that are answered, the most certain ones first."""
    with use_style():
        figure, (axes,) = panels(1, 4.6, 3.4)
        axes.plot(curve.coverage, curve.risk, label=f"by entropy  area {curve.area:.3f}", **series_style(0))
        axes.axhline(float(curve.risk[-1]), color=FAINT, linewidth=1, label="random order")
        axes.plot(0.8, curve.risk_at(0.8), color=INK, marker="o", markersize=6, label=f"80 %: {curve.risk_at(0.8):.3f}")
        axes.set(xlim=(0, 1.02), xlabel="share of records answered", ylabel="share of wrong decisions")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best", fontsize=9)
    return figure


def _most_frequent(labels: npt.NDArray[np.generic]) -> list[int]:
    """Return the columns of the classes to draw, in their original order."""
    return sorted(np.argsort(-labels.sum(axis=0), kind="stable")[:MOST].tolist())
