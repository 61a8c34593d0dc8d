"""A bundle on the records of other hospitals: the sources of the PhysioNet/CinC Challenge 2021.

    python bench/hospitals.py CINC_ROOT [BUNDLE] [--csv docs/results/hospitals.csv]

Every `.hea` file below the folder is answered by the bundle, by default the one of `einthoven predict`. The labels are
the five superclasses of PTB-XL, read from the SNOMED-CT codes of a record by `data/sources/snomed.csv`, which gives a
reason for each code. For each record: answered or refused with the sentence, familiarity, the class with the highest
probability, and its labels. For each source with 100 labelled records or more: the AUROC of each class that the source
annotates, with at least ten positive and ten negative records, and the macro AUROC with its interval over records.
Records that the bundle was trained on do not count. A source with fewer records has an empty row. `--csv` writes the
table of records, with their diagnoses in words.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from einthoven.atomic import atomic
from einthoven.data.sources.cinc import ORIGINS, origin_of, read_comments
from einthoven.data.sources.snomed import annotated, classes_of, diagnoses, parse_diagnoses
from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.metrics import auroc_per_class
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.answers import Answer, answers

LABEL_SET = "superdiagnostic"
CLASSES = ("CD", "HYP", "MI", "NORM", "STTC")
LEAST_RECORDS = 100
"""Records of a source below which its AUROC says nothing."""
LEAST_OF_A_LABEL = 10
"""Positive and negative records of a class below which its AUROC says nothing."""
COLUMNS = ("record", "source", "answer", "familiarity", "top_class", "probability", "labels", "diagnoses")


@dataclass(frozen=True)
class Row:
    """The answer for one record, and its labels.

    Attributes
    ----------
    record, source : str
    answer : str
        ``answered``, or why the record is refused.
    familiar : float
        Share of the calibration records that are at least as unlike the training records; NaN if it is not known.
    p : tuple of float
        Probability of each of `CLASSES`; empty if the record is refused.
    labels : tuple of str
        Those of `CLASSES` that the record has.
    names : tuple of str
        Its diagnoses in words.
    in_training : bool
        Whether the bundle was trained on it.
    """

    record: str
    source: str
    answer: str
    familiar: float
    p: tuple[float, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    in_training: bool = False

    @property
    def cells(self) -> list[str]:
        """The cells of `COLUMNS`."""
        top_class = probability = ""
        if self.p:
            top = int(np.argmax(self.p))
            top_class = CLASSES[top]
            probability = f"{self.p[top]:.3f}"
        familiar = "" if math.isnan(self.familiar) else f"{self.familiar:.3f}"
        origin = [self.record, self.source, self.answer, familiar]
        return [*origin, top_class, probability, " ".join(self.labels), "; ".join(self.names)]


def read_row(answer: Answer, columns: Sequence[int], root: Path) -> Row:
    """Return the row of an answer; `columns` are those of `CLASSES` among the classes of the bundle."""
    header = answer.file
    source, _ = origin_of(header)
    codes = parse_diagnoses(read_comments(header).get("dx", ""), header.name)
    known = diagnoses()
    names = tuple(known[code].name if code in known else code for code in codes)
    labels = tuple(sorted(classes_of(codes, LABEL_SET)))
    if answer.prediction is None:
        # The sentence names the file; the path of a user's folder is nobody's business.
        reason = str(answer.refused).replace(f"{root}/", "")
        return Row(header.stem, source, f"refused: {reason}", math.nan, (), labels, names)
    row = answer.row
    p = tuple(float(answer.prediction.probabilities[row, column]) for column in columns)
    familiar = float(answer.prediction.familiar[row])
    in_training = bool(answer.prediction.in_training[row])
    return Row(header.stem, source, "answered", familiar, p, labels, names, in_training)


def read_rows(predictor: Predictor, root: Path) -> list[Row]:
    """Answer every record below a folder.

    Raises
    ------
    UserError
        If the bundle does not have the five classes, or the folder has no record of the challenge.
    """
    missing = [name for name in CLASSES if name not in predictor.classes]
    if missing:
        raise UserError(f"the bundle has no class {', '.join(missing)}; expected the five superclasses of PTB-XL.")
    headers = sorted(root.rglob("*.hea"), key=lambda file: (origin_of(file), file.name))
    if not headers:
        raise UserError(f"{root}: no .hea file there; expected records of the PhysioNet/CinC Challenge 2021.")
    columns = [predictor.classes.index(name) for name in CLASSES]
    return [read_row(answer, columns, root) for answer in answers(predictor, headers, {})]


def print_aurocs(console: Console, rows: Sequence[Row]) -> None:
    """Print the AUROC of each source; a source with too few records has dashes."""
    table = Table(title="AUROC by source", title_justify="left")
    for name in ("source", "records", "answered", "macro AUROC", *CLASSES):
        table.add_column(name)
    for source in ORIGINS:
        of_source = [row for row in rows if row.source == source]
        if not of_source:
            continue
        answered = [row for row in of_source if row.p and not row.in_training and row.labels]
        cells = [source, str(len(of_source)), str(sum(bool(row.p) for row in of_source))]
        table.add_row(*cells, *auroc_cells(answered, source))
    console.print(table)


def auroc_cells(rows: Sequence[Row], source: str) -> list[str]:
    """Return the macro AUROC with its interval, and the AUROC of each class that can be judged."""
    dashes = ["–"] * (1 + len(CLASSES))
    if len(rows) < LEAST_RECORDS:
        return dashes
    y = np.array([[name in row.labels for name in CLASSES] for row in rows])
    p = np.array([row.p for row in rows])
    count = y.sum(axis=0)
    is_annotated = np.array([name in annotated(LABEL_SET, source) for name in CLASSES])
    is_judged = is_annotated & (count >= LEAST_OF_A_LABEL) & (len(rows) - count >= LEAST_OF_A_LABEL)
    if not is_judged.any():
        return dashes
    aurocs = auroc_per_class(y, p)
    macro, _ = auroc_intervals(y[:, is_judged], p[:, is_judged])
    cells = [f"{aurocs[is_judged].mean():.3f} ({macro.low:.3f} to {macro.high:.3f})"]
    return cells + [f"{aurocs[k]:.3f}" if is_judged[k] else "–" for k in range(len(CLASSES))]


def write_csv(rows: Iterable[Row], file: Path) -> None:
    """Write the table of records."""
    with atomic(file) as partial, partial.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.cells for row in rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="A bundle on the records of other hospitals")
    parser.add_argument("root", type=Path)
    parser.add_argument("bundle", nargs="?", help="by default the one of einthoven predict")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    predictor = load_bundle(*([options.bundle] if options.bundle else []))
    try:
        rows = read_rows(predictor, options.root)
    except UserError as error:
        raise SystemExit(f"hospitals: {error}") from None

    console = Console()
    console.print(predictor.notice, soft_wrap=True)
    if len(rows) <= LEAST_RECORDS:
        table = Table(title="records", title_justify="left")
        for name in COLUMNS[:-1]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row.cells[:-1])
        console.print(table)
    print_aurocs(console, rows)
    answered = [row for row in rows if row.p]
    labelled = [row for row in answered if row.labels]
    agreeing = [row for row in labelled if CLASSES[int(np.argmax(row.p))] in row.labels]
    console.print(
        f"{len(rows)} records: {len(answered)} answered, {len(rows) - len(answered)} refused. {len(labelled)} answered "
        f"records have a superclass, and the class with the highest probability is one of their labels in "
        f"{len(agreeing)}."
    )
    if options.csv:
        write_csv(rows, options.csv)


if __name__ == "__main__":
    main()
