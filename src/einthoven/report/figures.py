"""Figures of a run. Each function takes arrays and returns a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import auroc_per_class, macro_auroc, roc_curve
from einthoven.report.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    VERMILLION,
    drawable,
    new_figure,
    panels,
    series_style,
    use_style,
)
from einthoven.report.trials import without_final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
History = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]

MAX_NAMED_CURVES = 12


def roc_figure(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, classes: Sequence[str], *, title: str = "ROC curves"
) -> Figure:
    """Draw the ROC curves of all classes and their mean, with each AUROC in the legend.

    Up to 12 classes have a name in the legend. If there are more, all curves are thin, and only the best and the worst
    class are named. A class without both labels has no curve. The macro curve is the mean of the true positive rates
    at the same false positive rate, so the area below it is the macro AUROC.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Scores, higher for positive.
    classes : sequence of K str
        Class names.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If no class has both labels or there are not K names. See also
        `einthoven.evaluation.metrics.check_labels_scores`.
    """
    auroc = auroc_per_class(y_true, y_score)
    macro = macro_auroc(y_true, y_score)
    if len(classes) != len(auroc):
        raise UserError(f"One class name per column is needed, found {len(classes)} names for {len(auroc)} columns.")
    labels = np.asarray(y_true)
    scores = np.asarray(y_score)
    columns = np.flatnonzero(~np.isnan(auroc)).tolist()
    has_names = len(columns) <= MAX_NAMED_CURVES
    rates = np.linspace(0, 1, 2001)
    mean = np.zeros_like(rates)
    with use_style():
        figure = new_figure(8.2, 6)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 4)), label="_chance")
        for i, k in enumerate(columns):
            fpr, tpr = roc_curve(labels[:, k], scores[:, k])
            mean += _interpolate(rates, fpr, tpr) / len(columns)
            if has_names:
                axes.plot(fpr, tpr, **series_style(i), label=f"{drawable(classes[k])}  {auroc[k]:.3f}")
            else:
                axes.plot(fpr, tpr, color=FAINT, linewidth=0.8, alpha=0.7, label=f"_{classes[k]}")
        if not has_names:
            ranked = sorted(columns, key=lambda k: -auroc[k])
            for name, k, color in (("best", ranked[0], BLUE), ("worst", ranked[-1], VERMILLION)):
                fpr, tpr = roc_curve(labels[:, k], scores[:, k])
                axes.plot(fpr, tpr, color=color, label=f"{name}: {drawable(classes[k])}  {auroc[k]:.3f}")
        axes.plot(np.append(0.0, rates), np.append(0.0, mean), color=INK, linewidth=3, label=f"macro mean  {macro:.3f}")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", anchor="W")
        axes.set(xlabel="false positive rate (1 − specificity)", ylabel="true positive rate (sensitivity)")
        absent = len(auroc) - len(columns)
        axes.set_title(title if has_names else f"{title}, {len(columns)} classes")
        legend = axes.legend(title="AUROC", loc="center left", bbox_to_anchor=(1.0, 0.5), alignment="left")
        if absent:
            legend.set_title(f"AUROC ({absent} classes\nwithout both labels left out)")
    return figure


def loss_figure(history: History, monitor: str = "val/macro_auroc", label: str = "macro AUROC") -> Figure:
    """Draw training and validation loss over the steps, and the monitored metric below.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        The figure shows ``train/loss`` (raw and smoothed), ``val/loss`` and `monitor`, if they are there.
    monitor, label : str
        A metric of which more is better, and its name in the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If there is none of the three.
    """
    series: dict[str, tuple[FloatArray, FloatArray]] = {}
    for name in ("train/loss", "val/loss", monitor):
        if name in history and np.size(history[name][0]):
            steps, values = (np.asarray(part, dtype=np.float64) for part in history[name])
            # The final evaluation may be of the weights of an earlier epoch.
            series[name] = (steps, values) if name == "train/loss" else without_final(steps, values)
    if not series:
        raise UserError(f"A loss figure needs train/loss, val/loss or {monitor}, found none in the history.")
    has_loss = "train/loss" in series or "val/loss" in series
    has_metric = monitor in series
    has_both = has_loss and has_metric
    with use_style():
        figure = new_figure(9, 7 if has_both else 4.5)
        rows = 2 if has_both else 1
        ratios = [3, 2] if has_both else None
        places = figure.subplots(rows, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
        if has_loss:
            _draw_losses(places[0], series)
        if has_metric:
            _draw_metric(places[-1], *series[monitor], monitor, label)
        places[-1].set_xlabel("step")
    return figure


def pca_scree_figure(
    explained_variance_ratio: npt.ArrayLike, components: npt.ArrayLike, leads: Sequence[str]
) -> Figure:
    """Draw the share of the variance of each principal component, and the loadings of the leads.

    Parameters
    ----------
    explained_variance_ratio : array-like, shape (m,)
        Shares from 0 to 1, m >= k. Components after the k-th are grey, as they are not used.
    components : array-like, shape (k, L)
        Loadings, one component per row.
    leads : sequence of L str
        Lead names.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the shapes do not fit together.
    """
    share = np.asarray(explained_variance_ratio, dtype=np.float64)
    loadings = np.asarray(components, dtype=np.float64)
    if share.ndim != 1 or loadings.ndim != 2 or loadings.shape[1] != len(leads) or len(share) < len(loadings):
        raise UserError(
            "A scree figure needs shares (m,) and components (k, leads) with m >= k, "
            f"found {share.shape} and {loadings.shape} for {len(leads)} leads."
        )
    number = np.arange(1, len(share) + 1)
    is_used = number <= len(loadings)
    with use_style():
        figure = new_figure(13, 5.5)
        scree, heat = figure.subplots(1, 2, width_ratios=[1, 1.15])
        scree.bar(number, 100 * share, color=np.where(is_used, BLUE, FAINT).tolist(), width=0.75)
        scree.plot(number, 100 * np.cumsum(share), color=VERMILLION, marker="o", markersize=5, label="cumulative")
        for x, value in zip(number, 100 * share, strict=True):
            # The cumulative curve starts at the top of the first bar, so the text of a high bar stands inside of it.
            is_inside = x == 1 and value > 8
            is_beside = x == 1 and not is_inside
            scree.annotate(
                _short_share(value),
                (x, value),
                xytext=(-6 if is_beside else 0, -7 if is_inside else 4),
                textcoords="offset points",
                ha="right" if is_beside else "center",
                va="top" if is_inside else "baseline",
                color="white" if is_inside else INK,
                fontsize=8.5 if is_inside else 10,
            )
        scree.set(xlabel="principal component", ylabel="share of variance (%)", ylim=(0, 108))
        scree.set_xticks(number)
        scree.grid(axis="x", visible=False)
        scree.set_title(f"{len(loadings)} of {len(share)} components: {100 * share[is_used].sum():.4g} % of variance")
        scree.legend(loc="center right")
        largest = float(np.abs(loadings).max(initial=1e-12))
        image = heat.imshow(loadings, cmap="PuOr_r", vmin=-largest, vmax=largest, aspect="auto")
        heat.set_xticks(range(len(leads)), leads)
        heat.set_yticks(range(len(loadings)), [str(i + 1) for i in range(len(loadings))])
        heat.set(ylabel="principal component")
        heat.grid(visible=False)
        heat.set_title("Loadings of the leads")
        for (row, column), value in np.ndenumerate(loadings):
            text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}")
            color = "white" if abs(value) > 0.65 * largest else INK
            heat.text(column, row, text, ha="center", va="center", fontsize=8.5, color=color)
        figure.colorbar(image, ax=heat, fraction=0.04, pad=0.02)
    return figure


def _short_share(percent: float) -> str:
    """Return a share in percent with at most four characters, as bars stand close to each other."""
    if percent >= 1:
        return f"{percent:.3g}"
    return f"{percent:.2f}" if percent >= 0.005 else "0"


def schedule_figure(multipliers: npt.ArrayLike, steps: npt.ArrayLike | None = None) -> Figure:
    """Draw the learning-rate multiplier over the steps of a run.

    Parameters
    ----------
    multipliers : array-like, shape (n,)
        Factors of the base learning rate.
    steps : array-like, shape (n,), optional
        Steps of the multipliers; by default 0, 1, 2, …

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If there are no steps.
    """
    values = np.asarray(multipliers, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise UserError(f"A schedule figure needs one multiplier per step, found shape {values.shape}.")
    with use_style():
        figure = new_figure(8, 4)
        axes = figure.add_subplot()
        x = np.arange(len(values)) if steps is None else np.asarray(steps)
        axes.fill_between(x, values, color=BLUE, alpha=0.12, linewidth=0)
        axes.plot(x, values, color=BLUE, label="multiplier")

        # The text stands on the side of the peak that has more room.
        peak = int(np.argmax(values))
        is_early = peak < len(values) / 2
        axes.plot(x[peak], values[peak], "o", color=VERMILLION)
        axes.annotate(
            f"{values[peak]:.3g} at step {x[peak]:,}",
            (x[peak], values[peak]),
            xytext=(8, 6) if is_early else (-8, 6),
            textcoords="offset points",
            ha="left" if is_early else "right",
        )
        axes.set(xlabel="step", ylabel="× base learning rate")
        axes.set_ylim(0, 1.15 * max(float(values.max()), 1e-12))
        axes.set_title("Learning-rate schedule")
    return figure


def schedules_figure(schedules: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draw several learning-rate schedules side by side, on the same axes.

    Parameters
    ----------
    schedules : mapping of str to array-like, shape (steps,)
        Name -> factor of the base learning rate at each step.
    """
    if not schedules:
        raise UserError("A figure of schedules needs at least one schedule.")
    with use_style():
        figure, places = panels(len(schedules), 4, 2.4, sharey=True)
        for axes, (name, multipliers) in zip(places, schedules.items(), strict=True):
            values = np.asarray(multipliers, dtype=np.float64)
            progress = np.linspace(0, 100, len(values))
            axes.fill_between(progress, values, color=BLUE, alpha=0.12, linewidth=0)
            axes.plot(progress, values, color=BLUE)
            axes.set_title(name)
            axes.set_ylim(0, 1.08)
        figure.supxlabel("% of the run")
        figure.supylabel("× base learning rate")
    return figure


