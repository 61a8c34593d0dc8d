"""Measure how right the measurements are, and what they cost.

    python bench/bench_measurements.py [--data FOLDER_OF_PTBXL]

Generated records have exact intervals. The readers of PTB-XL wrote down rhythms and conduction disorders, which the
measurements should agree with. Prints tables of docs/intervals.md.
"""

from __future__ import annotations

import argparse
import csv
import time
from ast import literal_eval
from pathlib import Path

import numpy as np
import torch

from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.data.synthetic.generate import iterate
from einthoven.functional.delineation import delineate, mask_to_probability
from einthoven.functional.leads import LEADS
from einthoven.functional.measurements import Measurements, Patient, measure
from einthoven.predict.delineator import load_delineator
from einthoven.predict.measuring import measure_records

SEED = 777
RECORDS = 300
GROUP = 32


def value(measurements: Measurements, name: str) -> float:
    found = measurements.values[name].value
    return float("nan") if found is None else found


def generated(fs: int) -> None:
    """Print the errors on generated records: of the true masks, and of the delineator."""
    delineator = load_delineator()
    errors: dict[tuple[str, str], list[float]] = {}
    for sample in iterate(RECORDS, SEED, rates=(fs,)):
        recording = sample.recording
        signal = (sample.signals[fs] / 1000.0).astype(np.float32)
        is_paced = recording.rhythm == "PACE"
        comments = ("Dx: 10370003",) if is_paced else ()
        (found,) = measure_records(delineator, [Record(signal, fs, LEADS, "r", comments=comments)])
        boundaries = delineate(mask_to_probability(sample.masks[fs][None]), fs)
        (exact,) = measure(signal[None], fs, LEADS, boundaries, [Patient(is_paced=is_paced)])
        shape = recording.shapes[False]
        truth = {"pr": shape.pr, "qrs": shape.qrs_duration, "qtc_fridericia": shape.qtc}
        for kind, measured in (("masks", exact), ("delineator", found)):
            for name, seconds in truth.items():
                errors.setdefault((name, kind), []).append(value(measured, name) - 1000 * seconds)
        for name in ("heart_rate", "rr_sdnn", "axis_qrs", "axis_t", "st_V2"):
            difference = value(found, name) - value(exact, name)
            if name.startswith("axis"):
                difference = (difference + 180) % 360 - 180
            errors.setdefault((name, "delineator - masks"), []).append(difference)
    print(f"{RECORDS} generated records at {fs} Hz: mean, SD and 95th percentile of the absolute error")
    for (name, kind), values in errors.items():
        known = np.array(values)[np.isfinite(values)]
        size = np.percentile(np.abs(known), 95)
        print(f"  {name:16} {kind:20} n {len(known):4d}  {known.mean():7.2f} {known.std():7.2f} {size:7.2f}")


def real(root: Path) -> None:
    """Print the measurements of PTB-XL by the statements of its readers."""
    delineator = load_delineator()
    with (root / "ptbxl_database.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (root / f"{row['filename_lr']}.hea").is_file()]
    records = [read_record(root / f"{row['filename_lr']}.hea") for row in rows]
    start = time.perf_counter()
    found: list[Measurements] = []
    for first in range(0, len(records), GROUP):
        found += measure_records(delineator, records[first : first + GROUP])
    milliseconds = 1000 * (time.perf_counter() - start) / len(records)
    print(f"{len(records)} records of PTB-XL at 100 Hz: {milliseconds:.1f} ms a record in groups of {GROUP}")

    codes = [set(literal_eval(row["scp_codes"])) for row in rows]

    def with_code(*names: str) -> np.ndarray:
        return np.array([bool(set(names) & own) for own in codes])

    is_flagged = np.array([measurements.has_fibrillation for measurements in found])
    has_fibrillation = with_code("AFIB")
    others = ~with_code("AFIB", "AFLT")
    print(f"  possible AF: {is_flagged[has_fibrillation].sum()} of {has_fibrillation.sum()} AFIB,", end=" ")
    print(f"{is_flagged[others].sum()} of {others.sum()} without AFIB and AFLT")
    for name, groups in {
        "pr": ["NORM", "1AVB"],
        "qrs": ["NORM", "IRBBB", "CRBBB", "CLBBB", "PACE"],
        "qtc_fridericia": ["NORM", "LNGQT"],
        "heart_rate": ["SBRAD", "NORM", "STACH"],
    }.items():
        values = np.array([value(measurements, name) for measurements in found])
        for group in groups:
            known = values[with_code(group) & np.isfinite(values)]
            low, middle, high = np.percentile(known, (2.5, 50, 97.5))
            print(f"  {name:16} {group:6} n {len(known):4d}  {middle:6.0f} ({low:.0f} to {high:.0f})")

    files = sorted((root / "records500").rglob("*.hea"))
    if files:
        fast = [read_record(file) for file in files]
        start = time.perf_counter()
        for record in fast:
            measure_records(delineator, [record])
        print(f"  500 Hz, one record at a time: {1000 * (time.perf_counter() - start) / len(fast):.1f} ms")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    for rate in (100, 500):
        generated(rate)
    if options.data is not None:
        real(options.data)
