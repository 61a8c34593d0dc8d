"""Send what a run has left in its folder to its tracking store."""

from __future__ import annotations

from pathlib import Path

from einthoven.tracking import run_folder
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.foreign import check_entries
from einthoven.tracking.places import check_store
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import reach, shown
from einthoven.tracking.spool import Spool
from einthoven.tracking.unsent import add_unsent


def sync(folder: Path, patience: float = 10.0) -> str:
    """Send the rest of a run that has ended; one that was killed is closed as such.

    Sentences about what could not be sent go to `einthoven.tracking.unsent.add_unsent`.

    Returns
    -------
    str
        ``run ID in URI``.

    Raises
    ------
    UserError
        If the folder is not that of a run, the run still goes on, or its store cannot be reached.
    """
    own = folder / "tracking"
    uri = run_folder.identity(folder)["uri"]
    check_store(uri, own / "run.json")
    check_entries(folder)
    reach(uri)
    if not run_folder.ended(own):
        killed = Recorder(uri, "", "", folder=folder, tags={}, run_id="", patience=patience)
        killed.finish("KILLED")
        return f"run {killed.run_id} in {shown(uri)}"
    taken = run_folder.lock(own)
    try:
        delivery = Delivery(own, uri)
        spools = [Spool(own / f"{name}.jsonl", delivery) for name in run_folder.LANES]
        for spool in spools:  # one after the other: the first may have to make the run
            spool.start()
            spool.drain(patience)
        add_unsent(run_folder.left(uri, folder, *spools))
        for spool in spools:
            spool.close()
        return f"run {delivery.run_id} in {shown(uri)}"
    finally:
        taken.release()
