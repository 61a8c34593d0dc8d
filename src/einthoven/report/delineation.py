"""The true and the predicted waves of one record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.style import BLUE, GREEN, INK, VERMILLION, drawable, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAVES = (("P", BLUE), ("QRS", GREEN), ("T", VERMILLION))


def delineation_figure(
    signal: npt.ArrayLike, y: npt.ArrayLike, p: npt.ArrayLike, fs: float, *, lead: str, title: str, subtitle: str
) -> Figure:
    """Draw a lead with its true waves as coloured bands, and below it the probability of each wave.

    Parameters
    ----------
    signal : array-like, shape (T,)
        One lead in mV.
    y, p : array-like, shape (3, T)
        True masks and probabilities of P, QRS and T.
    fs : float
        Sampling frequency in Hz.
    lead, title, subtitle : str
        Name of the lead; what the record is; what is predicted.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the shapes do not fit together.
    """
    x = np.asarray(signal, np.float64)
    truth = np.asarray(y, np.float64)
    probability = np.asarray(p, np.float64)
    if x.ndim != 1 or truth.shape != (3, len(x)) or probability.shape != truth.shape:
        raise UserError(
            f"A figure of waves needs a lead and three masks, found {x.shape}, {truth.shape} and {probability.shape}."
        )
    time = np.arange(len(x)) / fs
    with use_style():
        figure = new_figure(14, 6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        above.plot(time, x, color=INK, linewidth=1.0)
        low, high = above.get_ylim()
        for (name, color), mask, curve in zip(WAVES, truth, probability, strict=True):
            above.fill_between(
                time, low, high, where=mask > 0.5, step="mid", color=color, alpha=0.25, linewidth=0, label=name
            )
            below.fill_between(time, 0, 1, where=mask > 0.5, step="mid", color=color, alpha=0.25, linewidth=0)
            below.plot(time, curve, color=color, linewidth=1.5)
        above.set(ylabel=f"{drawable(lead)} (mV)", ylim=(low, high))
        above.set_title(f"{drawable(title, 120)}\n{drawable(subtitle, 120)}")
        above.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
        below.axhline(0.5, color=INK, linewidth=0.8, linestyle="--")
        below.set(xlabel="s", ylabel="probability", ylim=(-0.05, 1.05), xlim=(0, time[-1]))
    return figure
