"""Runs that are killed at random moments and resumed: each has to end as a run that nobody disturbed.

    python bench/bench_kills.py [--kills 50] [--seed 0] [--folder DIR] [--forks]

Every run is the first one of an empty folder. It is hit once by SIGKILL, SIGTERM or SIGINT between its first second and
its last artifact, and every third run once more while it is resumed. Then it is resumed until it is FINISHED, or
started again if it had not begun. Compared with the undisturbed run: all tensors of the checkpoints, all metrics by
name, step and value (in the store and in series/metrics.parquet), the files of the run and their tables, the number of
runs and of models in the store. The values of ``system/…`` are times and memory, so that only their names and steps are
compared. Nothing incomplete may be left in the folder.

A run is a process `python -m einthoven train …` that makes its own data, so that the hits are also in imports and in
the generation of the records. With --forks, runs are forks of one process that has imported everything, and they share
the data: many more hits in the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.figure
import pyarrow.parquet as pq
import torch

from einthoven import cli
from einthoven.atomic import PARTIAL
from einthoven.training import checkpoint

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OPTIONS = (
    "data.records=80",
    "trainer.epochs=3",
    "trainer.batch_size=8",
    "trainer.checkpoint_minutes=0.003",
    "model=logistic",
    "optimizer=schedule_free_adamw",
    "diagnostics.landscape=false",
    "hydra.run.dir=run",
)

_savefig = matplotlib.figure.Figure.savefig


def _save_small(figure: matplotlib.figure.Figure, *arguments: Any, **options: Any) -> None:
    _savefig(figure, *arguments, **{**options, "dpi": 10})


TRIES = 6
"""Resumptions of a run at most."""


@dataclass
class Outcome:
    """What is left of a run.

    Attributes
    ----------
    problems : list of str
        What differs from the undisturbed run. It is empty if nothing does.
    moments : list of str
        When the run was hit, with the last line that it had printed.
    """

    problems: list[str] = field(default_factory=list)
    moments: list[str] = field(default_factory=list)
    codes: list[tuple[int, int | None]] = field(default_factory=list)


class Process:
    """A command in a folder. What the command prints is appended to the file ``log`` in the folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with (folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "einthoven", *arguments]
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end of the command. Return its code; None if it has not ended after some seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


class Fork(Process):
    """A command in a folder, as a fork of this process, which has imported everything: that takes the most time."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.chdir(folder)
                cli.main(list(arguments))
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                Path("modules").write_text("\n".join(sys.modules))
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def wait(self, seconds: float | None = None) -> int | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.code is None:
            pid, state = os.waitpid(self.pid, 0 if deadline is None else os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(state)
            elif deadline is not None and time.monotonic() > deadline:
                return None
            else:
                time.sleep(0.01)
        return self.code


def import_everything(folder: Path) -> None:
    """Import what the run in a folder has imported, so that the forks need not do it."""
    for name in (folder / "modules").read_text().split():
        with contextlib.suppress(Exception):
            import_module(name)


def last_line(folder: Path) -> str:
    """The last line that the runs in a folder have printed."""
    lines = [line for line in (folder / "log").read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:90] if lines else ""


def hit(process: Process, folder: Path, number: int, seconds: float, outcome: Outcome) -> None:
    """Send a signal to a process after some seconds, and wait for its end."""
    if process.wait(seconds) is not None:
        return
    outcome.moments.append(f"{signal.Signals(number).name} after {seconds:.1f} s: {last_line(folder)}")
    os.kill(process.pid, number)
    outcome.codes.append((number, process.wait()))


def status(folder: Path) -> str:
    """Status of the newest run in the store; empty if there is none."""
    if not (folder / "mlflow.db").exists():
        return ""
    with sqlite3.connect(folder / "mlflow.db") as store:
        row = store.execute("select status from runs order by start_time desc limit 1").fetchone()
    return row[0] if row else ""


def metrics(folder: Path) -> Counter[tuple[str, int, float]]:
    """Every metric in the store: name, step and value, with the number of its occurrences."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        return Counter(comparable(*row) for row in store.execute("select key, step, value from metrics").fetchall())


def comparable(name: str, step: int, value: float) -> tuple[str, int, float]:
    """A row of a metric, without its value if that is a time or memory."""
    return name, step, 0.0 if name.startswith("system/") else value


def artifacts(folder: Path) -> dict[str, Path]:
    """The files of the runs in a folder, by their path below the artifacts. The id of a model is replaced."""
    files = {}
    for file in sorted((folder / "mlruns").rglob("*")):
        parts = file.relative_to(folder / "mlruns").parts
        if file.is_file():
            name = "/".join(part for part in parts[1:] if len(part) < 32)
            files[name] = file
    return files


def series(file: Path) -> Counter[tuple[str, int, float]]:
    """Every row of the artifact with the metrics."""
    return Counter(comparable(row["metric"], row["step"], row["value"]) for row in pq.read_table(file).to_pylist())


