"""Attention over the ECG: which moments a network with attention reads, on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.ecg_paper import (
    LEAD_IN,
    ROW_LENGTH,
    SPEED,
    Grid,
    Traces,
    draw_grid,
    draw_row,
    empty_page,
    scale_line,
    traces_of,
    write,
)
from einthoven.report.style import INK, use_style
from einthoven.report.trials import FloatArray, Trial, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROBE = "attention"
SHOW = ("II", "V1", "V5")
ROW, STRIP = 30.0, 6.0  # mm, of a lead and of a head
HEAD, FOOT, MARGIN = 12.0, 18.0, 8.0
LIMIT = 1.2  # mV of a lead, to either side of its middle
STRONGEST = 4.0  # times the mean, from which on all is drawn alike
COLORS = "Blues"


def attention_figure(
    signal: npt.ArrayLike,
    fs: float,
    maps: Mapping[str, npt.ArrayLike],
    *,
    title: str,
    starts: Sequence[int] = (0,),
    leads: Sequence[str] = LEADS,
    show: Sequence[str] = SHOW,
    dpi: float = 100,
) -> Figure:
    """Draw where a network looks in one record: some leads on ECG paper, its attention behind them and head by head.

    Parameters
    ----------
    signal : array-like, shape (leads, T)
        mV; the T samples are what the maps are of. The first 10 s are drawn.
    fs : float
        Sampling frequency, Hz.
    maps : mapping of str to array-like, shape (windows, heads, N, N)
        Of each transformer block, in their order, the weights with which a token (row) reads the others (columns):
        ``model.attention_maps(x)`` of one record. All tokens are of equally many samples.
    title : str
        The line above.
    starts : sequence of int
        Token of the record with which each window begins; where windows overlap, their mean is drawn.
    leads : sequence of str
        Names of the rows of the signal.
    show : sequence of str
        Which of them to draw, from above to below.
    dpi : float
        Dots per inch, at 25 mm/s and 10 mm/mV.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the signal or the maps are not of these shapes, or a lead to show is not there.
    """
    panel = (title, _shown(traces_of(signal, fs, leads), show), *_looks(maps, starts))
    return _page_of([[panel]], fs, None, dpi)


def attention_maps_figure(trials: Sequence[Trial], *, title: str, show: Sequence[str] = SHOW) -> Figure:
    """Draw where the networks of a sweep look, one column a network and one row a record.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=attention.
    title : str
        The line above all.
    show : sequence of str
        Leads to draw, from above to below.
    """
    columns, fs = [], 100.0
    for label, members in by_label(trials, {}).items():
        trial = members[0]
        fs = float(trial.array("fs", PROBE))
        found = {kind: _named(trial, kind) for kind in ("signal", "map", "label", "probability")}
        column = []
        for row in range(len(next(iter(found["signal"].values())))):
            traces = {lead: values[row].astype(np.float64) for lead, values in found["signal"].items()}
            maps = {block: values[row][None] for block, values in found["map"].items()}
            names = [name for name, values in found["label"].items() if values[row] == 1]
            says = ", ".join(f"{found['probability'][name][row]:.2f}" for name in names)
            column.append((f"{label}: {' '.join(names)}, predicted {says}", _shown(traces, show), *_looks(maps, (0,))))
        columns.append(column)
    return _page_of(columns, fs, title, 72)


def received(weights: FloatArray) -> FloatArray:
    """Attention that a token gets from all, ``(..., heads, N)``, times their number: 1 where all are alike."""
    share: FloatArray = weights.mean(axis=-2) * weights.shape[-1]
    return share


def _rolled_out(maps: Sequence[FloatArray]) -> FloatArray:
    import torch  # the mathematics is shared with `evaluation.saliency`

    from einthoven.evaluation.saliency import rollout

    shares: FloatArray = rollout([torch.from_numpy(weights) for weights in maps]).numpy()
    return shares


def _named(trial: Trial, kind: str) -> dict[str, npt.NDArray[np.float32]]:
    trial.array("fs", PROBE)
    return {name.partition("/")[2]: values for name, values in trial.arrays.items() if name.startswith(f"{kind}/")}


def _looks(maps: Mapping[str, npt.ArrayLike], starts: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """The roll-out of all blocks, one row, and what each head of the last block reads, over the tokens of a record."""
    found = [np.asarray(weights, dtype=np.float64) for weights in maps.values()]
    if not found or any(w.ndim != 4 or w.shape[2] != w.shape[3] or len(w) != len(starts) for w in found):
        raise UserError(
            f"An attention figure needs maps of shape (windows, heads, N, N), found {[w.shape for w in found]} of "
            f"{len(starts)} windows."
        )
    if len({w.shape[2] for w in found}) > 1:
        raise UserError(f"An attention figure needs blocks of equally many tokens, found {[w.shape for w in found]}.")
    return _joined(_rolled_out(found)[:, None], starts), _joined(received(found[-1]), starts)


def _joined(values: FloatArray, starts: Sequence[int]) -> FloatArray:
    """Rows of windows (W, rows, N) as rows over the record, the mean where windows overlap."""
    tokens = values.shape[2]
    total, cover = np.zeros((values.shape[1], starts[-1] + tokens)), np.zeros(starts[-1] + tokens)
    for start, window in zip(starts, values, strict=True):
        total[:, start : start + tokens] += window
        cover[start : start + tokens] += 1
    return total / cover


def _shown(traces: Traces, show: Sequence[str]) -> Traces:
    if missing := [lead for lead in show if lead not in traces]:
        raise UserError(f"An attention figure cannot show {', '.join(missing)} of {', '.join(traces)}.")
    return {lead: traces[lead] for lead in show}


def _page_of(
    columns: Sequence[Sequence[tuple[str, Traces, FloatArray, FloatArray]]], fs: float, title: str | None, dpi: float
) -> Figure:
    """Draw panels of (title, leads, roll-out, heads), column by column, with one scale for all."""
    width = 5 * np.ceil((ROW_LENGTH + 10) / 5)
    above = 16.0 if title else 2.0
    heights = [HEAD + ROW * len(c[0][1]) + STRIP * len(c[0][3]) + 4 for c in columns]
    height = max(heights)
    down = max(len(column) for column in columns)
    with use_style():
        total = down * height + above + FOOT
        figure, axes = empty_page(len(columns) * (width + MARGIN) + MARGIN, total, dpi)
        if title:
            write(axes, MARGIN, total - 12, title, 9, weight="bold")
        for i, column in enumerate(columns):
            left = MARGIN + i * (width + MARGIN)
            for j, panel in enumerate(column):
                _draw_panel(axes, left, total - above - j * height, width, fs, *panel)
        _draw_key(axes, fs)
    return figure


def _draw_panel(
    axes: Axes,
    left: float,
    top: float,
    width: float,
    fs: float,
    title: str,
    traces: Traces,
    behind: FloatArray,
    heads: FloatArray,
) -> None:
    write(axes, left, top - HEAD + 3, title, 6.5, weight="bold")
    grid = Grid(left, top - HEAD - ROW * len(traces), width, ROW * len(traces))
    draw_grid(axes, grid)
    samples = len(next(iter(traces.values())))
    start, length = left + 5 + LEAD_IN, samples / fs * SPEED
    _draw_strip(axes, behind[0], start, length, grid.bottom, grid.height)
    clipped = set()
    for row, lead in enumerate(traces):
        clipped |= draw_row(axes, traces, fs, (lead,), left + 5, grid.bottom + grid.height - (row + 0.6) * ROW, LIMIT)
    if clipped:
        text = f"clipped at {LIMIT:g} mV: {', '.join(lead for lead in traces if lead in clipped)}"
        write(axes, left + width, top - HEAD + 3, text, 4.5, ha="right")
    for head, values in enumerate(heads):
        bottom = grid.bottom - (head + 1) * STRIP
        _draw_strip(axes, values, start, length, bottom, STRIP)
        write(axes, start - 2, bottom + STRIP / 2, f"head {head + 1}", 4.5, ha="right", va="center")


def _draw_strip(axes: Axes, values: FloatArray, left: float, length: float, bottom: float, height: float) -> None:
    end = min(length, ROW_LENGTH - LEAD_IN)
    image = axes.imshow(
        values[None],
        cmap=COLORS,
        vmin=0,
        vmax=STRONGEST,
        extent=(left, left + length, bottom, bottom + height),
        aspect="auto",
        interpolation="nearest",
        zorder=2,
        alpha=0.75,
    )
    from matplotlib.patches import Rectangle

    image.set_clip_path(Rectangle((left, bottom), end, height, transform=axes.transData))


def _draw_key(axes: Axes, fs: float) -> None:
    """Draw the scale of the attention, and say what it is of."""
    from matplotlib.patches import Rectangle

    left, bottom, width = MARGIN, 6.0, 60.0
    _draw_strip(axes, np.linspace(0, STRONGEST, 64), left, width, bottom, 6)
    axes.add_patch(Rectangle((left, bottom), width, 6, fill=False, edgecolor=INK, linewidth=0.5))
    behind = f"attention, 0 to {STRONGEST:g} times the mean. Behind the leads: all blocks together (roll-out)."
    write(axes, left + width + 4, bottom + 5.5, behind, 5, va="center")
    below = f"Below them: the last block, head by head.    {scale_line(fs)}"
    write(axes, left + width + 4, bottom - 0.5, below, 5, va="center")
