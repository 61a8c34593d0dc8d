"""`einthoven sync FOLDER ...`: send what runs have left in their folders to their tracking stores."""

from __future__ import annotations

from pathlib import Path

from einthoven.errors import UserError
from einthoven.terminal.display import warn_unsent
from einthoven.terminal.parser import check_flags
from einthoven.tracking.unsent import collect_unsent


def main(arguments: list[str]) -> int:
    """Send the rest of the run of each folder, and print where it is.

    The exit code is 3 if something is still not in the store.
    """
    check_flags("sync", arguments)
    if not arguments:
        raise UserError("sync: no folder given; expected the folders of runs (outputs/…).")
    from einthoven.tracking.sync import sync

    with collect_unsent() as unsent:
        for folder in arguments:
            print(f"Sent {sync(Path(folder))}.")
    return warn_unsent(unsent)
