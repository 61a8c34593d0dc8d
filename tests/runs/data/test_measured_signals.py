from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from einthoven.data.store.digests import digest
from einthoven.data.store.splits import DeviceSplit
from einthoven.runs.data.measured_signals import FOLDER, measure_signals


class Counting(DeviceSplit):
    """A split that counts how often its signals are read."""

    def chunks(self) -> Iterator[NDArray[np.int16]]:
        reads.append(len(self))
        return super().chunks()


reads: list[int] = []


def splits(train: NDArray[np.int16], val: NDArray[np.int16]) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = {"train": train, "val": val}
    made = {name: Counting(torch.from_numpy(x), torch.zeros(len(x), 1)) for name, x in arrays.items()}
    return made, {name: np.array([digest(row) for row in x], "S16") for name, x in arrays.items()}


@pytest.fixture
def signals() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    rng = np.random.default_rng(0)
    train, val = (rng.integers(-900, 900, (n, 12, 50), dtype=np.int16) for n in (40, 9))
    val[4], val[5] = train[7], 3
    return train, val


def test_one_pass_measures_all_and_the_next_run_reads_nothing(
    signals: tuple[NDArray[np.int16], NDArray[np.int16]], tmp_path: Path
) -> None:
    reads.clear()
    made = splits(*signals)
    measured = measure_signals(*made, tmp_path)
    again = measure_signals(*made, tmp_path)
    assert reads == [40, 9]

    # The moments are those of all training samples in mV, and are kept to the last digit.
    samples = signals[0].transpose(1, 0, 2).reshape(12, -1) / 1000
    np.testing.assert_allclose(measured.moments.mean, samples.mean(axis=1), atol=1e-15)
    np.testing.assert_allclose(measured.moments.covariance, np.cov(samples, bias=True), rtol=1e-12, atol=1e-15)
    assert measured.moments.scalar_std == pytest.approx(samples.std(), rel=1e-12)
    for kept, first in zip(again.moments, measured.moments, strict=True):
        np.testing.assert_array_equal(kept, first)
    expected = {"records": {"train": 40, "val": 9}, "flat": {"train": 0, "val": 1}}
    assert measured.counts == again.counts
    expected |= {"repeated": {"train": 0, "val": 0}, "duplicates": {"train-val": 1}}
    assert measured.counts == expected | {"size": pytest.approx({"train": 0.47, "val": 0.48}, abs=0.01)}


def test_other_signals_and_a_damaged_file_are_measured_again(
    signals: tuple[NDArray[np.int16], NDArray[np.int16]], tmp_path: Path
) -> None:
    train, val = signals
    first = measure_signals(*splits(train, val), tmp_path)
    other = measure_signals(*splits(train[1:], val), tmp_path)
    assert not np.array_equal(other.moments.mean, first.moments.mean)
    files = list((tmp_path / FOLDER).iterdir())
    assert len(files) == 2
    for file in files:
        file.write_text(file.read_text().replace("40", "41").replace("39", "38"))
    reads.clear()
    assert measure_signals(*splits(train, val), tmp_path).counts == first.counts
    assert reads == [40, 9]


def test_other_signals_of_the_same_shape_are_measured_anew(
    signals: tuple[NDArray[np.int16], NDArray[np.int16]], tmp_path: Path
) -> None:
    train, val = signals
    first = measure_signals(*splits(train, val), tmp_path)
    changed = train.copy()
    changed[0] += 100
    second = measure_signals(*splits(changed, val), tmp_path)
    np.testing.assert_allclose(second.moments.mean - first.moments.mean, 0.1 / 40, rtol=1e-6)
