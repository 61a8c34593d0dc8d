"""The labels of a network that learns statements, and reports classes that contain them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.labels import Labels, parse_codes
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


class _Source(Protocol):
    def class_of(self, task: str) -> Mapping[str, str]:
        """Return the class of each statement."""

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float) -> Labels:
        """Return the labels of the records of a table."""


@dataclass(frozen=True)
class StatementTargets:
    """What a network learns, if it learns other labels than it reports.

    Attributes
    ----------
    labels : Labels
        Of all records that have a statement.
    matrix : ndarray of uint8, shape (n, S)
        The statements of the records that have reported labels, in their order.
    values : ndarray of uint8 or float32, shape (n, S)
        What is learned: `matrix` or, with soft targets, the likelihood of each statement from 0 to 1.
    members : tuple of tuple of str
        The statements of each reported class.
    """

    labels: Labels
    matrix: NDArray[np.uint8]
    values: NDArray[np.uint8] | NDArray[np.float32]
    members: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The statements, S."""
        return self.labels.classes

    def describe(self, train_rows: NDArray[np.int64]) -> str:
        """Return a sentence about the targets. It names those that no record of some rows has."""
        sentence = (
            f"The network learns {len(self.names)} statements, and {len(self.members)} classes are read from them."
        )
        counts = self.matrix[train_rows].sum(axis=0).tolist()
        absent = [name for name, count in zip(self.names, counts, strict=True) if not count]
        if absent:
            sentence += f" No training record has {' '.join(absent)}."
        return sentence


def statement_targets(
    source: _Source,
    table: pd.DataFrame,
    classes: Labels,
    label_set: str,
    targets: str,
    *,
    soft: bool = False,
    **options: bool | float,
) -> StatementTargets:
    """Return the targets that the classes of a label set can be read from.

    Parameters
    ----------
    source : source of records
    table : DataFrame
        Table of the store.
    classes : Labels
        The reported labels, of the label set `label_set`.
    label_set, targets : str
        Label sets of the source. The classes of `targets` are statements.
    soft : bool
        A diagnostic statement with a likelihood between 0 and 100 % is learned as this likelihood.
    options : bool or float
        Those of `labels`.

    Raises
    ------
    UserError
        If a class has no statement, or if a record has a class and none of its statements, or the other way round. If
        soft targets are asked of records without likelihoods.
    """
    learned = source.labels(table, targets, **options)
    class_of = source.class_of(label_set)
    members = []
    for name in classes.classes:
        # A statement that no class contains is a class of its own.
        names = tuple(statement for statement in learned.classes if class_of.get(statement, statement) == name)
        if not names:
            raise UserError(
                f"task.targets={targets}: has no statement of the class {name}; expected a set of statements that "
                f"task.labels={label_set} can be read from, such as all."
            )
        members.append(names)

    # The statements of the records with a reported label. A record that has none of the statements is negative.
    row_of_id = {ecg_id: row for row, ecg_id in enumerate(learned.ecg_ids.tolist())}
    rows = np.array([row_of_id.get(ecg_id, -1) for ecg_id in classes.ecg_ids.tolist()])
    matrix = learned.matrix.astype(np.uint8)[rows]
    matrix[rows < 0] = 0
    position = {name: k for k, name in enumerate(learned.classes)}
    for name, names, positive in zip(classes.classes, members, classes.matrix.T, strict=True):
        read = matrix[:, [position[statement] for statement in names]].any(axis=1)
        differs = np.flatnonzero(read != positive.astype(bool))
        if len(differs):
            raise UserError(
                f"task.targets={targets}: record {classes.ecg_ids[differs[0]]} has the class {name} or one of its "
                f"statements ({' '.join(names)}), but not both; expected a set of statements that "
                f"task.labels={label_set} can be read from, such as all."
            )
    if not soft:
        return StatementTargets(learned, matrix, matrix, tuple(members))
    diagnostic = source.class_of("diagnostic")
    row_in_table = {ecg_id: row for row, ecg_id in enumerate(table["ecg_id"].tolist())}
    table_rows = [row_in_table[ecg_id] for ecg_id in classes.ecg_ids.tolist()]
    likelihoods = _likelihoods(table.iloc[table_rows], learned.classes, diagnostic)
    return StatementTargets(learned, matrix, matrix * likelihoods, tuple(members))


def _likelihoods(table: pd.DataFrame, names: tuple[str, ...], diagnostic: Collection[str]) -> NDArray[np.float32]:
    """Return the likelihood, from 0 to 1, of each statement in each record of a table, (n, S). It is 1 if unknown."""
    if "scp_codes" not in table or table["scp_codes"].isna().any():
        raise UserError("task.soft_targets=true: some records have no likelihoods (scp_codes); expected false.")
    position = {name: k for k, name in enumerate(names)}
    likelihoods = np.ones((len(table), len(names)), np.float32)
    for row, codes in enumerate(parse_codes(table)):
        for statement, percent in codes.items():
            # A likelihood of 0 means that it is unknown. Only diagnostic statements have one.
            is_stated = statement in diagnostic and 0 < percent < 100
            if is_stated and statement in position:
                likelihoods[row, position[statement]] = percent / 100
    return likelihoods
