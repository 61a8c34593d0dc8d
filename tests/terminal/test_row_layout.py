"""The rows of an answer look like a table of rich."""

from __future__ import annotations

import io

import pytest
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from einthoven.terminal.answer_text import Row
from einthoven.terminal.row_layout import lay_out

ROWS = [
    Row(
        "superclasses", [f"{name} 0.42 (0.38-0.47)" for name in ("MI", "NORM", "STTC", "CD", "名前")], side_by_side=True
    ),
    Row("may be", ["MI NORM"]),
    Row("statements", ["ASMI 0.46 (0.39-0.52) anteroseptal myocardial infarction", "of the others: 2 may be"]),
    Row("", ["a note of many words, " * 8, "x" * 70]),
]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_rows_look_like_a_table_of_rich(width: int) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in ROWS:
        table.add_row(row.name, Columns(row.texts, padding=(0, 3)) if row.side_by_side else "\n".join(row.texts))
    console = Console(file=io.StringIO(), width=width, markup=False)
    with console.capture() as capture:
        console.print(Padding(table, (0, 0, 0, 2)))
    assert lay_out(ROWS, console) == [line.rstrip() for line in capture.get().splitlines()]


def test_a_narrow_terminal_and_no_rows_have_lines() -> None:
    narrow = Console(file=io.StringIO(), width=10)
    assert lay_out([Row("a long name", ["word " * 8])], narrow)[0] == "  a long name  word word word word"
    assert lay_out([], narrow) == []
