"""The ECGs of the notebooks: real ones of PTB-XL if this computer has them, and generated ones otherwise.

PTB-XL is looked for in the folder ``ptbxl`` of ``$EINTHOVEN_REAL_DATA``, and in ``data/ptb-xl`` of this repository.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data import read_record
from einthoven.data.sources.labels import positive_classes, read_database, read_statements
from einthoven.data.synthetic import generate
from einthoven.data.synthetic.statements import STATEMENTS

FS = 100
"""Sampling frequency in Hz."""

CLASSES = ("CD", "HYP", "MI", "NORM", "STTC")
"""The superclasses: conduction disturbance, hypertrophy, infarction, normal, changes of ST and T."""


@dataclass(frozen=True)
class Ecgs:
    """Records of ten seconds with their labels.

    Attributes
    ----------
    source : str
        One sentence: where the records come from.
    names : list of str
        Names of the n records.
    signals : ndarray of float32, shape (n, 12, 1000)
        In mV.
    statements : list of set of str
        The SCP-ECG statements of each record.
    labels : ndarray of float64, shape (n, 5)
        1 for each superclass of a record, in the order of `CLASSES`.
    """

    source: str
    names: list[str]
    signals: NDArray[np.float32]
    statements: list[set[str]]
    labels: NDArray[np.float64]


def ptbxl_folder() -> Path | None:
    """Return the folder of PTB-XL, or None if this computer does not have it."""
    candidates = [Path(__file__).parents[1] / "data" / "ptb-xl"]
    if "EINTHOVEN_REAL_DATA" in os.environ:
        candidates.insert(0, Path(os.environ["EINTHOVEN_REAL_DATA"]) / "ptbxl")
    return next((folder for folder in candidates if (folder / "ptbxl_database.csv").exists()), None)


def read_ecgs(count: int) -> Ecgs:
    """Read records that have a superclass, evenly spread over PTB-XL, or generate them."""
    root = ptbxl_folder()
    if root is None:
        return generate_ecgs(count)
    table = read_database(root / "ptbxl_database.csv")
    statements = positive_classes(table, read_statements(root / "scp_statements.csv"), "all")
    superclasses = positive_classes(table, read_statements(root / "scp_statements.csv"), "superdiagnostic")
    usable = []
    for row, name in enumerate(table["filename_lr"]):
        if superclasses[row] and (root / f"{name}.hea").exists():
            usable.append(row)
    rows = [usable[place] for place in np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int)]
    return Ecgs(
        source=f"{len(rows)} real ECGs of PTB-XL (Wagner et al. 2020, CC BY 4.0)",
        names=[f"PTB-XL record {table['ecg_id'].iloc[row]}" for row in rows],
        signals=np.stack([read_record(root / table["filename_lr"].iloc[row]).signal for row in rows]),
        statements=[statements[row] for row in rows],
        labels=_indicators([superclasses[row] for row in rows]),
    )


def clear_record(ecgs: Ecgs) -> int:
    """Return the number of a normal record with large beats in lead II and a steady baseline in all leads."""
    seconds = ecgs.signals.reshape(len(ecgs.signals), 12, -1, FS)
    height = np.median(np.ptp(seconds[:, 1], axis=2), axis=1)
    drift = np.ptp(np.median(seconds, axis=3), axis=2).max(axis=1)
    is_normal = ecgs.labels[:, CLASSES.index("NORM")] == 1
    return int(np.where(is_normal, height - 4 * drift, -np.inf).argmax())


def generate_ecgs(count: int) -> Ecgs:
    """Generate records. No person is behind them."""
    generated = generate(count, seed=2, rates=(FS,))
    statements = [set(recording.statements) for recording in generated.recordings]
    superclasses = [{STATEMENTS[code].superclass for code in codes} - {""} for codes in statements]
    return Ecgs(
        source=f"{count} generated ECGs; no measured ECG and no person is behind them",
        names=[f"generated record {number + 1}" for number in range(count)],
        signals=(generated.signals[FS] / 1000.0).astype(np.float32),
        statements=statements,
        labels=_indicators(superclasses),
    )


def _indicators(superclasses: list[set[str]]) -> NDArray[np.float64]:
    return np.array([[float(name in names) for name in CLASSES] for names in superclasses])
