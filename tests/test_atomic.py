"""Files and folders are whole or not there. What a kill leaves is gone at the next start. What is in use stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from einthoven import atomic as module
from einthoven.atomic import ABANDONED_AFTER, PARTIAL, atomic, remove_leftovers, working_folder, write_text
from einthoven.errors import UserError
from einthoven.predict.sealed_folder import replace_folder
from einthoven.report.prediction_pages import Pages
from einthoven.training import checkpoint
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


def test_a_folder_is_deleted_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with working_folder(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.is_relative_to(tmp_path) and not (folder.parent / "content" / "lock").exists()
    with pytest.raises(KeyError), working_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_moved_stays(tmp_path: Path) -> None:
    with working_folder(tmp_path) as folder:
        folder.rename(tmp_path / "complete")
    assert [path.name for path in tmp_path.iterdir()] == ["complete"]
    assert not list((tmp_path / "complete").iterdir())


@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_the_permissions_of_a_folder(tmp_path: Path, mode: int) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    with working_folder(tmp_path, mode=mode) as folder:
        assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {mode & ~umask}


# ---------------------------------------------------------------- what a kill leaves

HOLD = """
import sys, time
from pathlib import Path
from einthoven.atomic import atomic, working_folder
place = Path(sys.argv[1])
with working_folder(place) as folder, atomic(place / "a.txt") as partial:
    (folder / "ecg.csv").write_text("1")
    partial.write_text("half")
    print(folder, partial, sep="\\n", flush=True)
    time.sleep(60)
"""


def test_what_a_living_process_writes_stays_until_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    partial = Path(process.stdout.readline().strip())
    try:
        write_text(tmp_path / "a.txt", "whole")
        assert (folder / "ecg.csv").exists() and partial.exists()
    finally:
        process.kill()
        process.wait()
    assert folder.exists() and partial.exists()
    write_text(tmp_path / "b.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def kill_this_process(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_bundle(place: Path, is_killed: bool) -> None:
    class Contents(dict[str, bytes]):
        def items(self) -> Iterator[tuple[str, bytes]]:  # type: ignore[override]
            yield "bundle.json", b"{}"
            if is_killed:
                kill_this_process()

    replace_folder(place / "bundle", Contents())


def write_pages(place: Path, is_killed: bool) -> None:
    with Pages(place / "pages.pdf", ["not for clinical use"]) as pages:
        pages.add(np.zeros((12, 100)), 100, tuple("abcdefghijkl"), "a.hea", [], [])
        if is_killed:
            kill_this_process()


def write_checkpoint(place: Path, is_killed: bool) -> None:
    if is_killed:
        checkpoint._check_written = kill_this_process
    checkpoint.save(place / "last.safetensors", {"a": torch.zeros(2)}, {}, previous=place / "previous.safetensors")


@pytest.mark.parametrize("write", [write_bundle, write_pages, write_checkpoint])
def test_a_writer_that_is_killed_leaves_nothing_at_its_place(
    tmp_path: Path, write: Callable[[Path, bool], None]
) -> None:
    write(tmp_path, False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before
    pid = os.fork()
    if pid == 0:
        write(tmp_path, True)
    _, state = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(state) == -signal.SIGKILL
    assert len(list(tmp_path.glob(f"{PARTIAL}*"))) == 1
    assert {path: path.read_bytes() for path in before} == before
    write(tmp_path, False)
    assert not list(tmp_path.glob(f"{PARTIAL}*"))


def test_what_another_machine_has_left_stays_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = time.time() - ABANDONED_AFTER - 60
    new, old = (tmp_path / f"{PARTIAL}{number}-elsewhere" for number in range(2))
    for folder in (new, old):
        (folder / "content" / "records").mkdir(parents=True)
        file = folder / "content" / "records" / "file"
        file.touch()
        for path in (file, *file.parents[:3]):
            os.utime(path, (long_ago, long_ago))
    # Somebody still writes in the new one.
    os.utime(new / "content" / "records" / "file")
    remove_leftovers(tmp_path)
    assert new.exists() and not old.exists()


def test_links_files_and_what_another_user_has_left_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "target").mkdir()
    link, file, folder = (tmp_path / f"{PARTIAL}{number}-{module._machine()}" for number in range(3))
    link.symlink_to(tmp_path / "target")
    file.touch()
    folder.mkdir()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    assert folder.exists()
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"target", link.name, file.name}


def test_a_file_system_without_locks_is_used_and_nothing_is_deleted_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.1)
    with working_folder(tmp_path) as folder:
        write_text(tmp_path / "a.txt", "a")
        assert folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_many_processes_may_create_and_sweep_at_once(tmp_path: Path) -> None:
    def work() -> int:
        lost = 0
        for _ in range(50):
            with working_folder(tmp_path) as folder:
                (folder / "file").touch()
                lost += not (folder / "file").exists()
        return lost

    with ThreadPoolExecutor(4) as pool:
        assert [future.result() for future in [pool.submit(work) for _ in range(4)]] == [0] * 4
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_that_names_the_parent_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as error, full_disk(), working_folder(tmp_path) as folder:
        (folder / "signals.bin").write_bytes(bytes(10_000))
    assert error.value.filename == str(tmp_path) and not list(tmp_path.iterdir())
