"""The small picture in the note of a run: losses and the monitored metric over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from einthoven.errors import UserError
from einthoven.report.figures import History, smooth
from einthoven.report.style import BLUE, VERMILLION, new_figure, use_style
from einthoven.report.trials import MANY, without_final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "note"
"""Name of the picture."""

# The page of MLflow shows a picture with all its pixels, and only the first lines of a note before it is opened. So
# the picture is low, and its text is small.
_SIZE = (6.6, 1.7)
_FONT: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
}


def note_picture(history: History, monitor: str, label: str) -> Figure:
    """Draw the losses and the monitored metric side by side.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        The figure shows ``train/loss``, smoothed, ``val/loss`` and `monitor`, if they are there.
    monitor, label : str
        A metric, and its name in the figure.

    Raises
    ------
    UserError
        If there is none of the three.
    """
    import matplotlib

    panels = {"Loss": ("train/loss", "val/loss"), f"Validation {label}": (monitor,)}
    recorded = {title: [name for name in names if name in history] for title, names in panels.items()}
    recorded = {title: names for title, names in recorded.items() if names}
    if not recorded:
        raise UserError(f"The picture of a note needs train/loss, val/loss or {monitor}; found none in the history.")
    with use_style(), matplotlib.rc_context(_FONT):
        figure = new_figure(*_SIZE)
        places = figure.subplots(1, len(recorded), squeeze=False)[0]
        for axes, (title, names) in zip(places, recorded.items(), strict=True):
            for name in names:
                steps, values = (np.asarray(part, np.float64) for part in history[name])
                if name == "train/loss":
                    axes.plot(steps, smooth(values, len(values) // 25), color=BLUE, linewidth=1.2, label="train")
                    continue
                # The final evaluation may be of the weights of an earlier epoch.
                steps, values = without_final(steps, values)
                marker = "o" if len(steps) <= MANY else None
                axes.plot(steps, values, color=VERMILLION, linewidth=1.2, marker=marker, markersize=3, label="val")
            axes.set(title=title, xlabel="step")
            if len(names) > 1:
                axes.legend(loc="upper right")
    return figure
