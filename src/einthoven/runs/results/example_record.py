"""A record of a run as a file, for the commands that the program prints."""

from __future__ import annotations

import os
from pathlib import Path

from einthoven.build import build
from einthoven.contracts import TaskKind
from einthoven.data.formats.inputs import record_exists
from einthoven.data.formats.reading import read_record
from einthoven.data.record_names import FILE_COLUMNS, record_files
from einthoven.data.sources.ptbxl import RATES
from einthoven.errors import UserError
from einthoven.files import seen_from_here
from einthoven.report.metric_text import SPLIT_WORDS
from einthoven.runs.config.next_commands import ExampleRecord
from einthoven.runs.config.settings import source_options
from einthoven.runs.run import RunParts


def example_record(run: RunParts) -> ExampleRecord | None:
    """Return the first test record of a run, or its first validation record.

    It is None if the source of the run has no file for it, or if that cannot be read without options such as ``--fs``.
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
    labels = None
    if run.task.kind is TaskKind.CLASSES:
        of_first_record = run.data.record_labels(split)[0]
        labels = tuple(name for name, label in zip(run.data.labels.classes, of_first_record, strict=True) if label)
    return ExampleRecord(seen_from_here(Path(os.path.normpath(file))), SPLIT_WORDS[split], labels)
