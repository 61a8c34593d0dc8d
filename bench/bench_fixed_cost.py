"""What a command costs beside its work: a typo, --cfg job, --help, predict, short runs, and a sweep of tiny runs.

    python bench/bench_fixed_cost.py [--rounds 3] [--before FOLDER] [--quick] [--corpus FOLDER]

Each command is a process of its own. A round starts every command once, so that a load of the machine is shared by all
commands. The table shows the smallest CPU time (user and system) and the smallest wall time of a command over the
rounds, and both as a ratio to those of ``python -c "import torch"``. `--before` names the folder ``src`` of another
version, which is measured in the same rounds. `--quick` leaves the runs and the sweep out. `--corpus` names a folder in
the layout of PTB-XL: then only a cross-validation over its folds is measured.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

SMALL = ("trainer.epochs=1", "model=mlp", "model.width=8", "model.depth=1")
TINY = ("data.records=300", *SMALL)
FILES = 101
FEW, MANY = 2, 6  # runs of the two sweeps

Seconds = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    sources = {"now": Path(__file__).parents[1] / "src"}
    if options.before:
        sources["before"] = options.before.resolve()

    corpus: list[str] = []
    if options.corpus:
        corpus = ["data=ptbxl", f"data.root={options.corpus.resolve()}", "data.allow_missing=true", *SMALL]

    with TemporaryDirectory() as place:
        for name, source in sources.items():
            # The first run generates the records, and makes the tracking store.
            (Path(place) / name).mkdir()
            measure(["-m", "einthoven", "train", *(corpus or TINY)], Path(place) / name, source)
        records = sorted((Path(place) / "now" / "data").rglob("*.hea"))[:FILES]
        commands = list_runs(corpus) if corpus else list_commands(records, quick=options.quick)
        seconds: dict[tuple[str, str], list[Seconds]] = {}
        for _ in range(options.rounds):
            for command, words in commands.items():
                for name, source in sources.items():
                    cost = measure(words, Path(place) / name, source)
                    seconds.setdefault((command, name), []).append(cost)
    best = {key: (min(cpu for cpu, _ in costs), min(wall for _, wall in costs)) for key, costs in seconds.items()}
    for name in sources:
        show(name, {command: best[command, name] for command in commands})


def list_commands(records: Sequence[Path], *, quick: bool) -> dict[str, list[str]]:
    """Arguments of Python by the name of what is measured."""
    program = ["-m", "einthoven"]
    one, *_ = files = [str(record) for record in records]
    sweep = ["train", "-m", *TINY, "tracking.artifacts=false", "again=true"]
    commands = {
        "import torch": ["-c", "import torch"],
        "--help": [*program, "--help"],
        "typo in an option": [*program, "train", "trainer.epoch=3"],
        "wrong value": [*program, "train", "trainer.epochs=0"],
        "--cfg job": [*program, "train", "--cfg", "job"],
        "predict, 1 file": [*program, "predict", one],
        f"predict, {FILES} files": [*program, "predict", *files],
    }
    if not quick:
        commands |= {
            "run with artifacts": [*program, "train", *TINY],
            "run without artifacts": [*program, "train", *TINY, "tracking.artifacts=false"],
            f"sweep of {FEW}": [*program, *sweep, f"seed=range({FEW})"],
            f"sweep of {MANY}": [*program, *sweep, f"seed=range({MANY})"],
        }
    return commands


def list_runs(corpus: Sequence[str]) -> dict[str, list[str]]:
    """Arguments of Python for a cross-validation on a corpus."""
    train = ["-m", "einthoven", "train"]
    light = [*corpus, "tracking.artifacts=false", "again=true"]
    return {"import torch": ["-c", "import torch"], "folds=cv": [*train, *light, "folds=cv"]}


def measure(words: Sequence[str], folder: Path, source: Path) -> Seconds:
    """CPU seconds and wall seconds of a Python process and of the processes that it has started."""
    environment = os.environ | {"PYTHONPATH": str(source), "COLUMNS": "120"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Exit code 2 is the answer to a mistake, and 1 that a file has no prediction.
    if done.returncode not in (0, 1, 2):
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def show(title: str, best: dict[str, Seconds]) -> None:
    """Print the costs of a version, and the costs of one more file and of one more run, which are differences."""
    rows = dict(best)
    if "predict, 1 file" in best:
        one_file, all_files = best["predict, 1 file"], best[f"predict, {FILES} files"]
        rows["predict, each further file"] = share(one_file, all_files, FILES - 1)
    if f"sweep of {FEW}" in best:
        few, many = best[f"sweep of {FEW}"], best[f"sweep of {MANY}"]
        rows["sweep, each further run"] = share(few, many, MANY - FEW)
    unit_cpu, unit_wall = best["import torch"]
    print(f"{title:28} {'CPU s':>8} {'wall s':>8} {'CPU ratio':>10} {'wall ratio':>10}")
    for name, (cpu, wall) in rows.items():
        print(f"{name:28} {cpu:8.3f} {wall:8.3f} {cpu / unit_cpu:10.3f} {wall / unit_wall:10.3f}")


def share(few: Seconds, many: Seconds, count: int) -> Seconds:
    return (many[0] - few[0]) / count, (many[1] - few[1]) / count


if __name__ == "__main__":
    main()
