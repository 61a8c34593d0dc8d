"""A bundle whose classes are in groups, such as superclasses and rhythms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from einthoven import cli
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.predict import Predictor
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.network import last_layer
from einthoven.report.prediction_pages import prediction_figure
from einthoven.terminal import prediction_output
from einthoven.terminal.answer_text import Row, answer_rows, meanings_line, page_lines

GROUPS = {"superclasses": {"CD": "conduction disturbance", "MI": "infarction"}, "rhythms": {"NORM": "normal rhythm"}}
THRESHOLDS = (0.2, 0.3, 0.9)


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(groups=GROUPS, conformal={0.1: THRESHOLDS})


def record(seed: int = 0) -> Record:
    signal = np.random.default_rng(seed).normal(0, 0.3, (12, 1000)).astype(np.float32)
    return Record(signal, 100.0, LEADS, f"r{seed}")


def test_groups_and_thresholds_are_read_as_they_were_written(
    bundle: Bundle, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle.save(tmp_path / "bundle")
    back = read_bundle(tmp_path / "bundle")
    assert back.groups == GROUPS and back.conformal == {0.1: THRESHOLDS}
    make_bundle().save(tmp_path / "plain")
    plain = read_bundle(tmp_path / "plain")
    assert plain.groups == {} and plain.conformal == {0.1: 0.2, 0.2: 0.4}
    assert Predictor([plain]).groups == {"classes": {"CD": "", "MI": "", "NORM": ""}}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"groups": {"rhythms": GROUPS["rhythms"], "superclasses": GROUPS["superclasses"]}}, "each class once"),
        ({"groups": {"superclasses": GROUPS["superclasses"]}}, "each class once"),
        ({"groups": {"none": {}, **GROUPS}}, "groups.none is {}; expected a class or more"),
        ({"groups": {"superclasses": {"CD": "", "MI": "a", "NORM": "b"}}}, "groups.superclasses is ''"),
        ({"conformal": {0.1: (0.2, 0.3)}}, "conformal.threshold is .0.2, 0.3.; expected a list of 3"),
        ({"conformal": {0.1: (0.2, 0.3, 2.0)}}, "conformal.threshold is 2.0"),
    ],
)
def test_other_groups_and_thresholds_are_refused(
    changes: dict[str, Any], shown: str, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    make_bundle(**changes).save(tmp_path / "bundle")
    with pytest.raises(UserError, match=shown):
        read_bundle(tmp_path / "bundle")


def test_each_class_is_in_the_set_by_its_own_threshold(bundle: Bundle) -> None:
    found = Predictor([bundle]).predict([record(seed) for seed in range(8)])
    for p, in_set in zip(found.probabilities, found.sets, strict=True):
        expected = tuple(
            name for name, value, limit in zip(bundle.classes, p, THRESHOLDS, strict=True) if value >= limit
        )
        assert in_set == expected
    assert any("NORM" not in in_set for in_set in found.sets)


def test_the_most_probable_class_of_the_first_group_is_explained(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(groups=GROUPS)
    layer = last_layer(bundle.model, 3)
    assert layer is not None
    with torch.no_grad():
        layer.bias[2] += 10
    predictor = Predictor([bundle])
    (p,) = predictor.predict([record()]).probabilities
    assert p.argmax() == 2
    assert predictor.explain(record()).label == bundle.classes[int(p[:2].argmax())]
    assert predictor.explain(record(), "NORM").label == "NORM"


ANSWER = {
    "probabilities": {"CD": 0.3, "MI": 0.6, "NORM": 0.95},
    "intervals": {"CD": None, "MI": [0.5, 0.7], "NORM": None},
    "set": ["MI", "NORM"],
    "alpha": 0.1,
    "positive": {},
    "cautions": [],
}


def test_superclasses_come_first_and_other_groups_are_in_words() -> None:
    assert answer_rows(ANSWER, GROUPS) == [
        Row("superclasses", ["MI 0.60 (0.50-0.70)", "CD 0.30"], side_by_side=True),
        Row("may apply", ["MI"]),
        Row("rhythms", ["NORM 0.95 normal rhythm"]),
    ]
    assert page_lines(ANSWER, GROUPS) == (["MI 0.60 (0.50-0.70)", "CD 0.30"], "rhythms: normal rhythm 0.95")
    assert meanings_line(GROUPS) == "CD conduction disturbance, MI infarction"
    plain = {"classes": dict.fromkeys(ANSWER["probabilities"], "")}
    assert answer_rows(ANSWER, plain)[0].texts[0] == "NORM 0.95"
    assert page_lines(ANSWER, plain)[1] == ""
    assert meanings_line(plain) == ""


def test_of_many_statements_those_that_matter_are_shown_and_the_rest_is_counted() -> None:
    probabilities = {f"S{k}": 0.01 * k for k in range(19)} | {"S7": 0.6, "S9": 0.25}
    meanings = {name: f"meaning {name}" for name in probabilities}
    groups = {"superclasses": {"S0": ""}, "statements": meanings}
    answer = {
        **ANSWER,
        "probabilities": probabilities,
        "intervals": dict.fromkeys(probabilities),
        "set": ["S7", "S5", "S6"],
        # 0.18 is above the threshold of its class, and 0.25 is below that of another.
        "positive": {"f1": ["S18", "S7"], "youden": list(probabilities)},
    }
    shown = ["S7 0.60 meaning S7", "S18 0.18 meaning S18", "others: 2 may apply, 15 are improbable"]
    assert answer_rows(answer, groups)[-1] == Row("statements", shown)
    # A first group with many classes is as short.
    assert answer_rows(answer, {"classes": meanings}) == [Row("classes", shown)]

    # Without a calibration, there are no sets: a set has all classes.
    plain = {**answer, "alpha": None, "set": list(probabilities)}
    shown = ["S7 0.60 meaning S7", "S9 0.25 meaning S9", "S18 0.18 meaning S18", "others: 16 are less probable"]
    assert answer_rows(plain, groups)[-1] == Row("statements", shown)
    none = {**answer, "set": ["S9"], "positive": {}, "probabilities": {**probabilities, "S9": 0.15}}
    assert answer_rows(none, groups)[-1] == Row("statements", ["none stands out: 1 may apply, 18 are improbable"])
    # 0.196 is printed as 0.20, and is one of at least 0.2.
    rounded = {**none, "probabilities": {**probabilities, "S9": 0.196}}
    assert answer_rows(rounded, groups)[-1].texts[0] == "S9 0.20 meaning S9"


def test_the_command_shows_the_groups(
    bundle: Bundle,
    tmp_path: Path,
    write_record: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle.save(tmp_path / "bundle")
    write_record(tmp_path, "a", np.rint(record().signal * 1000).astype(np.int16))
    command = ["predict", str(tmp_path / "bundle"), str(tmp_path / "a.hea"), "--no-measurements", "--no-doctor"]
    cli.main([*command, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["groups"] == GROUPS and list(found["records"][0]["probabilities"]) == ["CD", "MI", "NORM"]
    assert "NORM" not in found["records"][0]["set"]
    for width in (80, 120):
        monkeypatch.setattr(prediction_output, "console", Console(width=width))
        cli.main(command)
        shown = capfd.readouterr().out
        assert shown.startswith("a.hea\n")
        assert shown.index("MI 0.") < shown.index("may apply") < shown.index("rhythms") < shown.index("none stands out")
        assert "CD conduction disturbance, MI infarction" in shown


def test_the_page_of_a_refused_record_has_the_reason_in_its_head() -> None:
    reason = "A0001: not answered, because it is unlike the training records: " + "a long reason " * 8
    signal = record().signal
    figure = prediction_figure(signal, 100.0, LEADS, "A0001.hea", [reason], [], ["notice"], dpi=100)
    (text,) = [text for text in figure.axes[0].texts if text.get_text() == reason]
    _, height = text.get_position()
    assert 190 < height < 205
    # It is as wide as the paper at most.
    assert text.get_window_extent().width / figure.dpi * 25.4 < 285
