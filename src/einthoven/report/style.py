"""The style of all figures: palette, sizes, and a context that applies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): distinct for any colour vision. The order is that of the authors, but
# colours that are pale on white come last.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK, YELLOW = PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#F0E442",
)
INK = "#222222"
FAINT = "#B0B0B0"

# A figure of 8 inches has 1,200 pixels. Text of 12 points is readable even if a page shows it at a third of this size.
DPI = 150
RC: dict[Any, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.dpi": "figure",
    "font.size": 12,
    "axes.titlesize": 14,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "axes.unicode_minus": True,
}


@contextmanager
def use_style() -> Iterator[None]:
    """Apply the style to figures that are made inside the block: ``with use_style(): figure = new_figure(8, 6)``."""
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context(RC | {"axes.prop_cycle": cycler(color=PALETTE)}):
        yield


def drawable(name: str, longest: int = 40) -> str:
    """Return a name from a file as text for a figure: one line, of limited length, without special meaning.

    Matplotlib reads text between two ``$`` as a formula, and it leaves a name that starts with ``_`` out of a legend.
    """
    line = " ".join(name.split())
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    if line.startswith("_"):
        line = f" {line}"
    return line.replace("$", r"\$")


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure. It does not use pyplot, so it works in threads and without a display.

    Parameters
    ----------
    width, height : float
        Size in inches.
    title : str
        Large line at the top, if it is not empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=16)
    return figure


def panels(count: int, width: float, height: float, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure of equal panels, three per row. They share the horizontal axis, with numbers below each column.

    Parameters
    ----------
    count : int
        Number of panels, 1 or more.
    width, height : float
        Size of one panel in inches.
    sharey : bool
        Share the vertical axis, too.

    Returns
    -------
    figure : matplotlib.figure.Figure
    panels : list of `count` matplotlib.axes.Axes
        In the order of the rows.
    """
    columns = min(3, count)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    places = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False).ravel().tolist()

    # The last row can be incomplete. Then some columns end one row earlier.
    for axes in places[count:]:
        axes.remove()
    for axes in places[max(count - columns, 0) : count]:
        axes.tick_params(labelbottom=True)
    return figure, places[:count]


def series_style(i: int) -> dict[str, Any]:
    """Return colour and line style of the i-th curve: six colours with solid lines, then dashed, dotted, dash-dotted.

    Black is reserved for a summary of the curves, and yellow is hard to see on white.
    """
    return {"color": PALETTE[i % 6], "linestyle": ("-", "--", ":", "-.")[i // 6 % 4]}
