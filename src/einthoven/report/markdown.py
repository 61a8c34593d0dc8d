"""Tables and sections in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. A ``|`` in a cell does not end the cell."""
    lines = []
    for cells in (columns, ["---"] * len(columns), *rows):
        escaped = [cell.replace("|", r"\|") for cell in cells]
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines)


def markdown_page(sections: Iterable[Sequence[str]]) -> str:
    """Return a page. A section is a sequence of headings, paragraphs, tables and items of lists, or empty."""
    return "\n\n".join("\n".join(_separate(section)) for section in sections if section) + "\n"


def bullets(lines: Iterable[str]) -> list[str]:
    """Return the items of a list."""
    return [f"- {line}" for line in lines]


def _separate(section: Sequence[str]) -> Iterable[str]:
    """Yield the parts of a section with an empty line between paragraphs, but not between the items of a list."""
    for number, part in enumerate(section):
        is_next_item = number > 0 and part.startswith("- ") and section[number - 1].startswith("- ")
        if number and not is_next_item:
            yield ""
        yield part
