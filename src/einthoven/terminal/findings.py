"""What the doctor found in files and in a corpus, as tables and as JSON."""

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
from einthoven.data.doctor.report import QUARANTINE_FILE
from einthoven.data.formats.reading import read_record
from einthoven.data.store.packed_store import Store
from einthoven.errors import UserError
from einthoven.terminal.display import bar, console, results_table, say

ABOVE_CAUTION = SEVERITIES[SEVERITIES.index("caution") + 1 :]
COLOURS = {"error": "red", "warning": "yellow", "caution": "cyan", "info": "dim"}


def report_of_file(file: Path, reading: dict[str, Any]) -> dict[str, Any]:
    """What is known of one file; one that cannot be read is a finding like others."""
    try:
        record, findings = read_and_examine(read_record, file, **reading)
    except UserError as error:
        refused = Finding("unreadable", "error", (), math.nan, math.nan, str(error))
        return {"file": str(file), "severity": "error", "findings": [_plain(refused)]}
    return {
        "file": str(file),
        "fs": record.fs,
        "seconds": record.signal.shape[1] / record.fs,
        "leads": list(record.leads),
        "notes": list(record.notes),
        "severity": findings[0].severity if findings else None,
        "findings": [_plain(finding) for finding in findings],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    """A finding as JSON knows it: numbers that are not known are null."""
    numbers = {"value": finding.value, "threshold": finding.threshold}
    known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**vars(finding), **known, "leads": list(finding.leads)}


def show_reports(reports: list[dict[str, Any]]) -> None:
    """Print one table of the findings of all files, and how many files have which worst finding."""
    table = Table(box=None, pad_edge=False)
    for name in ("file", "severity", "finding", "leads", "evidence"):
        table.add_column(name, overflow="fold")
    for report in reports:
        name = Path(report["file"]).name
        for finding in report["findings"]:
            colour = COLOURS[finding["severity"]]
            table.add_row(
                name,
                Text(finding["severity"], style=colour),
                finding["code"],
                " ".join(finding["leads"]),
                finding["evidence"],
            )
            name = ""
        if not report["findings"]:
            table.add_row(name, Text("none", style="green"), "", "", "nothing found")
    console.print(table)
    worst = [report["severity"] for report in reports]
    counted = ", ".join(f"{worst.count(s)} {s}" for s in reversed(SEVERITIES) if s in worst)
    clean = sum(severity is None for severity in worst)
    files = "1 file by its" if len(reports) == 1 else f"{len(reports)} files by their"
    console.print(f"{files} worst finding: {counted or 'nothing found'}; {clean} without any")


def examine_corpus(store: Store, *, strict: bool) -> None:
    """Examine a store, show how many records have each finding, and leave the details beside it.

    Raises
    ------
    SystemExit
        With exit code 1, where `strict` and a record has an error or a warning.
    """
    with bar("examining records") as progress:
        found = examine_or_load(store, progress)
    listed = update_quarantine(store, found)
    rows = count_findings(found)
    table = [[code, severity, str(n), meaning] for code, severity, meaning, n in rows]
    if table:
        console.print(results_table("what the doctor found", ["finding", "severity", "records", "meaning"], table))
    else:
        console.print("the doctor found nothing")
    for finding in unmeasurable(store.fs):
        console.print(finding.evidence)
    say(f"details: {store.path / 'doctor.parquet'}")
    if len(listed):
        say(f"{len(listed)} records with the reason why they are not to be used: {store.path / QUARANTINE_FILE}")
    serious = [f"{n} × {code} ({severity})" for code, severity, _, n in rows if severity in ABOVE_CAUTION]
    if strict and (serious or len(listed)):
        unread = f"; {len(listed)} records in {QUARANTINE_FILE}" if len(listed) else ""
        print(f"einthoven: strict: {', '.join(serious) or 'no warning'}{unread}.", file=sys.stderr)
        sys.exit(1)
