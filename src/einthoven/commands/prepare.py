"""`einthoven prepare`: records on disk -> the packed store, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from einthoven import schema
from einthoven.build import build, check
from einthoven.commands.doctor import examine_corpus
from einthoven.commands.terminal import bar, console, results_table
from einthoven.data.labels import TASKS, NoLabelsError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def prepare(config: DictConfig) -> None:
    """Build the store of ``data=…`` (or find it built), show its labels by task, and examine its records."""
    wanted = OmegaConf.masked_copy(config, ["doctor", "strict"])
    examination = schema.typed(wanted, schema.Examination, "")
    check(config.data, "data")
    source = build(config.data)
    with bar("preparing records") as progress:
        store = source.open(progress)
    n, leads, samples = store.signals.shape
    console.print(
        f"{n} records, {leads} leads, {samples} samples at {store.fs:g} Hz, {store.signals.nbytes / 1e6:.0f} MB "
        f"in {store.path}"
    )
    for column, what in (
        ("invalid_samples", "samples marked invalid"),
        ("clipped_samples", "samples beyond ±32.767 mV"),
    ):
        if affected := int((store.table[column] > 0).sum()):
            console.print(f"{affected} records have {what}")
    rows = []
    for task in TASKS:
        try:
            labels = source.labels(store.table, task)
        except NoLabelsError:
            rows.append([task, "0", "0", "0"])
            continue
        rows.append([task, str(len(labels.classes)), str(len(labels.ecg_ids)), str(int(labels.matrix.sum()))])
    console.print(results_table("label sets", ["task", "classes", "records", "positives"], rows))
    if examination.doctor:
        examine_corpus(store, strict=examination.strict)
