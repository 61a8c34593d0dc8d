"""Each rule on a series that is broken in its way, and on a healthy one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from einthoven.build import build
from einthoven.diagnostics.advice import RULES, advise
from einthoven.diagnostics.rules import learning
from einthoven.diagnostics.rules.base import Advice, Limits
from einthoven.terminal.conf_folders import conf_folder

STAGES = ("stem", "body", "head")
STEPS = 400
Series = dict[str, tuple[list[int], list[float]]]


@pytest.fixture(scope="module")
def limits() -> Limits:
    made: Limits = build(OmegaConf.load(conf_folder() / "advice" / "default.yaml"), "advice")  # type: ignore[arg-type]
    return made


def series(values: Any, every: int = 1) -> tuple[list[int], list[float]]:
    found = np.full(STEPS // every, values) if np.ndim(values) == 0 else values
    return list(range(every, every * len(found) + 1, every)), [float(v) for v in found]


def healthy() -> Series:
    t = np.linspace(0, 1, STEPS)
    epochs = np.linspace(0, 1, 9)[1:]
    history = {
        "train/loss": series(0.3 + 0.4 * np.exp(-6 * t)),
        "watch/optim/lr": series(1e-3 * np.sin(np.pi * np.clip(t, 0.01, 0.99))),
        "watch/grad/norm": series(0.8),
        "watch/grad/clipped": series((np.arange(STEPS) % 5 == 0) * 1.0),
        "watch/grad/vanishing": series(0.3, 10),
        "watch/grad/nonfinite": series(0.0, 10),
        "watch/diag/entropy": series(0.5 - 0.16 * t),
        "watch/diag/kl_prior": series(0.08 * np.exp(-8 * t)),
        "val/nll": series(0.55 - 0.15 * (1 - np.exp(-5 * epochs)), 50),
        "val/macro_auroc": series(0.85 - 0.15 * np.exp(-5 * epochs), 50),
    }
    for number, stage in enumerate(STAGES):
        history[f"watch/act/variance/{stage}"] = series(0.5 + number, 10)
        history[f"watch/grad/norm/{stage}"] = series(0.4 + number, 10)
        history[f"watch/update/ratio/{stage}"] = series(3e-3, 10)
        history[f"watch/act/dead/{stage}"] = series(0.1, 10)
    history["watch/act/collapsed"] = series(0.1, 50)
    history["watch/act/effective_rank"] = series(20.0, 50)
    history["watch/act/active_latents"] = series(0.6, 50)
    history["watch/act/attention_entropy/block1/1"] = series(2.0, 10)
    history["watch/act/attention_entropy_uniform/block1"] = series(3.0, 10)
    return history


FACTS: dict[str, Any] = {
    "records": {"train": 800, "val": 100},
    "flat": {"train": 0, "val": 0},
    "repeated": {"train": 0, "val": 0},
    "duplicates": {"train-val": 0},
    "patients": {"train-val": 0},
    "positives": {"train": {"NORM": 400, "MI": 200}, "val": {"NORM": 50, "MI": 25}},
    "psi": {"val": {"NORM": 0.0, "MI": 0.0}},
    "stages": STAGES,
    "normalised": True,
    "layers": 12,
    "clip_norm": 1.0,
    "epochs": 8,
    "plain_loss": True,
    "proportional": True,
    "chance": {"train": 0.6, "val": 0.6},
    "weight_decay": 0.05,
    "augmented": {"hidden": 0.2, "power": 0.8},
    "size": {"train": 0.15, "val": 0.17},
    "pretrained": False,
    "bias_loss": 0.0,
    "largest_range": 0.96,
}

EPOCHS = np.arange(8)
FLIPPED = {"NORM": 800 * 0.34, "MI": 800 * 0.38, "CD": 800 * 0.62}  # 0.1, 0.2 and 0.8 of which 30 % are flipped
BROKEN: dict[
    str, tuple[Series, Mapping[str, Any]]
] = {  # rule -> series and facts in which a run differs from a healthy one
    "constant_input": ({}, {"flat": {"train": 80, "val": 0}}),
    "wrong_scale": ({}, {"size": {"train": 0.15, "val": 1.5}}),
    "missing_class": ({}, {"positives": {"train": {"NORM": 400, "MI": 0}, "val": {"NORM": 50, "MI": 25}}}),
    "shared_between_splits": ({}, {"duplicates": {"train-val": 7}}),
    "flipped_labels": ({}, {"positives": {"train": FLIPPED, "val": {"NORM": 10, "MI": 20, "CD": 80}}}),
    "label_drift": ({}, {"psi": {"val": {"NORM": 0.0, "MI": 0.4}}}),
    "wrong_bias": ({}, {"bias_loss": 0.7}),
    "broken_init": ({"watch/act/variance/body": series(0.0, 10)}, {}),
    "strong_weight_decay": ({}, {"weight_decay": 10.0}),
    "learning_rate_high": ({f"watch/update/ratio/{stage}": series(4e-2, 10) for stage in STAGES}, {}),
    "learning_rate_low": ({f"watch/update/ratio/{stage}": series(5e-6, 10) for stage in STAGES}, {}),
    "diverged": ({"train/loss": series(np.where(np.arange(STEPS) < 200, 0.5, np.nan))}, {}),
    "vanishing_gradient": ({"watch/grad/vanishing": series(2.5e-4, 10)}, {}),
    "exploding_gradient": ({"watch/grad/vanishing": series(4e4, 10)}, {}),
    "no_normalisation": ({"watch/act/variance/body": series(40.0, 10)}, {"normalised": False}),
    "strong_augmentation": ({}, {"augmented": {"hidden": 0.95, "power": 0.1}}),
    "few_records": (
        {},
        {"records": {"train": 48, "val": 100}, "positives": {"train": {"NORM": 24, "MI": 12}}},
    ),
    "nothing_learned": (
        {"val/nll": series(0.6 + 0.01 * EPOCHS, 50), "val/macro_auroc": series(0.52 + 0.001 * EPOCHS, 50)},
        {},
    ),
    "too_short": (
        {"val/nll": ([400], [0.61]), "val/macro_auroc": ([400], [0.5])},
        {"epochs": 1},
    ),
    "constant_output": ({}, {"largest_range": 1e-4}),
    "dead_units": ({"watch/act/dead/body": series(0.9, 10)}, {}),
    "overfitting": ({"val/macro_auroc": series([0.7, 0.8, 0.85, 0.84, 0.82, 0.8, 0.79, 0.78], 50)}, {}),
    "overconfident": ({"val/nll": series([0.5, 0.45, 0.4, 0.42, 0.45, 0.5, 0.55, 0.6], 50)}, {}),
    "wrong_prior": ({"watch/diag/kl_prior": series(0.14)}, {}),
    "clipped_steps": (
        {"watch/grad/clipped": series((np.arange(STEPS) % 10 > 0) * 1.0), "watch/grad/norm": series(20.0)},
        {},
    ),
    "uniform_attention": ({"watch/act/attention_entropy/block1/2": series(2.99, 10)}, {}),
    "collapsed_embeddings": ({"watch/act/collapsed": series(0.9, 50)}, {}),
    "collapsed_posterior": ({"watch/act/active_latents": series(0.03, 50)}, {}),
    "still_improving": ({"val/macro_auroc": series(0.5 + 0.04 * EPOCHS, 50)}, {}),
}


def advice_on(change: Series, facts: Mapping[str, Any], limits: Limits) -> list[Advice]:
    return advise({**healthy(), **change}, {**FACTS, **facts}, limits)


@pytest.mark.parametrize("rule", ["overfitting", "still_improving"])
def test_few_validation_records_give_no_advice_on_their_noise(rule: str, limits: Limits) -> None:
    series_of_rule, _ = BROKEN[rule]
    few = {"records": {"train": 800, "val": 10}, "positives": {**FACTS["positives"], "val": {"NORM": 5, "MI": 2}}}
    one_class = {**few, "positives": {**FACTS["positives"], "val": {"NORM": 10, "MI": 0}}}
    for facts, is_expected in (({}, True), (few, False), (one_class, False)):
        rules = [each.rule for each in advice_on(series_of_rule, facts, limits)]
        assert (rule in rules) == is_expected


def test_the_noise_of_an_auroc_is_that_of_drawn_records() -> None:
    # The formula is exact for exponential scores. With these means, their AUROC is 0.8.
    rng = np.random.default_rng(0)
    positive = rng.exponential(4.0, (4000, 20, 1))
    negative = rng.exponential(1.0, (4000, 1, 60))
    drawn = (positive > negative).mean(axis=(1, 2))
    noise = learning._auroc_noise(0.8, {"records": {"val": 80}, "positives": {"val": {"A": 20}}})
    assert noise == pytest.approx(2 * drawn.std(), rel=0.05)
    two = learning._auroc_noise(0.8, {"records": {"val": 80}, "positives": {"val": {"A": 20, "B": 20, "C": 0}}})
    assert two == pytest.approx(noise / 2**0.5)


def test_embeddings_on_a_line_have_collapsed(limits: Limits) -> None:
    rules = [each.rule for each in advice_on({"watch/act/effective_rank": series(1.1, 50)}, {}, limits)]
    assert rules == ["collapsed_embeddings"]


def test_the_share_of_flipped_labels_is_told(limits: Limits) -> None:
    first, *_ = advice_on(*BROKEN["flipped_labels"], limits)
    assert "About 30 %" in first.sentence


def test_classes_that_move_apart_are_no_flipped_labels(limits: Limits) -> None:
    moved = {"positives": {"train": {**FLIPPED, "CD": 800 * 0.9}, "val": {"NORM": 10, "MI": 20, "CD": 80}}}
    assert "flipped_labels" not in [each.rule for each in advice_on({}, moved, limits)]


@pytest.mark.parametrize(("val_records", "is_told"), [(100, True), (400, False)])
def test_a_rare_class_can_be_absent_from_training_by_chance(val_records: int, is_told: bool, limits: Limits) -> None:
    # All five positive records are in the ninth part of the records that is not training, or in its third part.
    positives = {"train": {"NORM": 400, "MI": 0}, "val": {"NORM": val_records // 2, "MI": 5}}
    facts = {"records": {"train": 800, "val": val_records}, "positives": positives}
    assert ("missing_class" in [item.rule for item in advice_on({}, facts, limits)]) == is_told


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"train": 150.0, "val": 150.0}, "The signals of train are too large for ECGs"),
        ({"train": 2e-4, "val": 2e-4}, "The signals of train are too small for ECGs"),
        ({"train": 0.15, "val": 1.5}, "The signals of val are 10 times larger than those of train"),
        ({"train": 0.5, "val": 0.1}, "The signals of val are 5 times smaller than those of train"),
    ],
)
def test_a_wrong_unit_is_told_by_the_size_of_the_signals(
    sizes: dict[str, float], sentence: str, limits: Limits
) -> None:
    (advice,) = advice_on({}, {"size": sizes}, limits)
    assert advice.rule == "wrong_scale" and advice.sentence.startswith(sentence)


@pytest.mark.parametrize("sizes", [{"train": 0.1, "val": 0.29}, {"train": 0.15, "val": 0.0}, {"val": 0.15}])
def test_signals_of_a_usual_size_and_constant_ones_are_no_wrong_unit(sizes: dict[str, float], limits: Limits) -> None:
    assert advice_on({}, {"size": sizes}, limits) == []


def test_a_high_learning_rate_is_not_told_as_a_strong_weight_decay(limits: Limits) -> None:
    change = {**BROKEN["learning_rate_high"][0], "watch/optim/lr": series(0.6)}
    assert advice_on(change, {"weight_decay": 0.05}, limits)[0].rule == "learning_rate_high"
    assert advice_on(change, {"weight_decay": 5.0}, limits)[0].rule == "strong_weight_decay"


def test_noise_that_covers_the_signal_is_a_strong_augmentation(limits: Limits) -> None:
    (advice,) = advice_on({}, {"augmented": {"hidden": 0.0, "power": 200.0}}, limits)
    assert advice.rule == "strong_augmentation" and "200 times as large" in advice.sentence


@pytest.mark.parametrize(
    "facts", [{"records": {"train": 200, "val": 100}}, {"pretrained": True}, {"chance": {"val": 1.0}}, {"chance": {}}]
)
def test_records_are_enough_for_a_pretrained_model_or_if_the_loss_of_chance_is_halved(
    facts: dict[str, Any], limits: Limits
) -> None:
    # The lowest validation loss is 0.40. Without classes, there is no loss of chance.
    _, few = BROKEN["few_records"]
    assert "few_records" not in [item.rule for item in advice_on({}, {**few, **facts}, limits)]


@pytest.mark.parametrize(("auroc", "positive", "is_told"), [(0.7, 25, True), (0.76, 25, False), (0.52, 3, False)])
def test_a_high_auroc_or_one_of_few_records_is_not_called_chance(
    auroc: float, positive: int, is_told: bool, limits: Limits
) -> None:
    change = {**BROKEN["nothing_learned"][0], "val/macro_auroc": series(np.full(8, auroc), 50)}
    positives = {"train": {"NORM": 400, "MI": 200}, "val": {"NORM": 2 * positive, "MI": positive}}
    rules = [item.rule for item in advice_on(change, {"positives": positives}, limits)]
    assert ("nothing_learned" in rules) == is_told


def test_a_gradient_that_is_clipped_is_not_told_as_a_low_learning_rate(limits: Limits) -> None:
    change = {**BROKEN["clipped_steps"][0], **BROKEN["learning_rate_low"][0]}
    assert [item.rule for item in advice_on(change, {}, limits)] == ["clipped_steps"]


def test_a_healthy_run_gets_no_advice(limits: Limits) -> None:
    assert advise(healthy(), FACTS, limits) == []


def test_of_a_run_that_recorded_nothing_nothing_is_said(limits: Limits) -> None:
    assert advise({}, {}, limits) == []


def test_every_rule_has_a_broken_run() -> None:
    named = {rule.__name__ for rule in RULES}
    assert named == set(BROKEN) - {"exploding_gradient"}  # the other direction of vanishing_gradient


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_run_gets_its_advice_first(rule: str, limits: Limits) -> None:
    first, *others = advice_on(*BROKEN[rule], limits)
    assert first.rule == rule and first.rank == 1
    assert [each.rank for each in others] == list(range(2, len(others) + 2))
    assert all(text and "nan" not in text for text in (first.sentence, first.evidence, first.remedy))


@pytest.mark.parametrize("rule", sorted({rule.__name__ for rule in RULES}))
def test_a_rule_whose_series_are_absent_stays_silent(rule: str, limits: Limits) -> None:
    (function,) = [each for each in RULES if each.__name__ == rule]
    change, facts = BROKEN[rule]
    assert function({**healthy(), **change}, {**FACTS, **facts}, limits)
    assert function({}, {}, limits) is None


def test_sentences_tell_the_numbers(limits: Limits) -> None:
    def sentence(rule: str) -> str:
        return advice_on(*BROKEN[rule], limits)[0].sentence

    assert "stem, the first stage, receives 1/4,000 of the gradient of head, the last" in sentence("vanishing_gradient")
    assert sentence("clipped_steps").startswith("90 % of the steps are clipped, usually to 1/20 of their gradient")
    assert "by 4 % of their size" in sentence("learning_rate_high")
    assert sentence("few_records").startswith("48 training records are too few for weights that start at random")
    assert sentence("missing_class").startswith("Class MI has no positive record in training")
    assert sentence("shared_between_splits").startswith("7 records of val are also in train")
    assert "rises by 50 % after step 150" in sentence("overconfident")
    assert "from step 201 on, the loss" in sentence("diverged")


@pytest.mark.parametrize("size", [0.3, 1.0, 1.6])
def test_a_network_without_norms_that_learns_nothing_is_not_told_of_its_variances(size: float, limits: Limits) -> None:
    nothing = {"val/nll": series(0.606 + 0.01 * EPOCHS, 50), "watch/act/variance/body": series(size, 10)}
    first, *_ = advice_on(nothing, {"normalised": False, "layers": 20}, limits)
    assert first.rule == "no_normalisation"
    assert first.sentence.startswith("The network does not normalise any of its 20 layers, and it learns nothing.")
    assert (
        "val/nll is at best 1 % above the loss of chance" in first.evidence
        and "watch/act/variance" not in first.evidence
    )


def test_a_spread_of_variances_is_told_as_it_is(limits: Limits) -> None:
    for size, ratio in ((40.0, 80), (5.0, 10), (0.05, 10)):
        first, *_ = advice_on({"watch/act/variance/body": series(size, 10)}, {"normalised": False}, limits)
        assert f"is {ratio} times that of" in first.sentence


@pytest.mark.parametrize("bad", [[], [40], [40, 41, 300]])
def test_steps_without_a_finite_loss_are_told_apart_from_a_training_that_diverged(
    bad: list[int], limits: Limits
) -> None:
    loss = np.full(STEPS, 0.5)
    loss[bad] = np.nan
    wrong = np.zeros(STEPS // 10)
    wrong[5] = 7.0
    change = {
        "train/loss": series(loss),
        "watch/grad/nonfinite": series(wrong, 10),
        "watch/optim/skipped": series([0, 1, max(len(bad), 1)], 50),
    }
    (advice,) = advice_on(change, {}, limits)
    assert advice.rule == "skipped_steps"
    first = f"at step {bad[0] + 1}, because the loss" if bad else "at step 60, because the gradient"
    assert first in advice.sentence
    assert advice.sentence.startswith("3 steps changed" if len(bad) == 3 else "1 step changed")


def test_causes_stand_before_their_consequences(limits: Limits) -> None:
    broken = {**BROKEN["learning_rate_high"][0], **BROKEN["diverged"][0], **BROKEN["nothing_learned"][0]}
    found = [each.rule for each in advice_on(broken, BROKEN["missing_class"][1], limits)]
    assert found[:3] == ["missing_class", "learning_rate_high", "diverged"] and "nothing_learned" in found


def test_small_steps_of_a_warm_up_and_of_a_schedules_end_are_no_low_learning_rate(limits: Limits) -> None:
    rate = np.asarray(healthy()["watch/optim/lr"][1])
    ratio = series(3e-3 * (rate / rate.max())[9::10] ** 8, 10)
    assert advice_on({f"watch/update/ratio/{stage}": ratio for stage in STAGES}, {}, limits) == []


def test_clipping_is_no_matter_where_the_optimizer_divides_by_the_gradient(limits: Limits) -> None:
    assert advice_on(BROKEN["clipped_steps"][0], {"proportional": False}, limits) == []


def test_steps_that_shorten_a_gradient_a_little_are_not_told(limits: Limits) -> None:
    change = {**BROKEN["clipped_steps"][0], "watch/grad/norm": series(4.0)}
    assert advice_on(change, {}, limits) == []


def test_weights_that_grow_under_large_steps_are_told_by_the_first_step(limits: Limits) -> None:
    # The learning rate of the first measured step is 7 % of the highest.
    ratio = np.full(STEPS // 10, 0.02)
    ratio[0] = 0.2
    change = {f"watch/update/ratio/{stage}": series(ratio, 10) for stage in STAGES}
    (advice,) = advice_on(change, {}, limits)
    assert advice.rule == "learning_rate_high" and re.search(r"changes them by 2\d\d % of their size", advice.sentence)
    assert "Divide optimizer.lr by about 50 " in advice.remedy
    ratio[0] = 0.01
    assert advice_on({f"watch/update/ratio/{stage}": series(ratio, 10) for stage in STAGES}, {}, limits) == []


def test_a_few_steps_of_fresh_weights_are_too_short_whatever_they_reach(limits: Limits) -> None:
    short = {
        **healthy(),
        "train/loss": ([1, 12], [0.6, 0.4]),
        "val/nll": ([12], [0.4]),
        "val/macro_auroc": ([12], [0.8]),
    }
    (advice,) = advise(short, {**FACTS, "pretrained": False}, limits)
    assert advice.rule == "too_short" and advice.sentence.startswith("The training has only 12 steps.")
    assert advise(short, {**FACTS, "pretrained": True}, limits) == []


def test_units_that_are_dead_from_the_start_are_no_weights_of_zero(limits: Limits) -> None:
    silent = {"watch/act/variance/body": series(0.0, 10), "watch/act/dead/body": series(1.0, 10)}
    dead_before = {**silent, "watch/act/dead/stem": series(0.8, 10)}
    assert advice_on(silent, {"stages": STAGES}, limits)[0].rule == "broken_init"
    assert advice_on(dead_before, {"stages": STAGES}, limits)[0].rule == "dead_units"


def test_weights_that_start_at_zero_are_no_high_learning_rate(limits: Limits) -> None:
    with np.errstate(divide="ignore"):
        ratio = series(1.0 / np.arange(0, STEPS, 10), 10)  # of weights that have grown by k steps of one size
    assert advice_on({f"watch/update/ratio/{stage}": ratio for stage in STAGES}, {}, limits) == []
