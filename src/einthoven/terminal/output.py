"""Checks of the file that a command is to write."""

from __future__ import annotations

import os
from pathlib import Path

from einthoven.errors import UserError


def check_output(option: str, path: Path) -> None:
    """Refuse a path that cannot be written, before any work is done. `option` is what the user typed."""
    if not path.name or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{option}: expected the name of a file, in a folder that is there.")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{option}: the folder cannot be written; expected a folder where this user may write.")
