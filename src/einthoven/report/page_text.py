"""Text on a page of ECG paper: lines above and below the paper, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from einthoven.errors import printable_text
from einthoven.report.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

PAPER = "#FFF6F3"
MM_PER_INCH = 25.4
POINTS_PER_MM = 72 / MM_PER_INCH

TITLE_SIZE = 5.2  # mm, the size of a font
HEAD_SIZES = (2.8, 3.6, 2.8)  # mm, of the lines below the title
HEAD_SPACING = 1.35  # from one line to the next, as a multiple of its size
FOOT_SIZE = 2.1  # mm
FOOT_HEIGHTS = (8.9, 3.4, 1.2)  # mm above the edge of the page; the line with the scale is between the first two

_SMALLER = 0.99
"""A line that is too wide becomes smaller by this factor, until it is not."""


def write_head(
    axes: Axes, left: float, paper: float, width: float, title: str, lines: Sequence[str], beside_title: float = 0.0
) -> None:
    """Write a title and three lines above the paper.

    Parameters
    ----------
    axes : Axes
        Its unit is one millimetre.
    left, paper, width : float
        Left edge, upper edge and width of the paper.
    title : str
        A long one is smaller, as the lines.
    lines : sequence of three str
        From top to bottom. An empty line takes no place.
    beside_title : float
        Millimetres at the right of the title that stay free.
    """
    height = paper + 2.0
    # From the bottom to the top.
    for line, size in reversed(list(zip(lines, HEAD_SIZES, strict=True))):
        if line:
            write_line(axes, left, height, line, size, width)
            height += HEAD_SPACING * size
    if title:
        write_line(axes, left, height, title, TITLE_SIZE, max(width - beside_title, width / 3), weight="bold")


def write_foot(axes: Axes, left: float, width: float, lines: Sequence[str]) -> None:
    """Write up to three lines at the foot. An empty line leaves its place empty, and a long line is smaller."""
    for line, height in zip(lines, FOOT_HEIGHTS, strict=False):
        if line:
            write_line(axes, left, height, line, FOOT_SIZE, width, va="center")


def write_line(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    height: float,
    width: float,
    *,
    weight: str = "normal",
    va: str = "baseline",
) -> None:
    """Write text with a font size of at most `height`, so that it is not wider than `width` (both in mm)."""
    # The name of a file may have bytes that are no text. No font has a letter for them.
    text = printable_text(text, allowed="")
    size = min(height, height * width / max(text_width(text, height, weight), 1.0))
    line = write(axes, x, y, text, size, weight=weight, va=va)

    # A picture rounds the width of small letters to pixels, which makes the text a little wider than its outlines.
    left, right = axes.transData.transform([(x, y), (x + width, y)])[:, 0]
    while line.get_window_extent().width > right - left:
        size *= _SMALLER
        line.set_fontsize(size * POINTS_PER_MM)


def text_width(text: str, height: float, weight: str = "normal") -> float:
    """Return the width in mm of the outlines of a text with a font size in mm."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    # Two dollar signs in the name of a file would be a formula.
    path = TextPath((0, 0), text.replace("$", r"\$"), size=height, prop=FontProperties(weight=weight))
    # Blanks have no outlines.
    return max(float(path.get_extents().width), 0.0)


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    height: float,
    *,
    weight: str = "normal",
    ha: str = "left",
    va: str = "baseline",
    halo: bool = False,
) -> Text:
    """Write text with a font size in mm."""
    from matplotlib.patheffects import withStroke

    effects = [withStroke(linewidth=0.8 * POINTS_PER_MM, foreground=PAPER)] if halo else []
    return axes.text(
        x,
        y,
        text,
        fontsize=height * POINTS_PER_MM,
        weight=weight,
        ha=ha,
        va=va,
        color=INK,
        zorder=3.5,
        path_effects=effects,
        parse_math=False,  # file names can contain dollar signs, which would start a formula
    )
