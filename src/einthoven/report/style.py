"""The one look of all figures: palette, sizes, and a context that applies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): told apart with any colour vision. Their order, but that the
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

# An 8 in wide figure is 1,200 pixels: 12 point text is still read where a page shows it at a third of that.
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
    """Apply the style to the figures made inside: ``with use_style(): figure = new_figure(8, 6)``."""
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context(RC | {"axes.prop_cycle": cycler(color=PALETTE)}):
        yield


def drawable(name: str, longest: int = 40) -> str:
    """A name from a file as text of a figure: one line, not too long, and read as it is written.

    Matplotlib takes what stands between two ``$`` for a formula, and leaves a name with ``_`` in front out of a legend.
    """
    line = " ".join(name.split())
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    if line.startswith("_"):
        line = f" {line}"
    return line.replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure without any state of pyplot: safe in threads and without a display.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, width: float, height: float, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of equal panels, three in a row, on one horizontal axis: its numbers are below each column.

    Parameters
    ----------
    count : int
        Number of panels, 1 or more.
    width, height : float
        Of one panel, inches.
    sharey : bool
        One vertical axis too.

    Returns
    -------
    figure : matplotlib.figure.Figure
    panels : list of `count` matplotlib.axes.Axes
        Row by row.
    """
    columns = min(3, count)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    drawn = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False).ravel().tolist()
    for axes in drawn[count:]:
        axes.remove()
    for axes in drawn[max(count - columns, 0) : count]:
        axes.tick_params(labelbottom=True)
    return figure, drawn[:count]


def series_style(i: int) -> dict[str, Any]:
    """Colour and line of the i-th of many curves: after six colours, dashes and dots.

    Black is left to a summary of the curves, and yellow is lost on white.
    """
    return {"color": PALETTE[i % 6], "linestyle": ("-", "--", ":", "-.")[i // 6 % 4]}
