"""Whether a run is complete: a tag that is written after everything else."""

from __future__ import annotations

import json
from pathlib import Path

from einthoven.errors import UserError
from einthoven.tracking.server import connect

CONCLUDED = "einthoven.concluded"
"""Tag of a run that has everything: metrics, pictures, model and note."""

_ENDED = "FINISHED"


def is_concluded(folder: Path) -> bool:
    """Return whether the folder of a run has everything that belongs to its end. It need not have been sent.

    Without its ``tracking/``, the answer is no.
    """
    value = ""
    status = ""
    spool = folder / "tracking" / "entries.jsonl"
    if not spool.exists():
        return False
    with spool.open() as file:
        for line in file:
            # A killed run can leave half of a line.
            if not line.endswith("\n"):
                break
            try:
                if line.startswith('{"status"'):
                    status = json.loads(line)["status"]["status"]
                elif line.startswith('{"tags"'):
                    value = json.loads(line)["tags"].get(CONCLUDED, value)
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
                raise UserError(f"{spool}: damaged; expected the entries of a run.") from None
    return value == "true" and status == _ENDED


def is_concluded_in_store(uri: str, run_id: str) -> bool:
    """Return the same about a run of which only the store knows."""
    run = connect(uri).get_run(run_id)
    return run.data.tags.get(CONCLUDED) == "true" and run.info.status == _ENDED
