"""Send the unsent entries in the folder of a run to its tracking store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from einthoven.command_line import command, option
from einthoven.errors import UserError
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import has_run, ids_file, read_ids, write_ids
from einthoven.tracking.concluded import CONCLUDED
from einthoven.tracking.database import sqlite_file
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.earlier import create_again
from einthoven.tracking.foreign import check_entries
from einthoven.tracking.places import check_store
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import reach, without_password
from einthoven.tracking.spool import Entry, Spool
from einthoven.tracking.unsent import add_unsent


def sync(folder: Path, patience: float = 10.0) -> str:
    """Send the rest of a run that has ended, and return ``run ID in URI``. A run that was killed is closed as killed.

    A run that its store does not have any more, because the store was deleted, is sent from its beginning. A store that
    does not answer is waited for, `patience` seconds. Sentences about entries that could not be sent go to
    `einthoven.tracking.unsent.add_unsent`.
    """
    tracking = folder / "tracking"
    ids = read_ids(folder)
    uri = ids["uri"]
    check_store(uri, ids_file(folder))
    check_entries(folder)
    reach(uri)
    notice = ""
    if ids["run_id"] and not _store_has(uri, ids["run_id"]):
        with run_folder.writing(folder):
            notice = _forget_sent(folder, uri)
        # What was sent before is now to be sent, so that it needs the trust of the user.
        check_entries(folder)
    if not run_folder.has_ended(tracking):
        killed_run = Recorder(uri, "", "", folder=folder, tags={}, run_id="", patience=patience)
        killed_run.finish("KILLED")
        return f"run {killed_run.run_id} in {without_password(uri)}{notice}"

    file_lock = run_folder.lock(tracking)
    try:
        delivery = Delivery(tracking, uri)
        delivery.refresh_ids()
        entries, files = spools = [Spool(tracking / f"{name}.jsonl", delivery) for name in run_folder.SPOOL_NAMES]
        # Files first, because the last entry is the status: a finished run has its files.
        if not delivery.run_id:
            create_again(delivery, entries)
        for spool in (files, entries):
            spool.start()
            spool.drain(patience, partial(run_folder.say_waiting, uri, patience))
        add_unsent(run_folder.describe_unsent(uri, folder, *spools))
        for spool in spools:
            spool.close()
        return f"run {delivery.run_id} in {without_password(uri)}{notice}"
    finally:
        file_lock.release()


def _store_has(uri: str, run_id: str) -> bool:
    """Return whether the store has a run. A SQLite file that is missing has none."""
    file = sqlite_file(uri)
    is_missing = file is not None and not file.is_file()
    return not is_missing and has_run(uri, run_id)


def _forget_sent(folder: Path, uri: str) -> str:
    """Let the spools of a run be sent from their beginning: the store does not have the run any more.

    Return a clause about it for the terminal. Files that were removed when they were sent are lost with the store.
    """
    tracking = folder / "tracking"
    entries = Spool(tracking / "entries.jsonl", _deliver_nothing)
    files = Spool(tracking / "files.jsonl", _deliver_nothing)
    try:
        if not any("run" in entry for entry in entries.entries()):
            raise UserError(
                f"{folder}: {without_password(uri)} does not have this run, and its folder does not contain how it was "
                "created, because an earlier version of einthoven wrote it; expected the store that it was sent to."
            )
        lost = 0
        for entry in files.entries():
            content = entry.get("file") or entry.get("model") or {}
            is_staged = content.get("staged", "model" in entry)
            lost += is_staged and not (tracking / content["path"]).exists()
        if lost:
            # The run can be resumed: it makes its pictures again.
            entries.put({"tags": {CONCLUDED: "false"}})
    finally:
        entries.close()
        files.close()
    write_ids(tracking, uri, "", "")
    for name in run_folder.SPOOL_NAMES:
        (tracking / f"{name}.sent").unlink(missing_ok=True)
    if not lost:
        return ", made anew"
    again = command("train", option("resume", folder))
    return f", made anew; {lost} of its files were only in the lost store, and {again} makes them again"


def _deliver_nothing(entries: Sequence[Entry], is_doubtful: bool) -> None:
    """Send nothing: the spool is only read."""
