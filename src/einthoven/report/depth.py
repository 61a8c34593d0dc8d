"""Figure of a metric over the depth of a network, such as the gradient or the variance of each stage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.figures import smooth
from einthoven.report.style import FAINT, new_figure, series_style, use_style
from einthoven.report.trials import MANY, End, FloatArray, Trial, by_label, label_ends, mean_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBERED = re.compile(r"(\d+)$")
SMALLEST = 1e-45  # smallest positive float32


def depth_figure(
    trials: Sequence[Trial],
    *,
    metric: str,
    title: str,
    ylabel: str,
    panel: str | None = None,
    relative: bool = False,
    outcome: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a metric of every numbered stage at the first step, over the depth of the network, one line per run.

    Parameters
    ----------
    metric : str
        ``watch/grad/norm`` or ``watch/act/variance``: the metric name without the stage.
    title, ylabel : str
        The question that the figure answers, and the name of the quantity.
    panel : str, optional
        An option, such as ``model.activation``. Each of its values gets a panel.
    relative : bool
        Divide by the value of the first stage.
    outcome : str, optional
        A metric of the result. It is drawn over the steps in an additional panel.
    names : mapping, optional
        See `Trial.label`.
    """
    names = names or {}
    panels: dict[str, list[Trial]] = {}
    for trial in trials:
        value = trial.options.get(panel, "") if panel else ""
        panels.setdefault(value, []).append(trial)
    columns = len(panels) + (outcome is not None)
    with use_style():
        figure = new_figure(max(8.0, 6.5 * columns), 5.2, title)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        ends: list[list[End]] = []
        for place, (value, members) in zip(axes, panels.items(), strict=False):
            ends.append(_draw_profiles(place, by_label(members, names, panel), metric, relative))
            place.set_title(value)
            place.set_xlabel("layer, from the input to the output")
            place.xaxis.get_major_locator().set_params(integer=True)
        axes[0].set_ylabel(ylabel)
        if outcome is not None:
            ends.append(_draw_outcome(axes[-1], by_label(trials, names), outcome))

        # All panels of the metric have the same limits, so that they can be compared.
        low = min(a.get_ylim()[0] for a in axes[: len(panels)])
        high = max(a.get_ylim()[1] for a in axes[: len(panels)])
        for place in axes[: len(panels)]:
            place.set_ylim(low, high)
        figure.draw_without_rendering()
        for place, ends_of_panel in zip(axes, ends, strict=True):
            label_ends(place, ends_of_panel)
    return figure


def profile(trial: Trial, metric: str) -> tuple[FloatArray, FloatArray]:
    """Return the numbers of the stages, and the first value of a metric for each.

    Raises
    ------
    UserError
        If the run has fewer than two numbered stages with this metric.
    """
    first_values = {}
    for name, (_, values) in trial.history.items():
        number = _NUMBERED.search(name)
        if number and name.startswith(f"{metric}/"):
            first_values[int(number[1])] = float(values[0])
    if len(first_values) < 2:
        raise UserError(
            f"figure: it needs {metric} of two or more numbered stages (layer1, layer2, …), for example from model=mlp."
        )
    depth = np.array(sorted(first_values), dtype=np.float64)
    return depth, np.array([first_values[int(number)] for number in depth])


def _draw_profiles(axes: Axes, groups: Mapping[str, Sequence[Trial]], metric: str, relative: bool) -> list[End]:
    ends: list[End] = []
    for i, (label, members) in enumerate(groups.items()):
        depth, _ = profile(members[0], metric)
        # The values of the seeds span decades, so their mean is the geometric mean.
        logs = [np.log(np.maximum(profile(trial, metric)[1], SMALLEST)) for trial in members]
        values = np.exp(np.mean(logs, axis=0))
        if relative:
            values = values / values[0]
        style = series_style(i)
        axes.plot(depth, values, marker="o", markersize=4, **style)
        ends.append((float(values[-1]), label, style))
    axes.set_yscale("log")
    if relative:
        axes.axhline(1.0, color=FAINT, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    return ends


def _draw_outcome(axes: Axes, groups: Mapping[str, Sequence[Trial]], metric: str) -> list[End]:
    ends: list[End] = []
    for i, (label, members) in enumerate(groups.items()):
        steps, values = mean_series(members, metric)
        curve = smooth(values, len(values) // 20)
        style = series_style(i)
        axes.plot(steps, curve, marker=None if len(values) > MANY else "o", markersize=4, **style)
        ends.append((float(curve[-1]), label, style))
    axes.set(xlabel="step", ylabel=metric)
    axes.set_title("Result of the training")
    return ends
