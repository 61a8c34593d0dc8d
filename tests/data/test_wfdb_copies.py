"""WFDB records as copies and programs leave them: other cases, other encodings, links, headers that do not say all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven.data import read_record
from einthoven.data.formats.inputs import file_state, main_file, other_files, other_files_state
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

WriteRecord = Callable[..., Path]


@pytest.fixture(scope="module")
def digital() -> np.ndarray:
    return np.random.default_rng(0).integers(-2000, 2000, (12, 60))


@pytest.fixture
def stem(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> Path:
    (tmp_path / "records").mkdir()
    return write_record(tmp_path / "records", "a", digital)


def assert_same(path: Path, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(read_record(path).signal, expected)
    counts, _, _, _ = read_microvolts(path)
    np.testing.assert_array_equal(counts, np.rint(expected * 1000))


@pytest.mark.parametrize(
    "line", ["# Gerät: Köln, 37 °C", "# médecin: François", "#\xa0\xfe\xff Ø", "# 10 \xb5m"], ids=["ü", "é", "þ", "µ"]
)
def test_comments_in_latin_1(stem: Path, line: str) -> None:
    expected = read_record(stem).signal
    header = stem.with_suffix(".hea")
    header.write_bytes(header.read_bytes() + f"{line}\n".encode("latin-1"))
    assert_same(stem, expected)
    assert read_record(stem).comments[-1] == line.lstrip("# \t")


def test_a_unit_in_latin_1(stem: Path) -> None:
    expected = read_record(stem).signal
    header = stem.with_suffix(".hea")
    header.write_bytes(header.read_text().replace("1000.0(0)/mV", "1.0(0)/µV").encode("latin-1"))
    assert_same(stem, expected)


@pytest.mark.parametrize("samples", ["0", "00", "0 10:20:30", "0 12:00:00 01/01/2000"])
def test_a_header_of_zero_samples_does_not_state_the_number(stem: Path, samples: str) -> None:
    expected = read_record(stem).signal
    header = stem.with_suffix(".hea")
    first, _, others = header.read_text().partition("\n")
    header.write_text(" ".join(first.split()[:3]) + f" {samples}\n{others}")
    assert_same(stem, expected)


def test_a_segment_of_zero_samples(stem: Path) -> None:
    expected = read_record(stem).signal
    header = stem.with_suffix(".hea")
    first, _, others = header.read_text().partition("\n")
    length = first.split()[3]
    header.write_text(" ".join(first.split()[:3]) + f" 0\n{others}")
    (stem.parent / "m.hea").write_text(f"m/2 12 {first.split()[2]}\na {length}\na {length}\n")
    assert_same(stem.parent / "m", np.hstack([expected, expected]))


@pytest.mark.parametrize(
    ("header", "signal", "named"),
    [
        ("A.HEA", "A.DAT", "a.dat"),
        ("A.HEA", "A.DAT", "A.DAT"),
        ("a.hea", "A.DAT", "a.dat"),
        ("a.hea", "a.dat", "A.DAT"),
        ("A.hea", "A.Dat", "a.DAT"),
    ],
)
def test_names_in_another_case(stem: Path, header: str, signal: str, named: str) -> None:
    expected = read_record(stem).signal
    folder = stem.parent
    text = stem.with_suffix(".hea").read_text().replace("a.dat", named)
    stem.with_suffix(".hea").unlink()
    (folder / header).write_text(text)
    stem.with_suffix(".dat").rename(folder / signal)
    for name in (header, header.rpartition(".")[0]):
        assert_same(folder / name, expected)
        assert read_record(folder / name).source == header.rpartition(".")[0]

    # A change of the signal file is noticed, whatever its case is.
    main = main_file(folder / header)
    assert main == str(folder / header) == main_file(folder / header.rpartition(".")[0])
    others = other_files(main)
    before = other_files_state(main, others)
    assert before == other_files_state(main, others)
    (folder / signal).write_bytes((folder / signal).read_bytes() + b"\0")
    assert before != other_files_state(main, others)


def test_two_files_that_differ_in_case_only_are_not_guessed(stem: Path) -> None:
    data = stem.with_suffix(".dat").read_bytes()
    stem.with_suffix(".dat").unlink()
    (stem.parent / "A.dat").write_bytes(data)
    (stem.parent / "a.DAT").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.dat: cannot be read \(No such file"):
        read_record(stem)


@pytest.mark.parametrize(
    "annex",
    [
        ".git/annex/objects/Xz/3K/SHA256E-s1--ab.dat/SHA256E-s1--ab.dat",
        ".git/annex/objects/f87/4d5/MD5E-s1--cd.dat/MD5E-s1--cd.dat",
        ".git/modules/records/annex/objects/Xz/3K/KEY/KEY",
    ],
)
def test_a_signal_in_the_annex_of_its_repository(tmp_path: Path, stem: Path, annex: str) -> None:
    expected = read_record(stem).signal
    target = tmp_path / annex
    target.parent.mkdir(parents=True)
    stem.with_suffix(".dat").rename(target)
    stem.with_suffix(".dat").symlink_to(Path("..") / annex)
    assert_same(stem, expected)

    # The content of an annex can be elsewhere.
    target.unlink()
    with pytest.raises(UserError, match=r"a file that is not here\), though a.hea names it; 'git annex get'"):
        read_record(stem)


def test_a_folder_of_links_to_whole_records(tmp_path: Path, stem: Path) -> None:
    expected = read_record(stem).signal
    selection = tmp_path / "selection"
    selection.mkdir()
    for suffix in (".hea", ".dat"):
        (selection / f"a{suffix}").symlink_to(stem.with_suffix(suffix))
    assert_same(selection / "a", expected)


@pytest.mark.parametrize("place", ["other/.git/annex/objects/k", "annex/objects/k", ".git/hooks/k", "secret/a.dat"])
def test_other_links_out_of_the_folder_are_refused(tmp_path: Path, stem: Path, place: str) -> None:
    target = tmp_path / place
    target.parent.mkdir(parents=True)
    stem.with_suffix(".dat").rename(target)
    stem.with_suffix(".dat").symlink_to(target)
    with pytest.raises(UserError, match="a symbolic link that leads outside the record's folder"):
        read_record(stem)


def test_leads_whose_only_common_rate_is_that_of_a_frame_are_refused(tmp_path: Path) -> None:
    rates = [500] * 6 + [250] * 6
    lines = [f"a.dat 16x{rate} 1000/mV 16 0 0 0 0 {lead}" for rate, lead in zip(rates, LEADS, strict=True)]
    (tmp_path / "a.hea").write_text("\n".join(["a 12 1 4", *lines]))
    (tmp_path / "a.dat").write_bytes(bytes(2 * 4 * sum(rates)))
    with pytest.raises(UserError, match="leads at 250 and 500 Hz, which have only frames at 1 Hz in common"):
        read_record(tmp_path / "a", checksum="warn")


def test_the_state_of_a_record_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text("I\n1\n")
    assert main_file(tmp_path / "A.CSV") == str(tmp_path / "A.CSV")
    assert file_state(str(tmp_path / "A.CSV")) != file_state(str(tmp_path / "B.CSV"))
