"""The clinical 12-lead ECG page, true to scale.

One axes covers the page. Its data coordinates are millimetres from the lower left corner of the page. So a second is
25 units wide and a millivolt is 10 units high. Printed at 100 %, the page looks like the page of an electrocardiograph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.page_text import (
    MM_PER_INCH,
    PAPER,
    POINTS_PER_MM,
    text_width,
    write,
    write_foot,
    write_head,
    write_line,
)
from einthoven.report.style import use_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPEED = 25.0  # mm per second
GAIN = 10.0  # mm per mV
PAGE_SECONDS = 10.0
LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM_LEAD = "II"
STRIPS = 4  # with up to this many leads, each lead has a row of 10 s

MINOR = "#F7D3CB"  # lines of 1 mm
MAJOR = "#EBA093"  # lines of 5 mm
TRACE = "#101018"
NOTE_SIZE = 4.5  # mm, of the notes above a record, where several are on one page
LEAD_IN = 15.0  # mm at the start of a row, with the calibration pulse
ROW_LENGTH = LEAD_IN + PAGE_SECONDS * SPEED

# Name of a lead in mm: size of the font, width of a letter, distance from the start of the trace, usual height.
NAME_SIZE = 4.2
_NAME_WIDTH = 3.2
_NAME_LEFT = 1.5
_NAME_HEIGHT = 10.5
_NAME_MARGIN = 1.5  # between the name and the trace

FloatArray = npt.NDArray[np.float64]
Traces = dict[str, FloatArray]  # lead -> mV (T,)


# A function (axes, lead, first, stop, x, baseline) that draws behind the samples first … stop of a lead. The sample
# `first` is at x.
Behind = Callable[["Axes", str, float, float, float, float], None]


@dataclass(frozen=True)
class Grid:
    """A rectangle of ECG paper: lower left corner and size in mm. The size is a multiple of 5 mm."""

    left: float
    bottom: float
    width: float
    height: float


def ecg_paper_figure(
    signal: npt.ArrayLike,
    fs: float,
    *,
    title: str,
    subtitle: str | None = None,
    measured: str = "",
    details: str = "",
    leads: Sequence[str] = LEADS,
    foot: Sequence[str] = (),
    beside_title: float = 0.0,
    dpi: float = 150,
    behind: Behind | None = None,
) -> Figure:
    """Draw a record as a clinical 12-lead page: 3 x 4 leads of 2.5 s, and lead II as a rhythm strip.

    The page is A4 landscape with 25 mm/s and 10 mm/mV. It has a 1 mm and a 5 mm grid, and a pulse of 1 mV and 0.2 s
    before each row. The four columns follow one another in time, as on an electrocardiograph. Up to four leads have a
    row of 10 s each. With more leads, the place of a missing lead stays empty. If a record is shorter than 10 s, every
    column shows its beginning. If it is longer, the page shows the first 10 s. The foot of the page says what is left
    out, and which leads are clipped because they exceed 3 mV.

    Parameters
    ----------
    signal : array-like, shape (leads, T)
        Signal in mV, one row per lead; NaN is left blank.
    fs : float
        Sampling frequency in Hz.
    title : str
        Large line at the top. A long one is written smaller, as the lines that follow.
    subtitle : str, optional
        Smaller line below the title.
    measured : str
        Small line between title and subtitle, with the measurements of the record.
    details : str
        Small line below the subtitle.
    leads : sequence of str
        Names of the rows; by default all twelve leads.
    foot : sequence of str
        Up to three small lines at the foot: one above the line with the scale, two below. A long one is smaller.
    beside_title : float
        Millimetres at the right of the title that stay free.
    dpi : float
        Dots per inch. The page always has 297 mm x 210 mm.
    behind : Behind, optional
        Draws behind the traces.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UserError
        If the signal is not (leads, T) with at least two samples, or fs is not positive.
    """
    traces = traces_of(signal, fs, leads)
    grid = Grid(left=8.5, bottom=10, width=280, height=180)
    left = grid.left + 5
    baselines = [grid.bottom + height for height in (150, 110, 70, 30)]
    limit = 3.0  # mV; the outer rows are 30 mm away from the edge of the grid
    rhythm_lead = RHYTHM_LEAD if RHYTHM_LEAD in traces else next(iter(traces))
    rows = tuple((lead,) for lead in traces) if len(traces) <= STRIPS else (*LAYOUT, (rhythm_lead,))
    with use_style():
        figure, axes = empty_page(297, 210, dpi)
        draw_grid(axes, grid)
        clipped = set()
        for row, baseline in zip(rows, baselines, strict=False):
            clipped |= draw_row(axes, traces, fs, row, left, baseline, limit, behind)
        lines = [measured, subtitle or "", details]
        write_head(axes, grid.left, grid.bottom + grid.height, grid.width, title, lines, beside_title)
        write(axes, grid.left, 6.0, scale_line(fs), 3.0, va="center")
        write(axes, grid.left + grid.width, 6.0, _notes(traces, fs, limit, clipped), 3.0, va="center", ha="right")
        write_foot(axes, grid.left, grid.width, foot)
    return figure


def examples_figure(
    signals: npt.ArrayLike,
    fs: float,
    titles: Sequence[str],
    *,
    leads: Sequence[str] = LEADS,
    dpi: float = 100,
    behind: Sequence[Behind | None] | None = None,
) -> Figure:
    """Draw several records on one page of ECG paper, side by side in two columns, without rhythm strips.

    Parameters
    ----------
    signals : array-like, shape (n, leads, T)
        Signals in mV, one row per lead.
    fs : float
        Sampling frequency in Hz.
    titles : sequence of n str
        The line above each record.
    leads : sequence of str
        Names of the rows; by default all twelve leads. The place of a missing lead stays empty.
    dpi : float
        Dots per inch.
    behind : sequence of n Behind, optional
        One function per record that draws behind its traces.

    Returns
    -------
    matplotlib.figure.Figure
        At the same scale as `ecg_paper_figure`.

    Raises
    ------
    UserError
        If there are no records, or the number of titles differs. See also `ecg_paper_figure`.
    """
    records = np.asarray(signals, dtype=np.float64)
    if not len(records) or len(records) != len(titles):
        raise UserError(f"One title per example is needed, found {len(titles)} titles for {len(records)} records.")
    traces_of_records = [traces_of(record, fs, leads) for record in records]
    columns = min(2, len(traces_of_records))
    rows = -(-len(traces_of_records) // columns)
    margin = 8.0
    head = 13.0
    foot = 10.0
    width = 275.0
    height = 110.0
    limit = 2.5  # mV; the outer rows are 25 mm away from the edge of the grid
    page_height = rows * (height + head) + foot
    shadings = behind or [None] * len(traces_of_records)
    with use_style():
        figure, axes = empty_page(columns * (width + margin) + margin, page_height, dpi)
        for i, (traces, title, shading) in enumerate(zip(traces_of_records, titles, shadings, strict=True)):
            page_row, page_column = divmod(i, columns)
            top = page_height - page_row * (height + head)
            grid = Grid(margin + page_column * (width + margin), top - head - height, width, height)
            draw_grid(axes, grid)
            clipped = set()
            for row, above in zip(LAYOUT, (85, 55, 25), strict=True):
                clipped |= draw_row(axes, traces, fs, row, grid.left + 5, grid.bottom + above, limit, shading)
            notes = _notes(traces, fs, limit, clipped)
            space = text_width(notes, NOTE_SIZE) + NOTE_SIZE if notes else 0.0
            if title:
                write_line(axes, grid.left, top - head + 3, title, 6.5, width - space, weight="bold")
            write(axes, grid.left + width, top - head + 3, notes, NOTE_SIZE, ha="right")
        write(axes, margin, foot / 2, scale_line(fs), 5, va="center")
    return figure


def traces_of(signal: npt.ArrayLike, fs: float, leads: Sequence[str]) -> Traces:
    """Return the rows of a signal by lead. Raise a `UserError` if a page cannot show the signal."""
    mv = np.asarray(signal, dtype=np.float64)
    if mv.ndim != 2 or len(mv) != len(leads) or mv.shape[1] < 2:
        raise UserError(f"An ECG page needs a signal of shape ({len(leads)}, T) with T >= 2, found {mv.shape}.")
    if not fs > 0:
        raise UserError(f"The sampling frequency must be positive, found {fs} Hz.")
    return dict(zip(leads, mv, strict=True))


def empty_page(width: float, height: float, dpi: float) -> tuple[Figure, Axes]:
    """Return a figure of width x height mm, and an axes in mm that covers it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    return figure, axes


