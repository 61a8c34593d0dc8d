"""`einthoven prepare`: pack the records on disk into a store, and print what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from einthoven import schema
from einthoven.build import build, check
from einthoven.data.sources.labels import NoLabelsError
from einthoven.data.store.packed_store import Store
from einthoven.data.store.store_folder import QUARANTINE
from einthoven.errors import UserError
from einthoven.terminal.display import bar, console, results_table, say
from einthoven.terminal.findings import examine_corpus
from einthoven.terminal.hydra_command import HydraCommand

if TYPE_CHECKING:
    from omegaconf import DictConfig

LISTED = 20
"""Records that are left out and that the terminal shows."""


def main(arguments: list[str]) -> None:
    """Build the store of ``data=…``, or open it if it exists, show its labels and examine its records."""
    command = HydraCommand("prepare", arguments)

    def job(config: DictConfig) -> None:
        with command.job_errors():
            command.trust_config(config)
            _prepare(config)

    with command.errors():
        command.decorate(job)()


def _without_shards(data: DictConfig) -> DictConfig:
    """Return the options of a source: those of ``data`` without ``shard`` and ``shards``, which only this verb has."""
    from omegaconf import OmegaConf

    names = [str(name) for name in data if name not in ("shard", "shards")]
    return OmegaConf.masked_copy(data, names)


def _prepare(config: DictConfig) -> None:
    from omegaconf import OmegaConf

    examination = schema.read_group(OmegaConf.masked_copy(config, ["doctor", "strict"]), schema.PrepareOptions, "")
    shard = _whole_number(config, "shard")
    shards = _whole_number(config, "shards")
    data = _without_shards(config.data)
    check(data, "data")
    source = build(data, "data")
    with bar("preparing records") as progress:
        store = source.open(progress, None if shard is None else (shard, shards), check=True)
        store.signals.check()

    # What is in the store, what could not be read, and what is suspect.
    for note in store.notes:
        say(note)
    windows, leads, samples = store.signals.shape
    records = store.table["record_id"].nunique()
    content = f"{windows:,} records" if records == windows else f"{windows:,} windows of {records:,} records"
    say(
        f"The store {store.path} holds {content} with {leads} lead{'s' * (leads > 1)} and {samples} samples at "
        f"{store.fs:g} Hz ({store.signals.nbytes / 1e6:.0f} MB)."
    )
    if store.records_left_out:
        _list_left_out(store)
    suspect_columns = {"invalid_samples": "samples marked invalid", "clipped_samples": "samples beyond ±32.767 mV"}
    for column, meaning in suspect_columns.items():
        affected = int((store.table[column] > 0).sum())
        if affected:
            say(f"{affected:,} {'record has' if affected == 1 else 'records have'} {meaning}.")

    # The labels of each task. A table of labels names the records of all shards.
    if shard is None:
        _show_labels(source, store)
    if examination.doctor:
        examine_corpus(store, strict=examination.strict)


def _show_labels(source: Any, store: Store) -> None:
    """Show how many classes and records each task of a source has."""
    rows = []
    for task in source.label_sets:
        try:
            labels = source.labels(store.table, task)
        except NoLabelsError:
            rows.append([task, "0", "0", "0"])
            continue
        for note in labels.notes:
            say(f"{task}: {note}")
        rows.append([task, str(len(labels.classes)), str(len(labels.ecg_ids)), str(int(labels.matrix.sum()))])
    console.print(results_table("Label sets", ["task", "classes", "labelled records", "positives"], rows))


def _list_left_out(store: Store) -> None:
    """Say which records are left out, the reason of each, and what to do."""
    left_out = store.left_out
    rows = [[str(file), str(reason)] for file, reason in zip(left_out["file"], left_out["reason"], strict=True)]
    say(f"{store.records_left_out}:")
    for file, reason in rows[:LISTED]:
        say(f"  {reason}" if file in reason else f"  {file}: {reason}")
    if len(rows) > LISTED:
        say(f"  and {len(rows) - LISTED:,} more")
    say(
        f"{store.path / QUARANTINE} lists all of them. Replace these files, and give the same command again. It "
        "reads only them."
    )


def _whole_number(config: DictConfig, name: str) -> int | None:
    """Return ``data.NAME``; only ``data.shard`` may be null."""
    value = config.data[name]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if name == "shards" and is_number and value < 1:
        raise UserError(f"data.shards={value}: expected a number of parts, 1 or more.")
    if not is_number and not (name == "shard" and value is None):
        raise UserError(f"data.{name}={value}: expected a whole number.")
    return None if value is None else int(value)
