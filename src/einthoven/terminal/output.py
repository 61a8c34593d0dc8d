"""Where a command may write its file."""

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