def smooth(values: npt.ArrayLike, window: int) -> FloatArray:
    """Return the centred running mean of a series over its finite values. At the ends, fewer values are averaged.

    Parameters
    ----------
    values : array-like, shape (n,)
        A series. Values that are not finite are left out.
    window : int
        Number of values to average. An even number is increased by one.

    Returns
    -------
    array of float64, shape (n,)
        ``nan`` if there is no finite value to average.
    """
    series = np.asarray(values, dtype=np.float64)
    half = max(window, 1) // 2
    is_finite = np.isfinite(series)
    kernel = np.ones(2 * half + 1)
    total = np.convolve(np.where(is_finite, series, 0.0), kernel)[half : half + len(series)]
    count = np.round(np.convolve(is_finite.astype(np.float64), kernel)[half : half + len(series)])
    result = np.full(len(series), np.nan)
    result[count > 0] = total[count > 0] / count[count > 0]
    return result


def _interpolate(rates: FloatArray, fpr: FloatArray, tpr: FloatArray) -> FloatArray:
    """Return the true positive rates of a ROC curve at some false positive rates.

    Where the curve is vertical, it takes the upper end. `numpy.interp` does not define which end it takes.
    """
    low = np.searchsorted(fpr, rates, side="right") - 1
    high = np.minimum(low + 1, len(fpr) - 1)
    width = fpr[high] - fpr[low]
    fraction = np.divide(rates - fpr[low], width, out=np.zeros_like(rates), where=width > 0)
    return tpr[low] + fraction * (tpr[high] - tpr[low])


