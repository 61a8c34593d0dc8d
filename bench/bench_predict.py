"""From files to calibrated probabilities: loading, one file, and many.

    python bench/bench_predict.py PTBXL_ROOT [FILES [BUNDLE]]

With 100 Hz records of 10 s, and the folder of a run that was evaluated or, if none is given, the bundle of real ECGs
that comes with the package. Prints seconds to load the bundle with torch imported; milliseconds from one file to its
probabilities on one core, and with the doctor's cautions, and whether this is within the goal of 15 ms; files per
second of `einthoven predict` on two cores, reading and cautions included, and of a loop over single files. Beside wall
time stands the time of the processor, which other work on the machine does not change much.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from einthoven.data.doctor import examine_record
from einthoven.predict import load_bundle
from einthoven.predict.answers import answers

GOAL_MS = 15.0
"""Largest median time of the processor for one file, after loading."""

LOAD = """
import time, torch
start, cpu = time.perf_counter(), time.process_time()
from einthoven.predict import load_bundle
load_bundle()
print(time.perf_counter() - start, time.process_time() - cpu)
"""


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main(root: Path, count: int, *bundle: Path) -> None:
    found = (subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True) for _ in range(3))
    wall, cpu = min(tuple(map(float, run.stdout.split())) for run in found)
    print(f"load, torch imported: {wall:.2f} s (processor {cpu:.2f} s)")
    files = sorted((root / "records100").rglob("*.hea"))[:count]
    predictor = load_bundle(*bundle)

    torch.set_num_threads(1)

    def one(file: Path, doctor: bool) -> None:
        record, prepared = predictor.read(file)
        if doctor:
            prepared = predictor.with_findings(prepared, examine_record(record))
        predictor.predict_prepared([prepared])

    for doctor, name in ((False, "probabilities"), (True, "probabilities and cautions")):
        one(files[0], doctor)
        each = [timed(partial(one, file, doctor)) for file in files[:60]]
        wall, cpu = (1e3 * statistics.median(part) for part in zip(*each, strict=True))
        least = 1e3 * min(wall for wall, _ in each)
        verdict = "within" if cpu <= GOAL_MS else "above"
        print(
            f"one file to {name}: median {wall:.1f} ms, least {least:.1f} ms; processor {cpu:.1f} ms, {verdict} the "
            f"goal of {GOAL_MS:g} ms"
        )
    loop = timed(lambda: [one(file, True) for file in files[: count // 4]])
    torch.set_num_threads(2)
    with_doctor = timed(lambda: list(answers(predictor, files, {})))
    without = timed(lambda: list(answers(predictor, files, {}, doctor=False)))
    alone = (count // 4) / loop[0]
    for name, (wall, cpu), n in (
        ("a loop over single files with cautions, one core", loop, count // 4),
        ("einthoven predict, two cores", with_doctor, count),
        ("einthoven predict --no-doctor, two cores", without, count),
    ):
        print(f"{name}: {n / wall:.0f} files/s (processor {1e3 * cpu / n:.2f} ms a file), {n / wall / alone:.2f} times")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 960, *map(Path, sys.argv[3:]))
