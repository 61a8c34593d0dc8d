"""SCP-ECG statements -> label matrices, by the rules of the PTB-XL benchmark (Strodthoff et al. 2021)."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.tables import read_typed
from einthoven.errors import UserError
from einthoven.functional.class_names import MAX_CHARACTERS, is_name

if TYPE_CHECKING:
    import pandas as pd

TASKS = ("all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm")

_DATABASE_COLUMNS = ("ecg_id", "patient_id", "scp_codes", "strat_fold")
_STATEMENT_COLUMNS = ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
_LARGEST = 2**53  # pandas may read a column as floats, which represent larger whole numbers inexactly


class NoLabelsError(UserError):
    """No record has a label of the task."""


@dataclass(frozen=True)
class Labels:
    """The labels of records: positive classes, quantities, or masks along the signal.

    Attributes
    ----------
    matrix : ndarray of uint8, float32 or int16, shape (n, K) or (n, C, T)
        1 for a positive class; or quantities; or 1 for a sample that belongs to a wave; or the truth of a generator
        (`functional.truth`).
    classes : tuple of str
        Class names, sorted; or names of the quantities or waves.
    ecg_ids, folds, patients : ndarray of int, shape (n,)
        Record number, stratified fold (1-10) and patient of each row.
    dropped : int
        Number of records without a label of this task, or without exactly one in a single-label task.
    class_of : mapping
        Class of each statement, such as LVH -> HYP, for classes that contain several statements.
    notes : tuple of str
        Notes for a reader of the labels, one sentence each.
    """

    matrix: NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.int16]
    classes: tuple[str, ...]
    ecg_ids: NDArray[np.int64]
    folds: NDArray[np.int64]
    patients: NDArray[np.int64]
    dropped: int
    class_of: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def no_labels(table: pd.DataFrame) -> Labels:
    """Return all records of a store with labels of no classes (n, 0). The labels of the source are not read."""
    return Labels(
        matrix=np.zeros((len(table), 0), np.uint8),
        classes=(),
        ecg_ids=table["ecg_id"].to_numpy(np.int64),
        folds=table["strat_fold"].to_numpy(np.int64),
        patients=table["patient_id"].to_numpy(np.int64),
        dropped=0,
    )


def ptbxl_labels(
    database_csv: str | Path,
    statements_csv: str | Path,
    task: str,
    *,
    keep_unlabelled: bool = False,
    min_likelihood: float = 0.0,
    single_label: bool = False,
) -> Labels:
    """Return the labels of a PTB-XL database for one of the six tasks.

    A statement is positive if its key is present. Classes are sorted by name. Classes without a positive record and
    records without a label are dropped.

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
        Keep only the records with exactly one label.

    Raises
    ------
    UserError
        If a table is missing or empty, if it lacks a column, or if the task is unknown.

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
    database: pd.DataFrame, statements: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool
) -> Labels:
    """Return the labels as `ptbxl_labels`, from tables that are already read."""
    positives = positive_classes(database, statements, task, min_likelihood)
    class_of = class_of_statement(statements, task)
    return label_matrix(database, positives, task, class_of=class_of, notes=(), **options)


def positive_classes(
    database: pd.DataFrame, statements: pd.DataFrame, task: str, min_likelihood: float = 0.0
) -> list[set[str]]:
    """Return the positive classes of each record for one of the tasks of PTB-XL."""
    if task not in TASKS:
        raise UserError(f"task {task!r} is unknown; expected one of {', '.join(TASKS)}.")
    class_of = class_of_statement(statements, task)
    diagnostic = set(statements.index[statements["diagnostic"] == 1])
    positives = []
    for codes in parse_codes(database):
        classes = set()
        for statement, likelihood in codes.items():
            # A likelihood of 0 means that it is unknown. Such statements count.
            is_unlikely = statement in diagnostic and 0 < likelihood < min_likelihood
            if is_unlikely:
                continue
            if task == "all":
                classes.add(statement)
            elif statement in class_of:
                classes.add(class_of[statement])
        positives.append(classes)
    return positives


def annotated_classes(statements: pd.DataFrame, task: str) -> frozenset[str]:
    """Return all classes of one of the tasks of PTB-XL, with or without a positive record."""
    if task == "all":
        return frozenset(map(str, statements.index))
    return frozenset(class_of_statement(statements, task).values())


