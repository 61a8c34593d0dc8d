"""Send the unsent entries in the folder of a run to its tracking store."""

from __future__ import annotations

from pathlib import Path

from einthoven.tracking import run_folder
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.foreign import check_entries
from einthoven.tracking.places import check_store
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import reach, without_password
from einthoven.tracking.spool import Spool
from einthoven.tracking.unsent import add_unsent


def sync(folder: Path, patience: float = 10.0) -> str:
    """Send the rest of a run that has ended. A run that was killed is closed as killed.

    Sentences about entries that could not be sent go to `einthoven.tracking.unsent.add_unsent`.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    patience : float
        Seconds to wait for a store that does not answer.

    Returns
    -------
    str
        ``run ID in URI``.

    Raises
    ------
    UserError
        If the folder is not that of a run, the run is still active, its store cannot be reached, or an entry asks for
        something that the user does not trust.
    """
    tracking = folder / "tracking"
    uri = run_folder.read_ids(folder)["uri"]
    check_store(uri, tracking / "run.json")
    check_entries(folder)
    reach(uri)
    if not run_folder.has_ended(tracking):
        killed_run = Recorder(uri, "", "", folder=folder, tags={}, run_id="", patience=patience)
        killed_run.finish("KILLED")
        return f"run {killed_run.run_id} in {without_password(uri)}"

    file_lock = run_folder.lock(tracking)
    try:
        delivery = Delivery(tracking, uri)
        spools = [Spool(tracking / f"{name}.jsonl", delivery) for name in run_folder.SPOOL_NAMES]
        # One spool after the other, because the first one may have to create the run.
        for spool in spools:
            spool.start()
            spool.drain(patience)
        add_unsent(run_folder.describe_unsent(uri, folder, *spools))
        for spool in spools:
            spool.close()
        return f"run {delivery.run_id} in {without_password(uri)}"
    finally:
        file_lock.release()
