"""Predictions as a PDF with one ECG page per record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.report.ecg_paper import ecg_paper_figure

LONGEST = 170  # largest number of characters of a line at the foot


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
    ) -> None:
        """Add the page of a record: signal (L, T) in mV, probabilities as text, warnings, and its measurements."""
        caution_line = f"Cautions: {'; '.join(cautions)}" if cautions else ""
        figure = ecg_paper_figure(
            signal,
            fs,
            title=title,
            subtitle="   ".join(probabilities),
            leads=leads,
            measured=_shorten(measured),
            foot=(_shorten(caution_line), *(_shorten(line) for line in self._footnotes)),
        )
        if self._pages is None:
            self._pages = self._open()
        self._pages.savefig(figure)


def _shorten(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
