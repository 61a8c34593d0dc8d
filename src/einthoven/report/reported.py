"""What a page tells of runs, and how it names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase

from einthoven.evaluation.comparison import Difference
from einthoven.report.figures import History
from einthoven.report.page import Html, html
from einthoven.report.style import series_style

MOST = 12  # runs on a page
NOTHING = "–"
SPLITS = {"val": "validation", "test": "test"}
_DASHES = {"-": "", "--": "7 4", ":": "2 3", "-.": "7 3 2 3"}


@dataclass(frozen=True)
class ReportedRun:
    """What the page tells of a run.

    Attributes
    ----------
    name, label : str
        Its own, and what tells it from the others.
    facts : mapping of str to str
        Where it comes from: data, commit, device and so on.
    params : mapping of str to str
        Every option by its dotted name.
    metrics : mapping of str to float
        Final values.
    history : mapping of str to (steps, values)
        Of `einthoven.report.curves.METRICS`, what it recorded.
    note : str
        Its description, in Markdown.
    pictures : mapping of str to bytes
        Name -> PNG.
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
    """How a run did in a split beside the first: a difference on the same records, or why there is none.

    Attributes
    ----------
    run : int
        Its place among the runs.
    split : str
    found : Difference or str
    records : int
    by_patient : bool
        Whether patients were resampled, not records.
    """

    run: int
    split: str
    found: Difference | str
    records: int = 0
    by_patient: bool = False


def differing(of_runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Names that do not have the same value in all runs, in order; what one of them lacks differs."""
    return sorted(
        name for name in {n for each in of_runs for n in each} if len({each.get(name) for each in of_runs}) > 1
    )


def letter(number: int) -> str:
    """The short name of a run."""
    return ascii_uppercase[number]


def sample(number: int) -> Html:
    """The short name of a run, behind a piece of its line."""
    style = series_style(number)
    return Html(
        '<svg class="line" width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" '
        f'stroke="{style["color"]}" stroke-width="3" stroke-dasharray="{_DASHES[style["linestyle"]]}"/></svg>'
        f"{letter(number)}"
    )


def called(number: int, run: ReportedRun) -> Html:
    """A run by its short name and what tells it from the others."""
    return Html(f"{sample(number)} {html(run.label)}")


def row_headers(runs: Sequence[ReportedRun]) -> list[Html]:
    """The header of the row of each run; one alone needs no letter."""
    return [called(*each) for each in enumerate(runs)] if len(runs) > 1 else [html(run.label) for run in runs]


def column_headers(runs: Sequence[ReportedRun]) -> list[Html]:
    """The header of the column of each run."""
    return [sample(number) for number in range(len(runs))] if len(runs) > 1 else [html("value")]
