"""Writing a file whole or not at all, where one can be written."""

from __future__ import annotations

from pathlib import Path

from einthoven.errors import UserError


def check_output(option: str, path: Path) -> None:
    """Refuse, before any work is done for it, a place where no file can be written.

    Raises
    ------
    UserError
        If `path` is a folder, or in none that is there; `option` is how it was given.
    """
    if not path.name or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{option}: expected the name of a file, in a folder that is there.")


def write_whole(path: Path, text: str) -> None:
    """Write a text, in UTF-8, under another name, and rename it: nobody finds half of it.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays.
    """
    partial = path.with_name(f".{path.name}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
