"""Which signals a model has seen, and which records may then be judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einthoven.data.ancestry import Ancestry, generator_notes, refuse_seen_records, remove_used_records
from einthoven.data.sources.concat import Concat
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store import digests
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.open_store import open_store
from einthoven.data.store.plan import CHECKSUM_FORMAT
from einthoven.errors import UserError


def named(*names: str) -> digests.Digests:
    return np.array(names, "S16")


def test_an_ancestry_without_that_of_another_model() -> None:
    seen = Ancestry(trained=named("a", "b", "c"), fitted=named("d"))
    rest = seen.without(Ancestry(trained=named("b", "d")))
    assert rest.trained.tolist() == [b"a", b"c"] and rest.fitted.tolist() == [b"d"]


def without_checksums(store: Path) -> None:
    """Make a store what version 0.1 would have written: no checksums of its files, and no digests."""
    notes = json.loads((store / "store.json").read_text())
    del notes["files"], notes["sha256"]
    (store / "store.json").write_text(json.dumps(notes | {"format": CHECKSUM_FORMAT - 1}))
    (store / "digests.npy").unlink()


def test_a_store_knows_its_signals_as_its_packs_do(corpus: Path, tmp_path: Path) -> None:
    store = PTBXL(corpus, 100, tmp_path / "cache").open()
    assert store.digests.tolist() == [digests.short_digest(signal.tobytes()) for signal in store.signals]
    assert len(set(store.digests.tolist())) == 48 and (store.path / "digests.npy").exists()


@pytest.mark.parametrize("damage", ["rows", "kind", "bit", "checksum", "empty"])
def test_digests_that_do_not_fit_are_a_damaged_store(corpus: Path, tmp_path: Path, damage: str) -> None:
    store = PTBXL(corpus, 100, tmp_path / "cache").open()
    right = digests.sealed_bytes(store.digests)
    wrong = {
        "rows": right[1:],
        "kind": right.astype(np.float64),
        "bit": right ^ np.eye(49, 16, dtype=np.uint8),
        "checksum": right ^ (np.arange(49) == 48)[:, None].astype(np.uint8),
        "empty": right[:0],
    }
    without_checksums(store.path)  # where the digests alone have to tell
    np.save(store.path / "digests.npy", wrong[damage])
    with pytest.raises(UserError, match="a damaged store"):
        open_store(store.path)


def test_a_store_of_an_earlier_version_gets_its_digests(corpus: Path, tmp_path: Path) -> None:
    store = PTBXL(corpus, 100, tmp_path / "cache").open()
    without_checksums(store.path)
    older = open_store(store.path)
    assert older.stored_digests is None and older.digests.tolist() == store.digests.tolist()
    assert older.fingerprint == store.fingerprint
    assert open_store(store.path).stored_digests is not None


def test_sources_that_are_joined_keep_their_digests(corpus: Path, tmp_path: Path) -> None:
    parts = {name: PTBXL(corpus, 100, tmp_path, source=name) for name in ("a", "b")}
    joined = Concat(parts, 100, tmp_path).open()
    assert len(joined.digests) == 96
    assert joined.digests.tolist() == digests._digest_all(joined.signals[:]).tolist()


def test_a_blank_window_has_no_digest(
    corpus: Path, tmp_path: Path, write_corpus: Callable[..., Path], write_record: Callable[..., Path]
) -> None:
    root = write_corpus(tmp_path / "own", 6)
    write_record(root / "records100" / "00000", "00002_lr", np.zeros((12, 1000), np.int16))
    store = PTBXL(root, 100, tmp_path / "cache").open()
    assert store.digests[1] == b"" and (store.digests != b"").sum() == 5
    without_checksums(store.path)
    assert open_store(store.path).digests.tolist() == store.digests.tolist()
    assert Ancestry.trained_on(store.digests).in_training(store.digests).tolist() == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]


def test_digests_survive_a_file_though_some_end_in_zeros() -> None:
    values = np.array([digests.short_digest(str(k).encode()) for k in range(2000)], "S16")
    assert min(map(len, values.tolist())) < 16
    assert digests.from_bytes(digests.to_bytes(values)).tolist() == values.tolist()


def test_models_that_were_made_from_others_have_seen_what_those_have() -> None:
    teacher = Ancestry.trained_on(named("a", "b")).fitted_on(named("v"))
    start = Ancestry.trained_on(named("b", "c"))
    model = Ancestry.trained_on(named("d", "")).merged(teacher, start)
    assert model.trained.tolist() == [b"a", b"b", b"c", b"d"] and model.fitted.size == 0
    assert model.in_training(named("a", "e", "", "d")).tolist() == [True, False, False, True]
    again = Ancestry.from_arrays(teacher.to_arrays())
    assert again.trained.tolist() == [b"a", b"b"] and again.in_fitting(named("v", "a")).tolist() == [True, False]
    assert not Ancestry().in_training(named("a")).any()


def test_a_record_under_another_number_is_left_out_of_validation_and_test() -> None:
    digests = named("a", "b", "c", "b", "d", "c", "d", "e", "")
    records = np.arange(9)
    rows = {"train": np.array([0, 1]), "val": np.array([2, 3, 4]), "test": np.array([5, 6, 7, 8])}
    remaining, left_out = remove_used_records(rows, digests, records, Ancestry())
    assert [part.tolist() for part in remaining.values()] == [[0, 1], [2, 4], [7, 8]]
    assert left_out["val"].tolist() == [3] and left_out["test"].tolist() == [5, 6]
    remaining, left_out = remove_used_records(rows, digests, records, Ancestry.trained_on(named("e", "c")))
    assert [part.tolist() for part in remaining.values()] == [[0, 1], [4], [8]]
    assert left_out["val"].tolist() == [2, 3] and left_out["test"].tolist() == [5, 6, 7]


def test_one_window_is_enough_to_leave_out_a_record() -> None:
    digests = named("a", "b", "x", "a", "y", "z")
    records = np.array([0, 0, 1, 1, 2, 2])
    rows = {"train": np.array([0, 1]), "val": np.array([2, 3]), "test": np.array([4, 5])}
    remaining, left_out = remove_used_records(rows, digests, records, Ancestry())
    assert remaining["val"].size == 0 and left_out["val"].tolist() == [1] and remaining["test"].tolist() == [4, 5]


@pytest.mark.parametrize("cut", [{"seconds": 4.0}, {"seconds": 10.0}, {"seconds": 2.5, "long": "slide", "stride": 1.0}])
def test_the_first_second_is_the_same_in_every_cut_that_keeps_the_beginning(
    corpus: Path, tmp_path: Path, cut: dict[str, Any]
) -> None:
    whole = PTBXL(corpus, 100, tmp_path / "cache").open()
    plan = PTBXL(corpus, 100, tmp_path / "cache")._plan(None)
    store = open_or_build(replace(plan, **cut), tmp_path / "cache")
    begins = store.table["start_s"].to_numpy() == 0
    assert store.first_seconds[begins].tolist() == whole.first_seconds.tolist()
    assert not (store.first_seconds[~begins] != b"").any()
    assert len(set(whole.first_seconds.tolist())) == len(whole.table)
    if cut["seconds"] < 10:
        assert not np.isin(store.digests, whole.digests).any()
        seen = Ancestry.trained_on(whole.digests, whole.first_seconds)
        assert seen.in_training(store.digests, store.first_seconds).tolist() == begins.tolist()


def test_first_seconds_are_stored_and_a_damaged_file_is_written_again(corpus: Path, tmp_path: Path) -> None:
    store = PTBXL(corpus, 100, tmp_path / "cache").open()
    file = store.path / "first_seconds.npy"
    right = store.first_seconds.tolist()
    content = file.read_bytes()
    file.write_bytes(content[:-5] + b"wrong")
    assert open_store(store.path).first_seconds.tolist() == right and file.read_bytes() == content
    joined = Concat({name: PTBXL(corpus, 100, tmp_path, source=name) for name in ("a", "b")}, 100, tmp_path).open()
    assert joined.first_seconds.tolist() == [*right, *right]


def test_a_first_second_that_any_record_may_have_is_not_compared() -> None:
    signal = np.random.default_rng(0).integers(-300, 300, (12, 1000)).astype(np.int16)
    assert digests.first_second(signal, 100.0) == digests.short_digest(signal[:, :100].tobytes())
    assert digests.first_second(signal[:, :99], 100.0) == b""
    signal[:, :100] = np.arange(12)[:, None]
    assert digests.first_second(signal, 100.0) == b""
    assert not Ancestry.trained_on(named(), named("")).in_training(named("x"), named("")).any()


def test_an_earlier_list_is_read_without_first_seconds() -> None:
    arrays = Ancestry.trained_on(named("a"), named("b"), named("c")).to_arrays()
    assert Ancestry.from_arrays(arrays).first_seconds.tolist() == [b"b"]
    earlier = Ancestry.from_arrays({name: arrays[name] for name in ("trained", "fitted")})
    assert earlier.trained.tolist() == [b"a"] and not earlier.first_seconds.size and not earlier.generator.size
    with pytest.raises(KeyError):
        Ancestry.from_arrays({"trained": arrays["trained"]})


def test_a_record_that_was_trained_on_is_refused_and_one_behind_the_generator_is_noted() -> None:
    ancestry = Ancestry.trained_on(named("a"), named("x"), named("g", "h"))
    made_from = Ancestry.trained_on(named("b"), named("y")).merged(ancestry)
    first_seconds = named("u", "x", "g", "h", "v")
    records = np.array([7, 8, 9, 9, 5])
    rows = {"val": np.array([0, 2, 3]), "test": np.array([1, 4])}
    windows = named("1", "2", "3", "4", "5")
    with pytest.raises(UserError, match=r"init_from=m: was trained on 1 of the records of test, such as ecg_id 8"):
        refuse_seen_records(rows, windows, first_seconds, records, made_from, "init_from=m")
    (note,) = generator_notes(rows, first_seconds, records, made_from, "init_from=m")
    assert "and not to the labels, of 1 of the records of val, such as ecg_id 9" in note
    assert generator_notes({"test": rows["test"]}, first_seconds, records, made_from, "init_from=m") == ()


def test_a_digest_is_found_in_a_list_of_any_length() -> None:
    rng = np.random.default_rng(0)
    digests = np.frombuffer(rng.integers(0, 256, (400, 16), dtype=np.uint8).tobytes(), "S16")
    for length in (0, 1, 2, 300):
        seen = Ancestry.trained_on(digests[:length], digests[length:], digests[::2]).fitted_on(digests[1::2])
        np.testing.assert_array_equal(seen.in_training(digests), np.isin(digests, seen.trained))
        np.testing.assert_array_equal(seen.begins_in_training(digests), np.isin(digests, seen.first_seconds))
        np.testing.assert_array_equal(seen.in_generator(digests), np.isin(digests, seen.generator))
        np.testing.assert_array_equal(seen.in_fitting(digests), np.isin(digests, seen.fitted))
        assert not seen.in_training(np.array([b""], "S16")).any()
