"""The runs of a page, and their short names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from string import ascii_uppercase

from einthoven.evaluation.comparison import Difference
from einthoven.report.figures import History
from einthoven.report.page import Html, html
from einthoven.report.style import series_style

MOST = 12  # largest number of runs on a page
NOTHING = "–"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)
_DASHES = {"-": "", "--": "7 4", ":": "2 3", "-.": "7 3 2 3"}


@dataclass(frozen=True)
class ReportedRun:
    """A run on the page.

    Attributes
    ----------
    name, label : str
        Name of the run, and text that distinguishes it from the other runs.
    facts : mapping of str to str
        Origin of the run: data, commit, device and so on.
    params : mapping of str to str
        All options by their dotted name.
    metrics : mapping of str to float
        Final values of the metrics.
    history : mapping of str to (steps, values)
        Recorded values of the metrics in `einthoven.report.curves.METRICS`.
    note : str
        Description of the run in Markdown.
    pictures : mapping of str to bytes
        Name -> PNG file.
    """

    name: str
    label: str
    facts: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    history: History
    note: str = ""
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairing:
    """Comparison of a run with the first run in one split.

    Attributes
    ----------
    run : int
        Index of the run.
    split : str
    result : Difference or str
        Difference on the same records, or the reason why there is none.
    records : int
    by_patient : bool
        True if patients were resampled, False if records were.
    """

    run: int
    split: str
    result: Difference | str
    records: int = 0
    by_patient: bool = False


def differing(mappings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the sorted names whose values differ between mappings, or that some of them do not have."""
    names = {name for mapping in mappings for name in mapping}
    return sorted(name for name in names if len({_comparable(mapping.get(name)) for mapping in mappings}) > 1)


def _comparable(text: str | None) -> object:
    """Return a value that is the same for all texts of one number or list of numbers, such as 100 and 100.0."""
    if text is None:
        return None
    if text.startswith("[") and text.endswith("]"):
        return tuple(_comparable(item) for item in text[1:-1].split(", "))
    # A Decimal is exact: large seeds and hashes of digits stay apart.
    return Decimal(text) if _NUMBER.fullmatch(text) else text


def letter(number: int) -> str:
    """Return the short name of a run, one letter: A, B, and so on."""
    return ascii_uppercase[number]


def sample(number: int) -> Html:
    """Return the short name of a run after a sample of its line."""
    style = series_style(number)
    return Html(
        '<svg class="line" width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" '
        f'stroke="{style["color"]}" stroke-width="3" stroke-dasharray="{_DASHES[style["linestyle"]]}"/></svg>'
        f"{letter(number)}"
    )


def named(number: int, run: ReportedRun) -> Html:
    """Return the short name and the label of a run."""
    return Html(f"{sample(number)} {html(run.label)}")


def row_headers(runs: Sequence[ReportedRun]) -> list[Html]:
    """Return the row header of each run. A single run needs no letter."""
    if len(runs) == 1:
        return [html(runs[0].label)]
    return [named(number, run) for number, run in enumerate(runs)]


def column_headers(runs: Sequence[ReportedRun]) -> list[Html]:
    """Return the column header of each run."""
    return [sample(number) for number in range(len(runs))] if len(runs) > 1 else [html("value")]
