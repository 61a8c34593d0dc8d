"""A packed store opens without its source, with the same records, labels, patients and folds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from einthoven.data.fitted_on import records_of_generator
from einthoven.data.identity import DataIdentity, compare
from einthoven.data.sources.concat import Concat
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.stored import StoredCorpus
from einthoven.data.store.packed_store import Store
from einthoven.data.store.store_origin import FILE, Origin
from einthoven.errors import UserError
from einthoven.files import seal, unseal
from einthoven.runs.data.run_data import Data, training_ancestry


def identity(source: Any, store: Store, task: str, **options: Any) -> DataIdentity:
    labels = source.labels(store.table, task, **options)
    row_of_id = {number: row for row, number in enumerate(store.table["ecg_id"])}
    return DataIdentity.from_store(store, labels, np.array([row_of_id[number] for number in labels.ecg_ids]))


@pytest.fixture
def packed(corpus: Path, tmp_path: Path) -> tuple[PTBXL, Path]:
    shutil.copytree(corpus, tmp_path / "source")
    source = PTBXL(tmp_path / "source", 100, tmp_path / "cache")
    return source, source.open().path


@pytest.mark.parametrize(
    ("task", "options"),
    [("superdiagnostic", {}), ("all", {"keep_unlabelled": True}), ("diagnostic", {"min_likelihood": 60.0})],
)
def test_a_store_is_the_data_of_its_source(packed: tuple[PTBXL, Path], task: str, options: dict[str, Any]) -> None:
    source, path = packed
    store = source.open()
    before = identity(source, store, task, **options)
    signals = np.array(store.signals)

    # The records and tables are gone, and the cache has moved.
    shutil.rmtree(str(source.root))
    cache = path.parent.parent.rename(path.parent.parent.with_name("moved"))
    stored = StoredCorpus(cache / "stores" / path.name, 100)
    again = stored.open()
    assert not compare(before, identity(stored, again, task, **options)).is_different
    assert stored.label_sets == source.label_sets
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(np.array(again.signals), signals)
    assert stored.class_of("superdiagnostic")["NORM"] == "NORM"
    assert set(stored.annotates(again.table, "superdiagnostic")) == {"ptbxl"}


def test_a_folder_of_ones_own_is_stored_with_its_classes(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(next(corpus.glob("records100/*")), tmp_path, dirs_exist_ok=True)
    files = sorted(tmp_path.glob("*.hea"))[:4]
    rows = [f"{file.name},{k % 2},0,p{k // 2},{k + 1}" for k, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,AF,LBBB,patient,fold", *rows]) + "\n")
    source = Folder(
        tmp_path,
        100,
        tmp_path / "cache",
        label_column=None,
        class_columns=["AF", "LBBB"],
        patient_column="patient",
        fold_column="fold",
        short="refuse",
    )
    store = source.open()
    before = identity(source, store, "columns", keep_unlabelled=True)
    (tmp_path / "labels.csv").unlink()
    stored = StoredCorpus(store.path, 100)
    again = stored.open()
    assert not compare(before, identity(stored, again, "columns", keep_unlabelled=True)).is_different
    assert stored.annotates(again.table, "columns") == {"folder": frozenset({"AF", "LBBB"})}
    assert again.origin is not None and not again.origin.pads
    assert Origin.from_source(replace(source, short="pad"), ()).pads


def test_several_stores_are_one_source(packed: tuple[PTBXL, Path], corpus: Path, tmp_path: Path) -> None:
    source, path = packed
    other = PTBXL(corpus, 100, tmp_path / "other", source="mine")
    parts = {"first": source, "second": other}
    stores = {"first": StoredCorpus(path, 100), "second": StoredCorpus(other.open().path, 100)}
    made = [Concat(sources, 100, tmp_path / "both", seconds=None) for sources in (parts, stores)]
    made[0] = replace(made[0], cache=tmp_path / "cache")
    before, now = (identity(each, each.open(), "superdiagnostic") for each in made)
    assert not compare(before, now).is_different
    assert len(now.ecg_ids) == 2 * len(source.open().table)


def test_a_store_of_an_earlier_version_gets_its_source_when_it_is_opened_with_it(packed: tuple[PTBXL, Path]) -> None:
    source, path = packed
    (path / FILE).unlink()
    shutil.rmtree(path / "labels")
    with pytest.raises(UserError, match="does not say which source made it"):
        StoredCorpus(path, 100).open()
    source.open()
    assert len(StoredCorpus(path, 100).open().table) == len(source.open().table)


def test_a_store_of_an_earlier_version_is_not_left_half_written_by_a_kill(
    packed: tuple[PTBXL, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = packed
    (path / FILE).unlink()

    def dies(self: Path, target: Path) -> Path:
        if target.name == FILE:
            raise KeyboardInterrupt
        return replace_file(self, target)

    replace_file = Path.replace
    # The file that is complete is moved to its place.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", dies)
        source.open()
    assert not (path / FILE).exists()
    source.open()
    assert len(StoredCorpus(path, 100).labels(source.open().table, "all").classes) > 0


def test_what_is_no_such_store_is_refused_with_a_sentence(packed: tuple[PTBXL, Path], tmp_path: Path) -> None:
    _, path = packed
    refusals = {
        f"data.root={tmp_path}: no packed store; expected the folder of a store": StoredCorpus(tmp_path, 100),
        f"expected {path}.": StoredCorpus(path.parent.parent, 100),
        f"data.root={tmp_path}/none: no packed store": StoredCorpus(tmp_path / "none", 100),
        "data.fs=500: the store has 100 Hz; expected data.fs=100.": StoredCorpus(path, 500),
        "data.leads: the store has other leads; expected data.leads=[I,II,": StoredCorpus(path, 100, ["I"]),
    }
    for sentence, source in refusals.items():
        with pytest.raises(UserError) as refusal:
            assert source.label_sets
            source.open()
        assert sentence in str(refusal.value)
    with pytest.raises(UserError, match=r"data\.shard"):
        StoredCorpus(path, 100).open(shard=(0, 2))


def test_a_store_of_a_stranger_runs_no_other_code(packed: tuple[PTBXL, Path]) -> None:
    _, path = packed
    content = unseal((path / FILE).read_text())
    for target, sentence in (("os.system", "expected a source of records"), ("mine.Source", "--trust mine")):
        (path / FILE).write_text(seal(content | {"source": target}))
        with pytest.raises(UserError) as refusal:
            StoredCorpus(path, 100).labels(StoredCorpus(path, 100).open().table, "all")
        assert sentence in str(refusal.value)
    (path / FILE).write_text(seal(content | {"files": {"../store.json": "0"}}))
    with pytest.raises(UserError, match="damaged"):
        StoredCorpus(path, 100).open()
    (path / FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged"):
        StoredCorpus(path, 100).open()


def test_a_store_of_generated_records_keeps_the_real_records_behind_the_generator(tmp_path: Path) -> None:
    path = Synthetic(10, 0, 1.0, 100, tmp_path).open().path
    stored = StoredCorpus(path, 100)
    labels = stored.labels(stored.open().table, "all")
    rows = {"train": np.arange(len(labels.ecg_ids))}
    data = Data(stored.open(), labels, rows, rows["train"], {}, identity(stored, stored.open(), "all"))
    config = OmegaConf.create({"data": {"_target_": "einthoven.data.sources.stored.StoredCorpus", "root": str(path)}})
    np.testing.assert_array_equal(training_ancestry(data, config).generator, np.unique(records_of_generator()))
