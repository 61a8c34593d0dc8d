"""`einthoven report RUN [RUN ...] [--significance]`: write one page of HTML that compares runs."""

from __future__ import annotations

from pathlib import Path

from einthoven.errors import UserError
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import check_flags


def main(arguments: list[str]) -> None:
    """Write the page.

    The arguments are runs, as in `einthoven.tracking.runs.find_runs`, ``output=…`` and ``uri=…``, if not the defaults,
    and ``--significance`` for a page of tested differences between models.
    """
    check_flags("report", arguments, ["--significance"])
    options = {"output": "report.html", "uri": ""}
    names = []
    for argument in arguments:
        if argument == "--significance":
            continue
        name, equals, value = argument.partition("=")
        if equals and name in options:
            options[name] = value
        else:
            names.append(argument)
    if not names:
        raise UserError("report: no run given; expected folders (outputs/…), ids or names of runs.")
    output = Path(options["output"])
    check_output(f"output={options['output']}", output)
    if "--significance" in arguments:
        from einthoven.runs.comparison.significance_report import write_significance

        print(write_significance(names, options["uri"], output))
        return
    from einthoven.runs.comparison.run_report import write_report

    print(write_report(names, options["uri"], output))
