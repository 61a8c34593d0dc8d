"""What `einthoven predict` gives out: a table for people, JSON, CSV, pages of paper."""

from __future__ import annotations

import csv
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.table import Table

from einthoven.predict import Predictor
from einthoven.predict.answers import Answer
from einthoven.predict.plain import plain
from einthoven.terminal.display import console, errors

if TYPE_CHECKING:
    from einthoven.report.prediction_pages import Pages

SHOWN = 5  # most probable classes in the table and on paper


class Output(ABC):
    """Takes the answers one after the other; what cannot be answered is listed at the end, on the error stream.

    Parameters
    ----------
    predictor : Predictor
    pdf : Path or None
        Where to write a page for each record, too.
    timeline : bool
        A row for each window of a record.
    """

    def __init__(self, predictor: Predictor, pdf: Path | None, timeline: bool) -> None:
        self.predictor, self.timeline = predictor, timeline
        self.refused: list[str] = []
        self.answered = 0
        self._stack, self._pdf = ExitStack(), pdf
        self._pages: Pages | None = None

    def __enter__(self) -> Self:
        """Open what is written to."""
        if self._pdf is not None:
            from einthoven.report.prediction_pages import Pages

            self._pages = self._stack.enter_context(Pages(self._pdf, self.predictor.notice))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Write what is left."""
        try:
            self._stack.__exit__(kind, *error)  # type: ignore[arg-type]
        finally:
            if kind is None:
                self.end()

    def add(self, answer: Answer) -> None:
        """Take one answer."""
        if answer.prediction is None:
            self.refuse(answer)
            return
        self.answered += 1
        told = {"file": str(answer.file), **plain(answer.prediction, answer.row, self.predictor)}
        if self._pages is not None and answer.record is not None:
            record = answer.record
            self._pages.add(record.signal, record.fs, record.leads, answer.file.name, probable(told), told["cautions"])
        self.take(told)

    @abstractmethod
    def take(self, told: dict[str, Any]) -> None:
        """One file that was answered: its name, and the rest as `plain`."""

    def refuse(self, answer: Answer) -> None:
        """One file that was not."""
        self.refused.append(str(answer.refused))

    def end(self) -> None:
        """All files are done: say which were not answered, and what has to stand on every output."""
        if self.refused:
            errors.print(f"{len(self.refused)} of {self.answered + len(self.refused)} files not answered:")
            for reason in self.refused:
                errors.print(f"  {reason}", soft_wrap=True)


class TableOutput(Output):
    """A table for people."""

    def __init__(self, predictor: Predictor, pdf: Path | None, timeline: bool) -> None:
        super().__init__(predictor, pdf, timeline)
        self._table = Table(box=None, pad_edge=False)
        for name in ("file", "probabilities (95 % interval)", "may be", "cautions"):
            self._table.add_column(name, overflow="fold")

    def take(self, told: dict[str, Any]) -> None:
        """A row for the record, and with the timeline one for each window."""
        sets = " ".join(told["set"]) or "none of them"
        self._table.add_row(
            Path(told["file"]).name,
            "\n".join(probable(told)),
            sets if told["alpha"] is not None else "",
            "\n".join(told["cautions"]),
        )
        if self.timeline:
            for window in told["windows"]:
                ranked = sorted(window["probabilities"].items(), key=lambda item: -item[1])[:SHOWN]
                shares = "  ".join(f"{name} {p:.2f}" for name, p in ranked)
                self._table.add_row(f"  from {window['start_s']:g} s", shares, "", "")

    def end(self) -> None:
        """Show it."""
        if self.answered:
            console.print(self._table)
            if self.predictor.alphas:
                console.print(
                    "may be: statements of which, as a mean over such records, the stated share of the true ones is "
                    "missing at most (--alpha, 10 % by default)",
                    style="dim",
                )
            console.print(self.predictor.notice, style="bold", soft_wrap=True, highlight=False)
        super().end()


class JsonOutput(Output):
    """One JSON object, with everything."""

    def __init__(self, predictor: Predictor, pdf: Path | None, timeline: bool) -> None:
        super().__init__(predictor, pdf, timeline)
        self._records: list[dict[str, Any]] = []
        self._refused: list[dict[str, str]] = []

    def take(self, told: dict[str, Any]) -> None:
        """Keep the record."""
        self._records.append(told)

    def refuse(self, answer: Answer) -> None:
        """Keep the reason."""
        super().refuse(answer)
        self._refused.append({"file": str(answer.file), "reason": str(answer.refused)})

    def end(self) -> None:
        """Write it."""
        models = [{**b.provenance, "sha256": b.sha256} for b in self.predictor.bundles]
        whole = {
            "notice": self.predictor.notice,
            "models": models,
            "records": self._records,
            "not_answered": self._refused,
        }
        json.dump(whole, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        print()
        super().end()


class CsvOutput(Output):
    """A row for each record, or for each of its windows, as it comes; those that were not answered are rows, too."""

    def __enter__(self) -> Self:
        """Write the line of names."""
        super().__enter__()
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        classes = self.predictor.classes
        bounds = [f"{name}_{end}" for name in classes for end in ("low", "high")]
        rest = ["set", "entropy", "epistemic", "familiar", "in_training_data", "cautions", "not_answered", "notice"]
        self._writer.writerow(_distinct(["file", "start_s", *classes, *bounds, *rest]))
        return self

    def take(self, told: dict[str, Any]) -> None:
        """Write its rows."""
        file, notice = told["file"], self.predictor.notice
        trained = {None: "", False: "false", True: "true"}[told["in_training_data"]]
        if self.timeline:
            for window in told["windows"]:
                p = [f"{value:.6f}" for value in window["probabilities"].values()]
                bounds = [""] * (2 * len(p))
                rest = [*[""] * 4, trained, "; ".join(told["cautions"]), "", notice]
                self._writer.writerow([file, f"{window['start_s']:g}", *p, *bounds, *rest])
            return
        p = [f"{value:.6f}" for value in told["probabilities"].values()]
        pairs = [pair or (None, None) for pair in told["intervals"].values()]
        bounds = ["" if value is None else f"{value:.6f}" for pair in pairs for value in pair]
        unsure = [told["entropy"]["total"], told["entropy"]["epistemic"], told["familiar"]]
        numbers = ["" if value is None else f"{value:.6f}" for value in unsure]
        rest = [" ".join(told["set"]), *numbers, trained, "; ".join(told["cautions"]), "", notice]
        self._writer.writerow([file, "", *p, *bounds, *rest])

    def refuse(self, answer: Answer) -> None:
        """Write a row without numbers."""
        super().refuse(answer)
        blank = [""] * (1 + 3 * len(self.predictor.classes) + 6)
        self._writer.writerow([str(answer.file), *blank, str(answer.refused), self.predictor.notice])


OUTPUTS: dict[str, type[Output]] = {"table": TableOutput, "json": JsonOutput, "csv": CsvOutput}


def _distinct(columns: Sequence[str]) -> list[str]:
    """Names of columns, each once: a class may be called ``file``, or another class with ``_low`` behind."""
    taken: list[str] = []
    for name in columns:
        numbered = name
        number = 2
        while numbered in taken:
            numbered = f"{name}_{number}"
            number += 1
        taken.append(numbered)
    return taken


def probable(told: dict[str, Any]) -> list[str]:
    """The most probable classes of a record, each with its probability and interval."""
    ranked = sorted(told["probabilities"].items(), key=lambda item: -item[1])[:SHOWN]
    lines = []
    for name, p in ranked:
        pair = told["intervals"][name]
        lines.append(f"{name} {p:.2f}" + ("" if pair is None else f" ({pair[0]:.2f}-{pair[1]:.2f})"))
    return lines
