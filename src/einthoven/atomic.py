"""Write files atomically: a file is complete, or it does not exist.

A file is written under a temporary name in the same folder. It is renamed when it is complete.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"
"""Prefix of the name of an incomplete file."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path for writing, and rename it to `path` at the end.

    The temporary name has the suffix of `path`. If an error occurs, the temporary file is removed and an existing
    file at `path` stays as it is. Several processes, on one machine or on several, can write the same file at the
    same time.

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
    """Write a text file in UTF-8 atomically.

    Raises
    ------
    OSError
        If the file cannot be written. An existing file stays as it is.
    """
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
