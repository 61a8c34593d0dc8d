"""Rows of a name and texts, laid out for the width of a terminal.

A table of rich looks the same. For the answers of many files, it takes longer than the network.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from einthoven.terminal.answer_text import Row

_INDENT = "  "
_NAME_GAP = 2
"""Columns of the terminal between the names and the texts."""

_TEXT_GAP = 3
"""Columns of the terminal between texts that stand side by side."""

_LEAST_ROOM = 20
"""The texts are laid out for so many columns of the terminal at least."""


def lay_out(rows: Sequence[Row], console: Console) -> list[str]:
    """Return rows as lines: the names in a column, and their texts to the right of them.

    Long texts are wrapped. No line ends with a space.
    """
    name_width = max((cell_len(row.name) for row in rows), default=0) + _NAME_GAP
    room = max(console.width - len(_INDENT) - name_width, _LEAST_ROOM)
    lines = []
    for row in rows:
        texts = _side_by_side(row.texts, room) if row.side_by_side else row.texts
        name = row.name
        for text in texts:
            for part in _wrapped(text, room, console):
                lines.append(f"{_INDENT}{set_cell_size(name, name_width)}{part}".rstrip())
                name = ""
    return lines


def _side_by_side(texts: Sequence[str], room: int) -> list[str]:
    """Return lines of several texts each, as many as there is room for, in columns."""
    for count in range(len(texts), 0, -1):
        widths = [max(cell_len(text) for text in texts[column::count]) for column in range(count)]
        if sum(widths) + _TEXT_GAP * (count - 1) <= room:
            break
    lines = []
    for start in range(0, len(texts), count):
        row = texts[start : start + count]
        cells = [set_cell_size(text, width) for text, width in zip(row, widths, strict=False)]
        lines.append((" " * _TEXT_GAP).join(cells).rstrip())
    return lines


def _wrapped(text: str, room: int, console: Console) -> list[str]:
    """Return the lines of a text. Only a text that is too long is given to rich, which needs longer."""
    if cell_len(text) <= room:
        return [text]
    return [line.plain for line in Text(text).wrap(console, room, overflow="fold")]
