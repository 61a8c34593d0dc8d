from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from einthoven.atomic import atomic, write_text
from einthoven.errors import UserError
from full_disk import full_disk


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    with atomic(file) as partial:
        partial.write_bytes(b"half")
        assert partial.suffix == ".npy" and not file.exists()
        partial.write_bytes(b"whole")
    assert file.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [file]


def test_what_goes_wrong_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "before µ")
    with pytest.raises(RuntimeError), atomic(file) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert file.read_text(encoding="utf-8") == "before µ" and list(tmp_path.iterdir()) == [file]


def test_two_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with atomic(file) as first, atomic(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # closed last


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    # NumPy raises an error without a number and without a name.
    with pytest.raises(OSError, match="written") as error, full_disk(), atomic(file) as partial:
        np.save(partial, np.zeros(10_000))
    assert error.value.filename == str(file) and not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="File too large") as error, full_disk():
        write_text(file, "a" * 10_000)
    assert error.value.filename == str(file) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError("PytorchStreamWriter failed writing file"), OSError("element 5")])
def test_an_error_of_a_library_on_a_full_disk_is_that_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    file = tmp_path / "a.pt2"
    with pytest.raises(type(error), match=str(error)), atomic(file):
        raise error
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=0, f_frsize=4096))
    with pytest.raises(OSError, match="No space left") as full, atomic(file):
        raise error
    assert full.value.errno == errno.ENOSPC and full.value.filename == str(file)


@pytest.mark.parametrize("error", [UserError("a mistake"), FileNotFoundError(2, "no such file", "other.csv")])
def test_other_errors_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=0, f_frsize=4096))
    with pytest.raises(type(error)) as raised, atomic(tmp_path / "a"):
        raise error
    assert raised.value is error


def test_a_file_system_that_is_read_only_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with pytest.raises(OSError, match="Read-only") as error, atomic(file) as partial:
        raise OSError(errno.EROFS, "Read-only file system", str(partial))
    assert error.value.filename == str(file)
