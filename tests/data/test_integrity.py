"""Bit rot: a change of one bit in what was packed is noticed, whichever way it is read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from earlier_formats import as_earlier_format
from einthoven.atomic import PARTIAL
from einthoven.data.sources.concat import Concat
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store import checksums
from einthoven.data.store.open_store import open_store
from einthoven.data.store.packed_store import Store
from einthoven.data.store.plan import FORMAT
from einthoven.data.store.splits import DeviceSplit, StreamedSplit
from einthoven.errors import UserError
from einthoven.files import file_digest, seal, unseal

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the 48 records of the corpus in two packs, of blocks of 7 rows."""
    cache = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksums, "BLOCK_BYTES", 7 * 24_000)
        for shard in range(2):
            PTBXL(corpus, 100, cache).open(shard=(shard, 2))
        PTBXL(corpus, 100, cache).open()
    return cache


@pytest.fixture
def cache(packed: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return shutil.copytree(packed, tmp_path / "cache")


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def bits(file: Path, number: int) -> list[int]:
    return np.random.default_rng(0).integers(0, 8 * file.stat().st_size, number).tolist()


def packs(cache: Path) -> list[Path]:
    return sorted(cache.glob("packs/*/*"))


ALL = np.arange(48)


def streamed(store: Store) -> object:
    split = StreamedSplit(store.signals, ALL, torch.zeros(48, 1), block=5, buffer=20)
    return list(split.serve(torch.randperm(48), 16))


READERS: dict[str, Callable[[Store], object]] = {
    "one by one": lambda store: [store.signals[row] for row in range(48)],
    "slices": lambda store: [store.signals[row : row + 10, 2, ::3] for row in range(0, 48, 10)],
    "a mask": lambda store: store.signals[ALL % 2 == 0] + store.signals[ALL % 2 == 1],
    "a list": lambda store: store.signals[[*range(47, -1, -1)]],
    "an array": lambda store: np.array(store.signals),
    "read": lambda store: store.signals.read(np.random.default_rng(0).permutation(48)),
    "check": lambda store: store.signals.check(),
    "a device": lambda store: DeviceSplit.load(store.signals, ALL, np.zeros((48, 1)), CPU),
    "a stream": streamed,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("several", [True, False])
def test_a_flipped_bit_of_a_signal_is_noticed_by_every_reader(
    corpus: Path, cache: Path, tmp_path: Path, name: str, several: bool
) -> None:
    where = cache if several else tmp_path / "single"
    source = PTBXL(corpus, 100, where)
    READERS[name](source.open())
    file = packs(where)[-1] / checksums.SIGNALS
    for bit in bits(file, 3):
        flip(file, bit)
        with pytest.raises(UserError) as refusal:
            READERS[name](source.open())
        sentence = str(refusal.value)
        assert sentence.startswith(f"{file.parent}: a damaged pack (block ") and "\n" not in sentence
        assert sentence.endswith("of signals.i16 is not what was written); delete that folder, and it is built anew.")
        flip(file, bit)
    READERS[name](source.open())


def test_only_blocks_that_are_read_are_compared_and_only_once(
    corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    crc32 = checksums.zlib.crc32
    monkeypatch.setattr(checksums.zlib, "crc32", lambda data, start=0: compared.append(len(data)) or crc32(data, start))
    signals = PTBXL(corpus, 100, cache).open().signals
    signals[3]
    assert compared == [7 * 24_000]
    signals[0:7], signals.read(np.arange(7))
    assert len(compared) == 1
    signals.read(np.array([8]))
    assert len(compared) == 2
    PTBXL(corpus, 100, cache).open().signals.read(ALL)  # another store of this process
    assert len(compared) == sum(-(-size // 7) for size in signals.sizes) == 8
    flip(signals.files[0], 8 * 24_000 * 20)
    assert len(signals.read(ALL)) == 48  # compared once, as is said
    with pytest.raises(UserError, match="a damaged pack"):
        PTBXL(corpus, 100, cache).open().signals.check()


def test_a_block_is_half_a_mebibyte_or_one_row() -> None:
    for size, rows in ((24_000, 21), (120_000, 4), (2**19, 1), (2**22, 1), (48, 10922)):
        sums = checksums.BlockSums()
        for _ in range(3):
            sums.add(bytes(size))
        assert sums.rows == rows and len(sums.finished()) == -(-3 // rows)


@pytest.mark.parametrize("name", ["index.parquet", "pack.json"])
def test_a_flipped_bit_beside_the_signals_is_noticed(corpus: Path, cache: Path, name: str) -> None:
    file = packs(cache)[0] / name
    for bit in bits(file, 24):
        flip(file, bit)
        with pytest.raises(UserError, match=r"a damaged pack .*; delete that folder, and it is built anew") as refusal:
            PTBXL(corpus, 100, cache).open()
        assert "\n" not in str(refusal.value) and str(file.parent) in str(refusal.value)
        flip(file, bit)
    PTBXL(corpus, 100, cache).open()


def test_a_damaged_pack_can_be_deleted(corpus: Path, cache: Path) -> None:
    before = PTBXL(corpus, 100, cache).open()
    signals = before.signals.read(ALL)
    flip(packs(cache)[0] / checksums.SIGNALS, 12345)
    shutil.rmtree(packs(cache)[0])
    after = PTBXL(corpus, 100, cache).open()
    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(after.signals.read(ALL), signals)


def test_sources_that_are_joined_are_compared_too(corpus: Path, cache: Path) -> None:
    joined = Concat({"one": PTBXL(corpus, 100, cache)}, 100, cache, seconds=None)
    joined.open().signals.check()
    flip(packs(cache)[0] / checksums.SIGNALS, 999)
    with pytest.raises(UserError, match="a damaged pack"):
        joined.open().signals.read(ALL)


@pytest.mark.parametrize("name", ["rows.npy", "digests.npy", "table.parquet", "store.json"])
def test_a_flipped_bit_of_a_store_is_noticed(corpus: Path, cache: Path, name: str) -> None:
    file = PTBXL(corpus, 100, cache).open().path / name
    for bit in bits(file, 80 if name == "store.json" else 24):
        flip(file, bit)
        with pytest.raises(UserError, match=r"a damaged store .*; delete that folder, and it is built anew") as refusal:
            PTBXL(corpus, 100, cache).open()
        assert "\n" not in str(refusal.value) and str(file.parent) in str(refusal.value)
        assert name in str(refusal.value)
        flip(file, bit)
    shutil.rmtree(file.parent)
    assert len(PTBXL(corpus, 100, cache).open().table) == 48


def replaced_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def replaced_by_link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def pickled(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.array([Path("x")], object), allow_pickle=True)


HOSTILE = {
    "a pipe": ("table.parquet", replaced_by_pipe),
    "a link": ("rows.npy", replaced_by_link),
    "deep JSON": ("store.json", lambda file: file.write_text("[" * 200_000)),
    "no JSON": ("store.json", lambda file: file.write_text("PK")),
    "another parquet": ("table.parquet", lambda file: file.write_bytes(b"PAR1" + b"\xff" * 64 + b"PAR1")),
    "a pickled array": ("rows.npy", pickled),
    "digests of another length": ("digests.npy", lambda file: np.save(file, np.zeros(3, "S16"))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_store_is_one_sentence(corpus: Path, cache: Path, kind: str) -> None:
    folder = PTBXL(corpus, 100, cache).open().path
    name, change = HOSTILE[kind]
    change(folder / name)
    with pytest.raises(UserError, match=r"a damaged store|is a link or no ordinary file") as refusal:
        open_store(folder)
    assert name in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("row", [-1, 48, 0.5])
def test_a_store_that_points_beside_its_packs_is_one_sentence(corpus: Path, cache: Path, row: float) -> None:
    folder = PTBXL(corpus, 100, cache).open().path
    np.save(folder / "rows.npy", np.array([*range(47), row]))
    notes = unseal((folder / "store.json").read_text())
    notes["files"]["rows.npy"] = file_digest(folder / "rows.npy")
    (folder / "store.json").write_text(seal(notes))
    with pytest.raises(UserError, match=r"rows\.npy names rows that no pack has"):
        open_store(folder)


def test_a_store_names_the_checksum_of_every_file_that_it_was_written_with(corpus: Path, tmp_path: Path) -> None:
    path = PTBXL(corpus, 100, tmp_path).open().path
    names = {file.name for file in path.iterdir()}
    # `source.json` has its own checksum, and those of `labels/`.
    names -= {"store.json", "source.json", "labels"}
    assert set(json.loads((path / "store.json").read_text())["files"]) == names


def test_a_store_whose_packs_are_gone_is_built_anew(corpus: Path, cache: Path) -> None:
    before = PTBXL(corpus, 100, cache).open()
    signals = before.signals.read(ALL)
    (before.path / "doctor.parquet").write_bytes(b"found")
    for pack in packs(cache):
        shutil.rmtree(pack)
    after = PTBXL(corpus, 100, cache).open()  # in one pack
    assert (after.path, after.fingerprint) == (before.path, before.fingerprint) and len(after.signals.files) == 1
    np.testing.assert_array_equal(after.signals.read(ALL), signals)
    assert (after.path / "doctor.parquet").read_bytes() == b"found"
    assert [folder.name for folder in (cache / "stores").iterdir() if folder.name.startswith(PARTIAL)] == []


def test_a_pack_without_its_checksums_is_not_read_unchecked(corpus: Path, cache: Path) -> None:
    (packs(cache)[0] / checksums.PACK_FILE).unlink()
    for check in (True, False):
        with pytest.raises(UserError, match=r"a damaged pack .* delete that folder, and it is built anew"):
            PTBXL(corpus, 100, cache).open(check=check)


def test_files_of_a_later_version_are_one_sentence(corpus: Path, cache: Path) -> None:
    store = PTBXL(corpus, 100, cache).open().path
    for file, what in ((store / "store.json", "store"), (packs(cache)[0] / "pack.json", "pack")):
        before = file.read_text()
        file.write_text(seal(unseal(before) | {"format": 6}))
        with pytest.raises(UserError, match=f"a {what} of format 6; this version reads formats up to 5"):
            PTBXL(corpus, 100, cache).open()
        file.write_text(before)


# ---------------------------------------------------------------- stores and packs of earlier formats


@pytest.mark.parametrize("number", [3, 4])
def test_a_store_of_an_earlier_format_is_read_and_built_again(
    corpus: Path, cache: Path, packed: Path, number: int
) -> None:
    source = PTBXL(corpus, 100, cache)
    before = PTBXL(corpus, 100, packed).open()
    as_earlier_format(source, number)
    old = open_store(cache / "stores" / before.path.name)
    assert old.fingerprint == before.fingerprint
    assert f"a store of format {number}, made by an earlier version" in old.notes[0]
    np.testing.assert_array_equal(old.signals.read(ALL), before.signals.read(ALL))
    (old.path / "doctor.parquet").write_bytes(b"examined")

    # Nothing of this corpus is resampled, so that its signals, and with them its fingerprint, are the same.
    store = source.open(check=False)
    assert "an earlier version packed these records. They were packed again" in store.notes[0]
    assert (store.fingerprint, store.path.name) == (before.fingerprint, before.path.name)
    np.testing.assert_array_equal(store.signals.read(ALL), before.signals.read(ALL))
    assert unseal((store.path / "store.json").read_text())["format"] == FORMAT
    assert (store.path / "doctor.parquet").read_bytes() == b"examined"

    # The sentence stands there once.
    assert not any("earlier version" in note for note in (*source.open().notes, *source.open(check=False).notes))
    assert open_store(store.path).notes == ()


# ---------------------------------------------------------------- sealed files


def test_every_bit_of_a_sealed_file_counts() -> None:
    content = {"a": [1, 2.5, None, True], "b": {"c": "é 1e5"}, "d": 1e-3, "e": ""}
    text = seal(content)
    assert unseal(text) == content
    data = text.encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            unseal(changed.decode())
    for other in (text + " ", text[:-1], "[]", "{}", '{"sha256": 1}', ""):
        with pytest.raises(ValueError):
            unseal(other)


def test_checksums_do_not_depend_on_how_a_row_is_given() -> None:
    row: NDArray[np.int16] = np.arange(24, dtype="<i2").reshape(2, 12)
    one, other = checksums.BlockSums(), checksums.BlockSums()
    one.add(row.tobytes())
    other.add(memoryview(row.tobytes()))
    assert one.finished() == other.finished() == [checksums.zlib.crc32(row.tobytes())]
