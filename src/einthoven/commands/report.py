"""`einthoven report RUN [RUN ...]`: write one page of HTML that compares runs."""

from __future__ import annotations

from pathlib import Path

from einthoven.errors import UserError
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import check_flags


def main(arguments: list[str]) -> None:
    """Write the page.

    Parameters
    ----------
    arguments : list of str
        Runs, as in `einthoven.tracking.runs.find_runs`, and ``output=…`` and ``uri=…``, if not the defaults.

    Raises
    ------
    UserError
        If a run is unknown or in another store, no run has ended, or the runs have different tasks.
    """
    check_flags("report", arguments)
    options = {"output": "report.html", "uri": ""}
    names = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in options:
            options[name] = value
        else:
            names.append(argument)
    if not names:
        raise UserError("report: no run given; expected folders (outputs/…), ids or names of runs.")
    output = Path(options["output"])
    check_output(f"output={options['output']}", output)
    from einthoven.runs.run_report import write_report

    print(write_report(names, options["uri"], output))
