"""Splits that are read as they are used: the same batches, a good shuffle, memory that stays flat."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from einthoven.contracts import Batch
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store.batches import balanced_weights, evaluation_batches, training_batches
from einthoven.data.store.signals import Signals
from einthoven.data.store.splits import DeviceSplit, Split, StreamedSplit, free_memory
from einthoven.errors import UserError
from einthoven.functional.moments import lead_moments

CPU = torch.device("cpu")


def streamed(n: int, block: int = 4, buffer: int = 32, classes: int = 3) -> StreamedSplit:
    """Sample t of lead l of record r is r + 100 l + t µV; every second row of the array belongs to the split."""
    r, lead, t = np.ogrid[: 2 * n, :3, :20]
    rows = np.arange(0, 2 * n, 2)
    labels = torch.nn.functional.one_hot(torch.arange(n) % classes, classes).float()
    return StreamedSplit((r + 100 * lead + t).astype(np.int16), rows, labels, block, buffer)


def order_of(split: Split, size: int = 8, **options: object) -> list[int]:
    settings = {"size": size, "window": 20, "seed": 0, "epoch": 0} | options
    batches = training_batches(split, **settings)  # type: ignore[arg-type]
    return torch.cat([batch.index for batch in batches]).tolist()


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("x", "y", "index", "valid"))


@given(st.integers(1, 90), st.integers(1, 12), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
def test_an_epoch_takes_each_record_once_with_its_signal_and_label(
    n: int, size: int, block: int, buffer: int, epoch: int
) -> None:
    split = streamed(n, block, buffer)
    batches = list(training_batches(split, size=size, window=7, seed=1, epoch=epoch))
    seen = torch.cat([batch.index for batch in batches]).tolist()
    assert len(set(seen)) == len(seen) == n - n % min(size, n)
    for batch in batches:
        counts = (batch.x * 1000).round().long()
        start = counts[:, 0, 0] - 2 * batch.index
        assert ((start >= 0) & (start <= 13)).all()
        expected = counts[:, :1, :1] + 100 * torch.arange(3)[:, None] + torch.arange(7)
        assert torch.equal(counts, expected) and torch.equal(batch.y, split.labels[batch.index])


def test_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    split = streamed(100)
    first, again = (list(training_batches(split, size=8, window=9, seed=3, epoch=5)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(order_of(split, seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 8), (1, 1), (100, 7)])
def test_evaluation_is_that_of_a_split_on_the_device(n: int, size: int) -> None:
    split = streamed(n, buffer=16)
    on_device = DeviceSplit(torch.from_numpy(np.asarray(split.signals)[split.rows]), split.labels)
    pairs = zip(evaluation_batches(split, size=size), evaluation_batches(on_device, size=size), strict=True)
    assert all(same(a, b) for a, b in pairs)
    index, start = torch.tensor([n - 1, 0]), torch.tensor([3, 11])
    assert torch.equal(split.take(index, 6, start), on_device.take(index, 6, start))
    moments = [lead_moments(each.chunks(), scale=1e-3) for each in (split, on_device)]
    np.testing.assert_array_equal(moments[0].covariance, moments[1].covariance)


def test_both_kinds_read_the_same_from_a_store(corpus: Path, tmp_path: Path) -> None:
    store = PTBXL(corpus, 100, tmp_path).open()
    rows, labels = np.arange(1, 48, 3), np.eye(16, dtype=np.uint8)
    splits = [kind(store.signals, rows, labels, CPU) for kind in (StreamedSplit.open, DeviceSplit.load)]
    assert isinstance(store.signals, Signals)
    a, b = (torch.cat([batch.x for batch in evaluation_batches(split, size=5)]) for split in splits)
    assert torch.equal(a, b)
    np.testing.assert_allclose(a[:16].numpy(), store.signals[rows] / 1000, rtol=1e-6)


def test_the_shuffle_keeps_no_trace_of_the_stored_order() -> None:
    n, size, block, buffer = 4096, 32, 8, 1024
    split = streamed(n, block, buffer)
    correlations, pairs, neighbours = [], 0, 0
    for epoch in range(12):
        order = np.array(order_of(split, size, epoch=epoch))
        correlations.append(np.corrcoef(order, np.arange(n))[0, 1])
        blocks = np.sort(order.reshape(-1, size) // block, axis=1)
        count = (blocks[:, :, None] == blocks[:, None, :]).sum() - blocks.size
        pairs, neighbours = pairs + blocks.shape[0] * size * (size - 1), neighbours + int(count)
    # blocks are what is permuted: the rank correlation spreads like that of n / block of them
    assert np.abs(correlations).max() < 4 / np.sqrt(n / block)
    assert abs(np.mean(correlations)) < 4 / np.sqrt(12 * n / block)
    chance = (block - 1) / (buffer - 1)  # that of a full shuffle would be (block - 1) / (n - 1)
    assert abs(neighbours / pairs / chance - 1) < 0.1


def test_balanced_draws_follow_the_inverse_class_frequency() -> None:
    counts = (4000, 800, 200)
    classes = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    labels = torch.nn.functional.one_hot(classes, 3).float()
    weights = balanced_weights(labels)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    signals = np.zeros((5000, 1, 20), np.int16)
    on_device = DeviceSplit.load(signals, np.arange(5000), labels.numpy().astype(np.uint8), CPU)
    in_stream = StreamedSplit(signals, np.arange(5000), labels, 4, 256)
    for split in (on_device, in_stream):
        drawn = [order_of(split, 10, epoch=epoch, sampler="balanced") for epoch in range(4)]
        assert order_of(split, 10, epoch=2, sampler="balanced") == drawn[2] != drawn[1]
        found = np.bincount(classes[np.concatenate(drawn)], minlength=3)
        assert ((found - found.sum() / 3) ** 2 / (found.sum() / 3)).sum() < 13.8  # chi2, 2 degrees: 99.9 %
        rare = np.bincount(np.concatenate(drawn), minlength=5000)[4800:]
        expected = 4 * 5000 / 3 / 200
        assert ((rare - expected) ** 2 / expected).sum() < 267  # 200 cells: 99.9 %


def test_weights_of_several_labels_add_up_and_no_label_is_a_class() -> None:
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    expected = torch.tensor([1 / 2 + 1, 1 / 2, 1 / 2, 1 / 2], dtype=torch.float64) / 3
    torch.testing.assert_close(balanced_weights(labels), expected)
    with pytest.raises(UserError, match=r"trainer.sampler=balanced"):
        balanced_weights(torch.tensor([[0.5]]))


def test_the_free_memory_is_between_a_mebibyte_and_a_pebibyte() -> None:
    assert 2**20 < free_memory(CPU) < 2**50


EPOCH = """
import sys, torch, numpy as np
from pathlib import Path
from einthoven.data.store.batches import training_batches
from einthoven.data.store.signals import Signals
from einthoven.data.store.splits import StreamedSplit
n, file = 8000, Path(sys.argv[1])
split = StreamedSplit(Signals([file], [n], np.arange(n), 12, 1000), np.arange(n), torch.zeros(n, 1), 16, 512)
peaks = []
for epoch in range(2):
    for batch in training_batches(split, size=32, window=1000, seed=0, epoch=epoch):
        pass
    status = Path("/proc/self/status").read_text().split()
    peaks.append(status[status.index("VmHWM:") + 1])
print(*peaks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc.")
def test_memory_stays_flat(tmp_path: Path) -> None:
    file = tmp_path / "signals.i16"
    with file.open("wb") as out:
        out.truncate(8000 * 24_000)  # 192 MB of zeros that take no room on the disk
    found = subprocess.run([sys.executable, "-c", EPOCH, file], capture_output=True, text=True, check=True)
    first, second = map(int, found.stdout.split())
    assert second - first < 32_000  # kB, of 192,000 that were read twice; two buffers are 25,000


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(0, 60))
def test_the_rest_of_an_epoch_is_that_of_the_whole_one(n: int, size: int, block: int, buffer: int, first: int) -> None:
    split = streamed(n, block, buffer)
    whole = list(training_batches(split, size=size, window=7, seed=1, epoch=2))
    rest = list(training_batches(split, size=size, window=7, seed=1, epoch=2, first=first))
    assert len(rest) == max(0, len(whole) - first)
    assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))