def draw_grid(axes: Axes, grid: Grid) -> None:
    """Draw the paper with lines every 1 mm and every 5 mm."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    corner = (grid.left, grid.bottom)
    axes.add_patch(Rectangle(corner, grid.width, grid.height, facecolor=PAPER, edgecolor="none", zorder=0))
    right = grid.left + grid.width
    top = grid.bottom + grid.height
    for step, color, width, name in ((1, MINOR, 0.12, "grid 1 mm"), (5, MAJOR, 0.22, "grid 5 mm")):
        x = grid.left + np.arange(0, grid.width + step / 2, step)
        y = grid.bottom + np.arange(0, grid.height + step / 2, step)
        vertical = [[(position, grid.bottom), (position, top)] for position in x]
        horizontal = [[(grid.left, position), (right, position)] for position in y]
        lines = LineCollection(
            vertical + horizontal, colors=color, linewidths=width * POINTS_PER_MM, label=name, zorder=step / 10
        )
        axes.add_collection(lines, autolim=False)


def draw_row(
    axes: Axes,
    traces: Traces,
    fs: float,
    row: Sequence[str],
    left: float,
    baseline: float,
    limit: float,
    behind: Behind | None = None,
    highest_name: float | None = None,
) -> set[str]:
    """Draw a calibration pulse and the leads of a row, one after the other over 10 s. Return the clipped leads.

    The name of a lead stands up to `highest_name` mm above the baseline. The default is 0.55 times `limit`.
    """
    clipped = set()
    if highest_name is None:
        highest_name = 0.55 * GAIN * limit
    _draw_pulse(axes, left, baseline)
    column_seconds = PAGE_SECONDS / len(row)
    per_column = column_seconds * fs

    # In a short record the columns cannot follow one another: each shows the beginning.
    is_long_enough = len(next(iter(traces.values()))) >= np.floor(PAGE_SECONDS * fs)
    for column, lead in enumerate(row):
        if lead not in traces:
            continue
        x = left + LEAD_IN + column * column_seconds * SPEED
        first = column * per_column if is_long_enough else 0.0
        if behind is not None:
            behind(axes, lead, first, first + per_column, x, baseline)
        clipped |= _draw_trace(
            axes, traces[lead], fs, lead, first, first + per_column, x, baseline, limit, highest_name
        )
        if column:
            axes.plot([x, x], [baseline - 3, baseline + 3], color=TRACE, linewidth=0.8, zorder=3)
    return clipped


def _draw_trace(
    axes: Axes,
    mv: FloatArray,
    fs: float,
    lead: str,
    first: float,
    stop: float,
    left: float,
    baseline: float,
    limit: float,
    highest_name: float,
) -> set[str]:
    """Draw the samples from `first` to `stop`, with `first` at x = `left`. Both may lie between two samples.

    Return the lead if it exceeds the limit there, otherwise an empty set.
    """
    # The last sample of a column is also the first of the next, so the line does not break between the columns.
    samples = np.arange(np.ceil(first), min(np.floor(stop), len(mv) - 1) + 1, dtype=np.int64)
    x = left + (samples - first) / fs * SPEED
    trace = mv[samples]
    y = baseline + GAIN * np.clip(trace, -limit, limit)
    axes.plot(x, y, color=TRACE, linewidth=0.3 * POINTS_PER_MM, solid_joinstyle="round", label=lead, zorder=4)
    is_beside_name = (x > left) & (x < left + _NAME_LEFT + _NAME_WIDTH * len(lead) + 1)
    height = _name_height(y[is_beside_name] - baseline, highest_name)
    write(axes, left + _NAME_LEFT, baseline + height, lead, NAME_SIZE, weight="bold", halo=True)
    return {lead} if np.any(np.abs(trace) > limit) else set()


def _name_height(trace: FloatArray, highest: float) -> float:
    """Return where the name of a lead stands above its baseline in mm, so that the trace (n,) does not cross it.

    Above `highest`, the name would stand among the traces of the next row.
    """
    trace = trace[np.isfinite(trace)]
    above = max(_NAME_HEIGHT, float(trace.max(initial=-np.inf)) + _NAME_MARGIN)
    if above <= highest:
        return above
    below = min(-_NAME_HEIGHT, float(trace.min(initial=np.inf)) - NAME_SIZE - _NAME_MARGIN / 2)
    return below if below >= -highest else _NAME_HEIGHT


def _draw_pulse(axes: Axes, left: float, baseline: float) -> None:
    """Draw a pulse of 1 mV and 0.2 s: 10 mm high, 5 mm wide."""
    x = left + np.array([2.5, 5, 5, 10, 10, 12.5])
    y = baseline + GAIN * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(
        x,
        y,
        color=TRACE,
        linewidth=0.3 * POINTS_PER_MM,
        solid_joinstyle="miter",
        label="calibration",
        zorder=4,
    )


def scale_line(fs: float) -> str:
    """Return the scale of time and voltage as text."""
    return f"{SPEED:g} mm/s    {GAIN:g} mm/mV    {fs:g} Hz"


def _notes(traces: Traces, fs: float, limit: float, clipped: set[str]) -> str:
    """Return what the page does not show, as text."""
    samples = len(next(iter(traces.values())))
    seconds = samples / fs
    notes = []
    if seconds > PAGE_SECONDS + 1 / fs:
        notes.append(f"first {PAGE_SECONDS:g} s of {seconds:.1f} s")
    elif samples < np.floor(PAGE_SECONDS * fs):
        notes.append(f"record of {seconds:.1f} s: each lead from its start")
    if clipped:
        notes.append(f"clipped at {limit:g} mV: {', '.join(lead for lead in LEADS if lead in clipped)}")
    empty = [lead for lead, trace in traces.items() if np.isnan(trace).all()]
    if empty:
        notes.append(f"no signal: {', '.join(empty)}")
    return "    ".join(notes)
