"""Checks of the spool of a run folder, which can come from a stranger.

The folder names the store that the run is sent to, the files that are sent, and the name of a registered model. The
reader evaluates own records with the run. So a stranger must not choose who receives the results, which files are read
and sent, or what becomes a version of a registered model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from einthoven import trust
from einthoven.errors import UserError
from einthoven.files import open_file
from einthoven.tracking.models import check_exported
from einthoven.tracking.places import check_location, check_registration
from einthoven.tracking.run_folder import SPOOL_NAMES
from einthoven.tracking.spool import number_in

_PATH_LIMIT = 1000  # characters
_ENTRY_LIMIT = 1 << 26  # bytes
_SPOOL_LIMIT = 1 << 32  # bytes


def check_entries(folder: Path) -> None:
    """Refuse entries of a spool that ask for something outside of the folder without the trust of the user.

    Such entries would send files from outside of the folder, send files to another place, send a model that runs
    foreign code, or register a model.
    """
    for name in SPOOL_NAMES:
        path = folder / "tracking" / f"{name}.jsonl"
        if not path.exists():
            continue
        for entry, is_sent in _entries(path):
            if "run" in entry and not is_sent:
                check_location(_mapping(entry["run"], path).get("artifact_location"), path)
            for kind in ("file", "model"):
                if kind in entry:
                    _check_path(folder, kind, entry[kind], path)
            if "model" in entry and not is_sent:
                _check_model(folder, entry["model"], path)


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each entry of a spool, and whether it has been sent.

    The last line may be half of an entry if the run was killed.
    """
    sent = number_in(path.with_suffix(".sent"))
    position = 0
    with open_file(path, _SPOOL_LIMIT) as file:
        while line := file.readline(_ENTRY_LIMIT):
            if len(line) == _ENTRY_LIMIT:
                raise UserError(f"{path}: an entry of more than {_ENTRY_LIMIT:,} bytes; expected those of a run.")
            if not line.endswith(b"\n"):
                return
            start = position
            position += len(line)
            # The spool sends what stands behind this position. In the middle of a line, that would be another entry.
            if start < sent < position:
                raise _damaged(path)
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                raise _damaged(path) from None
            if not isinstance(entry, dict) or not all(isinstance(content, dict | list) for content in entry.values()):
                raise _damaged(path)
            yield entry, position <= sent


def _mapping(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: damaged; expected an entry of a run in every line.")


def _check_path(folder: Path, kind: str, content: Any, named_in: Path) -> None:
    """Refuse a path that is not in the folder, and a staged file without a folder of its own.

    MLflow takes every folder with an MLmodel for a model. So an entry for a file may name neither a folder nor an
    MLmodel: it would not be checked as a model.
    """
    tracking = (folder / "tracking").resolve()
    name = content.get("path") if isinstance(content, dict) else None
    is_of_run = False
    if isinstance(name, str) and len(name) < _PATH_LIMIT and "\0" not in name:
        place = (tracking / name).resolve()
        # A staged file is removed together with its folder when it has been sent.
        if content.get("staged", True):
            is_of_run = place.parent.parent == tracking / "files"
        else:
            is_of_run = place.is_relative_to(folder.resolve())
        if kind == "file" and (place.is_dir() or place.name == "MLmodel"):
            is_of_run = False
    if not is_of_run:
        raise UserError(
            f"{named_in}: names the file {trust.printable(name)}, which is not one of this run; expected its own files."
        )


def _check_model(folder: Path, content: dict[str, Any], named_in: Path) -> None:
    """Refuse a model that would be registered without trust, or that contains foreign code."""
    check_registration(content.get("register"), content.get("alias"), named_in)
    staged = folder / "tracking" / content["path"]
    if staged.exists():
        check_exported(staged)
