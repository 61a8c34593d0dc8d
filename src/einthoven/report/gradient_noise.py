"""The noise of a batch's gradient, against the size of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import INK, new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, by_label, label_ends

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE = "gradient_noise"


def gradient_noise_figure(trials: Sequence[Trial], *, title: str) -> Figure:
    """Draw the noise of the gradient against the size of the batch, one line a configuration: its first seed.

    Points are measured, as `einthoven.diagnostics.gradient_noise` does; dashed is the law 1/sqrt(B), dotted the same
    for batches drawn without replacement; both go through the middle of the points. A diamond stands where the law
    makes the noise as large as the gradient of all records: the simple
    noise scale of McCandlish et al. 2018. Smaller batches point more at chance than downhill.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=gradient_noise.
    title : str
        The question that the figure answers.
    """
    groups = by_label(trials, {})
    with use_style():
        figure = new_figure(9.5, 6)
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        ends = []
        for i, (label, members) in enumerate(groups.items()):
            color = str(series_style(i)["color"])
            size, noise, norm, records = (
                members[0].array(name, PROBE).astype(np.float64) for name in ("size", "noise", "gradient", "records")
            )
            one, slope = power_law(size, noise / left_over(size, float(records)))
            everywhere = np.geomspace(1, min(1.2 * size[-1], float(records) - 1), 200)
            axes.plot(size, noise, "o", color=color, markersize=8)
            axes.plot(everywhere, one / np.sqrt(everywhere), "--", color=color, linewidth=1.3)
            axes.plot(everywhere, one / np.sqrt(everywhere) * left_over(everywhere, float(records)), ":", color=color)
            if 1 < (critical := (one / float(norm)) ** 2) < records:
                axes.plot(critical, norm, "D", color="white", markeredgecolor=color, markeredgewidth=2, markersize=10)
            ends.append((float(one / np.sqrt(everywhere[-1])), f"{label}: slope {slope:.2f}", series_style(i)))
        axes.set_xticks(size, [f"{int(b)}" for b in size])
        axes.minorticks_off()
        axes.set(xlabel="records in a batch, B", ylabel="RMS distance of a batch's gradient from that of all records")
        for style, text in (
            ("o", "measured"),
            ("--", "1/√B, slope -0.50"),
            (":", f"the same, drawn without replacement from {int(records):,} records"),
            ("D", "as large as that gradient itself: the noise scale"),
        ):
            axes.plot([], [], style, color=INK, markerfacecolor="white" if style == "D" else INK, label=text)
        axes.legend(loc="lower left")
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
        figure.draw_without_rendering()
        label_ends(axes, ends)
    return figure


def left_over(size: FloatArray, records: float) -> FloatArray:
    """What drawing without replacement leaves of the noise: ``sqrt((n - B) / (n - 1))``."""
    return np.sqrt((records - size) / (records - 1))


def power_law(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """The constant c of ``c / sqrt(x)``, and the exponent that fits best if it is free; both in logarithms.

    Raises
    ------
    UserError
        If there are fewer than two points.
    """
    if len(x) < 2:
        raise UserError(f"figure: batches of {len(x)} size; expected three training records or more.")
    return float(np.exp(np.mean(np.log(y * np.sqrt(x))))), float(np.polyfit(np.log(x), np.log(y), 1)[0])
