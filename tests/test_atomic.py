from __future__ import annotations

from pathlib import Path

import pytest

from einthoven.atomic import atomic, write_text


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
