"""Figure of the noise of the gradient over the batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import INK, new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, by_label, label_ends

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANALYSIS = "gradient_noise"


def gradient_noise_figure(trials: Sequence[Trial], *, title: str) -> Figure:
    """Draw the noise of the gradient over the batch size, one line per configuration (its first seed).

    The points are measured by `einthoven.diagnostics.gradient_noise`. The dashed line is the law 1/sqrt(B). The dotted
    line is the same law for batches drawn without replacement. Both are fitted to the points. A diamond marks the
    batch size at which the law makes the noise as large as the gradient of all records: the simple noise scale of
    McCandlish et al. 2018. Below this size, the gradient of a batch is mostly noise.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=gradient_noise.
    title : str
        The question that the figure answers.
    """
    groups = by_label(trials, {})
    with use_style():
        figure = new_figure(9.5, 6, title)
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        ends = []
        for i, (label, members) in enumerate(groups.items()):
            color = str(series_style(i)["color"])
            size, noise, norm, records = (
                members[0].array(name, ANALYSIS).astype(np.float64) for name in ("size", "noise", "gradient", "records")
            )

            # The law is fitted without the factor of drawing without replacement.
            constant, slope = _power_law(size, noise / _finite_factor(size, float(records)))
            sizes = np.geomspace(1, min(1.2 * size[-1], float(records) - 1), 200)
            law = constant / np.sqrt(sizes)
            axes.plot(size, noise, "o", color=color, markersize=8)
            axes.plot(sizes, law, "--", color=color, linewidth=1.3)
            axes.plot(sizes, law * _finite_factor(sizes, float(records)), ":", color=color)

            noise_scale = (constant / float(norm)) ** 2
            if 1 < noise_scale < records:
                axes.plot(
                    noise_scale, norm, "D", color="white", markeredgecolor=color, markeredgewidth=2, markersize=10
                )
            ends.append((float(law[-1]), f"{label}: slope {slope:.2f}", series_style(i)))
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
        figure.draw_without_rendering()
        label_ends(axes, ends)
    return figure


def _finite_factor(size: FloatArray, records: float) -> FloatArray:
    """Return the factor by which drawing without replacement reduces the noise: ``sqrt((n - B) / (n - 1))``."""
    return np.sqrt((records - size) / (records - 1))


def _power_law(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Fit ``c / sqrt(x)`` and ``x ** slope`` to the logarithms of two or more points, and return c and the slope."""
    if len(x) < 2:
        raise UserError(f"figure: there are batches of {len(x)} size; expected three training records or more.")
    constant = float(np.exp(np.mean(np.log(y * np.sqrt(x)))))
    slope = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    return constant, slope
