"""Figures of many small panels: augmentations of one ECG, and the principal shapes of its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.style import BLUE, FAINT, VERMILLION, new_figure, panels, series_style, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def augmentation_figure(
    signal: npt.ArrayLike,
    augmented: Mapping[str, npt.ArrayLike],
    fs: float,
    *,
    leads: Sequence[str] = LEADS,
    show: Sequence[str] = ("I", "II", "V2"),
    seconds: float = 4.0,
) -> Figure:
    """Draw one record under many augmentations: one panel per augmentation, with the original record in grey.

    Below the leads, the difference from the original is drawn for the lead that changes most. It is magnified, so that
    a change can be seen that is small beside the ECG.

    Parameters
    ----------
    signal : array-like, shape (L, T)
        The original record in mV.
    augmented : mapping of str to array-like, shape (L, T')
        Name -> the augmented record in mV. T' may differ from T.
    fs : float
        Sampling frequency, Hz.
    leads : sequence of L str
        Names of the leads.
    show : sequence of str
        Leads to draw, from top to bottom.
    seconds : float
        Length of the drawn part, from the beginning.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If there is nothing to draw, a shape does not fit, or a lead to show is missing.
    """
    before = np.asarray(signal, dtype=np.float64)
    after = {name: np.asarray(array, dtype=np.float64) for name, array in augmented.items()}
    wrong = [f"{name} {array.shape}" for name, array in after.items() if array.ndim != 2 or len(array) != len(leads)]
    if not after or before.ndim != 2 or len(before) != len(leads) or wrong:
        raise UserError(
            f"An augmentation figure needs a signal ({len(leads)}, T) and at least one augmented like it, "
            f"found {before.shape} and {', '.join(wrong) or len(after)}."
        )
    missing = [name for name in show if name not in leads]
    if missing or not show:
        raise UserError(f"An augmentation figure cannot show {', '.join(missing) or 'no'} lead of {', '.join(leads)}.")
    rows = [list(leads).index(name) for name in show]
    end = max(2, round(seconds * fs))

    # The distance of two leads is a little more than the largest range of a lead. It is the same in all panels, so that
    # amplitudes can be compared.
    ranges = np.ptp(np.nan_to_num(before[rows, :end]), axis=1)
    step = 1.2 * float(np.max(ranges, initial=0.5))
    with use_style():
        figure, places = panels(len(after), 5, 2.7, sharey=True)
        for axes, (name, array) in zip(places, after.items(), strict=True):
            for place, row in enumerate(rows):
                for trace, color, width in ((before, FAINT, 1.6), (array, BLUE, 0.9)):
                    y = trace[row, :end] - place * step
                    axes.plot(np.arange(len(y)) / fs, y, color=color, linewidth=width)
            lead, difference, factor = _magnified_difference(before[:, :end], array[:, :end], 0.4 * step)
            level = -len(rows) * step
            axes.plot(np.arange(len(difference)) / fs, difference + level, color=VERMILLION, linewidth=0.8)
            axes.text(
                0.0, level + 0.45 * step, f"change of {leads[lead]}, × {factor:.3g}", fontsize=9, color=VERMILLION
            )
            axes.set_title(name, fontsize=12)
        figure.axes[0].set_yticks([-place * step for place in range(len(rows))], list(show))
        figure.axes[0].set_ylim(-(len(rows) + 0.7) * step, 0.9 * step)
        figure.supxlabel(f"s; {step:.2g} mV from lead to lead; grey: original; red: change", fontsize=12)
    return figure


def _magnified_difference(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], height: float
) -> tuple[int, npt.NDArray[np.float64], float]:
    """Return the lead that changes most, its change, and the factor by which the change is magnified to `height`.

    A change that is larger than `height` is made smaller. Without a change, the factor is 1.
    """
    samples = min(before.shape[1], after.shape[1])
    change = np.nan_to_num(after[:, :samples] - before[:, :samples])
    largest = np.abs(change).max(axis=1, initial=0.0)
    lead = int(largest.argmax())
    factor = height / largest[lead] if largest[lead] > 0 else 1.0
    return lead, change[lead] * factor, float(factor)


def principal_shapes_figure(explained_variance_ratio: npt.ArrayLike, shapes: npt.ArrayLike, fs: float) -> Figure:
    """Draw the share of the variance of each principal component of windows, and the shapes of the components.

    Parameters
    ----------
    explained_variance_ratio : array-like, shape (k,)
        Shares from 0 to 1.
    shapes : array-like, shape (k, width)
        Components, one per row.
    fs : float
        Sampling frequency, Hz.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the two do not fit together.
    """
    share = np.asarray(explained_variance_ratio, dtype=np.float64)
    curves = np.asarray(shapes, dtype=np.float64)
    if share.ndim != 1 or curves.ndim != 2 or len(share) != len(curves):
        raise UserError(f"A figure of shapes needs (k,) and (k, width), found {share.shape} and {curves.shape}.")
    number = np.arange(1, len(share) + 1)
    with use_style():
        figure = new_figure(13, 5)
        scree, drawn = figure.subplots(1, 2, width_ratios=[1, 1.4])
        scree.bar(number, 100 * share, color=BLUE, width=0.75)
        scree.plot(number, 100 * np.cumsum(share), color=VERMILLION, marker="o", markersize=5, label="cumulative")
        scree.set(xlabel="principal component", ylabel="share of variance (%)", ylim=(0, 108))
        scree.set_xticks(number)
        scree.set_title(f"{len(share)} of {curves.shape[1]} components: {100 * share.sum():.4g} % of variance")
        scree.legend(loc="center right")
        for i, curve in enumerate(curves):
            drawn.plot(1000 * np.arange(len(curve)) / fs, curve, **series_style(i), label=str(i + 1))
        drawn.set(xlabel="ms", ylabel="loading")
        drawn.set_title("Shapes that add up to a window")
        drawn.legend(title="component", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
