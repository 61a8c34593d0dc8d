"""The outputs of `einthoven predict`: text, JSON or CSV, and pages of ECG paper."""

from __future__ import annotations

import csv
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.columns import Columns
from rich.padding import Padding
from rich.table import Table

from einthoven.errors import printable_text
from einthoven.functional.measurements import Measurements
from einthoven.predict import Predictor
from einthoven.predict.answers import Answer
from einthoven.predict.measuring import measurements_to_json
from einthoven.predict.to_json import to_json
from einthoven.report.measurement_text import NOT_CLINICAL, measurement_line
from einthoven.terminal.answer_text import Row, answer_rows, meanings_line, page_lines
from einthoven.terminal.display import console, errors
from einthoven.terminal.measurement_columns import MeasurementColumns

if TYPE_CHECKING:
    from einthoven.report.prediction_pages import Pages

_INDENT = 2
"""Of the rows below the name of a file."""


class Output(ABC):
    """Takes one answer after the other. At the end, it lists the files without a prediction on the error stream.

    Parameters
    ----------
    pdf : Path or None
        A file for pages of ECG paper, one for each record.
    timeline : bool
        Whether each window of a record has a row.
    measures : bool
        Whether the answers have measurements.

    Attributes
    ----------
    refused : list of str
        Why files have no prediction.
    """

    def __init__(self, predictor: Predictor, pdf: Path | None, timeline: bool, measures: bool = False) -> None:
        self.predictor = predictor
        self.timeline = timeline
        self.measures = measures
        self.refused: list[str] = []
        self.answered = 0
        self._pdf = pdf
        self._pages: Pages | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the file of the pages."""
        if self._pdf is not None:
            from einthoven.report.prediction_pages import Pages

            self._pages = self._stack.enter_context(Pages(self._pdf, self.predictor.footnotes))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close the file of the pages, and write the rest unless there was an error."""
        try:
            self._stack.__exit__(kind, *error)  # type: ignore[arg-type]
        finally:
            if kind is None:
                self._end()

    def add(self, answer: Answer) -> None:
        """Take the answer for one file."""
        if answer.prediction is None:
            if self._pages is not None and answer.record is not None:
                # The user sees the ECG that the model refuses.
                record = answer.record
                self._pages.add(record.signal, record.fs, record.leads, answer.file.name, [str(answer.refused)], [])
            self._add_refused(answer)
            return
        self.answered += 1
        measurements = answer.measurements
        record_answer = {
            "file": str(answer.file),
            **to_json(answer.prediction, answer.row, self.predictor),
            "measurements": None if measurements is None else measurements_to_json(measurements),
        }
        if self._pages is not None and answer.record is not None:
            record = answer.record
            lines, other_classes = page_lines(record_answer, self.predictor.groups)
            cautions = record_answer["cautions"]
            measured = "" if measurements is None else measurement_line(measurements)
            self._pages.add(
                record.signal, record.fs, record.leads, answer.file.name, lines, cautions, measured, other_classes
            )
        self._add_answered(record_answer, measurements)

    @abstractmethod
    def _add_answered(self, answer: dict[str, Any], measurements: Measurements | None) -> None:
        """Take the answer for one file: the fields of `to_json`, ``file`` and ``measurements``, also as an object."""

    def _add_refused(self, answer: Answer) -> None:
        """Take a file without a prediction."""
        self.refused.append(str(answer.refused))

    def _end(self) -> None:
        """List the files without a prediction."""
        if self.refused:
            errors.print(f"There is no answer for {len(self.refused)} of {self.answered + len(self.refused)} files:")
            for reason in self.refused:
                errors.print(f"  {reason}", soft_wrap=True)


class _TextOutput(Output):
    """The name of each file, and below it a small table for people."""

    def __init__(self, predictor: Predictor, pdf: Path | None, timeline: bool, measures: bool = False) -> None:
        super().__init__(predictor, pdf, timeline, measures)
        self._tables: list[tuple[str, Table]] = []
        self._has_intervals = False

    def _add_answered(self, answer: dict[str, Any], measurements: Measurements | None) -> None:
        """Make the table of the record."""
        rows = answer_rows(answer, self.predictor.groups, measurements, timeline=self.timeline)
        self._tables.append((printable_text(Path(answer["file"]).name, allowed=""), _small_table(rows)))
        self._has_intervals |= any(interval is not None for interval in answer["intervals"].values())

    def _end(self) -> None:
        """Print the tables, and what they mean."""
        for name, table in self._tables:
            console.print(name, style="bold", soft_wrap=True)
            console.print(Padding(table, (0, 0, 0, _INDENT)))
        if self._tables:
            console.print()
            if self._has_intervals:
                console.print("(in brackets): the 95 % interval of the probability.", style="dim")
            meanings = meanings_line(self.predictor.groups)
            if meanings:
                console.print(meanings, style="dim", highlight=False)
            if self.predictor.alphas:
                console.print(
                    "may apply: labels that the record may have. As a mean over records, they miss at most the share "
                    "--alpha of the true labels (10 % by default).",
                    style="dim",
                )
            if self.measures:
                console.print(f"measurements: the median of the beats ± their spread. {NOT_CLINICAL}", style="dim")
            console.print("The options --json and --csv write all classes.", style="dim")
            for line, style in zip(self.predictor.footnotes, ("bold", "dim"), strict=False):
                console.print(line, style=style, soft_wrap=True, highlight=False)
        super()._end()


