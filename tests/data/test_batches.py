"""Batches: what the default configuration gives, where each record goes, and that a seed says it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from composing import composed
from einthoven import build as build_module
from einthoven.contracts import Batch
from einthoven.data.store import splits
from einthoven.data.store.batches import evaluation_batches, mix, training_batches
from einthoven.data.store.splits import DeviceSplit


def split_of(n: int, samples: int = 50) -> DeviceSplit:
    """Sample t of lead l of record r is 1000 r + 50 l + t µV (t < 50): a crop tells where it comes from."""
    r, lead, t = torch.arange(n), torch.arange(12), torch.arange(samples)
    signals = 1000 * r[:, None, None] + 50 * lead[:, None] + t
    return DeviceSplit(signals.to(torch.int16), torch.nn.functional.one_hot(r % 3, 3).float())


def epoch_of(split: DeviceSplit, *, size: int = 4, window: int = 50, seed: int = 0, epoch: int = 0) -> list[Batch]:
    return list(training_batches(split, size=size, window=window, seed=seed, epoch=epoch))


def test_default_batches_are_float32_32_12_1000(corpus: Path, tmp_path: Path) -> None:
    config = composed("train", "data=ptbxl", f"data.root={corpus}", f"data.cache={tmp_path}")
    del config.data.folds
    source = build_module.build(config.data)
    store = source.open()
    labels = source.labels(store.table, "all")
    rows = np.arange(len(labels.matrix))
    split = DeviceSplit.load(store.signals, rows, labels.matrix, torch.device("cpu"))
    size, fs = config.trainer.batch_size, config.data.fs
    assert config.trainer.window is None  # whole records
    (batch,) = epoch_of(split, size=size, window=split.samples)
    assert batch.x.dtype == torch.float32 and batch.x.shape == (32, 12, 1000) and split.samples == 10 * fs
    assert batch.y.dtype == torch.float32 and batch.y.shape == (32, len(labels.classes))
    assert batch.index.dtype == torch.int64 and batch.valid.dtype == torch.bool and batch.valid.all()
    np.testing.assert_allclose(batch.x.numpy(), store.signals[batch.index.numpy()] / 1000.0, rtol=1e-6)
    np.testing.assert_array_equal(batch.y.numpy(), labels.matrix[batch.index.numpy()])


def test_load_takes_the_rows_asked_for_in_order() -> None:
    signals = np.arange(5 * 12 * 7, dtype=np.int16).reshape(5, 12, 7)
    rows, labels = np.array([4, 0, 2]), np.array([[1], [0], [1]], dtype=np.uint8)
    split = DeviceSplit.load(signals, rows, labels, torch.device("cpu"))
    np.testing.assert_array_equal(split.signals.numpy(), signals[rows])
    assert split.labels.tolist() == [[1], [0], [1]] and len(split) == 3 and split.samples == 7


def test_a_split_for_a_gpu_is_read_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    read_into_buffer = splits.read_rows

    def read_rows(signals: Any, rows: Any, out: Any = None) -> Any:
        assert out is not None and len(out) == len(rows)
        read.append(len(rows))
        return read_into_buffer(signals, rows, out)

    monkeypatch.setattr(splits, "read_rows", read_rows)
    monkeypatch.setattr(splits, "PORTION_BYTES", 2 * 2 * 12 * 7)
    signals = np.arange(9 * 12 * 7, dtype=np.int16).reshape(9, 12, 7)
    rows = np.array([8, 0, 2, 3, 1])
    # A device without memory stands for a GPU.
    split = DeviceSplit.load(signals, rows, np.zeros((5, 1)), torch.device("meta"))
    assert read == [2, 2, 1]
    assert split.signals.device.type == "meta" and split.signals.shape == (5, 12, 7)
    # Copies to the CPU can be read back.
    monkeypatch.setattr(splits, "is_host", lambda device: False)
    split = DeviceSplit.load(signals, rows, np.zeros((5, 1)), torch.device("cpu"))
    np.testing.assert_array_equal(split.signals.numpy(), signals[rows])


def test_an_epoch_is_a_function_of_seed_and_epoch_alone() -> None:
    split = split_of(20)
    first = epoch_of(split, window=30, seed=3, epoch=5)
    torch.rand(7)  # the global generator has no part in it
    again = epoch_of(split, window=30, seed=3, epoch=5)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.index, b.index)
    for other in ({"seed": 3, "epoch": 6}, {"seed": 4, "epoch": 5}):
        changed = epoch_of(split, window=30, **other)
        assert not torch.equal(torch.cat([b.index for b in first]), torch.cat([b.index for b in changed]))


def test_an_epoch_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    epoch_of(split_of(20), window=30)
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
def test_an_epoch_sees_no_record_twice_and_leaves_out_less_than_a_batch(n: int, size: int, epoch: int) -> None:
    seen = [batch.index for batch in epoch_of(split_of(n), size=size, epoch=epoch)]
    assert {len(index) for index in seen} == {min(size, n)}
    together = torch.cat(seen).tolist()
    assert len(set(together)) == len(together) > n - min(size, n)
    assert set(together) <= set(range(n))


def test_every_record_is_seen_in_a_few_epochs_and_in_another_order() -> None:
    split = split_of(21)
    epochs = [torch.cat([b.index for b in epoch_of(split, epoch=e)]).tolist() for e in range(6)]
    assert set().union(*epochs) == set(range(21))
    assert len({tuple(e) for e in epochs}) == 6


def test_labels_stay_with_their_signals() -> None:
    split = split_of(21)
    for batch in epoch_of(split, window=13):
        record = (batch.x[:, 0, 0] * 1000).round().int() // 1000
        assert torch.equal(record.long(), batch.index)
        assert torch.equal(batch.y, split.labels[batch.index])


def test_crops_are_stretches_of_the_record_at_random_places() -> None:
    split, starts = split_of(30), []
    for epoch in range(20):
        for batch in epoch_of(split, size=6, window=20, epoch=epoch):
            counts = (batch.x * 1000).round().long()
            start = counts[:, 0, 0] - 1000 * batch.index
            expected = torch.stack(
                [split.signals[r, :, s : s + 20].long() for r, s in zip(batch.index, start, strict=True)]
            )
            assert torch.equal(counts, expected)
            starts += start.tolist()
    assert set(starts) == set(range(31))  # every place there is, the last included
    counts_of_starts = np.bincount(starts, minlength=31)
    expected_count = len(starts) / 31
    chi2 = ((counts_of_starts - expected_count) ** 2 / expected_count).sum()
    assert chi2 < 60  # 30 degrees of freedom: the 99.9 % quantile is 59.7


def test_a_split_smaller_than_a_batch_is_one_batch() -> None:
    (batch,) = epoch_of(split_of(3), size=32)
    assert len(batch.x) == 3 and batch.valid.all()


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_evaluation_takes_each_record_once_in_order_and_marks_the_padding(n: int, size: int) -> None:
    split = split_of(n)
    batches = list(evaluation_batches(split, size=size))
    assert all(len(batch.x) == size for batch in batches) and len(batches) == -(-n // size)
    valid = torch.cat([batch.valid for batch in batches])
    index = torch.cat([batch.index for batch in batches])
    x = torch.cat([batch.x for batch in batches])
    assert index[valid].tolist() == list(range(n)) and int(valid.sum()) == n
    assert (index[~valid] == n - 1).all()
    torch.testing.assert_close(x, split.signals[index].float() / 1000)
    assert torch.equal(torch.cat([batch.y for batch in batches]), split.labels[index])


def test_taking_a_window_without_a_start_takes_the_beginning() -> None:
    split = split_of(4)
    x = split.take(torch.tensor([2, 0]), 15)
    torch.testing.assert_close(x, split.signals[[2, 0], :, :15].float() / 1000)


def test_mix_spreads_well() -> None:
    values = [mix(seed, epoch, step) for seed in range(20) for epoch in range(20) for step in range(50)]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 2**63 for value in values)
    bits = (np.array(values, dtype=np.int64)[:, None] >> np.arange(63)) & 1
    # each bit is set in half of the 20,000 values: six standard deviations
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(len(values))
    correlation = np.corrcoef(bits.T) - np.eye(63)
    assert np.abs(correlation).max() < 6 / np.sqrt(len(values))


@given(st.tuples(*[st.integers(0, 2**31)] * 3), st.integers(0, 2), st.integers(0, 30))
def test_mix_changes_about_half_of_its_bits_when_one_bit_changes(parts: tuple[int, ...], which: int, bit: int) -> None:
    changed = [value ^ (1 << bit) if k == which else value for k, value in enumerate(parts)]
    difference = mix(*parts) ^ mix(*changed)
    assert 8 <= difference.bit_count() <= 55


def test_mix_does_not_confuse_its_arguments() -> None:
    assert len({mix(1, 2, 3), mix(3, 2, 1), mix(2, 1, 3), mix(0, 0, 6), mix(6, 0, 0), mix(1, 3, 2)}) == 6


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
@pytest.mark.parametrize("first", [0, 2, 4, 5])
def test_the_rest_of_an_epoch_is_that_of_the_whole_one(sampler: str, first: int) -> None:
    split = split_of(22)
    options = {"size": 4, "window": 30, "seed": 3, "epoch": 1, "sampler": sampler}
    whole = list(training_batches(split, **options))  # type: ignore[arg-type]
    rest = list(training_batches(split, first=first, **options))  # type: ignore[arg-type]
    assert len(rest) == 5 - first
    for expected, batch in zip(whole[first:], rest, strict=True):
        assert torch.equal(batch.x, expected.x) and torch.equal(batch.index, expected.index)
