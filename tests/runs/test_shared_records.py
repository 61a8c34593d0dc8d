"""Records that several runs of a process share: nothing is read twice, and nothing leaks from one run into the next."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import composing
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.runs.config.settings import build_task
from einthoven.runs.data import records
from einthoven.runs.data.records import Records, forget_records, read_records
from einthoven.training import checkpoint

CPU = torch.device("cpu")
FAST = ("model=mlp", "model.width=8", "model.depth=1", "trainer.epochs=2", "trainer.batch_size=8", "diagnostics=none")
LIGHT = (*FAST, "tracking.artifacts=false", "data.folds.test=[]")


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    forget_records()
    yield
    forget_records()


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> Path:
    return shutil.copytree(corpus, tmp_path / "ptbxl")


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task of each call that reads labels."""
    calls: list[str] = []
    labels = PTBXL.labels

    def counted(source: PTBXL, table: Any, task: str, **options: Any) -> Any:
        calls.append(task)
        return labels(source, table, task, **options)

    monkeypatch.setattr(PTBXL, "labels", counted)
    return calls


def configured(root: Path, *overrides: str) -> DictConfig:
    options = ("data=ptbxl", f"data.root={root}", f"data.cache={root.parent}/cache", "tracking.run_name=none")
    return composing.composed("train", *options, *overrides)


def read(root: Path, *overrides: str, checks_files: bool = False) -> Records:
    config = configured(root, *overrides)
    return read_records(config, build_task(config), checks_files=checks_files)


def test_the_same_options_and_files_give_the_same_records(root: Path, labelled: list[str]) -> None:
    read(root, "seed=0")  # builds the store
    first = read(root, "seed=1")
    again = read(root, "seed=2", "optimizer=sgd", "trainer.epochs=2")
    assert again is first
    assert len(labelled) == 2
    rows = np.arange(0, 40, 3)
    signals = again.load_signals(rows, CPU, "device")
    assert signals is not None
    np.testing.assert_array_equal(signals.numpy(), again.store.signals.read(rows))
    assert again.load_signals(rows.copy(), CPU, "auto") is signals
    # A run that asks for the disk gets the disk, as it would alone.
    assert again.load_signals(rows, CPU, "stream") is None

    other_task = read(root, "task=diagnostic")
    assert other_task is not first and other_task.labels.classes != first.labels.classes
    # Files that are to be checked are checked.
    assert read(root, checks_files=True) is not first


def test_a_changed_file_is_seen(root: Path) -> None:
    read(root)
    before = read(root)
    database = root / "ptbxl_database.csv"
    lines = database.read_text().splitlines(keepends=True)
    changed = lines[1].replace("{'SR': 0.0}", "\"{'NORM': 100.0, 'SR': 0.0}\"")
    assert changed != lines[1]
    database.write_text("".join([lines[0], changed, *lines[2:]]))
    after = read(root)
    assert after.store.fingerprint != before.store.fingerprint
    assert not np.array_equal(after.labels.matrix, before.labels.matrix)


def test_a_store_that_was_deleted_is_built_again(root: Path) -> None:
    read(root)
    before = read(root)
    shutil.rmtree(before.store.path)
    after = read(root)
    assert after is not before and after.store.path.is_dir()


def test_memory_is_freed_before_other_records_are_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    first = read(root)
    signals = weakref.ref(first.load_signals(np.arange(20), CPU, "device"))
    # A run refers to itself, so that only the garbage collector frees it.
    run: dict[str, Any] = {"records": first}
    run["run"] = run
    del first, run

    alive: list[bool] = []
    opened = PTBXL.open

    def open_and_look(source: PTBXL, *others: Any, **options: Any) -> Any:
        alive.append(signals() is not None)
        return opened(source, *others, **options)

    monkeypatch.setattr(PTBXL, "open", open_and_look)
    read(root, "data.leads=[I,II]")
    assert alive == [False]


def test_other_signals_of_the_same_store_replace_the_first(root: Path) -> None:
    read(root)
    kept = read(root)
    first = weakref.ref(kept.load_signals(np.arange(20), CPU, "device"))
    second = kept.load_signals(np.arange(10), CPU, "device")
    assert first() is None and second is not None and len(second) == 10


def test_nobody_writes_into_shared_labels(root: Path) -> None:
    labels = read(root).labels
    for array in (labels.matrix, labels.ecg_ids, labels.folds, labels.patients):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0


def test_a_source_that_cannot_tell_its_state_is_read_in_each_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(PTBXL, "state")
    read(root)
    assert read(root) is not read(root)
    assert not records._kept


def weights(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("**/checkpoints/last.safetensors")
    return checkpoint._flatten_state(checkpoint.load(file)[0])[0]


def test_a_run_of_a_sweep_equals_the_same_run_alone(train: Any, workplace: Path, labelled: list[str]) -> None:
    options = (*LIGHT, "trainer.checkpoint_minutes=null", "augment=default")
    train(*options, "tracking.experiment=alone", "seed=1", "hydra.run.dir=kept-alone")
    forget_records()
    labelled.clear()
    train(
        "-m",
        *options,
        "tracking.experiment=shared-sweep",
        "seed=0,1",
        "loss=cross_entropy,focal",
        "hydra.sweep.dir=kept-sweep",
    )
    assert len(labelled) == 1
    alone, shared = weights(workplace / "kept-alone"), weights(workplace / "kept-sweep" / "2")
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[name], shared[name]) for name in alone)
    assert not all(torch.equal(alone[name], value) for name, value in weights(workplace / "kept-sweep" / "0").items())


def test_the_folds_of_a_cross_validation_share_records_and_signals(
    train: Any, labelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    load = Records.load_signals

    def remembered(*arguments: Any) -> Any:
        signals = load(*arguments)
        loaded.append(id(signals))
        return signals

    monkeypatch.setattr(Records, "load_signals", remembered)
    train(*FAST, "tracking.artifacts=false", "folds=cv", "data.folds.train=[1,2,3]", "tracking.experiment=shared")
    assert len(labelled) <= 2  # twice if the first fold has built the store
    assert len(loaded) == 3 and len(set(loaded[-2:])) == 1
