"""What has changed in the records of a run, in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data.identity import DataIdentity, _number_labels, compare
from einthoven.data.sources.labels import Labels

N = 12


def labels(matrix: np.ndarray[Any, Any], classes: tuple[str, ...]) -> Labels:
    n = np.arange(len(matrix))
    return Labels(matrix, classes, n + 1, n % 3, n // 2, dropped=0)


def data(**changed: Any) -> DataIdentity:
    rng = np.random.default_rng(0)
    made = labels((rng.random((N, 3)) < 0.5).astype(np.uint8), ("A", "B", "C"))
    columns = {
        "ecg_ids": made.ecg_ids,
        "record_ids": made.ecg_ids,
        "digests": np.array([f"signal {row}" for row in range(N)], "S16"),
        "labels": _number_labels(made),
        "folds": made.folds,
        "patients": made.patients,
        "classes": made.classes,
    }
    return DataIdentity(**(columns | changed))


def taken(of: DataIdentity, rows: list[int] | np.ndarray[Any, Any]) -> DataIdentity:
    """Some rows, in this order."""
    arrays = {
        name: getattr(of, name)[rows] for name in ("ecg_ids", "record_ids", "digests", "labels", "folds", "patients")
    }
    return replace(of, **arrays)


def with_value(name: str, row: int, value: object) -> DataIdentity:
    column = getattr(data(), name).copy()
    column[row] = value
    return data(**{name: column})


def test_the_same_data_are_the_same() -> None:
    difference = compare(data(), data())
    assert not difference.is_different and str(difference) == "" and not difference.added.any()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (with_value("labels", 4, 7), "1 record has other labels (such as ecg_id 5)"),
        (with_value("folds", 6, 9), "1 record is in another fold (such as ecg_id 7)"),
        (with_value("digests", 0, b"other"), "1 record has another signal (such as ecg_id 1)"),
        (with_value("patients", 3, 99), "2 records belong to another patient (such as ecg_id 3)"),
        (data(folds=data().folds + 1), "12 records are in another fold (such as ecg_id 1)"),
        (taken(data(), list(range(1, N))), "1 record is missing (such as ecg_id 1)"),
        (data(classes=("A", "B", "D")), "the classes were A B C and are A B D"),
        (
            taken(with_value("folds", 6, 9), [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]),
            "1 record is missing (such as ecg_id 4) and 1 record is in another fold (such as ecg_id 7)",
        ),
    ],
)
def test_what_has_changed_is_said_with_an_example(now: DataIdentity, expected: str) -> None:
    difference = compare(data(), now)
    assert str(difference) == expected and difference.changes
    assert not difference.added.any()


def test_added_records_are_known_from_changed_ones() -> None:
    before = taken(data(), list(range(9)))
    difference = compare(before, data())
    assert not difference.changes and difference.is_different and str(difference) == "3 records are new"
    assert difference.added.tolist() == [False] * 9 + [True] * 3
    assert compare(taken(data(), [0]), taken(data(), [0, 1])).added_records == 1


def test_a_signal_that_was_replaced_is_no_added_record() -> None:
    before = taken(data(), list(range(10)))
    now = with_value("digests", 2, b"other")
    difference = compare(before, now)
    assert str(difference) == "1 record has another signal (such as ecg_id 3) and 2 records are new"
    assert compare(before, now, "{} [a.hea]".format).changes == (
        "1 record has another signal (such as ecg_id 3 [a.hea])",
    )
    assert np.flatnonzero(difference.added).tolist() == [10, 11]


def test_a_table_that_numbers_its_records_anew_has_not_changed_its_records() -> None:
    order = [3, 0, 1, 2, *range(4, N)]  # as if rows of a table were sorted, and counted from 1
    now = taken(data(), order)
    now = replace(now, ecg_ids=np.arange(N) + 1, record_ids=np.arange(N) + 1)
    difference = compare(data(), now)
    assert not difference.changes and not difference.added_records
    assert difference.is_reordered and str(difference) == "the records stand in another order"
    inserted = taken(now, [*range(5), 5])  # and a new one between them
    inserted = replace(
        taken(data(), [0, 1, 2, 3, 4, 5]),
        digests=np.array([b"signal 0", b"new", b"signal 1", b"signal 2", b"signal 3", b"signal 4"]),
        labels=data().labels[[0, 0, 1, 2, 3, 4]],
        folds=data().folds[[0, 0, 1, 2, 3, 4]],
        patients=np.array([0, 50, 0, 1, 1, 2]),
    )
    difference = compare(taken(data(), [0, 1, 2, 3, 4]), inserted)
    assert not difference.changes and np.flatnonzero(difference.added).tolist() == [1]


def test_patients_that_are_numbered_anew_are_the_same_patients() -> None:
    assert not compare(data(), data(patients=100 - data().patients)).is_different
    merged = data().patients.copy()
    merged[merged == 1] = 0
    assert compare(data(), data(patients=merged)).changes == ("4 records belong to another patient (such as ecg_id 1)",)


def test_equal_signals_are_told_apart_by_their_numbers() -> None:
    twice = np.array(["same", "same", "same", *(f"{k}" for k in range(N - 3))], "S16")
    before = data(digests=twice)
    assert not compare(before, data(digests=twice)).is_different
    fewer = compare(before, taken(before, [0, 2, *range(3, N)]))
    assert fewer.changes == ("1 record is missing (such as ecg_id 2)",)
    assert compare(taken(before, [0, *range(3, N)]), before).added_records == 2


def test_windows_of_a_record_count_as_one() -> None:
    windows = data(record_ids=np.arange(N) // 4)
    moved = replace(windows, folds=windows.folds + 1)
    assert str(compare(windows, moved)) == "3 records are in another fold (such as ecg_id 0)"


def test_windows_that_are_grouped_into_other_records_are_a_change() -> None:
    windows = data(record_ids=np.arange(N) // 4)
    assert not compare(windows, replace(windows, record_ids=windows.record_ids + 7)).is_different
    record_ids = windows.record_ids.copy()
    record_ids[3] = 1  # the last window of record 0 is now a window of record 1
    moved = compare(windows, replace(windows, record_ids=record_ids))
    assert moved.changes == ("2 records have other windows (such as ecg_id 0)",)
    split = compare(windows, replace(windows, record_ids=np.arange(N)))
    assert split.changes == ("3 records have other windows (such as ecg_id 0)",)
    assert not moved.added.any() and not split.added.any()


def test_a_record_that_has_become_longer_or_shorter_has_changed() -> None:
    windows = data(record_ids=np.arange(N) // 4)
    longer = compare(taken(windows, [0, 1, 2, *range(4, N)]), windows)
    assert str(longer) == "1 record has another signal (such as ecg_id 0)" and not longer.added.any()
    shorter = compare(windows, taken(windows, [0, 1, 2, *range(4, N)]))
    assert str(shorter) == "1 record has another signal (such as ecg_id 0)"
    gone = compare(windows, taken(windows, list(range(4, N))))
    assert str(gone) == "1 record is missing (such as ecg_id 0)"
    new = compare(taken(windows, list(range(8))), windows)
    assert str(new) == "1 record is new" and new.added.tolist() == [False] * 8 + [True] * 4


def test_a_quantity_may_differ_in_its_last_digits() -> None:
    heart_rate = np.linspace(50, 120, N).astype(np.float32)
    before = data(labels=heart_rate)
    assert not compare(before, data(labels=heart_rate * np.float32(1 + 1e-6))).is_different
    changed = heart_rate.copy()
    changed[5] += 1
    assert "1 record has other labels (such as ecg_id 6)" in str(compare(before, data(labels=changed)))
    assert "12 records have other labels" in str(compare(before, data()))  # another task


def test_the_number_of_a_set_of_classes_does_not_depend_on_other_classes() -> None:
    few = _number_labels(labels(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8), ("A", "C")))
    many = _number_labels(labels(np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]], np.uint8), ("A", "B", "C")))
    assert few[:3].tolist() == many[:3].tolist() and few[3] == 0 and many[3] != 0
    assert len(set(few.tolist())) == 4


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_a_shuffled_table_is_the_same_data_whatever_signals_are_equal(signals: list[int], random: Any) -> None:
    n = len(signals)
    before = DataIdentity(
        ecg_ids=np.arange(n),
        record_ids=np.arange(n),
        digests=np.array([f"{k}" for k in signals], "S16"),
        labels=np.array(signals),
        folds=np.array(signals),
        patients=np.array(signals),
        classes=("A",),
    )
    order = list(range(n))
    random.shuffle(order)
    renumbered = replace(taken(before, order), ecg_ids=np.arange(n) + 1000)
    for now in (taken(before, order), renumbered):
        difference = compare(before, now)
        assert not difference.changes and not difference.added_records


def test_it_survives_a_file() -> None:
    made = data()
    again = DataIdentity.from_arrays(made.to_arrays(), made.classes)
    assert not compare(made, again).is_different
    for name in ("digests", "labels", "folds"):
        for wrong in (made.to_arrays()[name][1:], made.to_arrays()[name].astype(np.float64)):
            with pytest.raises(ValueError, match="expected"):
                DataIdentity.from_arrays(made.to_arrays() | {name: wrong}, made.classes)
