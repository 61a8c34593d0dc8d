"""`einthoven prepare`: records on disk -> the packed store, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from einthoven import schema
from einthoven.build import build, check
from einthoven.data.sources.labels import NoLabelsError
from einthoven.errors import UserError
from einthoven.terminal.display import bar, console, results_table, say
from einthoven.terminal.findings import examine_corpus

if TYPE_CHECKING:
    from omegaconf import DictConfig


def without_shards(data: DictConfig) -> DictConfig:
    """The options of the source: those of ``data``, without what only this verb knows."""
    source: DictConfig = OmegaConf.masked_copy(data, [str(key) for key in data if key not in ("shard", "shards")])
    return source


def prepare(config: DictConfig) -> None:
    """Build the store of ``data=…`` (or find it built), show its labels by task, and examine its records."""
    wanted = OmegaConf.masked_copy(config, ["doctor", "strict"])
    examination = schema.typed(wanted, schema.Examination, "")
    shard, shards = config.data.shard, config.data.shards
    for name, value in (("shard", shard), ("shards", shards)):
        if not (isinstance(value, int) or (name == "shard" and value is None)) or isinstance(value, bool):
            raise UserError(f"data.{name}={value}: expected a whole number.")
    data = without_shards(config.data)
    check(data, "data")
    source = build(data, "data")
    with bar("preparing records") as progress:
        store = source.open(progress, None if shard is None else (shard, shards), check=True)
        store.signals.check()
    for note in store.notes:
        console.print(note, soft_wrap=True)
    n, leads, samples = store.signals.shape
    recorded = store.table["record_id"].nunique()
    say(
        f"{n} {'records' if recorded == n else f'windows of {recorded} records'}, {leads} "
        f"lead{'s' * (leads > 1)}, {samples} samples at {store.fs:g} Hz, {store.signals.nbytes / 1e6:.0f} MB "
        f"in {store.path}"
    )
    there = {*store.table["record_id"], *store.table["ecg_id"]}  # the doctor lists windows
    if left_out := int((~store.quarantine["ecg_id"].isin(there)).sum()):
        say(f"{left_out} records cannot be read: {store.path / 'quarantine.csv'} says why")
    for column, what in (
        ("invalid_samples", "samples marked invalid"),
        ("clipped_samples", "samples beyond ±32.767 mV"),
    ):
        if affected := int((store.table[column] > 0).sum()):
            console.print(f"{affected} records have {what}")
    rows = []
    for task in source.label_sets:
        try:
            labels = source.labels(store.table, task)
        except NoLabelsError:
            rows.append([task, "0", "0", "0"])
            continue
        for note in labels.notes:
            console.print(f"{task}: {note}")
        rows.append([task, str(len(labels.classes)), str(len(labels.ecg_ids)), str(int(labels.matrix.sum()))])
    console.print(results_table("label sets", ["task", "classes", "labelled records", "positives"], rows))
    if examination.doctor:
        examine_corpus(store, strict=examination.strict)
