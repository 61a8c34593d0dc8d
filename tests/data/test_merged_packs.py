"""Packs of daily additions become few, and nothing that points to them changes."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from einthoven.data.store import build_store, merged_packs
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.merged_packs import find_signals, merge_packs
from einthoven.data.store.open_store import _count_rows, open_store
from einthoven.data.store.packed_store import Store
from einthoven.data.store.plan import Plan
from einthoven.errors import UserError

DAYS = 13


@pytest.fixture
def plan(corpus: Path) -> Plan:
    import pandas as pd

    files = sorted(corpus.glob("records100/*/*.hea"))[: 3 * DAYS]
    numbers = np.arange(len(files))
    table = pd.DataFrame({"ecg_id": numbers, "patient_id": numbers, "strat_fold": 1, "source": "days"})
    return Plan("days", files, table, 100.0)


def first(plan: Plan, records: int) -> Plan:
    return replace(plan, files=plan.files[:records], table=plan.table.iloc[:records])


def packs(cache: Path) -> list[Path]:
    return [file.parent for file in cache.glob("packs/*/*/signals.i16")]


def add_days(plan: Plan, cache: Path) -> list[Store]:
    return [open_or_build(first(plan, 3 * day), cache) for day in range(1, DAYS + 1)]


def test_daily_packs_are_merged_and_every_earlier_store_still_reads_its_signals(plan: Plan, tmp_path: Path) -> None:
    whole = open_or_build(plan, tmp_path / "whole")
    signals = np.array(whole.signals)
    stores = add_days(plan, tmp_path / "cache")
    assert len(packs(tmp_path / "cache")) == 1 + DAYS - merged_packs.TOGETHER
    assert stores[-1].fingerprint == whole.fingerprint
    for day, store in enumerate(stores, start=1):
        # What was open before the merge, and what is opened after it.
        for opened in (store, open_store(store.path)):
            np.testing.assert_array_equal(np.array(opened.signals), signals[: 3 * day])
            np.testing.assert_array_equal(opened.signals[2], signals[2])
            opened.signals.check()

    # No record is packed again, and what is gone is said.
    again = open_or_build(plan, tmp_path / "cache", progress=lambda done, total: pytest.fail("a record was read"))
    assert again.fingerprint == whole.fingerprint
    merged = find_signals(next(folder for folder in (tmp_path / "cache").glob("packs/*/*") if folder.is_dir()))
    assert merged.folder in packs(tmp_path / "cache")


def test_a_merge_by_another_process_while_a_store_is_opened_is_no_damage(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build_store, "merge_packs", lambda pool, leads: None)
        stores = add_days(plan, tmp_path)
    pool = packs(tmp_path)[0].parent

    def merges_first(*arguments: Any) -> Any:
        merge_packs(pool, 12)
        return _count_rows(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("einthoven.data.store.open_store._count_rows", merges_first)
        opened = open_store(stores[-1].path)
    assert len(packs(tmp_path)) < DAYS
    np.testing.assert_array_equal(np.array(opened.signals), np.array(stores[-1].signals))

    # A pack whose signals are nowhere is still damage.
    find_signals(pool / stores[-1].signals.files[0].parent.name).folder.joinpath("signals.i16").unlink()
    with pytest.raises(UserError, match="damaged"):
        open_store(stores[-1].path)


@pytest.mark.parametrize("writes", range(4))
def test_a_merge_that_is_killed_loses_nothing_and_is_finished_by_the_next(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """The merge dies before its pack is complete, or after it has replaced a number of packs."""
    left = [writes]

    def dies(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    name = "pack_text" if writes == 0 else "write_text"
    real = getattr(merged_packs, name)
    whole = open_or_build(plan, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(merged_packs, name, dies)
        with pytest.raises(KeyboardInterrupt):
            add_days(plan, tmp_path / "cache")
    store = open_or_build(plan, tmp_path / "cache")
    assert store.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(np.array(store.signals), np.array(whole.signals))
    assert sum(file.stat().st_size for file in tmp_path.glob("cache/packs/*/*/signals.i16")) == whole.signals.nbytes


def test_a_full_disk_is_said_and_the_packs_are_used_as_they_are(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(merged_packs, "working_folder", no_space)
        stores = [open_or_build(first(plan, 3 * day), tmp_path) for day in range(1, DAYS + 1)]
    assert not any(store.notes for store in stores[: merged_packs.TOGETHER - 1])
    (note,) = stores[merged_packs.TOGETHER - 1].notes
    assert note.endswith("could not be merged (No space left on device); they are used as they are")
    assert len(packs(tmp_path)) == DAYS

    # While another process merges, there is nothing to say.
    pool = packs(tmp_path)[0].parent
    with FileLock(pool.with_name(f".{pool.name}.merge.lock")):
        assert merge_packs(pool, 12) == ""

    # Where no process can lock anything, none merges.
    def no_locks(*_: Any, **__: Any) -> None:
        raise NotImplementedError

    with monkeypatch.context() as patch:
        patch.setattr(FileLock, "acquire", no_locks)
        assert "the file system has no locks" in merge_packs(pool, 12)
    assert len(packs(tmp_path)) == DAYS
    assert merge_packs(pool, 12) == "" and len(packs(tmp_path)) < DAYS


def test_a_damaged_signal_is_not_merged(plan: Plan, tmp_path: Path) -> None:
    for day in range(1, merged_packs.TOGETHER):
        open_or_build(first(plan, 3 * day), tmp_path)
    pool = packs(tmp_path)[0].parent
    file = packs(tmp_path)[0] / "signals.i16"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="a damaged pack"):
        open_or_build(first(plan, 3 * merged_packs.TOGETHER), tmp_path)
    assert len(packs(tmp_path)) == merged_packs.TOGETHER
    content[5000] ^= 1
    file.write_bytes(content)
    merge_packs(pool, 12)
    assert len(packs(tmp_path)) == 1
