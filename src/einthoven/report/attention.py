"""Figures of the attention of a network over an ECG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.ecg_paper import (
    GAIN,
    LEAD_IN,
    NAME_SIZE,
    ROW_LENGTH,
    SPEED,
    Grid,
    Traces,
    draw_grid,
    draw_row,
    empty_page,
    scale_line,
    traces_of,
)
from einthoven.report.page_text import write
from einthoven.report.style import INK, use_style
from einthoven.report.trials import FloatArray, Trial, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANALYSIS = "attention"
SHOW = ("II", "V1", "V5")

# Sizes in mm: height of a lead and of a head, and the space around them.
ROW = 30.0
STRIP = 6.0
HEAD = 12.0
FOOT = 18.0
MARGIN = 8.0
LIMIT = 1.2  # mV above and below the baseline; larger values are clipped
HIGHEST_NAME = ROW - GAIN * LIMIT - NAME_SIZE  # mm: a name stays above its lead and below the lead before
STRONGEST = 4.0  # attention, as a multiple of the mean, with the darkest colour
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
    """Draw the attention of a network in one record: behind some leads on ECG paper, and for each head below them.

    Parameters
    ----------
    signal : array-like, shape (leads, T)
        Signal in mV. The maps belong to these T samples. The first 10 s are drawn.
    fs : float
        Sampling frequency in Hz.
    maps : mapping of str to array-like, shape (windows, heads, N, N)
        Attention weights of each transformer block, from first to last: ``model.attention_maps(x)`` of one record. A
        token (row) attends to the others (columns). All tokens have the same number of samples.
    title : str
        Title of the figure.
    starts : sequence of int
        The first token of each window, counted over the record. Where windows overlap, the figure shows their mean.
    leads : sequence of str
        Names of the rows of the signal.
    show : sequence of str
        Leads to draw, from top to bottom.
    dpi : float
        Dots per inch, at 25 mm/s and 10 mm/mV.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the signal or the maps have other shapes, or a lead to show is missing.
    """
    panel = (title, _select(traces_of(signal, fs, leads), show), *_attention(maps, starts))
    return _draw_page([[panel]], fs, None, dpi)


def attention_maps_figure(trials: Sequence[Trial], *, title: str, show: Sequence[str] = SHOW) -> Figure:
    """Draw the attention of the networks of a sweep: one column per network, one row per record.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=attention.
    title : str
        Title of the figure.
    show : sequence of str
        Leads to draw, from top to bottom.
    """
    columns = []
    fs = 100.0
    for label, members in by_label(trials, {}).items():
        # All seeds of a network have the same records. The figure shows the first seed.
        trial = members[0]
        fs = float(trial.array("fs", ANALYSIS))
        signals = _arrays_of(trial, "signal")
        maps_of_blocks = _arrays_of(trial, "map")
        labels = _arrays_of(trial, "label")
        probabilities = _arrays_of(trial, "probability")
        column = []
        for row in range(len(next(iter(signals.values())))):
            traces = {lead: values[row].astype(np.float64) for lead, values in signals.items()}
            maps = {block: values[row][None] for block, values in maps_of_blocks.items()}
            names = [name for name, values in labels.items() if values[row] == 1]
            predicted = ", ".join(f"{probabilities[name][row]:.2f}" for name in names)
            panel_title = f"{label}: {' '.join(names)}, predicted {predicted}"
            column.append((panel_title, _select(traces, show), *_attention(maps, (0,))))
        columns.append(column)
    return _draw_page(columns, fs, title, 72)


def _received(weights: FloatArray) -> FloatArray:
    """Return the mean attention that each token receives, ``(..., heads, N)``, times N: 1 if all tokens are equal."""
    return weights.mean(axis=-2) * weights.shape[-1]


def _roll_out(maps: Sequence[FloatArray]) -> FloatArray:
    # `evaluation.saliency` has the same computation for tensors.
    import torch

    from einthoven.evaluation.saliency import rollout

    return rollout([torch.from_numpy(weights) for weights in maps]).numpy()


def _arrays_of(trial: Trial, kind: str) -> dict[str, npt.NDArray[np.float32]]:
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): values for name, values in trial.arrays.items() if name.startswith(prefix)}


def _attention(maps: Mapping[str, npt.ArrayLike], starts: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Return two arrays over the tokens of a record: the roll-out of all blocks, and each head of the last block."""
    blocks = [np.asarray(weights, dtype=np.float64) for weights in maps.values()]
    shapes = [weights.shape for weights in blocks]
    has_shape = [len(shape) == 4 and shape[2] == shape[3] and shape[0] == len(starts) for shape in shapes]
    if not blocks or not all(has_shape):
        raise UserError(
            f"An attention figure needs maps of shape (windows, heads, N, N), found {shapes} of {len(starts)} windows."
        )
    if len({shape[2] for shape in shapes}) > 1:
        raise UserError(f"An attention figure needs the same number of tokens in all blocks, found {shapes}.")
    rollout = _roll_out(blocks)[:, None]
    return _join_windows(rollout, starts), _join_windows(_received(blocks[-1]), starts)


