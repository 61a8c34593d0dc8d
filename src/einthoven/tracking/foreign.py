"""What the folder of a run may ask for outside of itself: it can come from a stranger.

The folder names the store that the run is sent to, and the files that are sent. Records of the reader are evaluated, so
a stranger must not choose who receives what comes out, nor which files are read and sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from einthoven import trust
from einthoven.errors import UserError
from einthoven.files import open_file
from einthoven.tracking.places import check_location
from einthoven.tracking.run_folder import LANES

_LONGEST_PATH = 1000  # characters
_LONGEST_ENTRY = 1 << 26  # bytes
_MOST_ENTRIES = 1 << 32


def check_entries(folder: Path) -> None:
    """Refuse entries that would send files from outside of the folder, or send files to a place of a stranger's choice.

    Parameters
    ----------
    folder : Path
        Of the run.

    Raises
    ------
    UserError
        Names the file with the entry.
    """
    for name in LANES:
        path = folder / "tracking" / f"{name}.jsonl"
        if not path.exists():
            continue
        for entry in _entries(path):
            if "run" in entry:
                check_location(_mapping(entry["run"], path).get("artifact_location"), path)
            for kind in ("file", "model"):
                if kind in entry:
                    _check_path(folder, entry[kind], path)


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of a spool; the last line of a run that was killed may be half of one."""
    with open_file(path, _MOST_ENTRIES) as file:
        while line := file.readline(_LONGEST_ENTRY):
            if len(line) == _LONGEST_ENTRY:
                raise UserError(f"{path}: an entry of more than {_LONGEST_ENTRY:,} bytes; expected those of a run.")
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict) or not all(isinstance(content, dict | list) for content in entry.values()):
                raise UserError(f"{path}: damaged; expected an entry of a run in every line.")
            yield entry


def _mapping(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged; expected an entry of a run in every line.")
    return content


def _check_path(folder: Path, content: Any, named_in: Path) -> None:
    """Refuse a file that is not in the folder, and a staged one that has no folder of its own there."""
    own = (folder / "tracking").resolve()
    name = content.get("path") if isinstance(content, dict) else None
    is_own = False
    if isinstance(name, str) and len(name) < _LONGEST_PATH and "\0" not in name:
        place = (own / name).resolve()
        # A staged file is removed with the folder that it is in when it has been sent.
        if content.get("staged", True):
            is_own = place.parent.parent == own / "files"
        else:
            is_own = place.is_relative_to(folder.resolve())
    if not is_own:
        raise UserError(
            f"{named_in}: names the file {trust.shown(name)}, which is not one of this run; expected its own files."
        )
