"""The packed store: lossless, whole or absent, rebuilt exactly when it must be."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from einthoven.data import store as store_module
from einthoven.data.embedded import Synthetic
from einthoven.data.plan import Plan
from einthoven.data.ptbxl import PTBXL
from einthoven.data.store import Store, open_store
from einthoven.errors import UserError

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
    assert isinstance(signals, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        signals[0, 0, 0] = 1


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

    monkeypatch.setattr(store_module, "read_microvolts", refuse)
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


def touch_record(root: Path) -> None:
    file = root / "records100" / "00000" / "00005_lr.dat"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


CHANGES = {
    "a label": replace_in("ptbxl_database.csv", "NORM", "IMI"),
    "a fold": replace_in("ptbxl_database.csv", ",1,records100", ",2,records100"),
    "a statement": replace_in("scp_statements.csv", "NORM,1.0", "NORM,0.0"),
    "a header": replace_in("records100/00000/00005_lr.hea", "1000.0(0)/mV", "1000.00(0)/mV"),
    "a signal's time": touch_record,
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


def test_the_key_changes_with_every_setting_and_the_format(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ({}, {"fs": 500}, {"leads": ("I", "V1")}, {"leads": ("V1", "I")}, {"seconds": 5.0}, {"long": "slide"})
    keys = [store_module.store_key(plan_of(corpus, **changed)) for changed in settings]
    assert len(set(keys)) == len(settings) and keys[0] == store_module.store_key(plan_of(corpus))
    monkeypatch.setattr(store_module, "FORMAT", store_module.FORMAT + 1)
    assert store_module.store_key(plan_of(corpus)) not in keys


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
    touch_record(mine)
    assert source.open().fingerprint == prints[0]  # another key, the same data
    replace_in("ptbxl_database.csv", "NORM", "IMI")(mine)
    prints.append(source.open().fingerprint)
    write_record(mine / "records100" / "00000", "00002_lr", np.ones((12, 1000), dtype=np.int16))
    prints.append(source.open().fingerprint)
    assert len(set(prints)) == 3


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

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(type(error)):
        PTBXL(corpus, 100, cache).open()
    assert contents(cache) == []


def test_records_of_other_length_or_rate_are_refused(mine: Path, cache: Path, write_record: WriteRecord) -> None:
    folder = mine / "records100" / "00000"
    write_record(folder, "00003_lr", np.zeros((12, 999), dtype=np.int16))
    with pytest.raises(UserError, match=r"00003_lr: 999 samples at 100 Hz found, expected 1000 at 100 Hz"):
        PTBXL(mine, 100, cache).open()
    write_record(folder, "00003_lr", np.zeros((12, 1000), dtype=np.int16), fs=500)
    with pytest.raises(UserError, match=r"00003_lr: 1000 samples at 500 Hz found"):
        PTBXL(mine, 100, cache).open()
    assert contents(cache) == []


def test_a_build_that_was_killed_is_swept_away_and_a_living_one_is_not(corpus: Path, cache: Path) -> None:
    dead, alive = (cache / "stores" / f"small-100hz-{name}.partial" for name in ("dead", "alive"))
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "signals.i16").write_bytes(b"\0" * 100)
    long_ago = time.time() - store_module.ABANDONED_AFTER - 60
    for path in (dead / "signals.i16", dead):
        os.utime(path, (long_ago, long_ago))
    os.utime(alive, (long_ago, long_ago))  # the folder is old, but its file is being written
    PTBXL(corpus, 100, cache).open()
    assert not dead.exists() and alive.exists()


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
    "signals cut": lambda path: (path / "signals.i16").write_bytes(b"\0" * 24),
    "signals gone": lambda path: (path / "signals.i16").unlink(),
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
