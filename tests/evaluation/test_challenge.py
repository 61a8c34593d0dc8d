from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data.sources.snomed import diagnoses
from einthoven.errors import UserError
from einthoven.evaluation.challenge import challenge_score, challenge_weights


def test_the_weights_are_those_of_the_challenge(real_data: Path) -> None:
    with (real_data / "cinc2021-tables" / "weights.csv").open(newline="") as file:
        (_, *codes), *rows = csv.reader(file)
    name = {code: diagnoses()[code.split("|")[0]].classes["cinc2021"] for code in codes}
    classes, weights = challenge_weights()
    assert len(classes) == 26 and set(name.values()) == set(classes)
    for code, *row in rows:
        for other, value in zip(codes, row, strict=True):
            assert weights[classes.index(name[code]), classes.index(name[other])] == float(value)


def by_record(y: np.ndarray, stated: np.ndarray, classes: list[str]) -> float:  # type: ignore[type-arg]
    """The score in words: one record after the other, one pair of classes after the other."""
    scored, weights = challenge_weights()
    total = {"stated": 0.0, "true": 0.0, "inactive": 0.0}
    for row, out in zip(y, stated, strict=True):
        true = {c for c, there in zip(classes, row, strict=True) if there}
        answers = {
            "stated": {c for c, there in zip(classes, out, strict=True) if there},
            "true": true,
            "inactive": {"NSR"},
        }
        for what, answer in answers.items():
            for a in true:
                for b in answer:
                    total[what] += weights[scored.index(a), scored.index(b)] / len(true | answer)
    span = total["true"] - total["inactive"]
    return (total["stated"] - total["inactive"]) / span if span else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 26))
def test_the_score_equals_the_sum_over_records_and_pairs(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.permutation(challenge_weights()[0])[:k].tolist()
    y, stated = rng.random((2, n, k)) < 0.3
    expected = by_record(y, stated, classes)
    assert challenge_score(y, stated, classes) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_truth_scores_one_and_sinus_rhythm_everywhere_nothing() -> None:
    classes = ["AF", "NSR", "RBBB"]
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert challenge_score(y, y, classes) == pytest.approx(1)
    assert challenge_score(y, np.tile([0, 1, 0], (3, 1)), classes) == pytest.approx(0)


def test_a_class_that_is_not_scored_is_refused() -> None:
    with pytest.raises(UserError, match="class STTC is not scored"):
        challenge_score(np.ones((1, 1)), np.ones((1, 1)), ["STTC"])