def tensors(file: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by their names."""
    return checkpoint._flatten_state(checkpoint.load(file)[0])[0]


def compare(folder: Path, whole: Path) -> list[str]:
    """What differs between a run that was hit and the undisturbed one."""
    problems = []
    if status(folder) != "FINISHED":
        return [f"status {status(folder)!r}"]
    with sqlite3.connect(folder / "mlflow.db") as store:
        runs = store.execute("select count(*) from runs").fetchone()[0]
        models = store.execute("select status from logged_models").fetchall()
        if (runs, models) != (1, [(2,)]):
            problems.append(f"{runs} runs, models {models}")

    for name in ("last", "best"):
        file = Path("run", "checkpoints", f"{name}.safetensors")
        if (folder / file).exists() != (whole / file).exists():
            problems.append(f"{file.name} is missing or too much")
        elif (folder / file).exists():
            now, before = tensors(folder / file), tensors(whole / file)
            if now.keys() != before.keys() or not all(torch.equal(now[k], before[k]) for k in now):
                problems.append(f"{file.name}: other tensors")

    for place, now, before in (
        ("the store", metrics(folder), metrics(whole)),
        ("the series", series_of(folder), series_of(whole)),
    ):
        if now != before:
            more, less = now - before, before - now
            problems.append(
                f"metrics of {place}: {len(more)} too many {list(more)[:3]}, {len(less)} too few {list(less)[:3]}"
            )

    files, expected = artifacts(folder), artifacts(whole)
    if files.keys() != expected.keys():
        problems.append(f"artifacts: {sorted(files.keys() ^ expected.keys())[:5]}")
    for name in files.keys() & expected.keys():
        is_of_predictions = "predictions" in name.split("/")[:-1] and name.endswith(".parquet")
        if is_of_predictions and not pq.read_table(files[name]).equals(pq.read_table(expected[name])):
            problems.append(f"{name} differs")
        if not files[name].stat().st_size and expected[name].stat().st_size:
            problems.append(f"{name} is empty")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    left += [str(path.relative_to(folder)) for path in folder.rglob(f"{PARTIAL}*")]
    if left:
        problems.append(f"left behind: {left}")
    return problems


def series_of(folder: Path) -> Counter[tuple[str, int, float]]:
    """The rows of the artifact with the metrics of the run in a folder."""
    files = [file for name, file in artifacts(folder).items() if name.endswith("series/metrics.parquet")]
    return sum((series(file) for file in files), Counter())


def try_one(
    start: type[Process],
    folder: Path,
    train: tuple[str, ...],
    whole: Path,
    length: float,
    number: int,
    draw: random.Random,
) -> Outcome:
    """Start a run in an empty folder, hit it, resume it until it is complete, and compare it."""
    folder.mkdir()
    outcome = Outcome()
    earliest = min(0.3 if start is Fork else 1.0, length)
    hit(start(folder, *train), folder, SIGNALS[number % 3], draw.uniform(earliest, length), outcome)
    if number % 3 == 2:
        arguments = ("train", "resume=run") if (folder / "run" / "config.yaml").exists() else train
        hit(start(folder, *arguments), folder, draw.choice(SIGNALS), draw.uniform(earliest, length), outcome)
    for _ in range(TRIES if outcome.codes else 0):
        size = (folder / "log").stat().st_size
        if start(folder, "train", "resume=run").wait() == 0:
            break
        said = (folder / "log").read_bytes()[size:].decode(errors="replace")
        if "start it again" in said and start(folder, *train).wait() == 0:
            break
        if "nothing to resume" in said:
            break
    outcome.problems = compare(folder, whole)
    if "Traceback" in (folder / "log").read_text(errors="replace"):
        outcome.problems.append("a traceback in the log")
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--forks", action="store_true")
    arguments = parser.parse_args()
    # A shell lets its background processes ignore SIGINT, and the runs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place = arguments.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    place.mkdir(parents=True, exist_ok=True)

    whole = place / "whole"
    whole.mkdir()
    start: type[Process] = Process
    train = ("train", *OPTIONS)
    if arguments.forks:
        start = Fork
        train = (*train, f"data.cache={place / 'cache'}")
        # Small pictures: only that they are there is compared.
        matplotlib.figure.Figure.savefig = _save_small
    assert start(whole, *train).wait() == 0, last_line(whole)
    if arguments.forks:
        import_everything(whole)
    again = place / "again"
    again.mkdir()
    begin = time.monotonic()
    assert start(again, *train).wait() == 0, last_line(again)
    length = time.monotonic() - begin
    problems = compare(again, whole)
    assert not problems, f"two undisturbed runs differ: {problems}"
    print(
        f"an undisturbed run takes {length:.1f} s, has {len(artifacts(whole))} files and {len(metrics(whole))} metrics",
        flush=True,
    )

    draw = random.Random(arguments.seed)
    codes: Counter[str] = Counter()
    complete = 0
    hits = 0
    runs = 0
    while hits < arguments.kills:
        folder = place / f"{runs:03}"
        begin = time.monotonic()
        outcome = try_one(start, folder, train, whole, length, runs, draw)
        hits += len(outcome.codes)
        runs += 1
        if not outcome.codes:
            # The run ended before it could be hit: the machine is faster now than before.
            length = min(length, time.monotonic() - begin)
        for sent, code in outcome.codes:
            codes[f"{signal.Signals(sent).name} -> {code}"] += 1
        complete += not outcome.problems
        print(f"{runs:3}  {outcome.problems or 'complete'}  {outcome.moments}", flush=True)
        if not outcome.problems:
            shutil.rmtree(folder)
    print(f"{complete} of {runs} runs complete after {hits} hits; exit codes {dict(codes)}")
    if not arguments.folder:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