class _JsonOutput(Output):
    """One JSON object with all results."""

    def __init__(self, predictor: Predictor, pdf: Path | None, timeline: bool, measures: bool = False) -> None:
        super().__init__(predictor, pdf, timeline, measures)
        self._records: list[dict[str, Any]] = []
        self._refused: list[dict[str, str]] = []

    def _add_answered(self, answer: dict[str, Any], measurements: Measurements | None) -> None:
        """Collect the answer."""
        self._records.append(answer)

    def _add_refused(self, answer: Answer) -> None:
        """Collect the reason."""
        super()._add_refused(answer)
        self._refused.append({"file": str(answer.file), "reason": str(answer.refused)})

    def _end(self) -> None:
        """Write the object."""
        content = {
            "notice": self.predictor.notice,
            "attribution": self.predictor.attribution,
            "groups": self.predictor.groups,
            "models": [{**bundle.provenance, "sha256": bundle.sha256} for bundle in self.predictor.bundles],
            "records": self._records,
            "not_answered": self._refused,
        }
        json.dump(content, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        print()
        super()._end()


class _CsvOutput(Output):
    """One row for each record, or with ``--timeline`` for each window. Rows are written as the answers come."""

    def __enter__(self) -> Self:
        """Write the header."""
        super().__enter__()
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        classes = self.predictor.classes
        bounds = [f"{name}_{end}" for name in classes for end in ("low", "high")]
        other_columns = [
            "set",
            "entropy",
            "epistemic",
            "familiar",
            "in_training_data",
            "cautions",
            "not_answered",
            "notice",
        ]
        leads = self.predictor.input_format.leads
        self._measured = MeasurementColumns(leads) if self.measures else None
        measured = self._measured.names if self._measured is not None else []
        self._writer.writerow(_without_duplicates(["file", "start_s", *classes, *bounds, *other_columns, *measured]))
        return self

    def _add_answered(self, answer: dict[str, Any], measurements: Measurements | None) -> None:
        """Write the row of the record, or the rows of its windows."""
        file = answer["file"]
        in_training_data = {None: "", False: "false", True: "true"}[answer["in_training_data"]]
        last_columns = [in_training_data, "; ".join(answer["cautions"]), "", self.predictor.notice]
        if self._measured is not None:
            last_columns += self._measured.cells(answer["measurements"])

        # A window has probabilities only.
        if self.timeline:
            for window in answer["windows"]:
                probabilities = [f"{p:.6f}" for p in window["probabilities"].values()]
                empty = [""] * (2 * len(probabilities) + 4)
                self._writer.writerow([file, f"{window['start_s']:g}", *probabilities, *empty, *last_columns])
            return

        probabilities = [f"{p:.6f}" for p in answer["probabilities"].values()]
        bounds: list[str] = []
        for interval in answer["intervals"].values():
            bounds += [_cell(bound) for bound in interval or (None, None)]
        entropy = answer["entropy"]
        uncertainty = [_cell(value) for value in (entropy["total"], entropy["epistemic"], answer["familiar"])]
        labels = " ".join(answer["set"])
        self._writer.writerow([file, "", *probabilities, *bounds, labels, *uncertainty, *last_columns])

    def _add_refused(self, answer: Answer) -> None:
        """Write a row without numbers."""
        super()._add_refused(answer)
        empty = [""] * (1 + 3 * len(self.predictor.classes) + 6)
        no_measurements = [""] * len(self._measured.names) if self._measured is not None else []
        self._writer.writerow([str(answer.file), *empty, str(answer.refused), self.predictor.notice, *no_measurements])


OUTPUTS: dict[str, type[Output]] = {"text": _TextOutput, "json": _JsonOutput, "csv": _CsvOutput}


def _small_table(rows: Sequence[Row]) -> Table:
    """Return rows as a table without lines."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        content = Columns(row.texts, padding=(0, 3)) if row.side_by_side else "\n".join(row.texts)
        table.add_row(row.name, content)
    return table


def _cell(value: float | None) -> str:
    """Return a number for CSV; an unknown number is an empty cell."""
    return "" if value is None else f"{value:.6f}"


def _without_duplicates(columns: Sequence[str]) -> list[str]:
    """Number the columns that have the same name: a class may be called ``file``, or as another class and ``_low``."""
    names: list[str] = []
    for column in columns:
        name = column
        number = 2
        while name in names:
            name = f"{column}_{number}"
            number += 1
        names.append(name)
    return names