def label_matrix(
    table: pd.DataFrame,
    positives: Sequence[set[str]],
    task: str,
    *,
    keep_unlabelled: bool = False,
    single_label: bool = False,
    class_of: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Labels:
    """Return the labels of the records of a table from the positive classes of each record.

    Parameters
    ----------
    table : DataFrame
        One row per record, with `ecg_id`, `patient_id` and `strat_fold`.
    positives : sequence of sets of str
        Positive classes, one set per row.
    task : str
        Name of the label set, for messages.
    keep_unlabelled, single_label : bool
        As in `ptbxl_labels`.
    class_of : mapping, optional
        As in `Labels`.
    notes : tuple of str
        As in `Labels`.

    Raises
    ------
    NoLabelsError
        If no record is left.
    UserError
        If the name of a class has characters that cannot be printed, or too many.
    """
    matrix, classes = indicators(positives)
    if not classes:
        raise NoLabelsError(f"task {task!r}: none of the {len(positives)} records has a label of this task.")
    for name in classes:
        if not is_name(name):
            raise UserError(
                f"class {name[:80]!r}: expected a name of printable characters, {MAX_CHARACTERS:,} at most."
            )

    # Drop the records without a label, or without exactly one label.
    labels_per_record = matrix.sum(axis=1)
    if single_label:
        keep = labels_per_record == 1
    elif keep_unlabelled:
        keep = np.ones(len(matrix), dtype=bool)
    else:
        keep = labels_per_record > 0
    if not keep.any():
        raise NoLabelsError(f"task {task!r}: none of the {len(matrix)} records has exactly one label of this task.")

    # Drop the classes that only the dropped records had.
    is_used = matrix[keep].any(axis=0)
    return Labels(
        matrix=matrix[keep][:, is_used],
        classes=tuple(name for name, used in zip(classes, is_used, strict=True) if used),
        ecg_ids=table["ecg_id"].to_numpy(np.int64)[keep],
        folds=table["strat_fold"].to_numpy(np.int64)[keep],
        patients=table["patient_id"].to_numpy(np.int64)[keep],
        dropped=int(len(matrix) - keep.sum()),
        notes=notes,
        class_of=class_of or {},
    )


def indicators(sets: Sequence[Collection[str]]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return a matrix (n, K) that is 1 if a name is in a set, and the K names of all sets, sorted."""
    names = tuple(sorted(set().union(*sets)))
    column_of = {name: k for k, name in enumerate(names)}
    rows = []
    columns = []
    for row, members in enumerate(sets):
        rows += [row] * len(members)
        columns += [column_of[name] for name in members]
    matrix = np.zeros((len(sets), len(names)), dtype=np.uint8)
    matrix[rows, columns] = 1
    return matrix, names


def shared_classes(
    annotated: Mapping[str, frozenset[str]], *, refuse: bool = False
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the classes that every source annotates.

    If a source does not annotate a class, a record without this class need not be negative.

    Parameters
    ----------
    annotated : mapping of str to frozenset of str
        Source -> the classes that it annotates.
    refuse : bool
        Raise an error instead of leaving out a class.

    Returns
    -------
    classes : frozenset of str
    notes : tuple of str
        A note that names the left-out classes and the sources that do not annotate them.
    """
    shared = frozenset.intersection(*annotated.values())
    left_out = sorted(frozenset().union(*annotated.values()) - shared)
    if not left_out:
        return shared, ()
    parts = []
    for name in left_out:
        sources = [source for source, classes in annotated.items() if name not in classes]
        parts.append(f"{name} (by {', '.join(sources)})")
    listed = ", ".join(parts)
    if refuse:
        raise UserError(f"classes that are not annotated: {listed}; expected sources that share all of them.")
    return shared, (f"classes left out, as they are not annotated: {listed}",)


def class_of_statement(statements: pd.DataFrame, task: str) -> dict[str, str]:
    """Return the class of each statement that counts in this task."""
    if task == "all":
        return {}
    if task in ("subdiagnostic", "superdiagnostic"):
        column = "diagnostic_subclass" if task == "subdiagnostic" else "diagnostic_class"
        rows = statements[(statements["diagnostic"] == 1) & statements[column].notna()]
        return {str(key): str(name) for key, name in zip(rows.index, rows[column], strict=True)}
    return {str(key): str(key) for key in statements.index[statements[task] == 1]}


def parse_codes(database: pd.DataFrame) -> list[dict[str, float]]:
    """Return the column ``scp_codes`` as dicts: statement -> likelihood in percent (0 mostly means unknown)."""
    # Many rows contain the same text. Parse it once.
    parsed: dict[str, dict[str, float]] = {}
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
    """Read ``ptbxl_database.csv``: one row per record, sorted by ``ecg_id``."""
    table = _read_csv(Path(path), _DATABASE_COLUMNS, ("scp_codes", "filename_lr", "filename_hr"))
    for column in ("ecg_id", "patient_id", "strat_fold"):
        values = table[column]
        if values.dtype.kind not in "if" or not np.isfinite(values).all() or (values % 1 != 0).any():
            raise UserError(f"{path}: column {column} has entries that are empty or not whole numbers.")
        if (values.abs() > _LARGEST).any():
            raise UserError(f"{path}: column {column} has numbers above {_LARGEST}; expected smaller ones.")
    if table["ecg_id"].duplicated().any():
        repeated = table.loc[table["ecg_id"].duplicated(), "ecg_id"].iloc[0]
        raise UserError(f"{path}: ecg_id {repeated} stands in more than one row; expected one row per record.")
    return table.astype({"ecg_id": np.int64, "patient_id": np.int64, "strat_fold": np.int64}).sort_values("ecg_id")


def read_statements(path: str | Path) -> pd.DataFrame:
    """Read ``scp_statements.csv``: one row per statement, which is the index."""
    table = _read_csv(Path(path), _STATEMENT_COLUMNS, (0, "diagnostic_class", "diagnostic_subclass"))
    statements = table.iloc[:, 0]
    if statements.isna().any():
        raise UserError(f"{path}: row {int(statements.isna().argmax()) + 1} names no statement; expected one per row.")
    return table.set_index(table.columns[0])


def _read_csv(path: Path, columns: Sequence[str], names: tuple[str | int, ...]) -> pd.DataFrame:
    """Read a table that must have these columns and at least one row; `names` as in `read_typed`."""
    table = read_typed(path, names, "expected a PTB-XL table")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(
            f"{path}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing; is this a PTB-XL table?"
        )
    if table.empty:
        raise UserError(f"{path}: no rows; expected one row per record.")
    return table
