"""`einthoven doctor FILE ...`: print what is wrong with records; `einthoven doctor labels RUN`: with their labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from einthoven.errors import UserError
from einthoven.terminal.display import bar
from einthoven.terminal.findings import ABOVE_CAUTION, report_of_file, show_reports
from einthoven.terminal.parser import Parser, check_flags, reading
from einthoven.terminal.record_files import expand

LABELS = "labels"
"""First word of the command that examines labels. A file of this name is ``./labels``."""
MOST = 20
"""Number of records that it shows."""


def main(arguments: Sequence[str]) -> int:
    """Examine files, or the labels of a cross-validation, and print the findings.

    The exit code is 1 if a file cannot be read or, with ``--strict``, has an error or a warning.
    """
    if arguments and arguments[0] == LABELS:
        _examine_labels(arguments[1:])
        return 0
    parser = Parser("doctor")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_reading()
    options = parser.read(arguments)
    files = expand(options.files)

    reports: list[dict[str, Any]] = []
    with bar("examining records") as progress:
        for done, file in enumerate(files, 1):
            reports.append(report_of_file(file, reading(options)))
            if not options.json:
                progress(done, len(files))

    if options.json:
        json.dump(reports, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        show_reports(reports)
    is_bad = any(_is_bad(finding, options.strict) for report in reports for finding in report["findings"])
    return 1 if is_bad else 0


def _examine_labels(arguments: Sequence[str]) -> None:
    """Read the words after ``doctor labels``, and examine the labels of a cross-validation."""
    verb = f"doctor {LABELS}"
    check_flags(verb, arguments)
    most = MOST
    runs = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name != "most":
            runs.append(argument)
            continue
        if not value.isdecimal() or int(value) < 1:
            raise UserError(f"{verb}: most={value}: expected a number of records, 1 or more.")
        most = int(value)
    if len(runs) != 1:
        raise UserError(
            f"{verb}: {len(runs)} runs given; expected the folder or the id of one cross-validation. "
            f"A record that is called {LABELS} is ./{LABELS}."
        )
    from einthoven.runs.folds.label_doctor import examine_labels

    examine_labels(runs[0], most)


def _is_bad(finding: dict[str, Any], is_strict: bool) -> bool:
    """Return whether a finding makes the exit code 1."""
    return finding["code"] == "unreadable" or (is_strict and finding["severity"] in ABOVE_CAUTION)
