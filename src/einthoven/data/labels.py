"""SCP-ECG statements -> label matrices, by the rules of the PTB-XL benchmark (Strodthoff et al. 2021)."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TASKS = ("all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm")

_DATABASE_COLUMNS = ("ecg_id", "patient_id", "scp_codes", "strat_fold")
_STATEMENT_COLUMNS = ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")


class NoLabelsError(UserError):
    """No record carries a statement of the task."""


@dataclass(frozen=True)
class Labels:
    """Which statements hold for which record.

    Attributes
    ----------
    matrix : ndarray of uint8, shape (n, K)
        1 where the class is present.
    classes : tuple of str
        Class names, sorted.
    ecg_ids, folds, patients : ndarray of int, shape (n,)
        Record number, stratified fold (1-10) and patient of each row.
    dropped : int
        Records left out: without a label of this task, or without exactly one where one is asked for.
    class_of : mapping
        Class of each statement, as LVH -> HYP, where a class is more than the statement of its name.
    """

    matrix: NDArray[np.uint8]
    classes: tuple[str, ...]
    ecg_ids: NDArray[np.int64]
    folds: NDArray[np.int64]
    patients: NDArray[np.int64]
    dropped: int
    class_of: Mapping[str, str] = field(default_factory=dict)


def ptbxl_labels(
    database_csv: str | Path,
    statements_csv: str | Path,
    task: str,
    *,
    keep_unlabelled: bool = False,
    min_likelihood: float = 0.0,
    single_label: bool = False,
) -> Labels:
    """Labels of a PTB-XL database for one of the six tasks.

    A statement is positive when its key is present; classes are sorted by name, classes without a positive
    record are dropped, and records without a label are dropped.

    Parameters
    ----------
    database_csv, statements_csv : path
        ``ptbxl_database.csv`` and ``scp_statements.csv``.
    task : str
        One of ``all``, ``diagnostic``, ``subdiagnostic``, ``superdiagnostic``, ``form``, ``rhythm``.
    keep_unlabelled : bool
        Keep records without a label of the task, as all-negative rows.
    min_likelihood : float
        Leave out diagnostic statements whose likelihood (percent) is above 0 and below this.
    single_label : bool
        Keep the records with exactly one label.

    Raises
    ------
    UserError
        If a table is missing, empty or lacks a column, or the task is unknown.

    References
    ----------
    Strodthoff, Wagner, Schaeffter, Samek, IEEE JBHI 2021, doi 10.1109/jbhi.2020.3022989, section II.
    """
    return select_labels(
        read_database(database_csv),
        read_statements(statements_csv),
        task,
        keep_unlabelled=keep_unlabelled,
        min_likelihood=min_likelihood,
        single_label=single_label,
    )


def select_labels(
    database: pd.DataFrame,
    statements: pd.DataFrame,
    task: str,
    *,
    keep_unlabelled: bool = False,
    min_likelihood: float = 0.0,
    single_label: bool = False,
) -> Labels:
    """`ptbxl_labels` on tables already read."""
    if task not in TASKS:
        raise UserError(f"task {task!r} is unknown; expected one of {', '.join(TASKS)}.")
    mapping = _class_of_statement(statements, task)
    diagnostic = set(statements.index[statements["diagnostic"] == 1])
    sets = [
        {
            mapping.get(key, key) if task == "all" else mapping[key]
            for key, likelihood in codes.items()
            if (task == "all" or key in mapping) and not (key in diagnostic and 0 < likelihood < min_likelihood)
        }
        for codes in parse_codes(database)
    ]
    classes = tuple(sorted(set().union(*sets)))
    if not classes:
        raise NoLabelsError(f"task {task!r}: none of the {len(sets)} records carries a statement of this task.")
    column = {name: k for k, name in enumerate(classes)}
    matrix = np.zeros((len(sets), len(classes)), dtype=np.uint8)
    rows = [row for row, names in enumerate(sets) for _ in names]
    matrix[rows, [column[name] for names in sets for name in names]] = 1

    count = matrix.sum(axis=1)
    keep = count == 1 if single_label else (np.ones(len(sets), dtype=bool) if keep_unlabelled else count > 0)
    if not keep.any():
        raise NoLabelsError(
            f"task {task!r}: none of the {len(sets)} records carries exactly one statement of this task."
        )
    used = matrix[keep].any(axis=0)  # a class may have stood only beside others
    return Labels(
        matrix=matrix[keep][:, used],
        classes=tuple(name for name, there in zip(classes, used, strict=True) if there),
        ecg_ids=database["ecg_id"].to_numpy(np.int64)[keep],
        folds=database["strat_fold"].to_numpy(np.int64)[keep],
        patients=database["patient_id"].to_numpy(np.int64)[keep],
        dropped=int(len(sets) - keep.sum()),
        class_of=mapping,
    )


def _class_of_statement(statements: pd.DataFrame, task: str) -> dict[str, str]:
    """Statement -> class name, for the statements that count in this task."""
    if task == "all":
        return {}
    if task in ("subdiagnostic", "superdiagnostic"):
        column = "diagnostic_subclass" if task == "subdiagnostic" else "diagnostic_class"
        rows = statements[(statements["diagnostic"] == 1) & statements[column].notna()]
        return {str(key): str(name) for key, name in zip(rows.index, rows[column], strict=True)}
    return {str(key): str(key) for key in statements.index[statements[task] == 1]}


def parse_codes(database: pd.DataFrame) -> list[dict[str, float]]:
    """The ``scp_codes`` column as dicts: statement -> likelihood in percent (0 mostly means unknown)."""
    parsed: dict[str, dict[str, float]] = {}  # the same literal stands in many rows
    codes = []
    for ecg_id, text in zip(database["ecg_id"], database["scp_codes"], strict=True):
        if text not in parsed:
            try:
                value = ast.literal_eval(text)
                parsed[text] = {str(k): float(v) for k, v in value.items()}
            except (ValueError, SyntaxError, AttributeError, TypeError, OverflowError, RecursionError, MemoryError):
                raise UserError(
                    f"record {ecg_id}: scp_codes {str(text)[:80]!r} cannot be read; "
                    "expected a dict such as {'NORM': 100.0}."
                ) from None
        codes.append(parsed[text])
    return codes


def read_database(path: str | Path) -> pd.DataFrame:
    """Read ``ptbxl_database.csv``; one row per record, sorted by ``ecg_id``."""
    table = _read_csv(Path(path), _DATABASE_COLUMNS)
    for column in ("ecg_id", "patient_id", "strat_fold"):
        values = table[column]
        if values.dtype.kind not in "if" or not np.isfinite(values).all() or (values % 1 != 0).any():
            raise UserError(f"{path}: column {column} has empty or other entries than whole numbers.")
    if table["ecg_id"].duplicated().any():
        twice = table.loc[table["ecg_id"].duplicated(), "ecg_id"].iloc[0]
        raise UserError(f"{path}: ecg_id {twice} stands in more than one row; expected one row per record.")
    return table.astype({"ecg_id": np.int64, "patient_id": np.int64, "strat_fold": np.int64}).sort_values("ecg_id")


def read_statements(path: str | Path) -> pd.DataFrame:
    """Read ``scp_statements.csv``; the statement is the index."""
    table = _read_csv(Path(path), _STATEMENT_COLUMNS)
    return table.set_index(table.columns[0])


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    try:
        # as a whole, so that a column has one type; names of files are text even where they look like numbers
        table = pd.read_csv(path, low_memory=False, dtype={"filename_lr": str, "filename_hr": str})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a PTB-XL table.") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty; expected a PTB-XL table with a header line.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV table ({' '.join(str(error).split())}).") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(
            f"{path}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing; is this a PTB-XL table?"
        )
    if table.empty:
        raise UserError(f"{path}: no rows; expected one row per record.")
    return table
