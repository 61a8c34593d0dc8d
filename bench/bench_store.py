"""The packed store, as ratios: packing, opening, reading whole, streaming beyond memory.

    python bench/bench_store.py [--records 21837] [--tiny 100000] [--folder /tmp]

Needs EINTHOVEN_REAL_DATA for the first figure. The large stores are random numbers, and removed afterwards. Packing,
opening and reading are done from the page cache; streaming from the disk, as what is larger than memory must be.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from einthoven.data.store.batches import training_batches
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.checksums import _blocks
from einthoven.data.store.plan import Plan, RecordFiles
from einthoven.data.store.signals import Signals
from einthoven.data.store.splits import DeviceSplit, StreamedSplit
from einthoven.data.synthetic.write import write_record

CPU = torch.device("cpu")


def seconds(job: Callable[[], object], repeats: int = 3) -> float:
    """The quickest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def peak() -> int:
    """Largest resident memory so far, kB (getrusage would start from that of the parent process)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def forget(file: Path) -> None:
    """Drop a file from the page cache, so that it is read from the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def numbered(folder: Path, records: int) -> RecordFiles:
    return RecordFiles(folder, pd.Series([f"{k:06d}.hea" for k in range(records)]))


def corpus_plan(files: Sequence[Path]) -> Plan:
    table = pd.DataFrame({"ecg_id": np.arange(len(files)), "patient_id": 0, "strat_fold": 1, "source": "bench"})
    return Plan("bench", files, table, 100)


def packing_speed(folder: Path) -> None:
    root = os.environ.get("EINTHOVEN_REAL_DATA")
    if not root:
        print("packing: skipped, EINTHOVEN_REAL_DATA is not set")
        return
    import wfdb

    files = [path.with_suffix("") for path in sorted(Path(root).glob("ptbxl/records100/*/*.hea"))]
    for file in files:  # warm
        file.with_suffix(".dat").read_bytes(), file.with_suffix(".hea").read_bytes()

    def build() -> None:
        shutil.rmtree(folder / "packing", ignore_errors=True)
        open_or_build(corpus_plan(files), folder / "packing")

    few = files[:300]
    ours, theirs = seconds(build) / len(files), seconds(lambda: [wfdb.rdsamp(str(f)) for f in few], 2) / len(few)
    print(f"packing into the store     {theirs / ours:6.1f} x a loop of wfdb.rdsamp ({ours * 1e6:.0f} µs a record)")


