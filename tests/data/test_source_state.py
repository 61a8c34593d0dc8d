"""A store that is known is opened without looking at the records; what changed otherwise is noticed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly

from earlier_formats import as_earlier_format
from einthoven.data.sources import source_state
from einthoven.data.sources.cinc import CinC2021
from einthoven.data.sources.concat import Concat
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.source_state import ago
from einthoven.data.store import packing, packs
from einthoven.data.store.open_store import open_store
from einthoven.data.store.packed_store import Store
from einthoven.errors import UserError
from einthoven.functional.conform import resample

Source = PTBXL | Folder | CinC2021


@pytest.fixture
def ptbxl(corpus: Path, tmp_path: Path) -> PTBXL:
    return PTBXL(shutil.copytree(corpus, tmp_path / "ptbxl"), 100, tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path, write_record: Callable[..., Path]) -> Folder:
    root = tmp_path / "mine"
    root.mkdir()
    rows = ["path,labels"]
    for k in range(12):
        write_record(root, f"r{k}", np.full((12, 1000), k + 1))
        rows.append(f"r{k},{'AF' if k % 2 else 'LBBB'}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return Folder(root, 100, tmp_path / "cache")


@pytest.fixture
def challenge(tmp_path: Path, write_record: Callable[..., Path]) -> CinC2021:
    root = tmp_path / "challenge"
    root.mkdir()
    for k in range(1, 6):
        file = write_record(root, f"A{k:04d}", np.full((12, 5000), k), 500).with_suffix(".hea")
        file.write_text(f"{file.read_text()}#Dx: 426783006\n")
    return CinC2021(root, 100, tmp_path / "cache")


@pytest.fixture(params=["ptbxl", "folder", "challenge"])
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.getfixturevalue(request.param)
    return found


def quick(source: Any) -> Store:
    """As `train` opens it."""
    store: Store = source.open(check=False)
    return store


def signal_files(source: Source) -> list[Path]:
    return sorted(Path(source.root).rglob("*.dat"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_known_store_is_opened_without_a_look_at_its_records(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    built = quick(source)
    assert built.checked is None  # it was checked just now
    for name in ("file_state", "other_files_state", "main_file"):
        monkeypatch.setattr(packs, name, lambda *_: pytest.fail("looked at a record"))
    opened = quick(source)
    assert (opened.path, opened.fingerprint) == (built.path, built.fingerprint)
    assert opened.checked is not None and before - 1 <= opened.checked <= time.time()
    np.testing.assert_array_equal(opened.signals[:], built.signals[:])
    for file in signal_files(source):
        file.unlink()
    assert quick(source).fingerprint == built.fingerprint


@pytest.mark.parametrize("number", [3, 4])
def test_without_the_signals_a_store_of_an_earlier_format_is_read_and_says_what_it_is(
    source: Source, number: int
) -> None:
    built = quick(source)
    signals = built.signals[:]
    as_earlier_format(source, number)
    for file in signal_files(source):
        file.unlink()
    opened = quick(source)
    assert opened.fingerprint == built.fingerprint and opened.checked is not None
    np.testing.assert_array_equal(opened.signals[:], signals)
    assert opened.notes[0].startswith("the records cannot be read again (")
    assert f"a store of format {number}, made by an earlier version" in opened.notes[1]
    assert "25 % of a tone just above 50 Hz" in opened.notes[1]
    with pytest.raises(UserError):
        source.open()


def old_resample(signal: np.ndarray, fs: float, target: float) -> np.ndarray:
    """The filter of the stores of formats 3 and 4."""
    ratio = Fraction(target) / Fraction(fs)
    resampled = resample_poly(signal.astype(np.float64), ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    return np.asarray(resampled, dtype=signal.dtype)


@pytest.mark.parametrize("frequency", [51.5, 53.0, 54.0, 55.0])
def test_a_store_with_aliases_is_built_again_without_them(
    tmp_path: Path, write_record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, frequency: float
) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    counts = np.rint(1000 * np.sin(2 * np.pi * frequency * np.arange(5000) / 500))
    write_record(root, "tone", np.tile(counts, (12, 1)), 500)
    (root / "labels.csv").write_text("path,labels\ntone,AF\n")
    source = Folder(root, 100, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(packing, "resample", old_resample)
        before = quick(source)
    assert np.abs(before.signals[:][..., 100:-100]).max() > 70
    as_earlier_format(source, 4)

    after = quick(source)
    assert "They were packed again" in after.notes[0] and after.fingerprint != before.fingerprint
    assert np.abs(after.signals[:][..., 100:-100]).max() <= (20 if frequency < 52 else 10)
    expected = resample(np.tile(counts, (12, 1)) / 1000, 500, 100) * 1000
    np.testing.assert_allclose(after.signals[:][0], expected, atol=0.51)
    assert open_store(before.path).notes  # the old store stays readable


def test_without_the_signals_a_check_is_refused(source: Source) -> None:
    quick(source)
    for file in signal_files(source):
        file.unlink()
    with pytest.raises(UserError):
        source.open()


def test_a_signal_that_changed_is_noticed_by_a_check_that_says_so(source: Source) -> None:
    built = source.open()
    unchanged = source.open().notes[-1]
    assert unchanged.startswith("The files of the records have not changed since they were checked less than")
    file = signal_files(source)[0]
    samples = np.fromfile(file, "<i2").reshape(-1, 12)
    samples[[0, 1], 0] += [100, -100]  # its header holds for it, too
    header = file.with_suffix(".hea")
    edit(header, f" 16 0 {samples[0, 0] - 100} ", f" 16 0 {samples[0, 0]} ")
    file.write_bytes(samples.tobytes())
    assert quick(source).fingerprint == built.fingerprint
    checked = source.open()
    assert checked.fingerprint != built.fingerprint and checked.checked is None
    assert "new or changed signals: 1, removed signals: 1" in checked.notes[-1]
    assert quick(source).fingerprint == checked.fingerprint


TABLES: dict[str, Callable[[Any], object]] = {
    "a label of ptbxl": lambda source: edit(source.root / "ptbxl_database.csv", "NORM", "IMI"),
    "a fold of ptbxl": lambda source: edit(source.root / "ptbxl_database.csv", ",1,records100", ",2,records100"),
    "a statement of ptbxl": lambda source: edit(source.root / "scp_statements.csv", "NORM,1.0", "NORM,0.0"),
    "a label of folder": lambda source: edit(source.root / "labels.csv", "LBBB", "AF"),
    "a fold of folder": lambda source: (source.root / "labels.folds.csv").write_text(
        "path,fold\n" + "".join(f"r{k},{k % 10 + 1}\n" for k in range(12))
    ),
    "a row of folder": lambda source: edit(source.root / "labels.csv", "r11,AF\n", ""),
    "a record of challenge": lambda source: [file.unlink() for file in source.root.glob("A0003.*")],
    "a fold of challenge": lambda source: (source.root / "folds.csv").write_text(
        "record,fold\n" + "".join(f"A{k:04d},7\n" for k in range(1, 6))
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_labels_and_folds_that_change_are_always_noticed(request: pytest.FixtureRequest, name: str) -> None:
    source = request.getfixturevalue(name.rpartition(" ")[2])
    built = quick(source)
    TABLES[name](source)
    changed = quick(source)
    assert changed.fingerprint != built.fingerprint and changed.checked is None
    assert "The files of the records have changed since they were checked" in changed.notes[-1]
    assert quick(source).fingerprint == changed.fingerprint == source.open().fingerprint


def test_records_that_are_added_are_packed_alone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(folder)
    root, read = Path(folder.root), list[str]()
    for suffix in (".hea", ".dat"):
        (root / f"new{suffix}").write_bytes((root / f"r3{suffix}").read_bytes().replace(b"r3", b"new"))
    with (root / "labels.csv").open("a") as table:
        table.write("new,AF\n")
    original = packing.read_microvolts
    monkeypatch.setattr(
        packing, "read_microvolts", lambda file, *a, **k: read.append(file.name) or original(file, *a, **k)
    )
    assert len(quick(folder).table) == 13 and read == ["new"]


def test_a_header_of_the_challenge_that_was_edited_is_noticed_by_a_check(challenge: CinC2021) -> None:
    built = quick(challenge)
    edit(Path(challenge.root) / "A0002.hea", "#Dx: 426783006", "#Dx: 164889003")
    assert quick(challenge).fingerprint == built.fingerprint
    assert challenge.open().fingerprint != built.fingerprint


def test_other_options_have_another_store(folder: Folder) -> None:
    stores = [quick(folder), quick(replace(folder, seconds=5.0)), quick(replace(folder, leads=("I", "V1")))]
    again = [quick(folder), quick(replace(folder, seconds=5.0)), quick(replace(folder, leads=("I", "V1")))]
    assert [store.fingerprint for store in again] == [store.fingerprint for store in stores]
    assert len({store.fingerprint for store in stores}) == 3 and all(store.checked for store in again)


@pytest.mark.parametrize("what", ["note", "note cut", "store", "packs", "version"])
def test_what_is_gone_or_damaged_is_checked_and_made_again(
    folder: Folder, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = quick(folder)
    (note,) = Path(folder.cache).glob("checked/*.json")
    if what == "note":
        data = bytearray(note.read_bytes())
        data[data.index(b"checked") + 12] ^= 1  # another time
        note.write_bytes(data)
    elif what == "note cut":
        note.write_text("{")
    elif what == "version":
        monkeypatch.setattr(source_state.einthoven, "__version__", "99")
    else:
        shutil.rmtree(built.path if what == "store" else Path(folder.cache) / "packs")
    again = quick(folder)
    assert again.fingerprint == built.fingerprint and again.checked is None and len(again.signals[:]) == 12
    assert quick(folder).checked is not None


def test_a_damaged_store_is_not_opened(folder: Folder) -> None:
    file = quick(folder).path / "table.parquet"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"a damaged store \(table.parquet is not what was written\)"):
        quick(folder)


def test_a_table_that_changes_while_it_is_read_is_not_taken_for_what_was_read(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, plan = Path(folder.root) / "labels.csv", Folder._plan

    def slow(source: Folder) -> Any:
        made = plan(source)
        edit(table, "r1,AF", "r1,LBBB")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_plan", slow)
        first = quick(folder)
    assert first.table["classes"][1] == "AF"
    assert quick(folder).table["classes"][1] == "LBBB"


def test_shards_are_always_checked_and_do_not_stand_for_the_whole(folder: Folder) -> None:
    folder.open(shard=(0, 2), check=False)
    assert not (Path(folder.cache) / "checked").exists()
    assert len(quick(folder).table) == 12


def test_joined_and_generated_sources_pass_it_on(folder: Folder, ptbxl: PTBXL, tmp_path: Path) -> None:
    joined = Concat({"a": folder, "b": replace(folder, separator=",")}, 100, tmp_path / "cache")
    assert quick(joined).checked is None and quick(joined).checked is not None
    edit(Path(folder.root) / "labels.csv", "LBBB", "AF")
    assert any(note.startswith("a: The files of the records have changed") for note in quick(joined).notes)
    made = Synthetic(4, 0, 1.0, 100, tmp_path / "cache")
    assert quick(made).checked is None and quick(made).checked is not None


def test_the_note_of_the_cache_names_no_folder_of_the_user(source: Source) -> None:
    quick(source)
    (note,) = Path(source.cache).glob("checked/*.json")
    assert str(Path(source.root).parent) not in note.read_text()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute ago"),
        (59.9, "less than a minute ago"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (7200, "2 hours ago"),
        (86400, "1 day ago"),
        (200_000, "2 days ago"),
        (-5, "less than a minute ago"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert ago(seconds) == words
