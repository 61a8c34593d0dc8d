"""What an answer rests on, drawn behind the ECG on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from einthoven.atomic import atomic
from einthoven.errors import UserError
from einthoven.evaluation.faithfulness import Faithfulness
from einthoven.functional.leads import LEADS
from einthoven.report.ecg_paper import PAPER, SPEED, FloatArray, ecg_paper_figure, examples_figure, write
from einthoven.report.style import BLUE, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
SMOOTH_S = 0.02  # standard deviation of the smoothing, for the eye: single samples cannot be seen at 25 mm/s
STRONGEST = 99.0  # percentile that is drawn at full strength
OPACITY = 0.65  # at full strength: grid and trace stay visible
BAND = 14.0  # mm to either side of the baseline
FOR, AGAINST = BLUE, ORANGE  # told apart with any colour vision, and neither is the colour of the grid


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
    """Draw a record as a clinical page, with what speaks for a class, and against it, as colour behind the traces.

    Colour is smoothed over some 50 ms; its full strength is the 99th percentile of all leads.

    Parameters
    ----------
    signal, relevance : array-like, shape (leads, T)
        mV, and what each sample contributes.
    fs : float
        Hz.
    label : str
        The class.
    title, subtitle, leads, foot, dpi
        As in `ecg_paper_figure`.

    Raises
    ------
    UserError
        As `ecg_paper_figure`, and if signal and relevance are not of one shape.
    """
    shading = Shading(signal, fs, relevance, leads)
    figure = ecg_paper_figure(
        signal, fs, title=title, subtitle=subtitle, leads=leads, foot=foot, dpi=dpi, behind=shading.draw
    )
    _draw_key(figure.axes[0], label, shading.signed, 288.5, 200.0)
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
    """Draw several records on one page, each with what speaks for the class of its title, and against it.

    Parameters
    ----------
    signals, relevance : array-like, shape (n, leads, T)
    fs, titles, leads, dpi
        As in `examples_figure`.
    """
    records, found = np.asarray(signals), np.asarray(relevance)
    shadings = [Shading(record, fs, values, leads) for record, values in zip(records, found, strict=True)]
    figure = examples_figure(records, fs, titles, leads=leads, dpi=dpi, behind=[s.draw for s in shadings])
    width = float(figure.axes[0].get_xlim()[1])
    _draw_key(figure.axes[0], "the class", any(s.signed for s in shadings), width - 8.0, 3.0)
    return figure


def worth_line(method: str, worth: Faithfulness, row: int = 0) -> str:
    """What a method is worth on one record, in one line."""
    deletion, insertion, by_chance, in_chance, sanity = (float(value[row]) for value in vars(worth).values())
    return (
        f"{method}: deletion {deletion:.2f} (chance {by_chance:.2f}), insertion {insertion:.2f} (chance "
        f"{in_chance:.2f}), rank correlation with weights dealt anew {sanity:.2f}"
    )


def share_line(by_lead: Mapping[str, float]) -> str:
    """Share of each lead in all that is relevant, in one line; of a method that has one curve for all leads, that."""
    if np.ptp(list(by_lead.values())) < 1e-6:
        return "One curve for all leads. Colour is no cause: it shows what the network's answer rests on."
    shares = ", ".join(f"{lead} {share:.0%}" for lead, share in by_lead.items())
    return f"Shares of the leads: {shares}. Colour is no cause: it shows what the network's answer rests on."


def save_pages(figures: Iterable[Figure], path: Path) -> None:
    """Write figures to a PDF, a page each, or the only one as PNG or SVG, by the suffix; whole or not at all.

    Raises
    ------
    UserError
        If the suffix is another one.
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
    """Refuse a file of another format.

    Raises
    ------
    UserError
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: expected a file name that ends in {', '.join(FORMATS)}.")


class Shading:
    """Colour behind the leads of one record.

    Parameters
    ----------
    signal, relevance : array-like, shape (leads, T)
    fs : float
        Hz.
    leads : sequence of str
    """

    def __init__(self, signal: npt.ArrayLike, fs: float, relevance: npt.ArrayLike, leads: Sequence[str]) -> None:
        from scipy.ndimage import gaussian_filter1d

        values = np.asarray(relevance, dtype=np.float64)
        if values.shape != np.shape(signal):
            raise UserError(f"A signal of shape {np.shape(signal)} cannot be explained by one of {values.shape}.")
        smooth = gaussian_filter1d(values, SMOOTH_S * fs, axis=1, mode="nearest")
        strongest = float(np.percentile(np.abs(smooth), STRONGEST)) or float(np.abs(smooth).max()) or 1.0
        self.signed = bool((values < 0).any())
        self._fs = fs
        self._values: dict[str, FloatArray] = dict(zip(leads, np.clip(smooth / strongest, -1, 1), strict=True))

    def draw(self, axes: Axes, lead: str, first: float, stop: float, at: float, baseline: float) -> None:
        """Colour the samples first … stop of a lead, the first of them at x = `at`."""
        values = self._values[lead][round(first) : round(stop)]
        left = at + (round(first) - first) / self._fs * SPEED
        right = left + len(values) / self._fs * SPEED
        _band(axes, values, (left, right, baseline - BAND, baseline + BAND))


def _band(axes: Axes, values: FloatArray, extent: tuple[float, float, float, float]) -> None:
    """Values from -1 to 1 as colours that are as opaque as they are strong."""
    from matplotlib.colors import to_rgb

    image = np.empty((1, len(values), 4))
    image[0, :, :3] = np.where((values < 0)[:, None], to_rgb(AGAINST), to_rgb(FOR))
    image[0, :, 3] = OPACITY * np.abs(values)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", zorder=1.5)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _draw_key(axes: Axes, label: str, signed: bool, right: float, bottom: float) -> None:
    """The scale of the colours: against the class, nothing, for it."""
    from matplotlib.patches import Rectangle

    width, height = 40.0, 4.0
    words = f"for {label}"
    left = right - width - 3.0 - 2.6 * len(words)
    axes.add_patch(Rectangle((left, bottom), width, height, facecolor=PAPER, edgecolor=INK, linewidth=0.5))
    _band(axes, np.linspace(-1 if signed else 0, 1, 65), (left, left + width, bottom, bottom + height))
    write(axes, left + width + 2, bottom + height / 2, words, 3.6, va="center")
    write(axes, left - 2, bottom + height / 2, f"against {label}" if signed else "none", 3.6, va="center", ha="right")
