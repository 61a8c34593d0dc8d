"""Corpora that grow, in CPU seconds and peak memory: first step, preparation, a year, a large store, intervals.

    python bench/bench_corpora.py first_step|prepare|year|large|intervals [--records N] [--before FOLDER]

The records are noise from a seed, in WFDB files of the bench; `large` uses generated records of 20 samples. Each
measurement is a process of its own. `--before` names the folder ``src`` of another version, measured beside this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parents[1]
PER_DAY = 200
COLUMNS = ["data.patient_column=patient", "data.fold_column=fold"]


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak() -> float:
    """Largest resident memory of this process, MiB. A child of a large process would inherit `ru_maxrss`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def child(job: str, *arguments: object, source: Path) -> dict[str, Any]:
    """Run one measurement in a process of its own, with the package of a folder ``src``."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "child", job, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def write_corpus(folder: Path, records: int, samples: int, first: int = 0) -> None:
    """Write records `first` to `records` of a corpus as WFDB files, and the table of all."""
    from einthoven.data.synthetic.write import write_record

    noise = np.random.default_rng(0).integers(-2000, 2000, (12, samples + 29 * 100_000), dtype=np.int16)
    for k in range(first, records):
        start = 29 * (k % 100_000)
        signal = noise[:, start : start + samples].copy()
        signal[0, 0], signal[1, 0] = k % 30_000, k // 30_000
        place = folder / f"{k // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        write_record(place / f"{k:07d}", signal, 100)
    classes = np.random.default_rng(1).integers(0, 5, records)
    rows = [f"{k // 1000:04d}/{k:07d}.hea,{'ABCDE'[classes[k]]},p{k // 2},{k // 2 % 10 + 1}" for k in range(records)]
    (folder / "labels.csv").write_text("\n".join(["path,labels,patient,fold", *rows]) + "\n")


def source_of(folder: Path, cache: Path, seconds: float = 10.0) -> Any:
    from einthoven.data.sources.folder import Folder

    return Folder(folder, 100, cache, patient_column="patient", fold_column="fold", seconds=seconds)


def first_step(folder: str, cache: str, run_folder: str, data: str) -> dict[str, float]:
    """From the composed configuration to the first batch: store, labels, splits, model, facts about the splits."""
    import scipy.spatial  # noqa: F401  # imports are not a cost of the corpus
    import sklearn.metrics  # noqa: F401
    import torch._dynamo  # noqa: F401
    from hydra import compose, initialize_config_dir

    import einthoven
    from einthoven.data.store.batches import training_batches
    from einthoven.runs.network_run import NetworkRun
    from einthoven.runs.results import advice
    from einthoven.runs.start import write_start

    class Nowhere:
        def table(self, *_: object) -> None:
            """Take the place of a tracking run."""

    source = [f"data.root={folder}", f"data.cache={cache}", *COLUMNS]
    if data == "store":
        source = [f"data.root={next(Path(cache).glob('stores/*'))}"]
    options = [f"data={data}", *source, "task=columns", "trainer.residency=device"]
    with initialize_config_dir(str(Path(einthoven.__file__).parents[2] / "conf"), version_base=None):
        config = compose("train", [*options, "tracking.experiment=bench", "tracking.run_name=bench"])
    start = cpu()
    run = NetworkRun(config, Path(run_folder))
    Path(run_folder).mkdir(exist_ok=True)
    write_start(run, [])
    advice.measure_splits(run, Nowhere())  # type: ignore[arg-type]
    next(iter(training_batches(run.data.splits["train"], size=32, window=run.window, seed=0, epoch=0)))
    return {"cpu": cpu() - start, "peak": peak(), "records": len(run.data.store.table)}


def build(folder: str, cache: str) -> dict[str, float]:
    """Pack a corpus; its first record also by a loop of `wfdb.rdsamp`, which is the ratio's unit."""
    import wfdb

    files = sorted(Path(folder).glob("*/*.hea"))[:500]
    start = cpu()
    for file in files:
        wfdb.rdsamp(str(file.with_suffix("")))
    naive = (cpu() - start) / len(files)
    source = source_of(Path(folder), Path(cache))
    start = cpu()
    wall = time.perf_counter()
    store = source.open()
    wall = time.perf_counter() - wall
    n = len(store.table)
    return {"cpu": (cpu() - start) / n * 1e6, "ratio": naive / ((cpu() - start) / n), "rate": n / wall, "peak": peak()}


def add_days(folder: str, cache: str, first: str, last: str) -> dict[str, float]:
    """Pack the records of some days, day after day: each time the new records alone."""
    from dataclasses import replace

    from einthoven.data.store.build_store import open_or_build

    plan = source_of(Path(folder), Path(cache), 1.0)._plan()
    start = cpu()
    for day in range(int(first), int(last) + 1):
        rows = slice((day - 1) * PER_DAY, day * PER_DAY)
        open_or_build(replace(plan, files=plan.files[rows], table=plan.table.iloc[rows]), Path(cache))
    return {"cpu": cpu() - start}


def open_day(folder: str, cache: str, records: str) -> dict[str, float]:
    """Open all records of the days so far, with a check of all files; the store is written before."""
    from dataclasses import replace

    from einthoven.data.store.build_store import open_or_build

    plan = source_of(Path(folder), Path(cache), 1.0)._plan()
    n = int(records)
    plan = replace(plan, files=plan.files[:n], table=plan.table.iloc[:n])
    open_or_build(plan, Path(cache))
    start = cpu()
    store = open_or_build(plan, Path(cache))
    opening = cpu() - start
    packs = len(list(Path(cache).glob("packs/*/*/signals.i16")))
    micro = opening / n * 1e6
    return {"cpu": opening, "µs per record": micro, "peak": peak(), "records": len(store.table), "packs": packs}


