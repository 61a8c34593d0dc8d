"""The packed store: lossless, whole or absent, rebuilt exactly when it must be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from einthoven.atomic import PARTIAL, working_folder
from einthoven.data.formats import inputs
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store import packing, packs, store_rows
from einthoven.data.store import plan as plan_module
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.open_store import open_store
from einthoven.data.store.packed_store import Store
from einthoven.data.store.plan import Plan
from einthoven.data.store.signals import Signals
from einthoven.errors import UserError
from einthoven.functional.conform import round_to_int16
from einthoven.functional.leads import derive_limb_leads

WriteRecord = Callable[..., Path]


@pytest.fixture
def mine(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the corpus that the test may change."""
    return shutil.copytree(corpus, tmp_path / "mine")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def contents(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "stores").glob("*"))


def test_the_store_equals_the_files_to_the_microvolt(corpus: Path, cache: Path) -> None:
    store = PTBXL(corpus, 100, cache).open()
    assert store.signals.shape == (48, 12, 1000) and store.signals.dtype == np.int16 and store.fs == 100
    for row, name in enumerate(store.table["filename_lr"]):
        counts = wfdb.rdrecord(str(corpus / name), physical=False).d_signal.T
        np.testing.assert_array_equal(store.signals[row], counts)
    assert store.table["ecg_id"].tolist() == list(range(1, 49))
    assert (store.table[["invalid_samples", "clipped_samples"]] == 0).all(axis=None)


def test_real_records_survive_to_the_microvolt_at_both_rates(real_data: Path, cache: Path) -> None:
    source = pd.read_csv(real_data / "ptbxl" / "ptbxl_database.csv")
    high = source[[(real_data / "ptbxl" / f"{name}.hea").exists() for name in source["filename_hr"]]]
    for fs, column in ((100, "filename_lr"), (500, "filename_hr")):
        root = cache / f"part{fs}"
        root.mkdir(parents=True)
        high.head(12).to_csv(root / "ptbxl_database.csv", index=False)
        for name in ("scp_statements.csv", "records100", "records500"):
            (root / name).symlink_to(real_data / "ptbxl" / name)
        store = PTBXL(root, fs, cache).open()
        assert store.signals.shape == (12, 12, 10 * fs) and store.fs == fs
        for row, name in enumerate(store.table[column]):
            counts = wfdb.rdrecord(str(real_data / "ptbxl" / name), physical=False).d_signal.T
            np.testing.assert_array_equal(store.signals[row], counts)


def test_limb_lead_laws_survive(corpus: Path, cache: Path) -> None:
    i, ii, iii, avr, avl, avf = np.moveaxis(PTBXL(corpus, 100, cache).open().signals[:, :6].astype(int), 1, 0)
    np.testing.assert_array_equal(iii, ii - i)
    for lead, law in ((avr, -(i + ii) / 2), (avl, i - ii / 2), (avf, ii - i / 2)):
        assert np.abs(lead - law).max() <= 0.5