def _join_windows(values: FloatArray, starts: Sequence[int]) -> FloatArray:
    """Join rows of windows (W, rows, N) to rows over the record. Where windows overlap, take the mean."""
    tokens = values.shape[2]
    length = starts[-1] + tokens
    total = np.zeros((values.shape[1], length))
    windows = np.zeros(length)  # number of windows that cover a token
    for start, window in zip(starts, values, strict=True):
        total[:, start : start + tokens] += window
        windows[start : start + tokens] += 1
    return total / windows


def _select(traces: Traces, show: Sequence[str]) -> Traces:
    missing = [lead for lead in show if lead not in traces]
    if missing:
        raise UserError(f"An attention figure cannot show {', '.join(missing)} of {', '.join(traces)}.")
    return {lead: traces[lead] for lead in show}


def _draw_page(
    columns: Sequence[Sequence[tuple[str, Traces, FloatArray, FloatArray]]], fs: float, title: str | None, dpi: float
) -> Figure:
    """Draw columns of panels (title, leads, roll-out, heads) with the same scale."""
    width = 5 * np.ceil((ROW_LENGTH + 10) / 5)
    above = 16.0 if title else 2.0
    heights = []
    for column in columns:
        _, traces, _, heads = column[0]
        heights.append(HEAD + ROW * len(traces) + STRIP * len(heads) + 4)
    height = max(heights)
    rows = max(len(column) for column in columns)
    with use_style():
        total = rows * height + above + FOOT
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
    rollout: FloatArray,
    heads: FloatArray,
) -> None:
    write(axes, left, top - HEAD + 3, title, 6.5, weight="bold")
    grid = Grid(left, top - HEAD - ROW * len(traces), width, ROW * len(traces))
    draw_grid(axes, grid)
    samples = len(next(iter(traces.values())))
    start = left + 5 + LEAD_IN
    length = samples / fs * SPEED

    # The leads, with the roll-out behind them
    _draw_strip(axes, rollout[0], start, length, grid.bottom, grid.height)
    clipped = set()
    for row, lead in enumerate(traces):
        baseline = grid.bottom + grid.height - (row + 0.6) * ROW
        clipped |= draw_row(axes, traces, fs, (lead,), left + 5, baseline, LIMIT, highest_name=HIGHEST_NAME)
    if clipped:
        text = f"clipped at {LIMIT:g} mV: {', '.join(lead for lead in traces if lead in clipped)}"
        write(axes, left + width, top - HEAD + 3, text, 4.5, ha="right")

    # One strip for each head, below the leads
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
    """Draw the scale of the attention, and explain the panels."""
    from matplotlib.patches import Rectangle

    left = MARGIN
    bottom = 6.0
    width = 60.0
    _draw_strip(axes, np.linspace(0, STRONGEST, 64), left, width, bottom, 6)
    axes.add_patch(Rectangle((left, bottom), width, 6, fill=False, edgecolor=INK, linewidth=0.5))
    behind = f"attention, 0 to {STRONGEST:g} times the mean. Behind the leads: all blocks together (roll-out)."
    write(axes, left + width + 4, bottom + 5.5, behind, 5, va="center")
    below = f"Below them: the last block, head by head.    {scale_line(fs)}"
    write(axes, left + width + 4, bottom - 0.5, below, 5, va="center")
