"""Predictions on paper: a PDF with a page for each record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.report.ecg_paper import ecg_paper_figure

LONGEST = 170  # characters of a line at the foot


class Pages:
    """Writes pages to a PDF, whole or not at all.

    Parameters
    ----------
    path : Path
    notice : str
        What stands at the foot of every page.
    """

    def __init__(self, path: Path, notice: str) -> None:
        self._path, self._notice = path, notice
        self._partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> Self:
        """Open the file."""
        from matplotlib.backends.backend_pdf import PdfPages

        self._pages: Any = PdfPages(self._partial)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close it, and give it its name if nothing went wrong."""
        try:
            if kind is None and self._pages.get_pagecount():
                self._pages.close()
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    def add(
        self,
        signal: NDArray[np.floating],
        fs: float,
        leads: Sequence[str],
        title: str,
        probabilities: Sequence[str],
        cautions: Sequence[str],
    ) -> None:
        """Add a record: signal (L, T) in mV, its probabilities in words, and what to be careful of."""
        warned = f"Cautions: {'; '.join(cautions)}" if cautions else ""
        figure = ecg_paper_figure(
            signal,
            fs,
            title=title,
            subtitle="   ".join(probabilities),
            leads=leads,
            foot=(_short(warned), _short(self._notice)),
        )
        self._pages.savefig(figure)


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
