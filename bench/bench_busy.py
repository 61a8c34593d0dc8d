"""Speed of a training on an idle machine and beside one busy process, for several ways in which threads wait.

    python bench/bench_busy.py [ROUNDS]

Each training is a process with its own environment. The ways are tried in turn. Prints the median of the records per
second over the rounds, and its ratio to the speed of the defaults on an idle machine. At the end, a longer training
shows whether a run says that it loses cores, alone and beside the busy process. ``0`` rounds measure only that. Run it
on a machine where nothing else runs.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

WAYS: dict[str, dict[str, str]] = {
    "defaults": {},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
TRAIN = ("data.records=1200", "trainer.epochs=4", "tracking.artifacts=false", "tracking.offline=true")
LONGER = "trainer.epochs=12"
SENTENCE = re.compile(r"other processes have taken .*")
SPEED = re.compile(r"([\d,]+) records/s")


def busy() -> None:
    """Use one core until the process is ended."""
    while True:
        pass


def show(folder: str, variables: dict[str, str], *options: str) -> str:
    """Return what a training shows."""
    command = [sys.executable, "-m", "einthoven", "train", *TRAIN, "diagnostics=none", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return subprocess.run(
        command, cwd=folder, env=environment | variables, capture_output=True, text=True, check=True
    ).stdout


def speed(folder: str, variables: dict[str, str]) -> float:
    """Return the records per second of the last epoch of a training."""
    return float(SPEED.findall(show(folder, variables))[-1].replace(",", ""))


def lost_cores(folder: str) -> str:
    """Return what a longer training says about lost cores."""
    found = SENTENCE.search(show(folder, {}, LONGER))
    return found.group() if found else "nothing"


@contextmanager
def beside_a_busy_process() -> Iterator[None]:
    """Run the block beside a process that uses one core."""
    process = multiprocessing.Process(target=busy, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    idle: dict[str, list[float]] = {way: [] for way in WAYS}
    beside: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        speed(folder, {})  # makes the records
        for _ in range(rounds):
            for way, variables in WAYS.items():
                idle[way].append(speed(folder, variables))
            with beside_a_busy_process():
                for way, variables in WAYS.items():
                    beside[way].append(speed(folder, variables))
        print(f"alone, a run says: {lost_cores(folder)}")
        with beside_a_busy_process():
            print(f"beside a busy process, a run says: {lost_cores(folder)}")
    if not rounds:
        return
    reference = statistics.median(idle["defaults"])
    print(f"{'':<24}{'idle, records/s':>16}{'ratio':>8}{'busy, records/s':>18}{'ratio':>8}")
    for way in WAYS:
        of_idle, of_beside = statistics.median(idle[way]), statistics.median(beside[way])
        print(f"{way:<24}{of_idle:>16,.0f}{of_idle / reference:>8.2f}{of_beside:>18,.0f}{of_beside / reference:>8.2f}")


if __name__ == "__main__":
    main()
