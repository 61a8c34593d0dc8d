"""`einthoven doctor FILE ...`: what is wrong with records, in a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from einthoven.terminal.display import bar
from einthoven.terminal.findings import ABOVE_CAUTION, report_of_file, show_reports
from einthoven.terminal.parser import Parser, reading
from einthoven.terminal.record_files import expand


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
            reports.append(report_of_file(file, given))
            if not options.json:
                progress(done, len(files))
    if options.json:
        json.dump(reports, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        show_reports(reports)
    return not any(
        finding["code"] == "unreadable" or (options.strict and finding["severity"] in ABOVE_CAUTION)
        for report in reports
        for finding in report["findings"]
    )
