"""Figure of the two parts of a cross-entropy over a run: the entropy of the labels, and the divergence from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from einthoven.report.figures import smooth
from einthoven.report.style import FAINT, INK, VERMILLION, new_figure, use_style
from einthoven.report.trials import FloatArray, Trial, by_label, mean_series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENTROPY = "watch/diag/entropy_labels"
DIVERGENCE = "watch/diag/kl_labels"


def loss_parts_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw entropy, divergence and cross-entropy on one axis over the steps: one panel per configuration.

    The entropy of the labels is the lower area, KL(labels ‖ predictions) the area above it. Their sum is the
    cross-entropy. The line is ``train/loss``, which is logged separately. It lies on the sum if the loss of the run is
    the cross-entropy.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with ``diagnostics.predictions=1``.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.

    Raises
    ------
    UserError
        If a run has not measured the two parts.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(max(7.0, 4.2 * len(groups)), 4.8, title)
        places = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for axes, (label, members) in zip(places, groups.items(), strict=True):
            steps, entropy, divergence = loss_parts(members)
            width = max(1, len(steps) // 25)
            floor = smooth(entropy, width)
            total = smooth(entropy + divergence, width)
            loss_steps, loss = mean_series(members, "train/loss")
            axes.fill_between(steps, 0.0, floor, color=FAINT, alpha=0.7, linewidth=0, label="entropy of the labels")
            axes.fill_between(steps, floor, total, color=VERMILLION, alpha=0.4, linewidth=0, label="KL")
            curve = smooth(loss, max(1, len(loss) // 25))
            axes.plot(loss_steps, curve, color=INK, linewidth=1.4, label="cross-entropy: the loss")
            axes.set_title(f"{label}: floor {entropy.mean():.3f}", fontsize=12)
            axes.set_ylim(bottom=0.0)
        places[0].set_ylabel("nats")
        places[0].legend(loc="upper right", fontsize=10)
        figure.supxlabel("step", fontsize=12)
    return figure


def loss_parts(trials: Sequence[Trial]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the steps, the entropy of the labels and the divergence from them: means over runs."""
    steps, entropy = mean_series(trials, ENTROPY)
    _, divergence = mean_series(trials, DIVERGENCE)
    return steps, entropy, divergence
