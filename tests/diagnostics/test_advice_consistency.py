"""One run gets one consistent list of advice, whatever is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from test_advice import BROKEN, FACTS, STAGES, Series, healthy, series

from einthoven.build import build
from einthoven.diagnostics.advice import CAUSES, CONSEQUENCES, RULES, advise
from einthoven.diagnostics.rules.base import Advice, Limits, fraction, multiple, round_down
from einthoven.diagnostics.rules.remedies import DOWN, LEARNING_RATE, UP, Remedy, list_remedies
from einthoven.terminal.conf_folders import conf_folder

LIMITS: Limits = build(OmegaConf.load(conf_folder() / "advice" / "default.yaml"), "advice")  # type: ignore[arg-type]

# The words of the remedies, whatever the rules state about their direction.
OPPOSITES = [
    (r"\b(divide|lower) optimizer\.lr|longer warm-up", r"\b(multiply|raise) optimizer\.lr"),
    (r"train for longer", r"fewer epochs"),
    (r"larger model", r"fewer layers"),
    (r"raise trainer\.clip_norm", r"clip the gradient"),
]


def short(history: Series, steps: int, epochs: int) -> Series:
    """The first steps and epochs of a run."""
    cut = {}
    for name, (at, values) in history.items():
        count = epochs if name.startswith("val/") else sum(step <= steps for step in at)
        cut[name] = (list(at[: max(count, 1)]), list(values[: max(count, 1)]))
    return cut


def advice_on(rules: tuple[str, ...], steps: int = 400, epochs: int = 8) -> list[Advice]:
    history: Series = healthy()
    facts: dict[str, Any] = dict(FACTS)
    for rule in rules:
        history |= BROKEN[rule][0]
        facts |= BROKEN[rule][1]
    return advise(short(history, steps, epochs), facts | {"epochs": epochs}, LIMITS)


def assert_consistent(advice: list[Advice]) -> None:
    assert [item.rank for item in advice] == list(range(1, len(advice) + 1))
    assert len({item.rule for item in advice}) == len(advice)
    proposals = [list_remedies(item.remedies).lower() for item in advice]
    for first, second in OPPOSITES:
        has_first = any(re.search(first, text) for text in proposals)
        assert not (has_first and any(re.search(second, text) for text in proposals)), proposals
    for item in advice:
        assert item.remedy.endswith(".") and not re.search(r"\b(nan|inf)\b", item.sentence + item.remedy)
        assert not re.search(r"\b1 times\b", item.sentence)
        for number in re.findall(r"about ([\d.e+-]+)", item.remedy):
            assert "e" not in number and float(number) <= 100 * max(FACTS["clip_norm"], 1)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(sorted(BROKEN)), min_size=1, max_size=6, unique=True).map(tuple),
    st.sampled_from([1, 5, 49, 50, 400]),
    st.integers(1, 8),
)
def test_any_combination_of_faults_gets_a_consistent_list(rules: tuple[str, ...], steps: int, epochs: int) -> None:
    advice = advice_on(rules, steps, epochs)
    assert_consistent(advice)
    is_long = steps >= LIMITS.enough_steps and epochs >= LIMITS.enough_epochs
    if not is_long:
        assert not any("belong together" in item.remedy for item in advice)


@settings(deadline=None, max_examples=60)
@given(
    st.floats(1e-12, 1e3),
    st.floats(1e-12, 1e12),
    st.floats(1e-9, 1e9),
    st.floats(1e-3, 1e6),
    st.sampled_from(sorted(BROKEN)),
)
def test_any_size_of_a_fault_is_told_in_sensible_numbers(
    ratio: float, vanishing: float, variance: float, norm: float, other: str
) -> None:
    change: Series = {f"watch/update/ratio/{stage}": series(ratio, 10) for stage in STAGES}
    change["watch/grad/vanishing"] = series(vanishing, 10)
    change["watch/act/variance/body"] = series(variance, 10)
    change["watch/grad/norm"] = series(norm)
    change["watch/grad/clipped"] = series(1.0)
    facts: Mapping[str, Any] = {**FACTS, "normalised": False, **BROKEN[other][1]}
    advice = advise({**healthy(), **BROKEN[other][0], **change}, facts, LIMITS)
    assert_consistent(advice)
    assert not any(re.search(r"\d{1,3}(,\d{3}){3}", item.sentence) for item in advice), "no number of ten digits"


@pytest.mark.parametrize(
    ("rules", "absent", "reason"),
    [
        (("collapsed_posterior", "overfitting"), "fewer epochs", "Do not use a shorter training: advice 1 asks"),
        (("learning_rate_high", "wrong_prior"), "raise optimizer.lr", "Advice 1 can be the cause"),
        (("learning_rate_low", "nothing_learned"), "belong together", "Advice 1 can be the cause"),
    ],
)
def test_the_reason_of_a_remedy_that_is_left_out_is_told(rules: tuple[str, ...], absent: str, reason: str) -> None:
    advice = {item.rule: item for item in advice_on(rules)}
    later = advice[rules[1]]
    assert reason in later.remark and absent not in list_remedies(later.remedies)


def test_an_advice_keeps_its_other_remedies() -> None:
    *_, overfitting = advice_on(("collapsed_posterior", "overfitting"))
    assert overfitting.remedy == (
        "Use the weights of the best epoch (trainer.select=best), or regularise more (augment, model.dropout, "
        "optimizer.weight_decay). Do not use a shorter training: advice 1 asks for a longer training."
    )


def test_a_lower_learning_rate_revives_no_unit_if_the_steps_are_too_small() -> None:
    dead, low = advice_on(("learning_rate_low", "dead_units"))
    assert (dead.rule, low.rule) == ("dead_units", "learning_rate_low")
    assert "optimizer.lr" not in dead.remedy and low.remedy.startswith("Multiply optimizer.lr")
    (alone,) = advice_on(("dead_units",))
    assert "Lower optimizer.lr" in alone.remedy


@pytest.mark.parametrize("ratio", [5e-12, 1e-9, 1e-6, 1.2e-5, 9e-5])
def test_no_factor_is_larger_than_its_limit(ratio: float) -> None:
    change = {f"watch/update/ratio/{stage}": series(ratio, 10) for stage in STAGES}
    (low,) = advise({**healthy(), **change}, FACTS, LIMITS)
    expected = max(n for n in (10, 20, 50, 100) if n <= 3e-3 / ratio)
    assert f"Multiply optimizer.lr by about {expected} " in low.remedy


def test_a_run_of_one_epoch_is_not_asked_about_its_labels() -> None:
    (advice,) = advice_on(("nothing_learned",), steps=50, epochs=1)
    assert advice.rule == "too_short" and advice.remedy == "Train for longer (trainer.epochs)."
    assert advice.sentence.startswith("After 50 steps, the validation loss is no better than chance")
    first, *_ = advice_on(("nothing_learned",))
    assert first.rule == "nothing_learned" and "belong together" in first.remedy


def test_a_short_run_that_knows_its_records_by_heart_is_not_asked_to_train_for_longer() -> None:
    history: Series = healthy() | BROKEN["nothing_learned"][0]
    history["val/macro_auroc"] = series([0.5, 0.52, 0.62, 0.62, 0.6, 0.5, 0.48, 0.48], 5)
    history["train/loss"] = series(0.8 * np.exp(-np.arange(40) / 10))
    advice = advise(history, {**FACTS, "epochs": 8}, LIMITS)
    assert [item.rule for item in advice] == ["nothing_learned", "overfitting", "overconfident"]
    assert advice[0].sentence.startswith("The model memorised the training records")
    for item in advice:
        assert "regularise more" in item.remedy and not re.search("for longer|larger model", item.remedy)
    history["train/loss"] = series(0.6 * np.ones(40))
    assert advise(history, {**FACTS, "epochs": 8}, LIMITS)[0].rule == "too_short"


def test_clipping_to_one_is_not_proposed_to_a_run_that_does_so() -> None:
    change, _ = BROKEN["diverged"]
    history = {**healthy(), **change}
    assert "clip" not in advise(history, {**FACTS, "clip_norm": 1.0}, LIMITS)[0].remedy
    assert "clip the gradient" in advise(history, {**FACTS, "clip_norm": None}, LIMITS)[0].remedy


@pytest.mark.parametrize("clip_norm", [0.5, 1.0, 2.0, 2.4, 4.9])
@pytest.mark.parametrize("ratio", [5.1, 7.0, 40.0, 1000.0])
def test_a_higher_clip_norm_is_higher(clip_norm: float, ratio: float) -> None:
    history = {**healthy(), **BROKEN["clipped_steps"][0], "watch/grad/norm": series(ratio * clip_norm)}
    (clipped,) = advise(history, {**FACTS, "clip_norm": clip_norm}, LIMITS)
    proposed = re.search(r"Raise trainer\.clip_norm to about ([\d.]+)", clipped.remedy)
    assert proposed and clip_norm < float(proposed[1].rstrip(".")) <= 100 * clip_norm


def test_a_run_that_diverges_is_not_told_to_clip_less() -> None:
    history = {**healthy(), **BROKEN["diverged"][0], **BROKEN["clipped_steps"][0]}
    *_, clipped = advise(history, {**FACTS, "clip_norm": 3.0}, LIMITS)
    assert clipped.rule == "clipped_steps" and clipped.remedies == ()
    assert clipped.remedy == "Do not use a higher trainer.clip_norm: advice 1 asks for a lower trainer.clip_norm."


def test_the_names_of_causes_and_consequences_are_those_of_rules() -> None:
    names = {rule.__name__ for rule in RULES} | {"exploding_gradient"}
    assert names >= CAUSES and names >= CONSEQUENCES and not CAUSES & CONSEQUENCES


def test_numbers_are_rounded() -> None:
    assert [round_down(x) for x in (1.0, 1.9, 2.0, 4.99, 7.0, 99.0, 0.03)] == [1, 1, 2, 2, 5, 50, pytest.approx(0.02)]
    assert multiple(80.4) == "80 times" and multiple(np.inf) == "more than 1,000,000 times"
    assert fraction(2.5e-4) == "1/4,000" and fraction(1e-9) == "less than 1/1,000,000" and fraction(0) == "nothing"


def test_remedies_in_words() -> None:
    lower = Remedy("lower optimizer.lr", LEARNING_RATE, DOWN)
    assert lower.described == "a lower learning rate"
    assert replace(lower, direction=UP).described == "a higher learning rate"
    assert list_remedies([lower, Remedy("wait"), Remedy("stop")]) == "Lower optimizer.lr, wait, or stop."
    assert list_remedies([]) == ""
