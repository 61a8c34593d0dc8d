"""Files that exist whole or not at all: written beside their place, and renamed when they are finished."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"  # beginning of the name of a file that is not finished


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """The name to write a file under, with the suffix of `path`; it takes that place at the end.

    When something goes wrong what was written is removed, and what was there before stays. Processes that write the
    same file at once, on one machine or on several, are not in each other's way.

    Raises
    ------
    OSError
        If the file cannot be renamed.
    """
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays.
    """
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
