"""Each message that docs/troubleshooting.md quotes is one of the package."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
QUOTED = re.findall(r"^> `(.+)`$", PAGE, flags=re.MULTILINE)
VALUE = "…"


@cache
def messages() -> tuple[str, ...]:
    """Every text in the source of the package, with … for each value in it."""
    texts = []
    for file in (ROOT / "src" / "einthoven").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return tuple(texts)


def is_of(message: str, text: str) -> bool:
    """Whether the parts of a quoted message stand in a text, in their order."""
    place = 0
    for part in message.split(VALUE):
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def test_messages_are_quoted() -> None:
    assert len(QUOTED) > 40
    assert len(set(QUOTED)) == len(QUOTED)
    # A quoted line that is not read by this test would not be checked.
    assert len(QUOTED) == len(re.findall(r"^>", PAGE, flags=re.MULTILINE))


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    assert max(map(len, message.split(VALUE))) > 10, "too short to be found"
    assert any(is_of(message, text) for text in messages())


def test_a_message_of_another_wording_is_not_found() -> None:
    assert not any(is_of("…: the data have changed since yesterday", text) for text in messages())
