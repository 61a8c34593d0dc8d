"""ECG pages with the relevance of each sample as colour behind the traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.atomic import atomic
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.ecg_paper import SPEED, FloatArray, ecg_paper_figure, examples_figure
from einthoven.report.page_text import PAPER, text_width, write
from einthoven.report.style import BLUE, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from einthoven.evaluation.faithfulness import Faithfulness

FORMATS = (".png", ".svg", ".pdf")
SMOOTH_S = 0.02  # standard deviation of the smoothing in s; single samples are not visible at 25 mm/s
STRONGEST = 99.0  # percentile of the relevance that has the full opacity
OPACITY = 0.65  # full opacity; grid and trace stay visible
BAND = 14.0  # mm above and below the baseline
# Distinct for any colour vision, and different from the grid.
FOR = BLUE
AGAINST = ORANGE
# Scale of the colours in mm: width and height of the band, size of the letters, space beside a text.
KEY_WIDTH = 40.0
KEY_HEIGHT = 4.0
KEY_LETTERS = 3.6
KEY_SPACE = 2.0
COLOUR_NOTE = "The colour shows what the answer depends on, not a cause."


def explanation_figure(
    signal: npt.ArrayLike,
    fs: float,
    relevance: npt.ArrayLike,
    label: str,
    *,
    title: str,
    subtitle: str,
    leads: Sequence[str] = LEADS,
    foot: Sequence[str] = (),
    dpi: float = 150,
) -> Figure:
    """Draw a record as a clinical page. Colour behind the traces shows which samples are for and against a class.

    The colour is smoothed over about 50 ms. The 99th percentile over all leads has the full opacity.

    Parameters
    ----------
    signal, relevance : array-like, shape (leads, T)
        Signal in mV, and the contribution of each sample.
    fs : float
        Sampling frequency in Hz.
    label : str
        The class.
    title, subtitle, leads, foot, dpi
        Same as in `ecg_paper_figure`.

    Raises
    ------
    UserError
        If signal and relevance have different shapes. See also `ecg_paper_figure`.
    """
    shading = _Shading(signal, fs, relevance, leads)
    key = _Key(label, shading.signed)
    figure = ecg_paper_figure(
        signal,
        fs,
        title=title,
        subtitle=subtitle,
        leads=leads,
        foot=foot,
        beside_title=key.width,
        dpi=dpi,
        behind=shading.draw,
    )
    key.draw(figure.axes[0], 288.5, 200.0)
    return figure


def explanations_figure(
    signals: npt.ArrayLike,
    fs: float,
    relevance: npt.ArrayLike,
    titles: Sequence[str],
    *,
    leads: Sequence[str] = LEADS,
    dpi: float = 72,
) -> Figure:
    """Draw several records on one page. Colour shows which samples are for and against the class in the title.

    Parameters
    ----------
    signals, relevance : array-like, shape (n, leads, T)
    fs, titles, leads, dpi
        Same as in `examples_figure`.
    """
    records = np.asarray(signals)
    relevances = np.asarray(relevance)
    shadings = [_Shading(record, fs, values, leads) for record, values in zip(records, relevances, strict=True)]
    figure = examples_figure(records, fs, titles, leads=leads, dpi=dpi, behind=[s.draw for s in shadings])
    width = float(figure.axes[0].get_xlim()[1])
    _Key("the class", any(s.signed for s in shadings), scale=1.6).draw(figure.axes[0], width - 8.0, 2.0)
    return figure


def worth_line(method: str, worth: Faithfulness) -> str:
    """Return the faithfulness of a method on one record as one line of text."""
    deletion, insertion, by_chance, in_chance, sanity = (float(value[0]) for value in vars(worth).values())
    return (
        f"{method}: deletion {deletion:.2f} (chance {by_chance:.2f}), insertion {insertion:.2f} (chance "
        f"{in_chance:.2f}), rank correlation with shuffled weights {sanity:.2f}"
    )


def share_line(by_lead: Mapping[str, float]) -> str:
    """Return the share of each lead in the total relevance as one line of text.

    If a method has one curve for all leads, the line says so.
    """
    if np.ptp(list(by_lead.values())) < 1e-6:
        return f"One curve for all leads. {COLOUR_NOTE}"
    shares = ", ".join(f"{lead} {share:.0%}" for lead, share in by_lead.items())
    return f"Shares of the leads: {shares}. {COLOUR_NOTE}"


def save_pages(figures: Iterable[Figure], path: Path) -> None:
    """Write figures to the pages of a PDF, or a single figure as PNG or SVG. An error leaves no partial file.

    Raises
    ------
    UserError
        If the suffix is not one of `FORMATS`.
    """
    check_suffix(path)
    kind = path.suffix[1:].lower()
    with atomic(path) as partial:
        if kind == "pdf":
            from matplotlib.backends.backend_pdf import PdfPages

            with PdfPages(partial) as pages:
                for figure in figures:
                    pages.savefig(figure)
        else:
            (figure,) = figures
            figure.savefig(partial, format=kind)


def check_suffix(path: Path) -> None:
    """Check that the suffix of a file is one of `FORMATS`.

    Raises
    ------
    UserError
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: expected a file name that ends in {', '.join(FORMATS)}.")