def _draw_losses(axes: Axes, series: Mapping[str, tuple[FloatArray, FloatArray]]) -> None:
    if "train/loss" in series:
        steps, values = series["train/loss"]
        window = max(1, len(values) // 25)
        axes.plot(steps, values, color=BLUE, alpha=0.25, linewidth=0.8, label="_train, each step")
        axes.plot(steps, smooth(values, window), color=BLUE, label="train/loss, smoothed")
        finite = values[np.isfinite(values)]
        # A few very large values must not flatten the rest of the curve.
        if len(finite) > 20:
            low, high = np.quantile(finite, [0.0, 0.995])
            validation = series.get("val/loss", (finite, finite))[1]
            high = max(high, float(np.nanmax(np.where(np.isfinite(validation), validation, -np.inf))))
            low = min(low, float(np.nanmin(np.where(np.isfinite(validation), validation, np.inf))))
            margin = 0.06 * (high - low) + 1e-12
            axes.set_ylim(low - margin, high + margin)
    if "val/loss" in series:
        axes.plot(*series["val/loss"], color=VERMILLION, marker="o", markersize=5, label="val/loss")
    axes.set_ylabel("loss")
    axes.set_title("Loss")
    axes.legend(loc="upper right")


def _draw_metric(axes: Axes, steps: FloatArray, values: FloatArray, name: str, label: str) -> None:
    axes.plot(steps, values, color=VERMILLION, marker="o", markersize=5, label=name)
    if np.isfinite(values).any():
        best = int(np.nanargmax(values))
        axes.plot(steps[best], values[best], marker="o", markersize=11, color=ORANGE, zorder=1.5, label="_best")
        axes.axhline(values[best], color=FAINT, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
        axes.set_title(f"Validation {label}: best {values[best]:.4f} at step {steps[best]:,.0f}")
    axes.set_ylabel(label)
