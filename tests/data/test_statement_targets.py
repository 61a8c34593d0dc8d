"""What a network learns if it reports classes that contain its statements."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from einthoven.data.sources.concat import Concat
from einthoven.data.sources.labels import class_of_statement, read_database, read_statements, select_labels
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.statement_targets import StatementTargets, statement_targets
from einthoven.errors import UserError


class Tables:
    """A source of labels without signals."""

    def __init__(self, statements: pd.DataFrame) -> None:
        self.statements = statements

    def class_of(self, task: str) -> dict[str, str]:
        return class_of_statement(self.statements, task)

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float):  # type: ignore[no-untyped-def]
        return select_labels(table, self.statements, task, **options)  # type: ignore[arg-type]


def targets_of(folder: Path, label_set: str, targets: str, **options: bool | float) -> StatementTargets:
    source = Tables(read_statements(folder / "scp_statements.csv"))
    table = read_database(folder / "ptbxl_database.csv")
    classes = source.labels(table, label_set, **options)
    return statement_targets(source, table, classes, label_set, targets, **options)


def test_the_statements_of_the_classes_of_the_real_tables(real_data: Path) -> None:
    folder = real_data / "ptbxl-metadata"
    statements = pd.read_csv(folder / "scp_statements.csv", index_col=0)
    table = pd.read_csv(folder / "ptbxl_database.csv").sort_values("ecg_id")

    # The membership and the statements of each record, read by pandas and scikit-learn alone.
    keys = table["scp_codes"].map(lambda text: re.findall("'([^']+)':", text))
    names = sorted({name for of_record in keys for name in of_record})
    matrix = pd.DataFrame(MultiLabelBinarizer(classes=names).fit_transform(keys), columns=names, dtype=np.uint8)
    for label_set, column in (("superdiagnostic", "diagnostic_class"), ("subdiagnostic", "diagnostic_subclass")):
        found = targets_of(folder, label_set, "all")
        assert found.names == tuple(names) and len(names) == 71
        diagnostic = statements[(statements["diagnostic"] == 1) & statements[column].notna()]
        expected = [tuple(sorted(group.index)) for _, group in sorted(diagnostic.groupby(column))]
        assert list(found.members) == expected
        np.testing.assert_array_equal(found.matrix, matrix[matrix[diagnostic.index].any(axis=1)])


def test_other_label_sets_are_columns_of_all(corpus: Path) -> None:
    for label_set in ("diagnostic", "form", "rhythm"):
        found = targets_of(corpus, label_set, "all")
        assert all(len(names) == 1 for names in found.members)


def test_options_of_labels_hold_for_the_statements(corpus: Path) -> None:
    every = targets_of(corpus, "superdiagnostic", "all")
    likely = targets_of(corpus, "superdiagnostic", "all", min_likelihood=60.0)
    assert "ASMI" in every.names and "ASMI" not in likely.names  # its likelihood is 15 %
    unlabelled = targets_of(corpus, "superdiagnostic", "all", keep_unlabelled=True)
    assert len(unlabelled.matrix) == 48 > len(every.matrix)


def test_soft_targets_are_the_likelihoods_of_diagnostic_statements(corpus: Path) -> None:
    hard = targets_of(corpus, "superdiagnostic", "all")
    source = Tables(read_statements(corpus / "scp_statements.csv"))
    table = read_database(corpus / "ptbxl_database.csv")
    classes = source.labels(table, "superdiagnostic")
    soft = statement_targets(source, table, classes, "superdiagnostic", "all", soft=True)
    np.testing.assert_array_equal(soft.matrix, hard.matrix)

    # The likelihoods of the corpus. A rhythm has none: its 0 means unknown, and so does the 100 of a form.
    expected = {"ASMI": {0.15}, "IMI": {0.8, 1.0}, "LVH": {0.35}, "NDT": {0.5, 1.0}, "SR": {1.0}, "PVC": {1.0}}
    for name, shares in expected.items():
        column = soft.values[:, soft.names.index(name)]
        assert {round(float(value), 6) for value in column[column > 0]} == shares
        np.testing.assert_array_equal(column > 0, hard.matrix[:, hard.names.index(name)] > 0)
    unknown = table.assign(scp_codes=None)
    source.labels = lambda *_, **__: classes  # type: ignore[method-assign,assignment]
    with pytest.raises(UserError, match=r"task.soft_targets=true: some records have no likelihoods"):
        statement_targets(source, unknown, classes, "all", "all", soft=True)


def test_it_names_the_statements_that_no_training_record_has(corpus: Path) -> None:
    found = targets_of(corpus, "superdiagnostic", "all")
    rows = np.flatnonzero(found.matrix[:, found.names.index("AFIB")] == 0)
    absent = found.describe(rows).partition(" No training record has ")[2].rstrip(".").split()
    assert "AFIB" in absent and "CLBBB" in absent and "NORM" not in absent
    assert found.describe(np.arange(len(found.matrix))) == (
        "The network learns 9 statements, and 5 classes are read from them."
    )


@pytest.mark.parametrize("targets", ["form", "rhythm", "superdiagnostic"])
def test_targets_that_do_not_hold_the_classes_are_refused(corpus: Path, targets: str) -> None:
    with pytest.raises(UserError, match=rf"task.targets={targets}: .*task.labels=subdiagnostic can be read from"):
        targets_of(corpus, "subdiagnostic", targets)


def test_a_record_with_a_class_and_none_of_its_statements_is_refused(corpus: Path) -> None:
    # The forms hold NDT, one statement of STTC; CD has none.
    source = Tables(read_statements(corpus / "scp_statements.csv"))
    table = read_database(corpus / "ptbxl_database.csv")
    classes = source.labels(table, "superdiagnostic")
    changed = classes.matrix.copy()
    changed[3, 0] ^= 1
    object.__setattr__(classes, "matrix", changed)
    with pytest.raises(UserError, match=rf"record {classes.ecg_ids[3]} has the class CD or one of its statements"):
        statement_targets(source, table, classes, "superdiagnostic", "all")


def test_joined_sources_have_the_statements_of_their_parts(corpus: Path, tmp_path: Path) -> None:
    source = PTBXL(corpus, 100, str(tmp_path))
    joined = Concat({"a": source, "b": source}, cache=str(tmp_path), fs=100)
    table = read_database(corpus / "ptbxl_database.csv").assign(source="a/ptbxl")
    classes = joined.labels(table, "superdiagnostic")
    found = statement_targets(joined, table, classes, "superdiagnostic", "all")
    expected = targets_of(corpus, "superdiagnostic", "all")
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert found.members == expected.members
