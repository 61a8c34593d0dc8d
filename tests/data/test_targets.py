"""Quantities of records: measured like the generator made them, or as the table says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.sources import targets as module
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.targets import targets
from einthoven.data.store.packed_store import Store
from einthoven.data.synthetic.generate import iterate
from einthoven.errors import UserError

RECORDS = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Synthetic(RECORDS, 3, 1.0, 100, tmp_path_factory.mktemp("targets")).open()


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    """Rate (1/min) and axis (degrees) of each record, as the generator knows them."""
    rate, axis = [], []
    for sample in iterate(RECORDS, 3):
        onset = sample.recording.beats.onset
        inside = onset[(onset > 0.0) & (onset < 9.9)]
        rate.append(60 * (len(inside) - 1) / (inside[-1] - inside[0]))
        axis.append(sample.recording.axis)
    return np.array(rate), np.array(axis)


def test_heart_rate_and_axis_are_those_of_the_generator(store: Store, truth: tuple[np.ndarray, np.ndarray]) -> None:
    rate, axis = (targets(store, name) for name in ("heart_rate", "axis"))
    assert rate.matrix.shape == (RECORDS, 1) and rate.matrix.dtype == np.float32 and rate.dropped == 0
    error = np.abs(rate.matrix[:, 0] - truth[0])
    assert np.median(error) < 0.5 and np.quantile(error, 0.9) < 3
    kept = np.isin(store.table["ecg_id"], axis.ecg_ids)
    arc = np.abs((axis.matrix[:, 0] - truth[1][kept] + 180) % 360 - 180)
    assert kept.sum() + axis.dropped == RECORDS and np.median(arc) < 5


def test_what_is_measured_is_kept_beside_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = targets(store, "heart_rate").matrix
    monkeypatch.setitem(module.MEASURES, "heart_rate", lambda *_: pytest.fail("measured again"))
    np.testing.assert_array_equal(targets(store, "heart_rate").matrix, first)
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        targets(replace(store, fingerprint="another"), "heart_rate")


def test_what_was_kept_and_is_damaged_is_measured_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(40, 90, RECORDS)
    calls: list[int] = []
    monkeypatch.setitem(module.MEASURES, "slope", lambda signals, *_: calls.append(1) or values[: len(signals)])
    first = module.measure(store, "slope")
    (file,) = (store.path.parent.parent / "targets").glob("slope-*")
    data = file.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(data), 50).tolist():
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        np.testing.assert_array_equal(module.measure(store, "slope"), first)
    assert len(calls) > 25, len(
        calls
    )  # the rest were bits that say nothing, such as the time of the file in the archive


def test_a_damaged_header_is_found_before_the_checksum(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.MEASURES, "level", lambda signals, *_: np.ones(len(signals)))
    first = module.measure(store, "level")
    (file,) = (store.path.parent.parent / "targets").glob("level-*")
    np.savez(file, values=np.zeros(5000))  # so many that the header is parsed before the checksum is compared
    file.write_bytes(file.read_bytes().replace(b"'descr'", b"\x1edescr'", 1))
    np.testing.assert_array_equal(module.measure(store, "level"), first)


def test_age_is_the_tables_and_300_is_not_an_age(tmp_path: Path, corpus: Path) -> None:
    store = PTBXL(corpus, 100, tmp_path).open()
    ages = store.table["age"].to_numpy(float).copy()
    store.table["age"] = np.where(ages == 45, 300.0, ages)
    found = targets(store, "age")
    assert found.classes == ("age",) and found.dropped == 2
    np.testing.assert_array_equal(found.matrix[:, 0], ages[ages != 45])
    np.testing.assert_array_equal(found.ecg_ids, store.table["ecg_id"][ages != 45])


def test_a_folder_has_the_ages_of_its_table(tmp_path: Path, write_record: object) -> None:
    rng = np.random.default_rng(0)
    for k in range(4):
        write_record(tmp_path, f"r{k}", rng.integers(-500, 500, (12, 1000)))  # type: ignore[operator]
    (tmp_path / "labels.csv").write_text("path,labels,years\nr0,,61\nr1,,\nr2,,unknown\nr3,,7.5\n")
    store = Folder(tmp_path, 100, tmp_path / "cache", age_column="years").open()
    assert targets(store, "age").matrix[:, 0].tolist() == [61, 7.5]


def test_what_cannot_be_a_target_is_one_sentence(store: Store) -> None:
    for name, expected in (
        ("agee", "task.target=agee: expected heart_rate, axis, or a column of numbers of these data: ecg_id"),
        ("device", "task.target=device: expected"),
        ("height", "task.target=height: none of the 40 records has one"),
    ):
        with pytest.raises(UserError, match=expected):
            targets(store, name)
    with pytest.raises(UserError, match="is measured from I and aVF; aVF is not in"):
        targets(replace(store, fingerprint="two leads", leads=("I", "II", *store.leads[6:])), "axis")
