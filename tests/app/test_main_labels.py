"""What stands first on the page, and labels in words."""

from __future__ import annotations

from typing import Any

import pytest

from einthoven.app.main_labels import likelihood, main_labels, rule_in_words
from einthoven.app.words import groups_in_words

GROUPS = {"superclasses": {"MI": "m", "NORM": "n"}, "rhythms": {"SR": "s", "AFIB": "a"}}


def prediction(positive: dict[str, list[str]], **probabilities: float) -> dict[str, Any]:
    return {"probabilities": probabilities, "intervals": dict.fromkeys(probabilities), "positive": positive}


def names(labels: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    return [(label["name"], label["stands_out"]) for label in labels]


def test_labels_at_their_threshold_come_first() -> None:
    found = main_labels(prediction({"f1": ["NORM", "MI", "AFIB"]}, MI=0.4, NORM=0.6, SR=0.9, AFIB=0.2), GROUPS)
    assert names(found) == [("NORM", True), ("MI", True), ("AFIB", True)]
    assert [label["group"] for label in found] == ["superclasses", "superclasses", "rhythms"]
    assert found[0]["likelihood"] == "possible" and found[0]["probability"] == 0.6


def test_without_a_label_at_its_threshold_the_most_probable_one_is_shown() -> None:
    answered = prediction({"f1": ["AFIB"]}, MI=0.1, NORM=0.3, SR=0.9, AFIB=0.1)
    found = main_labels(answered, GROUPS)
    assert names(found) == [("NORM", False)], "a label with a low threshold and a low probability does not stand out"
    assert rule_in_words(answered) == "has a probability of 20 % or more and reaches its threshold"


def test_the_printed_percentage_counts() -> None:
    answered = prediction({"f1": ["MI", "NORM", "AFIB"]}, MI=0.194, NORM=0.6, SR=0.9, AFIB=0.196)
    assert names(main_labels(answered, GROUPS)) == [("NORM", True), ("AFIB", True)], "19.6 % is printed as 20 %"
    without_points = prediction({}, MI=0.494, NORM=0.495, SR=0.2, AFIB=0.1)
    assert names(main_labels(without_points, GROUPS)) == [("NORM", True)]


def test_without_operating_points_one_half_is_the_threshold() -> None:
    answered = prediction({}, MI=0.5, NORM=0.4, SR=0.9, AFIB=0.2)
    assert names(main_labels(answered, GROUPS)) == [("MI", True), ("SR", True)]
    assert rule_in_words(answered) == "has a probability of 50 % or more"


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (1.0, "very likely"),
        (0.9, "very likely"),
        (0.896, "very likely"),
        (0.894, "likely"),
        (0.5, "possible"),
        (0.2, "unlikely"),
        (0.0, "very unlikely"),
    ],
)
def test_a_probability_in_words(probability: float, words: str) -> None:
    assert likelihood(probability) == words


def test_labels_of_ptbxl_get_their_meaning() -> None:
    described = groups_in_words({"classes": {"AMI": "", "MI": "my own meaning"}, "mine": {"MI": "", "XX": ""}})
    assert described == {
        "classes": {"AMI": "anterior myocardial infarction", "MI": "my own meaning"},
        "mine": {"MI": "", "XX": ""},
    }
