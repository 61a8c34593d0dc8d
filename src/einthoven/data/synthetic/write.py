"""Write a generated set to disk in the layout of PTB-XL."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import working_folder
from einthoven.data.synthetic.generate import RATES, Row, iterate
from einthoven.data.synthetic.statements import COLUMNS, statement_rows
from einthoven.data.synthetic.version import DESCRIPTION, GENERATOR_VERSION, check_set, describe_set
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

_README = """# Embedded ECG data

{records} synthetic 12-lead ECGs of ten seconds in the layout of PTB-XL, made by `einthoven` (generator version
{version}, seed {seed}, noise {noise}). No measured signal is in it and no person behind it; not for clinical use.

- `ptbxl_database.csv`, `scp_statements.csv`: the tables of PTB-XL, for these records.
- `records100/`, `records500/`: WFDB, format 16, 1000 steps per mV (only the rates asked for).
- `generated.json`: the version of the generator, the options, and the SHA-256 of the tables.
- `masks100.npy`, `masks500.npy`: uint8 (records, samples), the extents of the waves: bit 1 P, bit 2 QRS, bit 4 T.
- `dipoles100.npy`, `dipoles500.npy`: int16 (records, 3, samples), the heart vector in µV: left, feet, back.
"""


def write_record(path: Path, signal: NDArray[np.int16], fs: int) -> None:
    """Write one WFDB record in format 16 with a gain of 1000 per mV.

    Parameters
    ----------
    path : Path
        Path of the record without suffix. Its folder exists.
    signal : array of int16 (12, T)
        Leads in canonical order, in µV.
    fs : int
        Sampling frequency in Hz.
    """
    signal.T.astype("<i2").tofile(path.with_name(path.name + ".dat"))

    lines = [f"{path.name} {len(LEADS)} {fs} {signal.shape[1]}"]
    # The checksum is the sum of the samples as a 16-bit signed number (WFDB header specification).
    sums = signal.sum(axis=1, dtype=np.int64).astype(np.uint16).astype(np.int16)
    for lead, first, checksum in zip(LEADS, signal[:, 0], sums, strict=True):
        name = lead.upper() if lead.startswith("a") else lead
        lines.append(f"{path.name}.dat 16 1000.0(0)/mV 16 0 {first} {checksum} 0 {name}")
    path.with_name(path.name + ".hea").write_text("\n".join(lines) + "\n")


def _write_tables(root: Path, rows: list[Row]) -> None:
    with (root / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with (root / "scp_statements.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(statement_rows())


def write_synthetic(
    root: Path,
    *,
    records: int = 2000,
    seed: int = 0,
    rates: Sequence[int] = (100,),
    noise: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a generated set in the official layout of PTB-XL, and return `root`.

    The set is written to a temporary folder beside `root`, which is renamed when it is complete. An interrupted run
    leaves no incomplete set. The set depends on the arguments only.

    Parameters
    ----------
    root : Path
        The folder to write. It must not exist, or it must be empty.
    records, seed, rates, noise, progress
        As in `einthoven.data.synthetic.generate`.

    Raises
    ------
    UserError
        If `records` is not positive, a rate is neither 100 nor 500 Hz, `noise` is negative or `root` is in use.
    """
    if records < 1:
        raise UserError(f"synthetic data: records={records}, expected at least 1.")
    if not rates or set(rates) - set(RATES):
        raise UserError(f"synthetic data: rates={list(rates)}, expected some of {list(RATES)} Hz.")
    if not noise >= 0:
        raise UserError(f"synthetic data: noise={noise}, expected 0 or more.")
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"synthetic data: {root} exists and is not an empty folder.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with working_folder(root.parent) as temporary:
        # Write the signals one by one. Only rows, masks and heart vectors stay in memory.
        rows: list[Row] = []
        masks = {fs: np.zeros((records, 10 * fs), dtype=np.uint8) for fs in rates}
        dipoles = {fs: np.zeros((records, 3, 10 * fs), dtype=np.int16) for fs in rates}
        column = {100: "filename_lr", 500: "filename_hr"}
        for sample in iterate(records, seed, rates=rates, noise=noise):
            for fs in rates:
                path = temporary / str(sample.row[column[fs]])
                path.parent.mkdir(parents=True, exist_ok=True)
                write_record(path, sample.signals[fs], fs)
                masks[fs][len(rows)] = sample.masks[fs]
                dipoles[fs][len(rows)] = sample.dipoles[fs]
            rows.append(sample.row)
            if progress is not None:
                progress(len(rows), records)
        _write_tables(temporary, rows)
        for fs in rates:
            np.save(temporary / f"masks{fs}.npy", masks[fs])
            np.save(temporary / f"dipoles{fs}.npy", dipoles[fs])
        (temporary / "README.md").write_text(
            _README.format(version=GENERATOR_VERSION, records=records, seed=seed, noise=noise)
        )
        description = describe_set(temporary, records=records, seed=seed, noise=noise, rates=rates)
        (temporary / DESCRIPTION).write_text(description)

        # If another process was faster, `root` contains the same records already.
        try:
            temporary.replace(root)
        except OSError:
            if not (root / DESCRIPTION).exists():
                raise
            check_set(root, records=records, seed=seed, noise=noise, rates=rates)
    return root
