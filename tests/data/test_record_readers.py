"""Several processes read the records of a large corpus. The store is the same as with one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store import record_readers
from einthoven.data.store.record_readers import read_all
from einthoven.errors import UserError

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems read in one process")


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_readers, "FEWEST", 1)
    monkeypatch.setattr(record_readers, "AT_ONCE", 5)
    monkeypatch.setattr(record_readers, "usable_cores", lambda: 3)


@linux
def test_several_processes_build_the_store_of_one(corpus: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    # With a file that is damaged: it stops neither build, and no pack is lost.
    shutil.copytree(corpus, tmp_path / "mine")
    (tmp_path / "mine" / "records100" / "00000" / "00030_lr.dat").write_bytes(b"short")
    (tmp_path / "mine" / "records100" / "00000" / "00007_lr.dat").write_bytes(b"short")
    alone = PTBXL(tmp_path / "mine", 100, tmp_path / "one", on_error="quarantine").open()
    request.getfixturevalue("several")
    several = PTBXL(tmp_path / "mine", 100, tmp_path / "several", on_error="quarantine").open()
    assert several.fingerprint == alone.fingerprint
    assert [file.read_bytes() for file in several.signals.files] == [file.read_bytes() for file in alone.signals.files]
    assert several.quarantine["reason"].tolist() == alone.quarantine["reason"].tolist()

    # The refusal names all of them, and the others are packed all the same.
    with pytest.raises(UserError) as refusal:
        PTBXL(tmp_path / "mine", 100, tmp_path / "refused").open()
    assert "2 of 48 records cannot be read (00007_lr, 00030_lr): data.on_error=quarantine" in str(refusal.value)
    assert len(list((tmp_path / "refused").glob("packs/*/*/signals.i16"))) == 1


@linux
@pytest.mark.usefixtures("several")
def test_rows_come_in_order_from_other_processes_and_a_lost_process_is_one_sentence() -> None:
    rows = np.arange(40)
    pairs = list(read_all(rows, lambda row: (row, os.getpid())))
    assert [row for row, _ in pairs] == rows.tolist()
    assert os.getpid() not in {process for _, process in pairs}

    def dies(row: int) -> int:
        if row == 33:
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    with pytest.raises(UserError, match="the system has ended a process that reads records"):
        list(read_all(rows, dies))

    def refuses(row: int) -> int:
        if row == 12:
            raise UserError("12: refused.")
        return row

    with pytest.raises(UserError, match="12: refused"):
        list(read_all(rows, refuses))


KILLED = """
import os, time
import numpy as np
from einthoven.data.store import record_readers
record_readers.FEWEST = 1
record_readers.AT_ONCE = 1
record_readers.usable_cores = lambda: 2
def read(row):
    time.sleep(0.2 if row < 4 else 60)
    return os.getpid()
for process in record_readers.read_all(np.arange(100), read):
    print(process, flush=True)
"""


@linux
def test_processes_that_read_end_with_a_build_that_is_killed() -> None:
    build = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert build.stdout is not None
    readers = {int(build.stdout.readline()) for _ in range(4)}
    build.kill()
    build.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{reader}/cmdline").exists() for reader in readers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{reader}/cmdline").exists() for reader in readers)
