"""Reading 100 Hz records into the store's int16 µV against a `wfdb.rdsamp` loop: python bench/bench_reader.py [FOLDER].

FOLDER holds WFDB records (default: PTB-XL's records100 under EINTHOVEN_REAL_DATA, or else 500 generated ones). One
process. Both readers give the same numbers, which is checked first on every record; einthoven verifies header,
checksums and first samples besides. The loops are timed in turns and the best of each is kept, with the files in the
page cache (warm) and after it was told to drop them (cold; where the file system takes no such advice, warm again).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from einthoven.data.formats.reading import read_microvolts, read_record
from einthoven.data.synthetic.write import write_record

ROUNDS = 3


def generated(folder: Path, records: int = 500) -> Path:
    rng = np.random.default_rng(0)
    for number in range(records):
        write_record(folder / f"{number:05d}_lr", rng.integers(-3000, 3000, (12, 1000)).astype(np.int16), 100)
    return folder


def drop_from_cache(files: list[Path]) -> None:
    os.sync()  # pages that are not yet on disk stay
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def main(root: Path) -> None:
    headers = sorted(root.rglob("*.hea"))
    stems = [str(header.with_suffix("")) for header in headers]
    files = headers + [header.with_suffix(".dat") for header in headers]
    for stem in stems:
        physical, fields = wfdb.rdsamp(stem)
        signal, fs, invalid, clipped = read_microvolts(stem)
        np.testing.assert_array_equal(signal, np.rint(physical.T * 1000))
        np.testing.assert_array_equal(read_record(stem).signal, physical.T.astype(np.float32))
        assert (fs, invalid, clipped) == (fields["fs"], 0, 0)

    readers: dict[str, Callable[[str], object]] = {
        "wfdb.rdsamp": wfdb.rdsamp,
        "read_record": read_record,
        "read_microvolts": read_microvolts,
    }
    best = {(name, cache): np.inf for cache in ("warm", "cold") for name in readers}
    for _ in range(ROUNDS):
        for name, cache in best:
            if cache == "cold":
                drop_from_cache(files)
            start = time.perf_counter()
            for stem in stems:
                readers[name](stem)
            best[name, cache] = min(best[name, cache], time.perf_counter() - start)
    print(
        f"{len(stems)} records of 12 x {signal.shape[1]} samples, best of {ROUNDS}; all equal to wfdb to the last bit"
    )
    for cache in ("warm", "cold"):
        for name in readers:
            ratio = best["wfdb.rdsamp", cache] / best[name, cache]
            print(f"{cache}  {name:16s} {best[name, cache] / len(stems) * 1e6:8.0f} µs a record   ratio {ratio:6.1f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the deprecations that wfdb runs into are no part of its speed
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("EINTHOVEN_REAL_DATA")
    if len(sys.argv) > 1:
        main(Path(given))
    elif given:
        main(Path(given) / "ptbxl" / "records100")
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(generated(Path(folder)))
