"""Text on a page of ECG paper: lines above and below the paper, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from einthoven.report.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER = "#FFF6F3"
MM_PER_INCH = 25.4
POINTS_PER_MM = 72 / MM_PER_INCH

TITLE_SIZE = 5.2  # mm, the size of a font
HEAD_SIZES = (2.8, 3.6, 2.8)  # mm, of the lines below the title
HEAD_SPACING = 1.35  # from one line to the next, as a multiple of its size
WIDENED = 0.94  # a picture rounds the width of small letters to pixels, which can widen a text by so much
FOOT_SIZE = 2.1  # mm
FOOT_HEIGHTS = (8.9, 3.4, 1.2)  # mm above the edge of the page; the line with the scale is between the first two


def write_head(axes: Axes, left: float, paper: float, width: float, title: str, lines: Sequence[str]) -> None:
    """Write a title and three lines above the paper.

    Parameters
    ----------
    axes : Axes
        Its unit is one millimetre.
    left, paper, width : float
        Left edge, upper edge and width of the paper.
    title : str
    lines : sequence of three str
        From top to bottom. An empty line takes no place. A long line is smaller.
    """
    height = paper + 2.0
    # From the bottom to the top.
    for line, size in reversed(list(zip(lines, HEAD_SIZES, strict=True))):
        if line:
            write(axes, left, height, line, fitting_size(line, size, width))
            height += HEAD_SPACING * size
    write(axes, left, height, title, TITLE_SIZE, weight="bold")


def write_foot(axes: Axes, left: float, width: float, lines: Sequence[str]) -> None:
    """Write up to three lines at the foot. An empty line leaves its place empty, and a long line is smaller."""
    for line, height in zip(lines, FOOT_HEIGHTS, strict=False):
        if line:
            write(axes, left, height, line, fitting_size(line, FOOT_SIZE, width), va="center")


def fitting_size(text: str, size: float, width: float) -> float:
    """Return the font size, at most `size`, with which a text is not wider than `width` (all in mm)."""
    return min(size, WIDENED * size * width / text_width(text, size))


def text_width(text: str, height: float) -> float:
    """Return the width in mm of text with a font size in mm."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=height).get_extents().width)


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
) -> None:
    """Write text with a font size in mm."""
    from matplotlib.patheffects import withStroke

    effects = [withStroke(linewidth=0.8 * POINTS_PER_MM, foreground=PAPER)] if halo else []
    axes.text(
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
