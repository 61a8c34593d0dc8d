"""A server as a user starts it, and a record that is sent to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import MEGABYTES, Server


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts `einthoven app`, on a port that is free, with a temporary folder of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, temporary: Path | None = None) -> Server:
        place = temporary or tmp_path_factory.mktemp("temporary")
        command = [sys.executable, "-m", "einthoven", "app", "--port", "0", "--no-browser", *options]
        process = subprocess.Popen(
            ["env", f"TMPDIR={place}", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        assert process.stdout is not None
        notice = process.stdout.readline()
        assert "Not for diagnosis" in notice, notice + process.stdout.read()
        return Server(int(process.stdout.readline().split()[0].rpartition(":")[2]), process)

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for temporary files of `server`."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server], temporary: Path) -> Server:
    """One with the bundle of generated ECGs, for 4 MB and 10 s a record."""
    return serve("synthetic", "--max-size", str(MEGABYTES), "--timeout", "10", temporary=temporary)


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated record of 30 s at 500 Hz: r.hea with r.dat, r.csv with the leads, and s.csv without them."""
    import numpy as np

    from einthoven.data.synthetic.generate import iterate
    from einthoven.data.synthetic.write import write_record
    from einthoven.functional.leads import LEADS

    folder = tmp_path_factory.mktemp("record")
    signal = np.concatenate([sample.signals[500] for sample in iterate(3, 4, rates=(500,))], axis=1)
    write_record(folder / "r", signal, 500)
    np.savetxt(folder / "r.csv", signal.T / 1000, "%.3f", ",", header=",".join(LEADS), comments="")
    np.savetxt(folder / "s.csv", signal.T / 1000, "%.3f", ",")
    return folder
