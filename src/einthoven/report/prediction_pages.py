"""Predictions as a PDF with one ECG page per record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.report.ecg_paper import ecg_paper_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 240  # largest number of characters of a line at the foot


class Pages:
    """Writer of a PDF, used with ``with``. If an error occurs, or there is no page, no file is left.

    Parameters
    ----------
    path : Path
    footnotes : sequence of str
        Lines at the foot of every page.
    """

    def __init__(self, path: Path, footnotes: Sequence[str]) -> None:
        self._path = path
        self._footnotes = footnotes
        # Matplotlib's writer has no types.
        self._pages: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, and give it its name if no error occurred."""
        self._stack.__exit__(kind, error, traceback)

    def _open(self) -> Any:
        """Open the file at the first page."""
        from matplotlib.backends.backend_pdf import PdfPages

        pages: Any = PdfPages(self._stack.enter_context(atomic(self._path)))
        self._stack.push(lambda kind, *_: pages.close() if kind is None else None)
        return pages

    def add(
        self,
        signal: NDArray[np.floating],
        fs: float,
        leads: Sequence[str],
        title: str,
        probabilities: Sequence[str],
        cautions: Sequence[str],
        measured: str = "",
        other_classes: str = "",
    ) -> None:
        """Add the page of a record. The parameters are those of `prediction_figure`."""
        figure = prediction_figure(
            signal, fs, leads, title, probabilities, cautions, self._footnotes, measured, other_classes
        )
        if self._pages is None:
            self._pages = self._open()
        self._pages.savefig(figure)


def prediction_figure(
    signal: NDArray[np.floating],
    fs: float,
    leads: Sequence[str],
    title: str,
    probabilities: Sequence[str],
    cautions: Sequence[str],
    footnotes: Sequence[str],
    measured: str = "",
    other_classes: str = "",
    dpi: float = 150,
) -> Figure:
    """Draw the page of a record.

    Parameters
    ----------
    signal : ndarray, shape (L, T)
        mV.
    fs : float
        Sampling frequency in Hz.
    leads : sequence of L str
    title : str
    probabilities : sequence of str
        The most probable classes, or the sentence why there is no answer.
    cautions : sequence of str
    footnotes : sequence of str
        Up to two lines at the foot of the page.
    measured : str
        The measurements.
    other_classes : str
        The most probable rhythms and statements.
    dpi : float
    """
    caution_line = f"Cautions: {'; '.join(cautions)}" if cautions else ""
    return ecg_paper_figure(
        signal,
        fs,
        title=title,
        subtitle="   ".join(probabilities),
        leads=leads,
        measured=_shorten(measured),
        details=_shorten(other_classes),
        foot=(_shorten(caution_line), *(_shorten(line) for line in footnotes)),
        dpi=dpi,
    )


def _shorten(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
