"""Targets that do not vary: a task says what cannot be learned, and refuses where nothing can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import bootstrap_interval
from einthoven.evaluation.metrics import auroc_per_class, fmax
from einthoven.tasks.classification import Classification
from einthoven.tasks.regression import Direction, Regression


def classes(single_label: bool = False) -> Classification:
    return Classification(
        labels="all",
        single_label=single_label,
        keep_unlabelled=False,
        min_likelihood=0.0,
        shuffle_labels=False,
        temperature=1.0,
    )


def labels(*rows: str) -> NDArray[np.uint8]:
    """One row a record, one digit a class."""
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("y", "single_label", "sentence"),
    [
        (labels("1", "1", "1"), True, "A holds for every one of the 3 training records;"),
        (labels("1", "1"), False, "A holds for every one of the 2 training records;"),
        (labels("0", "0"), False, "A holds for none of the 2 training records;"),
        (labels("10", "10"), True, "A holds for every one of the 2 training records, and B holds for none of the"),
        (labels("110", "110"), False, "A B hold for every one of the 2 training records, and C holds for none"),
        (labels("01"), False, "B holds for every one of the 1 training record, and A holds for none"),
        (labels("0" * 12, "0" * 12), False, "A B C D E F G H I J and 2 more hold for none of the 2 training records;"),
    ],
)
def test_labels_of_which_no_class_can_be_learned_are_refused(
    y: NDArray[np.uint8], single_label: bool, sentence: str
) -> None:
    with pytest.raises(UserError) as refusal:
        classes(single_label).notes(y, "ABCDEFGHIJKL"[: y.shape[1]])
    assert str(refusal.value).startswith(f"nothing can be learned: {sentence}")


@pytest.mark.parametrize(
    ("y", "notes"),
    [
        (labels("1", "0"), []),
        (labels("10", "01"), []),
        (labels("110", "100"), ["A holds for every one of the 2", "C holds for none of the 2"]),
        (labels("010", "100", "000"), ["C holds for none of the 3"]),
    ],
)
def test_a_class_that_cannot_be_learned_beside_others_is_told(y: NDArray[np.uint8], notes: list[str]) -> None:
    found = classes().notes(y, "ABC"[: y.shape[1]])
    assert len(found) == len(notes)
    for sentence, start in zip(found, notes, strict=True):
        assert sentence.startswith(f"{start} training records. The training cannot learn such a class")


def test_macro_averages_leave_out_what_training_could_not_learn() -> None:
    """The test records have positives of B and C, the training records had none of B, and nothing but C."""
    rng = np.random.default_rng(0)
    y = (rng.random((60, 3)) < 0.4).astype(np.float64)
    p = rng.random((60, 3))
    trained = classes().fit(torch.from_numpy(labels("101", "001", "101")).float())
    found = trained.metrics(y, p, ["A", "B", "C"])
    only_a = float(auroc_per_class(y, p)[0])
    assert found["macro_auroc"] == found["auroc/A"] == pytest.approx(only_a)
    assert not {"auroc/B", "auroc/C"} & set(found)
    assert found["fmax"] == pytest.approx(fmax(y, p))  # of records, not of classes
    interval = trained.intervals(y, p, np.arange(60), seed=0)["macro_auroc"]
    alone = bootstrap_interval(y[:, :1], p[:, :1], groups=np.arange(60), seed=0)
    assert (interval.low, interval.high) == (alone.low, alone.high)
    assert trained.ranked(y)[:, 0].tolist() == y[:, 0].tolist()
    assert not trained.ranked(y)[:, 1:].any()


def test_without_such_a_class_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    y, p = (rng.random((60, 2)) < 0.4).astype(np.float64), rng.random((60, 2))
    fitted = classes().fit(torch.from_numpy(labels("10", "01")).float())
    assert np.array_equal(fitted.ranked(y), y)
    assert fitted.metrics(y, p, ["A", "B"]) == classes().metrics(y, p, ["A", "B"])


def quantity(kind: type[Regression], **options: Any) -> Regression:
    return kind(target="age", unit="years", shuffle_labels=False, **options)


@pytest.mark.parametrize("kind", [Regression, Direction])
@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        ([50.0, 50.0, 50.0], "all 3 training records have age 50 years; expected a quantity that differs"),
        ([0.0, 0.0], "all 2 training records have age 0 years"),
        ([-1.5], "the one training record has age -1.5 years"),
    ],
)
def test_a_quantity_that_does_not_vary_is_refused(kind: type[Regression], y: list[float], sentence: str) -> None:
    with pytest.raises(UserError, match=f"nothing can be learned: {sentence}"):
        quantity(kind).notes(np.array(y)[:, None], ["age"])
    assert quantity(kind).notes(np.array([*y, 51.0])[:, None], ["age"]) == []
