"""Figure of the edge of stability: the sharpness during gradient descent, and the limit of the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from einthoven.report.style import new_figure, series_style, use_style
from einthoven.report.trials import Trial, by_label, label_ends, mean_series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARPNESS = "watch/diag/sharpness"
LEARNING_RATE = "optimizer.lr"


def edge_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the sharpness over the steps with the limit 2/η of each learning rate η, and the training loss below.

    Gradient descent with a learning rate η diverges along a direction of curvature above 2/η. Cohen et al. 2021,
    "Gradient descent on neural networks typically occurs at the edge of stability", found that the sharpness of
    networks comes to this limit during the training, and then stays near it.

    Parameters
    ----------
    trials : sequence of Trial
        Runs of gradient descent with a constant learning rate on all records, with ``diagnostics.sharpness``.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.

    Raises
    ------
    UserError
        If a run has no sharpness.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(9.5, 7, title)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
        ends = []
        for number, (label, members) in enumerate(groups.items()):
            style = series_style(number)
            limit = 2.0 / members[0].number(LEARNING_RATE)
            steps, values = mean_series(members, SHARPNESS)
            above.plot(steps, values, marker=".", markersize=4, linewidth=1.3, **style)
            above.axhline(limit, color=style["color"], linestyle="--", linewidth=1.2)
            ends.append((limit, f"{label}: 2/η = {limit:.3g}", style))
            below.plot(*mean_series(members, "train/loss"), linewidth=1.2, **style)
        above.set_ylabel("sharpness: largest curvature")
        above.set_ylim(0.0, 1.25 * max(limit for limit, _, _ in ends))
        below.set(xlabel="step, on all records", ylabel="loss")
        figure.draw_without_rendering()
        label_ends(above, ends)
    return figure
