"""Which signals a model has seen, and which records may then be judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.ancestry import Ancestry, remove_used_records
from einthoven.data.sources.concat import Concat
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store import digests
from einthoven.data.store.packed_store import open_store
from einthoven.data.store.plan import FORMAT
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
    (store / "store.json").write_text(json.dumps(notes | {"format": FORMAT}))
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
