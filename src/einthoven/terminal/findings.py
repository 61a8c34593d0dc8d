"""Findings of the record doctor in files and in a store, as tables and as JSON."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from einthoven.data.doctor import (
    SEVERITIES,
    Finding,
    count_findings,
    examine_or_load,
    read_and_examine,
    unmeasurable,
    update_quarantine,
)
from einthoven.data.formats.reading import read_record
from einthoven.data.record_names import names_in
from einthoven.data.store.packed_store import Store
from einthoven.data.store.store_folder import QUARANTINE
from einthoven.errors import UserError, printable_text
from einthoven.functional.words import capitalized
from einthoven.terminal.display import bar, broken_name, console, results_table, say

ABOVE_CAUTION = SEVERITIES[SEVERITIES.index("caution") + 1 :]
"""The severities that ``--strict`` does not accept."""
NAMED_RECORDS = 3
"""A message of ``strict=true`` names at most this many records."""

_FILE_WIDTH = 20
"""Width from which the name of a file takes several lines of the table."""

COLOURS = {"error": "red", "warning": "yellow", "caution": "cyan", "info": "dim"}


def report_of_file(file: Path, reading: dict[str, Any]) -> dict[str, Any]:
    """Examine one file, and return its properties and findings, for JSON. `reading` are arguments of `read_record`.

    A file that cannot be read has one finding that says why.
    """
    try:
        record, findings = read_and_examine(read_record, file, **reading)
    except UserError as error:
        unreadable = Finding("unreadable", "error", (), math.nan, math.nan, str(error))
        return {"file": str(file), "severity": "error", "findings": [_for_json(unreadable)]}
    return {
        "file": str(file),
        "fs": record.fs,
        "seconds": record.signal.shape[1] / record.fs,
        "leads": list(record.leads),
        "notes": list(record.notes),
        "severity": findings[0].severity if findings else None,
        "findings": [_for_json(finding) for finding in findings],
    }


def _for_json(finding: Finding) -> dict[str, Any]:
    """Return a finding for JSON, which has no NaN."""
    numbers = {"value": finding.value, "threshold": finding.threshold}
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**vars(finding), **finite, "leads": list(finding.leads)}


def show_reports(reports: list[dict[str, Any]]) -> None:
    """Print a table of the findings of all files, and how many of several files have which worst finding."""
    table = Table(box=None, pad_edge=False)
    for name in ("file", "severity", "finding", "leads", "evidence"):
        table.add_column(name, overflow="fold")
    for report in reports:
        file = broken_name(printable_text(Path(report["file"]).name, allowed=""), _FILE_WIDTH)
        if not report["findings"]:
            table.add_row(file, Text("none", style="green"), "", "", "nothing found")
        for number, finding in enumerate(report["findings"]):
            severity = Text(finding["severity"], style=COLOURS[finding["severity"]])
            leads = " ".join(finding["leads"])
            table.add_row("" if number else file, severity, finding["code"], leads, finding["evidence"])
    console.print(table)

    if len(reports) == 1:
        return
    worst = [report["severity"] for report in reports]
    counts = [f"{worst.count(severity)} {severity}" for severity in reversed(SEVERITIES) if severity in worst]
    if None in worst:
        counts.append(f"{worst.count(None)} without a finding")
    console.print(f"The worst finding of the {len(reports)} files: {', '.join(counts)}.")


def examine_corpus(store: Store, *, strict: bool) -> None:
    """Examine a store, print how many records have each finding, and write the details into the store.

    Raises
    ------
    SystemExit
        With exit code 1, if `strict` and a record has an error or a warning.
    """
    with bar("examining records") as progress:
        findings = examine_or_load(store, progress)
    quarantined = update_quarantine(store, findings)
    rows = count_findings(findings)
    table = [[code, severity, str(count), meaning] for code, severity, meaning, count in rows]
    if table:
        console.print(results_table("What the doctor found", ["finding", "severity", "records", "meaning"], table))
    else:
        console.print("The doctor found nothing.")
    for finding in unmeasurable(store.fs):
        console.print(f"{capitalized(finding.evidence)}.")
    say(f"The findings of each record are in {store.path / 'doctor.parquet'}.")
    if len(quarantined):
        file = store.path / QUARANTINE
        say(
            f"Records with an error: {len(quarantined)}. {file} lists them, each with the reason. A training uses "
            "those that can be read. To leave them out, remove their rows from the table of the records."
        )

    serious = [f"{count} × {code} ({severity})" for code, severity, _, count in rows if severity in ABOVE_CAUTION]
    if strict and (serious or len(quarantined)):
        unusable = ""
        if len(quarantined):
            unusable = f"; {len(quarantined)} record{'s' * (len(quarantined) > 1)} in {QUARANTINE}"
        records = findings.loc[findings["severity"].isin(ABOVE_CAUTION), "ecg_id"]
        names = [f"ecg_id {name}" for name in map(names_in(store.table, "ecg_id"), records[:NAMED_RECORDS])]
        named = f"; such as {', '.join(names)}" if names else ""
        print(f"einthoven: strict: {', '.join(serious) or 'no warning'}{unusable}{named}.", file=sys.stderr)
        sys.exit(1)
