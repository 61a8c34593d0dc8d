"""ECG paper with signals and their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.report.ecg_paper import GAIN, SPEED, Behind, FloatArray, examples_figure
from einthoven.report.page_text import POINTS_PER_MM
from einthoven.report.style import BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = 10.0
"""Height of the shade of a hidden part above and below the baseline, in mm."""

HIGHEST = 2.5
"""Largest deflection of a drawn reconstruction in mV, as that of the traces."""


def reconstructions_figure(
    signals: npt.ArrayLike,
    reconstructions: npt.ArrayLike,
    fs: float,
    titles: Sequence[str],
    *,
    hidden: npt.ArrayLike | None = None,
    leads: Sequence[str],
    dpi: float = 72,
) -> Figure:
    """Draw signals as black traces, with their reconstructions in orange behind them.

    Parameters
    ----------
    signals, reconstructions : array-like, shape (n, leads, T)
        In mV.
    fs : float
        Sampling frequency in Hz.
    titles : sequence of n str
    hidden : array-like of bool, shape (n, leads, T), optional
        Samples that were hidden from the network. They get a blue shade.
    leads, dpi
        As in `examples_figure`.

    Raises
    ------
    UserError
        If the arrays have different shapes. See also `examples_figure`.
    """
    original = np.asarray(signals, np.float64)
    decoded = np.asarray(reconstructions, np.float64)
    is_hidden = np.zeros(original.shape, bool) if hidden is None else np.asarray(hidden, bool)
    if not original.shape == decoded.shape == is_hidden.shape:
        raise UserError(
            f"reconstructions of shape {decoded.shape}, hidden samples of shape {is_hidden.shape}: expected those of "
            f"the signals, {original.shape}."
        )
    behind = [_behind(record, mask, fs, leads) for record, mask in zip(decoded, is_hidden, strict=True)]
    return examples_figure(original, fs, titles, leads=leads, dpi=dpi, behind=behind)


def _behind(decoded: FloatArray, is_hidden: npt.NDArray[np.bool_], fs: float, leads: Sequence[str]) -> Behind:
    """Return the function that draws the reconstruction of a lead, and a shade where it was hidden."""
    rows = {lead: row for row, lead in enumerate(leads)}

    def draw(axes: Axes, lead: str, first: float, stop: float, left: float, baseline: float) -> None:
        mv = decoded[rows[lead]]
        samples = np.arange(np.ceil(first), min(np.floor(stop), len(mv) - 1) + 1, dtype=np.int64)
        x = left + (samples - first) / fs * SPEED
        axes.fill_between(
            x,
            baseline - BAND,
            baseline + BAND,
            where=is_hidden[rows[lead], samples].tolist(),
            color=BLUE,
            alpha=0.12,
            linewidth=0,
            zorder=2,
        )
        y = baseline + GAIN * np.clip(mv[samples], -HIGHEST, HIGHEST)
        axes.plot(x, y, color=ORANGE, linewidth=0.6 * POINTS_PER_MM, zorder=3, label=f"{lead} reconstructed")

    return draw