def large(cache: str, records: str) -> dict[str, float]:
    """Write a store of many small records without files, as packs and a table."""
    import pandas as pd

    from einthoven.data.formats.inputs import short_digest
    from einthoven.data.store.checksums import PACK_FILE, SIGNALS, BlockSums, pack_text
    from einthoven.data.store.packs import IndexWriter, Packs
    from einthoven.data.store.plan import Plan, RecordFiles
    from einthoven.data.store.store_origin import Origin
    from einthoven.data.store.store_rows import StoreRows
    from einthoven.data.store.write_store import write_store

    n = int(records)
    rng = np.random.default_rng(0)
    names = pd.Series([f"{k:07d}.hea" for k in range(n)])
    number = np.arange(n)
    table = pd.DataFrame(
        {
            "ecg_id": number,
            "patient_id": number // 2,
            "strat_fold": number // 2 % 10 + 1,
            "source": "folder",
            "path": names,
            "classes": np.array(list("ABCDE"))[rng.integers(0, 5, n)],
        }
    )
    options = {"fs": 100.0, "class_columns": None, "patient_column": "patient", "fold_column": "fold"}
    origin = Origin("einthoven.data.sources.folder.Folder", options, True)
    plan = Plan("large", RecordFiles(Path(cache), names), table, 100.0, seconds=0.2, origin=origin)
    pool = Path(cache) / "packs" / plan.pool
    for start in range(0, n, 2**16):
        folder = pool / f"part{start:09d}"
        folder.mkdir(parents=True)
        index, sums = IndexWriter(folder), BlockSums()
        with (folder / SIGNALS).open("wb") as file:
            for row, k in enumerate(range(start, min(n, start + 2**16))):
                data = rng.integers(-2000, 2000, (12, 20), dtype=np.int16).tobytes()
                file.write(data)
                sums.add(data)
                state = k.to_bytes(16, "little")
                entry = {"main": state, "others": "", "state": state, "window": 0, "digest": short_digest(data)}
                counts = {"row": row, "samples": 20, "invalid_samples": 0, "clipped_samples": 0, "valid_samples": 20}
                index.add(entry | counts | {"start_s": 0.0, "reason": ""})
        (folder / PACK_FILE).write_text(pack_text(sums, index.close()[1]))
    packs = Packs(pool, 12)
    rows, quarantine = StoreRows.from_plan(plan, packs, np.arange(n))
    fingerprint = rows.fingerprint()
    path = Path(cache) / "stores" / f"large-{fingerprint[:16]}"
    write_store(path, rows, 20, quarantine, fingerprint)
    return {"records": n}


def intervals(records: str) -> dict[str, float]:
    """Intervals of the AUROCs of 71 classes."""
    from einthoven.evaluation.bootstrap import auroc_intervals

    n = int(records)
    rng = np.random.default_rng(0)
    y = rng.random((n, 71)) < np.geomspace(0.002, 0.6, 71)
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 2 * y)))
    before = peak()
    start = cpu()
    macro, _ = auroc_intervals(y, p, resamples=64)
    return {"cpu": cpu() - start, "memory": peak() - before, "low": macro.low, "high": macro.high}


CHILDREN = {
    "first_step": first_step,
    "build": build,
    "add_days": add_days,
    "open_day": open_day,
    "large": large,
    "intervals": intervals,
}


def show(name: str, values: dict[str, Any]) -> None:
    print(f"{name:34}", "  ".join(f"{key} {value:,.6g}" for key, value in values.items()), flush=True)


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["first_step", "prepare", "year", "large", "intervals"])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    sources = {"now": HERE / "src"}
    if options.before:
        sources["before"] = options.before.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.part in ("first_step", "prepare"):
            write_corpus(folder / "records", options.records, 1000)
            for version, source in sources.items():
                result = child("build", folder / "records", folder / f"cache-{version}", source=source)
                show(f"prepare, {version}: µs of CPU, x wfdb", result)
        if options.part == "first_step":
            for version, source in sources.items():
                for run in ("first run", "second run"):
                    arguments = (folder / "records", folder / f"cache-{version}", folder / f"run-{version}", "folder")
                    show(f"first step, {version}, {run}", child("first_step", *arguments, source=source))
            arguments = (folder / "records", folder / "cache-now", folder / "run-store", "store")
            show("first step, data=store", child("first_step", *arguments, source=sources["now"]))
        if options.part == "year":
            year(folder, sources, options.days)
        if options.part == "large":
            show("large store written", child("large", folder / "cache", options.records, source=sources["now"]))
            for run in ("first run", "second run"):
                arguments = (folder, folder / "cache", folder / "run", "store")
                show(f"first step, {run}", child("first_step", *arguments, source=sources["now"]))
        if options.part == "intervals":
            for n in (options.records // 4, options.records):
                for version, source in sources.items():
                    show(f"intervals of {n:,} x 71, {version}", child("intervals", n, source=source))


def year(folder: Path, sources: dict[str, Path], days: int) -> None:
    """Add records day after day; on some days, show what adding and opening cost. Another version stops on day 100."""
    write_corpus(folder / "records", days * PER_DAY, 100)
    for version, source in sources.items():
        cache = folder / f"cache-{version}"
        done = 0
        for day in sorted({1, 30, 100, days}):
            if version == "before" and day > 100:
                continue
            added = child("add_days", folder / "records", cache, done + 1, day, source=source)
            show(f"days {done + 1} to {day} added, {version}", added)
            done = day
            result = child("open_day", folder / "records", cache, day * PER_DAY, source=source)
            show(f"day {day} opened, {version}", result)


if __name__ == "__main__":
    main()
