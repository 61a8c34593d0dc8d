"""List the records that the generator was fitted to: the digest of their first second.

    python bench/list_fitted_records.py /data/ptb-xl

Reads the signals of the folds of PTB-XL that `bench/fit_hearts.py` and `bench/fit_noise.py` read. Writes
``src/einthoven/data/synthetic/fitted_on.csv``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from einthoven.data import fitted_on
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.store.digests import to_bytes
from einthoven.data.synthetic import fitted

FS = 100
MOST_ID = 2000
"""The fit reads records with smaller numbers."""


def main() -> None:
    """Write the list, and print its length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    options = parser.parse_args()
    folds = fitted.fitted_folds()
    with TemporaryDirectory() as cache:
        store = PTBXL(options.root, FS, cache).open()
        ids = store.table["ecg_id"].to_numpy(np.int64)
        is_read = store.table["strat_fold"].isin(folds).to_numpy() & (ids < MOST_ID)
        digests = to_bytes(store.first_seconds[is_read])
    with fitted_on.FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ecg_id", "first_second"])
        for ecg_id, digest in zip(ids[is_read].tolist(), digests, strict=True):
            writer.writerow([ecg_id, digest.tobytes().hex()])
    print(f"{fitted_on.FILE.name}: {len(digests):,} records of PTB-XL, folds {folds}, ecg_id below {MOST_ID:,}")


if __name__ == "__main__":
    main()
