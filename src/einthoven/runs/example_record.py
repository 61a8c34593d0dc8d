"""A record of a run as a file, for the commands that the program prints."""

from __future__ import annotations

import os
from pathlib import Path

from einthoven.build import build
from einthoven.data.formats.inputs import record_exists
from einthoven.data.formats.reading import read_record
from einthoven.data.record_names import FILE_COLUMNS, record_files
from einthoven.data.sources.ptbxl import RATES
from einthoven.errors import UserError
from einthoven.files import seen_from_here
from einthoven.runs.run import RunParts
from einthoven.runs.settings import source_options


def example_record(run: RunParts) -> Path | None:
    """Return the file of the first test record of a run, or of its first validation record.

    Parameters
    ----------
    run : RunParts

    Returns
    -------
    Path or None
        Relative to the working folder if it is below it. None if the source of the run has no such file, or if the file
        cannot be read without options such as ``--fs``.
    """
    root = getattr(build(source_options(run.config), "data"), "root", None)
    split = next((split for split in ("test", "val") if split in run.data.splits), None)
    if root is None or split is None:
        return None
    columns = (*FILE_COLUMNS, RATES.get(round(run.data.store.fs), ""))
    files = record_files(run.data.table(split).iloc[:1], columns).dropna()
    if not len(files):
        return None
    file = Path(root) / str(files.iloc[0])
    try:
        if not record_exists(file):
            return None
        read_record(file, want=run.data.store.leads)
    except (UserError, OSError):
        return None
    return seen_from_here(Path(os.path.normpath(file)))
