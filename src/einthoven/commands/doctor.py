"""`einthoven doctor FILE ...`: what is wrong with records, in a table or as JSON."""

from __future__ import annotations

import glob
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from einthoven.commands.parser import Parser, reading
from einthoven.commands.terminal import bar, console, results_table, say
from einthoven.data.doctor import SEVERITIES, Finding, counts, examined, quarantine, read_and_examine, unmeasurable
from einthoven.data.doctor.report import LISTED
from einthoven.data.records import RECORD_SUFFIXES, TABLE_SUFFIXES, read_record
from einthoven.data.store import Store
from einthoven.errors import UserError

ABOVE_CAUTION = SEVERITIES[SEVERITIES.index("caution") + 1 :]
COLOURS = {"error": "red", "warning": "yellow", "caution": "cyan", "info": "dim"}


def doctor(arguments: Sequence[str]) -> bool:
    """Examine files and show what was found.

    Parameters
    ----------
    arguments : sequence of str
        As on the command line, after the verb.

    Returns
    -------
    bool
        Whether every file could be read and, with ``--strict``, has nothing above a caution.

    Raises
    ------
    UserError
        If an option is wrong, or a pattern or folder names no file.
    """
    parser = Parser("doctor")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_reading()
    options = parser.parse_args(list(arguments))
    files, given, reports = expand(options.files), reading(options), []
    with bar("examining records") as progress:
        for done, file in enumerate(files, 1):
            reports.append(_report(file, given))
            if not options.json:
                progress(done, len(files))
    if options.json:
        json.dump(reports, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        _show(reports)
    return not any(
        finding["code"] == "unreadable" or (options.strict and finding["severity"] in ABOVE_CAUTION)
        for report in reports
        for finding in report["findings"]
    )


def expand(names: Sequence[str]) -> list[Path]:
    """The record files that names, folders and patterns stand for, each once, in order.

    Raises
    ------
    UserError
        If a folder or a pattern holds none.
    """
    out: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in RECORD_SUFFIXES)
        elif not path.exists() and glob.has_magic(name):
            found = sorted(Path(file) for file in glob.glob(name, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
        else:
            found = [path]
        if not found:
            kind = "folder" if path.is_dir() else "pattern"
            raise UserError(
                f"{name}: this {kind} holds no record; expected files such as {', '.join(RECORD_SUFFIXES)}"
                f"{_tables(path) if path.is_dir() else ''}."
            )
        out.update(dict.fromkeys(found))
    return list(out)


def _tables(folder: Path) -> str:
    """How to name the tables of a folder, which may be records or something else."""
    table = next((file for suffix in TABLE_SUFFIXES for file in sorted(folder.rglob(f"*{suffix}"))), None)
    return f", or tables by a pattern: '{table.parent / f'*{table.suffix}'}'" if table else ""


def _report(file: Path, reading: dict[str, Any]) -> dict[str, Any]:
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


def _show(reports: list[dict[str, Any]]) -> None:
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
        found = examined(store, progress)
    listed = quarantine(store, found)
    rows = counts(found)
    table = [[code, severity, str(n), meaning] for code, severity, meaning, n in rows]
    if table:
        console.print(results_table("what the doctor found", ["finding", "severity", "records", "meaning"], table))
    else:
        console.print("the doctor found nothing")
    for finding in unmeasurable(store.fs):
        console.print(finding.evidence)
    say(f"details: {store.path / 'doctor.parquet'}")
    if len(listed):
        say(f"{len(listed)} records with the reason why they are not to be used: {store.path / LISTED}")
    serious = [f"{n} × {code} ({severity})" for code, severity, _, n in rows if severity in ABOVE_CAUTION]
    if strict and (serious or len(listed)):
        unread = f"; {len(listed)} records in {LISTED}" if len(listed) else ""
        print(f"einthoven: strict: {', '.join(serious) or 'no warning'}{unread}.", file=sys.stderr)
        sys.exit(1)
