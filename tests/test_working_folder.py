"""Folders to work in: gone after the work, and after a kill at the next start. Folders in use stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from einthoven import working_folder as module
from einthoven.working_folder import ABANDONED_AFTER, remove_leftovers, working_folder, working_name
from full_disk import full_disk

HOLD = """
import sys, time
from pathlib import Path
from einthoven.working_folder import working_folder
with working_folder(Path(sys.argv[1]), "upload-") as folder:
    (folder / "ecg.csv").write_text("1")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_deleted_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with working_folder(tmp_path, "a-") as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path and folder.name.startswith("a-")
    with pytest.raises(KeyError), working_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_renamed_stays(tmp_path: Path) -> None:
    with working_folder(tmp_path) as folder:
        folder.rename(tmp_path / "complete")
    assert [path.name for path in tmp_path.iterdir()] == ["complete"]


@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_its_permissions(tmp_path: Path, mode: int) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    with working_folder(tmp_path, mode=mode) as folder:
        assert folder.stat().st_mode & 0o777 == mode & ~umask


def test_a_folder_of_a_living_process_stays_until_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    try:
        remove_leftovers(tmp_path, "upload-")
        assert (folder / "ecg.csv").exists()
    finally:
        process.kill()
        process.wait()
    remove_leftovers(tmp_path, "other-")
    assert folder.exists()
    with working_folder(tmp_path, "upload-"):
        assert not folder.exists()


def test_a_folder_of_another_machine_stays_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_machine", lambda: "elsewhere")
    new, old = working_name(tmp_path), working_name(tmp_path)
    monkeypatch.undo()
    long_ago = time.time() - ABANDONED_AFTER - 60
    for folder in (new, old):
        folder.mkdir()
        (folder / "file").touch()
        os.utime(folder, (long_ago, long_ago))
    os.utime(old / "file", (long_ago, long_ago))
    remove_leftovers(tmp_path)
    assert new.exists() and not old.exists()


def test_links_files_and_other_names_stay(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    link = working_name(tmp_path)
    link.symlink_to(tmp_path / "target")
    file = working_name(tmp_path)
    file.touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["target", link.name, file.name])


def test_many_processes_may_create_and_sweep_at_once(tmp_path: Path) -> None:
    def work() -> int:
        lost = 0
        for _ in range(100):
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
