"""`einthoven sync FOLDER ...`: send what runs have left in their folders to their tracking stores."""

from __future__ import annotations

from pathlib import Path

from einthoven.errors import UserError
from einthoven.terminal.display import warn_unsent
from einthoven.terminal.parser import check_flags
from einthoven.tracking.unsent import collect_unsent


def main(arguments: list[str]) -> int:
    """Send the rest of each run, and print where it is.

    Parameters
    ----------
    arguments : list of str
        Folders of runs.

    Returns
    -------
    int
        Exit code: 3 if something is still not in the store.

    Raises
    ------
    UserError
        If there is no folder, or a run cannot be sent.
    """
    check_flags("sync", arguments)
    if not arguments:
        raise UserError("sync: no folder given; expected the folders of runs (outputs/…).")
    from einthoven.tracking.sync import sync

    with collect_unsent() as unsent:
        for folder in arguments:
            print(f"Sent {sync(Path(folder))}.")
    return warn_unsent(unsent)