def test_signals_are_memory_mapped_and_read_only(corpus: Path, cache: Path) -> None:
    signals = PTBXL(corpus, 100, cache).open().signals
    assert isinstance(signals[3:5], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        signals[3:5][0, 0, 0] = 1


def test_invalid_and_clipped_samples_are_counted(mine: Path, cache: Path, write_record: WriteRecord) -> None:
    digital = np.zeros((12, 1000), dtype=np.int16)
    digital[0, :7], digital[1, :3] = -32768, 500
    write_record(mine / "records100" / "00000", "00002_lr", digital, gain="10/mV")
    table = PTBXL(mine, 100, cache).open().table
    assert table.loc[1, "invalid_samples"] == 7 and table.loc[1, "clipped_samples"] == 3
    assert table["invalid_samples"].sum() == 7 and table["clipped_samples"].sum() == 3


def test_a_second_open_does_not_build(corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    first = PTBXL(corpus, 100, cache).open(lambda done, total: calls.append((done, total)))
    assert calls[-1] == (48, 48) and len(calls) == 48

    def refuse(*_: object) -> None:
        raise AssertionError("a record was read again")

    monkeypatch.setattr(packing, "read_microvolts", refuse)
    second = PTBXL(corpus, 100, cache).open()
    assert (second.path, second.fingerprint) == (first.path, first.fingerprint)
    pd.testing.assert_frame_equal(first.table, second.table)


# ---------------------------------------------------------------- when it is built anew


def replace_in(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return change


def other_signal(root: Path) -> None:
    """Another signal in a file of the same size and time, for which the header holds, too."""
    file = root / "records100" / "00000" / "00005_lr.dat"
    before = file.stat()
    samples = np.fromfile(file, "<i2").reshape(1000, 12)
    file.write_bytes(np.concatenate([samples[:1], samples[:0:-1]]).tobytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "a label": replace_in("ptbxl_database.csv", "NORM", "IMI"),
    "a fold": replace_in("ptbxl_database.csv", ",1,records100", ",2,records100"),
    "a statement": replace_in("scp_statements.csv", "NORM,1.0", "NORM,0.0"),
    "a gain": replace_in("records100/00000/00005_lr.hea", "1000.0(0)/mV", "1001.0(0)/mV"),
    "a signal": other_signal,
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_key_changes_with_an_input(mine: Path, cache: Path, name: str) -> None:
    before = PTBXL(mine, 100, cache).open()
    CHANGES[name](mine)
    after = PTBXL(mine, 100, cache).open()
    assert before.path != after.path and len(contents(cache)) == 2


def plan_of(corpus: Path, **settings: object) -> Plan:
    table = pd.read_csv(corpus / "ptbxl_database.csv")
    files = [corpus / name for name in table["filename_lr"]]
    return Plan(**{"name": "small", "files": files, "table": table, "fs": 100} | settings)  # type: ignore[arg-type]


def test_packs_are_kept_apart_by_every_setting_and_the_format(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ({}, {"fs": 500}, {"leads": ("I", "V1")}, {"leads": ("V1", "I")}, {"seconds": 5.0}, {"long": "slide"})
    names = [plan_of(corpus, **changed).pool for changed in settings]
    assert len(set(names)) == len(settings) and names[0] == plan_of(corpus).pool
    monkeypatch.setattr(plan_module, "FORMAT", plan_module.FORMAT + 1)
    assert plan_of(corpus).pool not in names


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"leads": ()}, "data.leads="),
        ({"leads": ("I", "I")}, "data.leads="),
        ({"leads": ("V7",)}, "data.leads=.V7"),
        ({"fs": 0}, "data.fs=0"),
        ({"seconds": -1.0}, "data.seconds=-1"),
        ({"on_error": "ignore"}, "data.on_error=ignore"),
    ],
)
def test_a_setting_out_of_range_is_one_sentence(corpus: Path, settings: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        plan_of(corpus, **settings)


def test_fewer_leads_are_rows_of_the_whole(corpus: Path, cache: Path) -> None:
    whole, few = PTBXL(corpus, 100, cache).open(), PTBXL(corpus, 100, cache, leads=("V2", "I")).open()
    assert few.leads == ("V2", "I") and whole.leads[:2] == ("I", "II")
    np.testing.assert_array_equal(few.signals, whole.signals[:, [7, 0]])


def test_shards_are_the_whole_in_order(corpus: Path, cache: Path) -> None:
    whole = PTBXL(corpus, 100, cache).open()
    shards = [PTBXL(corpus, 100, cache).open(shard=(k, 5)) for k in range(5)]
    assert [ecg_id for shard in shards for ecg_id in shard.table["ecg_id"]] == whole.table["ecg_id"].tolist()
    np.testing.assert_array_equal(np.concatenate([shard.signals for shard in shards]), whole.signals)
    with pytest.raises(UserError, match=r"data.shard=5 of data.shards=5"):
        PTBXL(corpus, 100, cache).open(shard=(5, 5))


def test_the_key_does_not_change_with_the_place(corpus: Path, mine: Path, tmp_path: Path) -> None:
    first, second = PTBXL(corpus, 100, tmp_path / "a").open(), PTBXL(str(mine), 100, str(tmp_path / "b")).open()
    # copytree keeps times: the same corpus elsewhere gives the same key and the same fingerprint
    assert first.path.name.rsplit("-", 1)[1] == second.path.name.rsplit("-", 1)[1]
    assert first.fingerprint == second.fingerprint


def test_the_fingerprint_follows_signals_and_labels(mine: Path, cache: Path, write_record: WriteRecord) -> None:
    source = PTBXL(mine, 100, cache)
    prints = [source.open().fingerprint]
    replace_in("ptbxl_database.csv", "NORM", "IMI")(mine)
    prints.append(source.open().fingerprint)
    write_record(mine / "records100" / "00000", "00002_lr", np.ones((12, 1000), dtype=np.int16))
    prints.append(source.open().fingerprint)
    assert len(set(prints)) == 3


def rows_written(cache: Path) -> int:
    return sum(file.stat().st_size for file in cache.glob("packs/*/*/signals.i16")) // 24_000


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the records that are read from here on."""
    names: list[str] = []
    read = packing.read_microvolts

    def spy(path: Path, *rest: Any, **more: Any) -> Any:
        names.append(path.name)
        return read(path, *rest, **more)

    monkeypatch.setattr(packing, "read_microvolts", spy)
    return names


def test_a_touched_file_is_read_but_nothing_is_rebuilt(
    mine: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PTBXL(mine, 100, cache)
    before, names = source.open(), reads(monkeypatch)
    for suffix in (".hea", ".dat"):
        (mine / "records100" / "00000" / f"00005_lr{suffix}").touch()
    after = source.open()
    assert names == ["00005_lr"] and after.path == before.path and rows_written(cache) == 48
    source.open()
    assert names == ["00005_lr"]  # and only once


def test_a_signal_that_several_records_share_is_written_once(mine: Path, cache: Path) -> None:
    folder = mine / "records100" / "00000"
    for suffix in (".hea", ".dat"):
        text = (folder / f"00005_lr{suffix}").read_bytes()
        (folder / f"00009_lr{suffix}").write_bytes(text.replace(b"00005", b"00009") if suffix == ".hea" else text)
    signals = PTBXL(mine, 100, cache).open().signals
    assert len(signals) == 48 and rows_written(cache) == 47
    np.testing.assert_array_equal(signals[8], signals[4])


def test_labels_that_change_cost_no_packing(mine: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, names = PTBXL(mine, 100, cache).open(), reads(monkeypatch)
    replace_in("ptbxl_database.csv", "NORM", "IMI")(mine)
    after = PTBXL(mine, 100, cache).open()
    assert after.path != before.path and not names and rows_written(cache) == 48
    np.testing.assert_array_equal(after.signals, before.signals)


def test_records_that_are_added_are_packed_alone(
    corpus: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, names = plan_of(corpus), reads(monkeypatch)
    some = [row for row in range(48) if row % 5]
    part = replace(whole, files=[whole.files[row] for row in some], table=whole.table.iloc[some])
    first = open_or_build(part, cache)
    assert len(names) == len(first.signals) == 38
    packed = {file: file.stat().st_mtime_ns for file in cache.glob("packs/*/*/*")}
    grown = open_or_build(whole, cache)
    assert names[38:] == [whole.files[row].name for row in range(0, 48, 5)] and rows_written(cache) == 48
    assert {file: file.stat().st_mtime_ns for file in packed} == packed
    alone = open_or_build(whole, tmp_path / "other")
    assert grown.fingerprint == alone.fingerprint
    pd.testing.assert_frame_equal(grown.table, alone.table)
    np.testing.assert_array_equal(grown.signals, alone.signals)
    np.testing.assert_array_equal(first.signals, open_or_build(part, tmp_path / "other").signals)


@given(st.lists(st.integers(0, 47), max_size=60), st.integers(0, 47), st.integers(0, 47))
def test_signals_of_several_packs_are_indexed_like_one_array(
    shards: tuple[Signals, NDArray[np.int16]], rows: list[int], first: int, last: int
) -> None:
    joined, plain = shards
    index = np.array(rows, dtype=np.int64)
    np.testing.assert_array_equal(joined[index], plain[index])
    np.testing.assert_array_equal(joined.read(index), plain[index])
    np.testing.assert_array_equal(joined[first:last], plain[first:last])
    np.testing.assert_array_equal(joined[first, 3:5, last], plain[first, 3:5, last])
    np.testing.assert_array_equal(joined[first:last, [7, 0]], plain[first:last, [7, 0]])
    mask = np.isin(np.arange(48), index)
    np.testing.assert_array_equal(joined[mask], plain[mask])


@pytest.fixture(scope="module")
def shards(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Signals, NDArray[np.int16]]:
    """The corpus out of five packs, and as one array."""
    cache = tmp_path_factory.mktemp("shards")
    source = PTBXL(corpus, 100, cache)
    for k in (3, 0, 4, 1, 2):
        source.open(shard=(k, 5))
    joined = source.open()
    assert len(joined.signals.files) == 5 and rows_written(cache) == 48
    single = PTBXL(corpus, 100, cache / "single").open()
    assert len(single.signals.files) == 1 and joined.fingerprint == single.fingerprint
    return joined.signals, np.array(single.signals)


# ---------------------------------------------------------------- other rates, other lengths, faults


def test_records_of_any_rate_and_length_come_to_one(cache: Path, tmp_path: Path, write_record: WriteRecord) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(0, 12, 1 / 500)
    slow = np.rint(800 * np.sin(2 * np.pi * 3 * t + rng.uniform(0, 6, (12, 1)))).astype(np.int16)
    files = [write_record(tmp_path, "long", slow, 500), write_record(tmp_path, "short", slow[:, ::5][:, :700], 100)]
    table = pd.DataFrame({"ecg_id": [7, 9], "patient_id": [1, 2], "strat_fold": [1, 2], "source": "x"})
    plan = Plan("any", files, table, 100, seconds=10)
    store = open_or_build(plan, cache)
    assert store.signals.shape == (2, 12, 1000) and store.table["valid_samples"].tolist() == [1000, 700]
    np.testing.assert_array_equal(store.signals[1, :, 700:], 0)
    np.testing.assert_array_equal(store.signals[1, :, :700], slow[:, ::5][:, :700])
    assert np.abs(store.signals[0, :, 20:].astype(int) - slow[:, ::5][:, 20:1000]).max() <= 2  # µV; a slow sine
    slid = open_or_build(replace(plan, long="slide", stride=1.0), cache)
    assert slid.table["record_id"].tolist() == [7, 7, 7, 9] and slid.table["start_s"].tolist() == [0, 1, 2, 0]
    assert slid.table["ecg_id"].is_unique and slid.table["ecg_id"].dtype == np.int64
    np.testing.assert_array_equal(slid.signals[2, :, :800], slid.signals[0, :, 200:])


def test_faults_are_counted_by_window(cache: Path, tmp_path: Path, write_record: WriteRecord) -> None:
    digital = np.zeros((12, 2000), dtype=np.int16)
    digital[0, 3:7], digital[2, 1500:1520], digital[5, 1999] = -32768, -32768, 500
    files = [write_record(tmp_path, "a", digital, gain="10/mV")]
    table = pd.DataFrame({"ecg_id": [1], "patient_id": [1], "strat_fold": [1], "source": "x"})
    store = open_or_build(Plan("faults", files, table, 100, seconds=10, long="slide"), cache)
    assert store.table["invalid_samples"].tolist() == [4, 20] and store.table["clipped_samples"].tolist() == [0, 1]


@given(arrays(np.float64, (1, 3, 40), elements=st.floats(-32.767, 32.767)))
def test_rounding_loses_half_a_microvolt_at_most(millivolts: NDArray[np.float64]) -> None:
    packed, invalid, clipped = round_to_int16(millivolts * 1000.0)
    assert np.abs(packed - millivolts * 1000).max() <= 0.5 + 1e-9 and not invalid.any() and not clipped.any()


def test_limb_lead_laws_survive_resampling(cache: Path, tmp_path: Path, write_record: WriteRecord) -> None:
    i, ii = np.cumsum(np.random.default_rng(1).normal(0, 20, (2, 5000)), axis=1)
    digital = np.rint(np.concatenate([derive_limb_leads(i, ii), np.zeros((6, 5000))])).astype(np.int16)
    table = pd.DataFrame({"ecg_id": [1], "patient_id": [1], "strat_fold": [1], "source": "x"})
    store = open_or_build(Plan("laws", [write_record(tmp_path, "a", digital, 500)], table, 100), cache)
    found = store.signals[0, :6].astype(float)
    assert store.signals.shape == (1, 12, 1000)
    # three values rounded at 500 Hz and again at 100 Hz
    assert np.abs(found - derive_limb_leads(found[0], found[1])).max() <= 3


def test_unreadable_records_are_left_out_and_listed(mine: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mine / "records100" / "00000"
    (folder / "00030_lr.dat").write_bytes(b"short")
    (folder / "00002_lr.hea").write_text("no header")
    calls: list[tuple[int, int]] = []
    plan = plan_of(mine, on_error="quarantine")
    store = open_or_build(plan, cache, lambda done, total: calls.append((done, total)))
    assert len(store.signals) == 46 and calls[-1] == (48, 48)
    listed = pd.read_csv(store.path / "quarantine.csv")
    assert listed["ecg_id"].tolist() == [2, 30] and listed["file"].tolist() == ["00002_lr", "00030_lr"]
    assert listed["reason"].str.contains("00030_lr.dat: truncated").tolist() == [False, True]
    pd.testing.assert_frame_equal(store.quarantine, listed)
    names = reads(monkeypatch)
    assert open_or_build(plan, cache).path == store.path and not names  # what cannot be read is not tried again
    with pytest.raises(UserError, match="00002_lr"):
        open_or_build(plan_of(mine), cache)
    with pytest.raises(UserError, match=r"no record can be read; the first: 00002_lr"):
        open_or_build(replace(plan, files=plan.files[1:2], table=plan.table.iloc[1:2]), cache)


# ---------------------------------------------------------------- whole or absent


def test_a_truncated_record_is_one_sentence_and_leaves_nothing(mine: Path, cache: Path) -> None:
    file = mine / "records100" / "00000" / "00030_lr.dat"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"^00030_lr.dat: truncated"):
        PTBXL(mine, 100, cache).open()
    assert contents(cache) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_build_that_fails_leaves_nothing(
    corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(type(error)):
        PTBXL(corpus, 100, cache).open()
    assert contents(cache) == []


def test_records_of_other_lengths_are_refused(mine: Path, cache: Path, write_record: WriteRecord) -> None:
    write_record(mine / "records100" / "00000", "00003_lr", np.zeros((12, 999), dtype=np.int16))
    with pytest.raises(UserError, match=r"00003_lr: records of 999 and of 1000 samples at 100 Hz found"):
        PTBXL(mine, 100, cache).open()
    assert contents(cache) == []
    assert PTBXL(mine, 100, cache, seconds=9.5).open().signals.shape == (48, 12, 950)


def test_what_a_killed_build_has_left_is_removed_at_the_next_start(corpus: Path, cache: Path) -> None:
    pool = cache / "packs" / f"{corpus.name}-100hz-{plan_of(corpus).pool[-8:]}"
    pool.mkdir(parents=True)
    with working_folder(pool) as in_use:  # as another build, which holds its lock
        name = in_use.parent.name.replace(PARTIAL, f"{PARTIAL}0")
        left = [pool / name, cache / "stores" / name]
        for check in (True, False):
            for folder in left:
                folder.mkdir(parents=True)
                (folder / "signals.i16").write_bytes(b"\0" * 100)
            PTBXL(corpus, 100, cache).open(check=check)
            assert not any(folder.exists() for folder in left) and in_use.exists()


BUILD = """
import sys
from pathlib import Path
from einthoven.data.store import packing
from einthoven.data.sources.ptbxl import PTBXL
packing.PACK_BYTES = 200_000  # several packs
print("ready", flush=True)
print(PTBXL(Path(sys.argv[1]), 100, sys.argv[2]).open().fingerprint)
"""


def start_build(corpus: Path, cache: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", BUILD, corpus, cache], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_a_build_that_is_killed_at_any_moment_is_taken_up_by_the_next(
    corpus: Path, cache: Path, tmp_path: Path
) -> None:
    undisturbed = PTBXL(corpus, 100, tmp_path / "undisturbed").open()
    rng = np.random.default_rng()
    kills = int(os.environ.get("EINTHOVEN_KILLS", "4"))
    for _ in range(kills):
        shutil.rmtree(cache, ignore_errors=True)
        process = start_build(corpus, cache)
        time.sleep(rng.uniform(0, 0.25))  # reading tables, reading records, writing packs, writing the store
        process.kill()
        process.wait()
        for store in cache.glob("stores/*"):
            if not store.name.startswith(PARTIAL):
                assert open_store(store).fingerprint == undisturbed.fingerprint  # whole, or not there
        again = PTBXL(corpus, 100, cache).open()
        assert again.fingerprint == undisturbed.fingerprint
        np.testing.assert_array_equal(again.signals, undisturbed.signals)
        assert rows_written(cache) == 48  # and what was finished was kept
        assert not list(cache.rglob(f"{PARTIAL}*"))


def test_several_processes_may_build_and_read_at_once(corpus: Path, cache: Path, tmp_path: Path) -> None:
    undisturbed = PTBXL(corpus, 100, tmp_path / "undisturbed").open()
    processes = [start_build(corpus, cache) for _ in range(3)]
    found = [process.communicate(timeout=120)[0] for process in processes]
    assert [text.strip() for text in found] == [undisturbed.fingerprint] * 3
    assert rows_written(cache) == 48 and not list(cache.rglob(f"{PARTIAL}*"))


def test_two_builds_at_once_both_succeed(corpus: Path, cache: Path) -> None:
    both_have_read_everything = threading.Barrier(2)
    found: list[Store] = []

    def work() -> None:
        def progress(done: int, total: int) -> None:
            if done == total:
                both_have_read_everything.wait(timeout=60)

        found.append(PTBXL(corpus, 100, cache).open(progress))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert len(found) == 2 and found[0].fingerprint == found[1].fingerprint
    np.testing.assert_array_equal(found[0].signals, found[1].signals)
    assert contents(cache) == [found[0].path.name]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "rows cut": lambda path: (path / "rows.npy").write_bytes((path / "rows.npy").read_bytes()[:200]),
    "rows gone": lambda path: (path / "rows.npy").unlink(),
    "notes gone": lambda path: (path / "store.json").unlink(),
    "notes cut": lambda path: (path / "store.json").write_text('{"format": 1, "shape": [48'),
    "notes without shape": lambda path: (path / "store.json").write_text("{}"),
    "notes of another kind": lambda path: (path / "store.json").write_text("[]"),
    "table cut": lambda path: (path / "table.parquet").write_bytes(b"PAR1"),
    "table gone": lambda path: (path / "table.parquet").unlink(),
    "table of other rows": lambda path: pd.DataFrame({"ecg_id": [1]}).to_parquet(path / "table.parquet"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_store_is_one_sentence(corpus: Path, cache: Path, name: str) -> None:
    store = PTBXL(corpus, 100, cache).open()
    DAMAGES[name](store.path)
    with pytest.raises(UserError, match=r"a damaged store .* delete that folder") as refusal:
        PTBXL(corpus, 100, cache).open()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("file", ["signals.i16", "index.parquet"])
def test_a_damaged_pack_is_one_sentence_and_can_be_deleted(corpus: Path, cache: Path, file: str) -> None:
    store = PTBXL(corpus, 100, cache).open()
    (pack,) = cache.glob("packs/*/*")
    (pack / file).write_bytes((pack / file).read_bytes()[:-8])
    with pytest.raises(UserError, match=r"a damaged pack .* delete that folder"):
        PTBXL(corpus, 100, cache).open()
    shutil.rmtree(pack)
    with pytest.raises(UserError, match="a damaged store"):
        open_store(store.path)
    assert PTBXL(corpus, 100, cache).open().fingerprint == store.fingerprint


def test_signals_of_a_pack_that_was_deleted_are_packed_by_the_others_that_need_them(
    corpus: Path, cache: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(corpus, tmp_path / corpus.name)
    first = PTBXL(corpus, 100, cache).open()
    signals = first.signals[:].copy()
    (pack,) = cache.glob("packs/*/*")
    PTBXL(elsewhere, 100, cache).open()  # its pack only points to the signals of the first
    assert rows_written(cache) == 48
    shutil.rmtree(pack)
    shutil.rmtree(first.path)
    store = PTBXL(elsewhere, 100, cache).open()
    assert store.fingerprint == first.fingerprint
    np.testing.assert_array_equal(store.signals[:], signals)


def test_a_file_that_shrinks_while_it_is_read_is_one_sentence(corpus: Path, cache: Path) -> None:
    signals = PTBXL(corpus, 100, cache).open().signals
    signals.check()
    os.truncate(signals.files[0], 24_000 * 5 + 100)
    assert signals.read(np.arange(5)).shape == (5, 12, 1000)
    with pytest.raises(UserError, match="truncated"):
        signals.read(np.arange(6))


def test_the_notes_of_a_store_describe_it(corpus: Path, cache: Path) -> None:
    store = PTBXL(corpus, 100, cache).open()
    notes = json.loads((store.path / "store.json").read_text())
    assert notes["shape"] == [48, 12, 1000] and notes["fs"] == 100 and len(notes["fingerprint"]) == 64
    assert isinstance(open_store(store.path), Store)
    assert str(corpus) not in (store.path / "store.json").read_text()


# ---------------------------------------------------------------- the source


def test_a_missing_record_is_refused_or_left_out(mine: Path, cache: Path) -> None:
    for suffix in (".hea", ".dat"):
        (mine / "records100" / "00000" / f"00005_lr{suffix}").unlink()
    with pytest.raises(UserError, match=r"00005_lr.hea: missing, .* data.allow_missing=true"):
        PTBXL(mine, 100, cache).open()
    store = PTBXL(mine, 100, cache, allow_missing=True).open()
    assert len(store.signals) == len(store.table) == 47 and 5 not in store.table["ecg_id"].to_list()
    np.testing.assert_array_equal(
        store.signals[4], wfdb.rdrecord(str(mine / "records100/00000/00006_lr"), physical=False).d_signal.T
    )


def test_a_missing_signal_file_is_refused(mine: Path, cache: Path) -> None:
    (mine / "records100" / "00000" / "00005_lr.dat").unlink()
    with pytest.raises(UserError, match=r"00005_lr.dat: cannot be read"):
        PTBXL(mine, 100, cache, allow_missing=True).open()


def test_an_unreadable_record_is_left_out_and_listed_where_asked_for(mine: Path, cache: Path) -> None:
    (mine / "records100" / "00000" / "00005_lr.dat").write_bytes(b"short")
    with pytest.raises(UserError, match=r"00005_lr.dat: truncated"):
        PTBXL(mine, 100, cache).open()
    store = PTBXL(mine, 100, cache, on_error="quarantine").open()
    assert len(store.table) == 47 and store.quarantine["ecg_id"].to_list() == [5]
    assert "truncated" in store.quarantine["reason"][0]


def test_what_is_not_ptbxl_is_refused(corpus: Path, mine: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        PTBXL(tmp_path / "nowhere", 100, cache).open()
    with pytest.raises(UserError, match="100 Hz and 500 Hz"):
        PTBXL(corpus, 250, cache).open()
    with pytest.raises(UserError, match="no record of 500 Hz"):
        PTBXL(corpus, 500, cache).open()
    (mine / "scp_statements.csv").unlink()
    with pytest.raises(UserError, match=r"scp_statements.csv: cannot be read"):
        PTBXL(mine, 100, cache).open()
    assert not cache.exists()


def test_labels_come_from_the_store(corpus: Path, cache: Path) -> None:
    source = PTBXL(corpus, 100, cache)
    labels = source.labels(source.open().table, "superdiagnostic", keep_unlabelled=True)
    assert labels.classes == ("CD", "HYP", "MI", "NORM", "STTC") and len(labels.matrix) == 48


@pytest.mark.parametrize(
    "settings", [{"fs": 250}, {"records": 0}, {"records": -3}, {"noise": -1.0}, {"noise": float("nan")}, {"seed": -1}]
)
def test_embedded_data_with_a_setting_out_of_range_are_refused_before_they_are_made(
    cache: Path, settings: dict[str, float]
) -> None:
    values = {"records": 4, "seed": 0, "noise": 1.0, "fs": 100, "cache": cache} | settings
    with pytest.raises(UserError):
        Synthetic(**values).open()  # type: ignore[arg-type]
    assert not cache.exists() or not any(cache.iterdir())


def test_the_index_of_a_pack_is_written_and_searched_in_parts(
    corpus: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PTBXL(corpus, 100, tmp_path / "whole").open()
    monkeypatch.setattr(packs, "PART", 7)
    for _ in range(2):  # the second time all is found
        assert PTBXL(corpus, 100, cache).open().fingerprint == whole.fingerprint
    assert len(list(cache.glob("packs/*/*/index.parquet"))) == 1
    assert [p.name for p in cache.glob("packs/*/*")] == [p.name for p in (tmp_path / "whole").glob("packs/*/*")]


def test_the_table_is_written_in_parts(mine: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "records100" / "00000" / "00030_lr.dat").write_bytes(b"short")
    plan = plan_of(mine, on_error="quarantine")
    sparse = [None] * 40 + [True] * 8  # a part may not show of what type a column is
    plan = replace(plan, table=plan.table.assign(sparse=pd.Series(sparse, dtype=object, index=plan.table.index)))
    whole = open_or_build(plan, cache / "whole")
    monkeypatch.setattr(store_rows, "PART", 5)
    parts = open_or_build(plan, cache)
    pd.testing.assert_frame_equal(parts.table, whole.table)
    pd.testing.assert_frame_equal(parts.table[["sparse"]][-8:], plan.table[["sparse"]][-8:].set_axis(range(39, 47)))
    np.testing.assert_array_equal(parts.signals, whole.signals)
    assert parts.quarantine["ecg_id"].tolist() == [30] and len(parts.table) == 47


def test_the_index_is_searched_with_few_packs_in_memory(
    corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PTBXL(corpus, 100, cache / "whole").open()
    for k in (3, 0, 4, 1, 2):
        PTBXL(corpus, 100, cache).open(shard=(k, 5))
    monkeypatch.setattr(packs, "KEPT", 20)
    assert PTBXL(corpus, 100, cache).open().fingerprint == whole.fingerprint


def test_marks_survive_in_arrays_though_some_end_in_zeros() -> None:
    marks = [inputs.short_digest(str(k).encode()) for k in range(2000)]
    assert np.array(marks, "S16").tolist() == marks and min(map(len, marks)) < 16  # every 256th ends in a zero
    assert len(set(marks)) == 2000
