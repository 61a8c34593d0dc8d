"""Predictions as a PDF with one ECG page per record."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import explain_write
from einthoven.report.ecg_paper import ecg_paper_figure

LONGEST = 170  # largest number of characters of a line at the foot


class Pages:
    """Writer of a PDF, used with ``with``. If an error occurs, no file is left.

    Parameters
    ----------
    path : Path
    notice : str
        Text at the foot of every page.
    """

    def __init__(self, path: Path, notice: str) -> None:
        self._path = path
        self._notice = notice
        self._partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> Self:
        """Open the file."""
        from matplotlib.backends.backend_pdf import PdfPages

        self._pages: Any = PdfPages(self._partial)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close the file, and rename it to its final name if no error occurred."""
        try:
            if kind is None and self._pages.get_pagecount():
                with explain_write(self._path, self._partial):
                    self._pages.close()
                    self._partial.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)

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
            foot=(_shorten(caution_line), _shorten(self._notice)),
        )
        with explain_write(self._path, self._partial):
            self._pages.savefig(figure)


def _shorten(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