def build_memory(folder: Path, many: int) -> None:
    """Peak of a build above the interpreter with its imports, at two sizes of a corpus, each in a process of its own.

    What a build holds grows with the number of its records, not with their length: these have 20 samples. What their
    source holds, its table above all, counts as well.
    """
    (folder / "tiny").mkdir()
    noise = np.random.default_rng(0).integers(-2000, 2000, (12, 20 + many), dtype=np.int16)
    for k in range(many):
        write_record(folder / "tiny" / f"{k:06d}", noise[:, k : k + 20], 100)
    found = dict[int, float]()
    for records in (many // 4, many):
        code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path; import bench_store as b, wfdb, pyarrow.parquet
folder = Path({str(folder)!r})
b.open_or_build(b.corpus_plan(b.numbered(folder / "tiny", 50)), folder / "memory0")
before = b.peak()
b.open_or_build(b.corpus_plan(b.numbered(folder / "tiny", {records})), folder / "memory")
print((b.peak() - before) / 1024)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[records] = float(done.stdout)
        for name in ("memory", "memory0"):
            shutil.rmtree(folder / name, ignore_errors=True)
        print(f"memory of a build          {found[records]:6.0f} MiB above the interpreter, {records} records")
    shutil.rmtree(folder / "tiny")
    each = (found[many] - found[many // 4]) / (many - many // 4)
    reach = (300 - found[many]) / each + many
    print(f"                           {each * 2**20:.0f} bytes for each further record: 300 MiB at {reach:,.0f}")


def opening(folder: Path, records: int) -> None:
    """A corpus of that many records, packed; then opened again in a new process, up to the first batch."""
    (folder / "records").mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(-2000, 2000, (12, 1000 + 7 * 4096), dtype=np.int16)
    for k in range(records):
        start = 7 * (k % 4096)
        signal = noise[:, start : start + 1000].copy()
        signal[:, 0] = k % 30000
        write_record(folder / "records" / f"{k:06d}", signal, 100)
    files = sorted((folder / "records").glob("*.hea"))
    store = open_or_build(corpus_plan(files), folder / "store")
    labels = np.zeros((records, 5), np.uint8)

    def first_batch() -> None:
        opened = open_or_build(corpus_plan(files), folder / "store")
        split = DeviceSplit.load(opened.signals, np.arange(records), labels, CPU)
        next(iter(training_batches(split, size=32, window=1000, seed=0, epoch=0)))

    print(f"first batch of {records}     {seconds(first_batch):6.2f} s (bar: 2 s)")
    plain = seconds(lambda: [np.fromfile(file, "<i2") for file in store.signals.files])
    ours = seconds(lambda: store.signals.read(np.arange(records)))
    rate = store.signals.nbytes / ours / 1e9
    print(f"reading all of it          {plain / ours:6.2f} x the bandwidth of np.fromfile ({rate:.1f} GB/s)")
    first = seconds(lambda: reopened(store.signals).read(np.arange(records)))
    print(f"                           {plain / first:6.2f} x the first time in a process, with its checksums")
    few = np.sort(rng.choice(records, 100, replace=False))
    single = seconds(lambda: [store.signals[row].sum() for row in few])
    compared = seconds(lambda: [opened[row].sum() for opened in [reopened(store.signals)] for row in few])
    print(f"100 single records         {compared / single:6.1f} x as long the first time ({compared * 10:.1f} ms each)")


def reopened(signals: Signals) -> Signals:
    """The same signals, as a process that starts sees them: compared with no checksum so far."""
    _blocks.cache_clear()
    return Signals(signals.files, signals.sizes, signals.rows, *signals.shape[1:])


def stream(file: Path, rows: int) -> None:
    """Epochs of a file larger than the memory that this process allows itself; run in a process of its own.

    Reading in order and the two kinds of epoch take turns, and the quickest of each counts: other work on the machine
    slows all three.
    """
    torch.set_num_threads(1)
    signals = Signals([file], [rows], np.arange(rows), 12, 1000)
    split = StreamedSplit.open(signals, np.arange(rows), np.zeros((rows, 5), np.uint8), CPU)
    buffer = np.empty(2**24, np.uint8)
    base, memory = resident(), list[int]()

    def sequential() -> None:
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass

    def trained() -> None:  # what the trainer takes: float32 mV, whole records as by default
        for number, batch in enumerate(training_batches(split, size=32, window=1000, seed=0, epoch=0)):
            assert len(batch.x)
            if number % 500 == 0:
                memory.append(resident())

    def served() -> None:  # what crosses to a GPU, and is converted there
        order = split.shuffled(torch.arange(rows), 32, torch.Generator().manual_seed(0))
        for _, packed in split.serve(order[: rows // 32 * 32], 32):
            assert len(packed)

    best = dict.fromkeys((sequential, trained, served), np.inf)
    for _ in range(3):
        for job in best:
            forget(file)
            best[job] = min(best[job], seconds(job, 1))
    epoch = len(memory) // 3
    each = [memory[first + 2 : first + epoch] for first in range(0, 3 * epoch, epoch)]  # both buffers are there
    print(
        json.dumps(
            {
                "float": best[sequential] / best[trained],
                "int16": best[sequential] / best[served],
                "disk": signals.nbytes / best[sequential] / 1e9,
                "size": signals.nbytes / 1e9,
                "low": (min(map(min, each)) - base) / 2**20,
                "high": (max(map(max, each)) - base) / 2**20,
                "limit": resource.getrlimit(resource.RLIMIT_DATA)[0] / 2**30,
            }
        )
    )


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def streaming(folder: Path, gigabytes: float) -> None:
    file, rows = folder / "large.i16", int(gigabytes * 1e9 / 24_000)
    block = np.random.default_rng(0).integers(-2000, 2000, (1000, 12, 1000), dtype=np.int16).tobytes()
    with file.open("wb") as out:
        for start in range(0, rows, 1000):
            out.write(block[: min(1000, rows - start) * 24_000])
    limit = 2**30  # bytes of memory of its own that the process may have
    code = f"""
import resource, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path; import bench_store
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
bench_store.stream(Path({str(file)!r}), {rows})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(
        f"streaming {found['size']:.0f} GB in {found['limit']:.0f} GiB  {found['float']:6.2f} x sequential reading "
        f"({found['disk']:.2f} GB/s): shuffled batches as a CPU trains on them, float32 mV"
    )
    print(f"                           {found['int16']:6.2f} x as they cross to a GPU, int16")
    print(f"memory over the epochs     {found['low']:.0f} to {found['high']:.0f} MiB above the start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=21837)
    parser.add_argument("--tiny", type=int, default=100_000, help="records of 20 samples, for the memory of a build")
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        packing_speed(folder)
        opening(folder, options.records)
        build_memory(folder, options.tiny)
        for part in ("records", "store", "packing"):
            shutil.rmtree(folder / part, ignore_errors=True)
        streaming(folder, options.gigabytes)


if __name__ == "__main__":
    main()