def relevance_levels(relevance: FloatArray, fs: float) -> FloatArray:
    """Return relevances as levels of a colour from -1 (against a class) to 1 (for it).

    They are smoothed over about 50 ms. The 99th percentile over all leads has the level 1.

    Parameters
    ----------
    relevance : ndarray, shape (leads, T)
        Contribution of each sample.
    fs : float
        Sampling frequency in Hz.

    Returns
    -------
    ndarray, shape (leads, T)
    """
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(relevance, SMOOTH_S * fs, axis=1, mode="nearest")
    # If most values are zero, the percentile is zero too, and the largest value takes its place.
    strongest = float(np.percentile(np.abs(smooth), STRONGEST)) or float(np.abs(smooth).max()) or 1.0
    return np.clip(smooth / strongest, -1, 1)


class _Shading:
    """Colour behind the leads of one record.

    Parameters
    ----------
    fs : float
        Sampling frequency in Hz.
    """

    def __init__(self, signal: npt.ArrayLike, fs: float, relevance: npt.ArrayLike, leads: Sequence[str]) -> None:
        values = np.asarray(relevance, dtype=np.float64)
        if values.shape != np.shape(signal):
            raise UserError(f"Signal and relevance must have one shape, found {np.shape(signal)} and {values.shape}.")
        self.signed = bool((values < 0).any())
        self._fs = fs
        self._values: dict[str, FloatArray] = dict(zip(leads, relevance_levels(values, fs), strict=True))

    def draw(self, axes: Axes, lead: str, first: float, stop: float, x: float, baseline: float) -> None:
        """Draw the colour of the samples from `first` to `stop` of a lead. The sample `first` is at `x`."""
        values = self._values[lead][round(first) : round(stop)]
        left = x + (round(first) - first) / self._fs * SPEED
        right = left + len(values) / self._fs * SPEED
        _draw_band(axes, values, (left, right, baseline - BAND, baseline + BAND))


def _draw_band(axes: Axes, values: FloatArray, extent: tuple[float, float, float, float]) -> None:
    """Draw values from -1 to 1 as colours. The opacity is proportional to the magnitude."""
    from matplotlib.colors import to_rgb

    image = np.empty((1, len(values), 4))
    image[0, :, :3] = np.where((values < 0)[:, None], to_rgb(AGAINST), to_rgb(FOR))
    image[0, :, 3] = OPACITY * np.abs(values)
    # An image changes the limits of the axes, so they are set again.
    x_limits = axes.get_xlim()
    y_limits = axes.get_ylim()
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", zorder=1.5)
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)


@dataclass(frozen=True)
class _Key:
    """The scale of the colours: against the class, neutral, for the class."""

    label: str
    """The class."""
    signed: bool
    """Whether a sample can be against the class."""
    scale: float = 1.0
    """Larger than 1 on a page that is larger than A4."""

    @property
    def width(self) -> float:
        """Width in mm, with the space at its left."""
        return self._text_width(self._low) + self._text_width(self._high) + (KEY_WIDTH + 4 * KEY_SPACE) * self.scale

    def draw(self, axes: Axes, right: float, bottom: float) -> None:
        """Draw the scale with this right and lower edge, in mm."""
        from matplotlib.patches import Rectangle

        width = KEY_WIDTH * self.scale
        height = KEY_HEIGHT * self.scale
        space = KEY_SPACE * self.scale
        letters = KEY_LETTERS * self.scale
        middle = bottom + height / 2
        left = right - self._text_width(self._high) - space - width
        axes.add_patch(Rectangle((left, bottom), width, height, facecolor=PAPER, edgecolor=INK, linewidth=0.5))
        lowest = -1 if self.signed else 0
        _draw_band(axes, np.linspace(lowest, 1, 65), (left, left + width, bottom, bottom + height))
        write(axes, right, middle, self._high, letters, va="center", ha="right")
        write(axes, left - space, middle, self._low, letters, va="center", ha="right")

    @property
    def _high(self) -> str:
        return f"for {self.label}"

    @property
    def _low(self) -> str:
        return f"against {self.label}" if self.signed else "none"

    def _text_width(self, text: str) -> float:
        return text_width(text, KEY_LETTERS * self.scale)
