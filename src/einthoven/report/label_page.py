"""The page of records whose labels are probably wrong: each with its ECG, its labels and its predictions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.page import Html, page, picture, section, table, tag, terms

_DPI = 80

NO_STATEMENTS = "The source of these records has no statements."


@dataclass(frozen=True)
class LabelRow:
    """One label of a record.

    Attributes
    ----------
    name : str
        Name of the class.
    is_positive : bool
        The given label.
    probability : float
        Out-of-fold probability of the class.
    score : float
        How much speaks against the label, in nats.
    is_error : bool
        Whether the model is confident of the other outcome.
    """

    name: str
    is_positive: bool
    probability: float
    score: float
    is_error: bool


@dataclass(frozen=True)
class Statement:
    """A statement about a record.

    Attributes
    ----------
    code : str
    likelihood : float
        In percent; 0 mostly means that it is unknown.
    text : str
        Description of the statement; empty if it is not known.
    """

    code: str
    likelihood: float
    text: str


@dataclass(frozen=True)
class Suspect:
    """A record whose label is probably wrong.

    Attributes
    ----------
    rank : int
    name : str
        Name of the record.
    fold : int
        The fold in which it was held out.
    labels : sequence of LabelRow
        The most suspicious one first.
    statements : sequence of Statement
    signal : ndarray, shape (L, T)
        In mV.
    fs : float
        Sampling frequency in Hz.
    leads : sequence of L str
    attribution : str
        Line that the licence of the record demands; may be empty.
    """

    rank: int
    name: str
    fold: int
    labels: Sequence[LabelRow]
    statements: Sequence[Statement]
    signal: NDArray[np.floating]
    fs: float
    leads: Sequence[str]
    attribution: str

    @property
    def given(self) -> str:
        """The positive labels, as text."""
        return ", ".join(sorted(row.name for row in self.labels if row.is_positive)) or "no class"

    @property
    def predicted(self) -> str:
        """The probability of each class, as text, the most probable one first."""
        by_probability = sorted(self.labels, key=lambda row: -row.probability)
        return "   ".join(f"{row.name} {row.probability:.2f}" for row in by_probability)


@dataclass(frozen=True)
class ClassErrors:
    """What confident learning estimates for a class.

    Attributes
    ----------
    name : str
    positives, negatives : int
        Number of records with this label.
    wrong_positives, wrong_negatives : float
        Estimated number of them whose label is wrong.
    """

    name: str
    positives: int
    negatives: int
    wrong_positives: float
    wrong_negatives: float


def label_page(
    run: str,
    facts: Mapping[str, str],
    classes: Sequence[ClassErrors],
    suspects: Sequence[Suspect],
    *,
    method: str,
    by: str,
) -> str:
    """Return the page as self-contained HTML.

    Parameters
    ----------
    run : str
        Name of the cross-validation.
    facts : mapping of str to str
    classes : sequence of ClassErrors
    suspects : sequence of Suspect
        In the order of the page.
    method : str
        Sentences about how the records were ranked.
    by : str
        Program that made the page.
    """
    title = f"Labels that are probably wrong: {run}"
    sections = [_section_of(suspect) for suspect in suspects]
    return page(
        title,
        tag("h1", title),
        tag("p", method),
        tag("p", "A high rank is a reason to look at the ECG. It is not a finding: the model may be wrong."),
        terms(facts.items()),
        section("Estimated errors of each class", _table_of_classes(classes)),
        *sections,
        tag("footer", f"{by}. For research and teaching only, not for diagnosis."),
    )


def suspect_picture(suspect: Suspect, dpi: float = _DPI) -> bytes:
    """Return the ECG of a record on paper, with its labels and predictions, as PNG."""
    figure = ecg_paper_figure(
        suspect.signal,
        suspect.fs,
        title=f"{suspect.rank}. record {suspect.name}: labelled {suspect.given}",
        subtitle=f"out of fold: {suspect.predicted}",
        leads=suspect.leads,
        foot=(suspect.attribution,),
        dpi=dpi,
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", pil_kwargs={"compress_level": 9})
    return file.getvalue()


def _section_of(suspect: Suspect) -> Html:
    """Return the part of the page about one record."""
    rows = []
    for row in suspect.labels:
        label = "positive" if row.is_positive else "negative"
        verdict = "the model is confident of the opposite" if row.is_error else ""
        rows.append([row.name, label, f"{row.probability:.3f}", f"{row.score:.2f}", verdict])
    alt = f"The 12-lead ECG of record {suspect.name}, labelled {suspect.given}"
    return section(
        f"{suspect.rank}. Record {suspect.name}: labelled {suspect.given}",
        picture(suspect_picture(suspect), "png", alt, suspect.attribution),
        table(
            f"Labels, out-of-fold probabilities (held out in fold {suspect.fold}) and scores.",
            ["class", "label", "probability", "score", ""],
            rows,
        ),
        _table_of_statements(suspect.statements),
    )


def _table_of_statements(statements: Sequence[Statement]) -> Html:
    """Return the statements of a record with their likelihoods."""
    if not statements:
        return tag("p", NO_STATEMENTS)
    rows = []
    for statement in statements:
        likelihood = f"{statement.likelihood:g} %" if statement.likelihood else "unknown"
        rows.append([statement.code, statement.text, likelihood])
    return table("Statements of the record.", ["statement", "text", "likelihood"], rows)


def _table_of_classes(classes: Sequence[ClassErrors]) -> Html:
    """Return how many labels of each class are wrong by the estimate of confident learning."""
    rows = [_class_cells(of_class) for of_class in classes]
    columns = ["class", "positive", "probably wrong", "negative", "probably wrong"]
    caption = "Calibrated confident joint (Northcutt et al. 2021, equation 3). It counts errors of the model, too."
    return table(caption, columns, rows)


def _class_cells(of_class: ClassErrors) -> list[str]:
    """Return the cells of a class in that table."""
    return [
        of_class.name,
        f"{of_class.positives:,}",
        f"{of_class.wrong_positives:,.0f}",
        f"{of_class.negatives:,}",
        f"{of_class.wrong_negatives:,.0f}",
    ]
