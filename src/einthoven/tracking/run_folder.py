"""``tracking/`` in the folder of a run: the lock, the ids of the run, and what has not been sent."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from einthoven.atomic import explain_write, remove_leftovers
from einthoven.command_line import command, option
from einthoven.errors import UserError, store_reason
from einthoven.tracking.places import registration_address, trusted_for
from einthoven.tracking.server import without_password
from einthoven.tracking.spool import Spool, number_in

FOLDERS = (
    "bundle",
    "checkpoints",
    "delineator",
    "figures",
    "mean",
    "members",
    "predictions",
    "readings",
    "tracking",
)
"""The folders in the folder of a run."""

SPOOL_NAMES = ("entries", "files")
"""The spools of a run: one for small entries and one for files, so that a slow upload does not delay the metrics."""


def describe_unsent(uri: str, folder: Path, *spools: Spool) -> list[str]:
    """Return sentences about the entries of a run that its store does not have."""
    sentences = []
    if any(spool.waiting for spool in spools):
        errors = [store_reason(spool.error) for spool in spools if spool.error]
        reason = f" ({errors[0]})" if errors else ""
        trusted = trusted_for(uri)
        for spool in spools:
            for entry in spool.entries(unsent=True):
                if "model" in entry and entry["model"]["register"]:
                    trusted.append(registration_address(entry["model"]["register"], entry["model"]["alias"]))
        sentences.append(
            f"{without_password(uri)} does not have all of this run{reason}; the rest is in {folder / 'tracking'}, and "
            f"{command('sync', str(folder), trusted=trusted)} sends it."
        )
    refused = [sentence for spool in spools for sentence in spool.refused]
    if refused:
        number = "1 entry" if len(refused) == 1 else f"{len(refused)} entries"
        sentences.append(
            f"{without_password(uri)} refused {number} of this run ({refused[0]}); what it refused is in "
            f"{folder / 'tracking'}/*.refused."
        )
    return sentences


def say_waiting(uri: str, patience: float, error: Exception) -> None:
    """Print that the end of a run waits for its store, and why."""
    print(
        f"einthoven: {without_password(uri)} does not take the rest of this run ({store_reason(error)}); waiting "
        f"{patience:g} s for it (tracking.patience)",
        file=sys.stderr,
        flush=True,
    )


def lock(folder: Path) -> FileLock:
    """Lock the tracking/ of a run for this process. Delete what killed processes have left in the folder of the run.

    Raises a `UserError` if another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(folder / "lock")
    try:
        file_lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder.parent}: another process is writing this run; expected one at a time.") from None
    for place in (folder.parent, *(folder.parent / name for name in FOLDERS)):
        remove_leftovers(place)
    return file_lock


@contextmanager
def writing(folder: Path) -> Iterator[FileLock]:
    """Lock the folder of a run while something is written there. Give the lock to the `Recorder` of the run.

    If nothing was written, the folder is left as it was before. Raises a `UserError` if another process has locked it.
    Nothing is changed in that case.
    """
    tracking = folder / "tracking"
    new_folders = [path for path in (tracking, folder) if not path.exists()]
    file_lock = lock(tracking)
    try:
        yield file_lock
    finally:
        # The lock file is removed while it is locked, so that no other process can lock a file that disappears.
        if tracking in new_folders and [path.name for path in tracking.glob("*")] == ["lock"]:
            (tracking / "lock").unlink()
            for path in new_folders:
                # This removes only empty folders.
                with contextlib.suppress(OSError):
                    path.rmdir()
        file_lock.release()


def has_unsent(folder: Path) -> bool:
    """Return whether the tracking/ of a run has entries that were not sent."""
    for name in SPOOL_NAMES:
        spool = folder / f"{name}.jsonl"
        if spool.exists() and spool.stat().st_size > number_in(folder / f"{name}.sent"):
            return True
    return False


def refuse_unsent(folder: Path) -> None:
    """Refuse a new run in the tracking/ of a run that has not been sent."""
    if has_unsent(folder):
        raise UserError(
            f"{folder.parent}: a run there has not been sent to its store; expected another folder "
            f"(hydra.run.dir=…), or {command('sync', str(folder.parent))} first."
        )


def clear(folder: Path) -> None:
    """Remove the files of a run that has been sent, so that a new run can use the folder."""
    refuse_unsent(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block into a sentence that says what to do about a full disk.

    Raises
    ------
    UserError
        Instead of an OSError.
    """
    tracking = folder / "tracking"
    try:
        with explain_write(tracking, tracking):
            yield
    except OSError as error:
        resume = command("train", option("resume", folder))
        place = error.filename2 or error.filename or tracking
        raise UserError(
            f"{place}: {error.strerror or error}; the run ends here, and what was written stays readable. "
            f"With room on that disk, {resume} takes it up from its last checkpoint."
        ) from error


def has_ended(folder: Path) -> bool:
    """Return whether the last status in the spool of a run says that it has ended."""
    status = ""
    with (folder / "entries.jsonl").open() as file:
        for line in file:
            if line.startswith('{"status"') and line.endswith("\n"):
                status = json.loads(line)["status"]["status"]
    return status not in ("", "RUNNING")
