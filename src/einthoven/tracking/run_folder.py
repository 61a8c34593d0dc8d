"""``tracking/`` in the folder of a run: who may write there, and what is left in it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from einthoven.command_line import command, option
from einthoven.errors import UserError
from einthoven.files import check_ordinary, read_file
from einthoven.tracking.delivery import MOST_IDENTITY, first_line
from einthoven.tracking.places import trusted_for
from einthoven.tracking.server import shown
from einthoven.tracking.spool import Spool, number_in

FOLDERS = ("bundle", "checkpoints", "tracking")
"""In the folder of a run."""

LANES = ("entries", "files")
"""Spools of a run: what is small, and what is not; a slow upload holds up no metric."""


def identity(folder: Path) -> dict[str, str]:
    """Who the run of a folder is: ``uri`` of its store; ``run_id`` and ``experiment_id`` there, empty if not sent.

    Raises
    ------
    UserError
        If the folder is not that of a run.
    """
    file = folder / "tracking" / "run.json"
    if not file.exists():
        raise UserError(f"{folder}: no tracking/run.json there; expected the folder of a run (outputs/…).")
    check_ordinary(folder, FOLDERS)
    text = read_file(file, MOST_IDENTITY)
    try:
        known = json.loads(text)
    except (ValueError, RecursionError):
        known = None
    names = ("uri", "run_id", "experiment_id")
    if not isinstance(known, dict) or not all(isinstance(known.get(name), str) for name in names):
        raise UserError(f"{file}: damaged; expected {', '.join(names)} of a run.")
    return {name: known[name] for name in names}


def left(uri: str, folder: Path, *spools: Spool) -> list[str]:
    """Sentences about what a store does not have of the run of a folder."""
    errors = [first_line(spool.error) for spool in spools if spool.error]
    refused = [reason for spool in spools for reason in spool.refused]
    told = []
    if any(spool.waiting for spool in spools):
        reason = f" ({errors[0]})" if errors else ""
        told.append(
            f"{shown(uri)} does not have all of this run{reason}; the rest is in {folder / 'tracking'}, and "
            f"{command('sync', str(folder), trusted=trusted_for(uri))} sends it."
        )
    if refused:
        told.append(
            f"{shown(uri)} refused {'1 entry' if len(refused) == 1 else f'{len(refused)} entries'} of this run "
            f"({refused[0]}); what it refused is in {folder / 'tracking'}/*.refused."
        )
    return told


def lock(folder: Path) -> FileLock:
    """Take the tracking/ of a run for this process.

    Raises
    ------
    UserError
        If another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = FileLock(folder / "lock")
    try:
        taken.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder.parent}: another process is writing this run; expected one at a time.") from None
    return taken


@contextmanager
def writing(folder: Path) -> Iterator[FileLock]:
    """Hold the folder of a run while something is written there; give the lock to the run's `Recorder`.

    A folder in which nothing was written is left as it was before.

    Raises
    ------
    UserError
        If another process has it; nothing is changed then.
    """
    own = folder / "tracking"
    new = [path for path in (own, folder) if not path.exists()]
    taken = lock(own)
    try:
        yield taken
    finally:
        # Removed while it is still held: nobody else can take a file that is about to disappear.
        if own in new and [path.name for path in own.glob("*")] == ["lock"]:
            (own / "lock").unlink()
            for path in new:
                with contextlib.suppress(OSError):
                    path.rmdir()  # only if it is empty
        taken.release()


def refuse_unsent(folder: Path) -> None:
    """Refuse a new run where an old one has not been sent.

    Raises
    ------
    UserError
        Says what can be done.
    """
    sizes = [(folder / f"{name}.jsonl", folder / f"{name}.sent") for name in LANES]
    if any(file.exists() and file.stat().st_size > number_in(sent) for file, sent in sizes):
        raise UserError(
            f"{folder.parent}: a run there has not been sent to its store; expected another folder (hydra.run.dir=…), "
            f"or {command('sync', str(folder.parent))} first."
        )


def clear(folder: Path) -> None:
    """Make room for a new run where an old one has been sent."""
    refuse_unsent(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Tell what to do about a disk that does not take what is written for the run of a folder.

    Raises
    ------
    UserError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        resume = command("train", option("resume", folder))
        raise UserError(
            f"{folder / 'tracking'}: {error.strerror}; the run ends here, and what was written stays readable. "
            f"With room on that disk, {resume} takes it up from its last checkpoint."
        ) from error


def ended(folder: Path) -> bool:
    """Whether the last that is known of a run is that it has ended."""
    last = ""
    with (folder / "entries.jsonl").open() as file:
        for line in file:
            if line.startswith('{"status"') and line.endswith("\n"):
                last = json.loads(line)["status"]["status"]
    return last not in ("", "RUNNING")
