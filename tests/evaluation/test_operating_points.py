"""Thresholds against an exhaustive search, net benefit against its definition, subgroups against their records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_curve

from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import bootstrap_interval
from einthoven.evaluation.decisions import confusion
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.operating_points import Point, Rule, choose_threshold, net_benefit, operating_points
from einthoven.evaluation.subgroups import age_bands, subgroups

Pair = tuple[np.ndarray, np.ndarray]


def case(seed: int, n: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.35).astype(int)
    y[:2] = 0, 1
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * y)))
    return y, np.round(p * levels) / levels if levels else p


@given(st.integers(0, 10_000), st.sampled_from([None, 3, 10]))
@settings(max_examples=30, deadline=None)
def test_thresholds_equal_an_exhaustive_search(seed: int, levels: int | None) -> None:
    y, p = case(seed, 50, levels)
    candidates = np.append(np.unique(p), 2.0)
    found = [confusion(y[:, None], p[:, None] >= t) for t in candidates]
    sensitivity, specificity = (
        np.array([getattr(f, name)[0] for f in found]) for name in ("sensitivity", "specificity")
    )

    def at(rule: Rule) -> tuple[float, float]:
        one = confusion(y[:, None], p[:, None] >= choose_threshold(y, p, rule))
        return one.sensitivity[0], one.specificity[0]

    for target in (0.5, 0.9, 1.0):
        reached = at(Rule("sensitivity", target))
        assert reached[0] >= target and reached[1] == specificity[sensitivity >= target].max()
        reached = at(Rule("specificity", target))
        assert reached[1] >= target and reached[0] == sensitivity[specificity >= target].max()
    fpr, tpr, _ = roc_curve(y, p)
    assert sum(at(Rule("youden"))) - 1 == pytest.approx((tpr - fpr).max(), abs=1e-12)
    best = max(f1_score(y, p >= t, zero_division=0) for t in candidates)
    assert f1_score(y, p >= choose_threshold(y, p, Rule("f1"))) == pytest.approx(best, abs=1e-12)


def alone(fit: Pair, report: Pair, rule: Rule, **options: object) -> Point:
    """The point of one class by one rule."""
    columns = ((y[:, None], p[:, None]) for y, p in (fit, report))
    return operating_points(*columns, [rule], **options)[0][rule]  # type: ignore[arg-type]


def test_points_in_company_are_those_alone() -> None:
    rules = [Rule("specificity", 0.9), Rule("youden"), Rule("f1")]
    fit, report = ([case(seed, n) for seed in seeds] for seeds, n in (((5, 6), 150), ((7, 8), 120)))
    together = operating_points(
        *((np.stack([y for y, _ in of], axis=1), np.stack([p for _, p in of], axis=1)) for of in (fit, report)),
        rules,
        resamples=70,
    )
    for k, of in enumerate(together):
        assert of == {rule: alone(fit[k], report[k], rule, resamples=70) for rule in rules}


def test_a_point_is_judged_on_other_records() -> None:
    fit, report = case(1, 300), case(2, 400)
    groups = np.arange(400) // 2
    rule = Rule("sensitivity", 0.9)
    point = alone(fit, report, rule, resamples=400, groups=groups)
    assert point.chosen["sensitivity"] >= 0.9
    judged = confusion(report[0][:, None], report[1][:, None] >= point.threshold)
    assert point.judged == {n: getattr(judged, n)[0] for n in ("sensitivity", "specificity", "ppv", "npv", "f1")}
    assert point.transfer == pytest.approx(point.judged["sensitivity"] - point.chosen["sensitivity"])
    assert point.transfer_interval is not None
    assert point.transfer_interval.low < point.transfer < point.transfer_interval.high
    for name, interval in point.intervals.items():
        assert interval is not None and interval.low < point.judged[name] < interval.high
    narrow = alone(fit, report, rule, resamples=400, level=0.5, groups=groups)
    assert narrow.intervals["ppv"].high - narrow.intervals["ppv"].low < 0.5 * (  # type: ignore[union-attr]
        point.intervals["ppv"].high - point.intervals["ppv"].low  # type: ignore[union-attr]
    )


def test_net_benefit_by_its_definition() -> None:
    y, p = case(3, 200, 20)
    thresholds = [0.0, 0.05, 0.1, 0.5, 0.9]
    model, always = net_benefit(y, p, thresholds)
    for t, of_model, of_always in zip(thresholds, model, always, strict=True):
        tp, fp = int(((p >= t) & (y == 1)).sum()), int(((p >= t) & (y == 0)).sum())
        assert of_model == pytest.approx(tp / 200 - fp / 200 * t / (1 - t), abs=1e-12)
        assert of_always == pytest.approx(y.mean() - (1 - y.mean()) * t / (1 - t), abs=1e-12)
    assert model[0] == always[0] == y.mean()
    perfect, _ = net_benefit(y, y, [0.2, 0.7])
    assert perfect == pytest.approx([y.mean()] * 2)


def test_subgroups_are_the_figures_of_their_records() -> None:
    rng = np.random.default_rng(4)
    y = (rng.random((300, 2)) < 0.4).astype(int)
    p = np.clip(0.4 + 0.3 * (y - 0.4) + rng.normal(0, 0.1, y.shape), 0, 1)
    sex = ["female"] * 200 + ["male"] * 90 + [None] * 10
    p[200:290, 1] = np.clip(p[200:290, 1] + 0.15, 0, 1)  # the second class is overstated in men
    patients = np.arange(300) // 2
    women, men, unknown = subgroups(y, p, "sex", sex, patients, resamples=200)
    assert [g.value for g in (women, men, unknown)] == ["female", "male", "not known"]
    assert [(g.records, g.patients, g.small) for g in (women, men, unknown)] == [
        (200, 100, False),
        (90, 45, True),
        (10, 5, True),
    ]
    assert women.auroc == macro_auroc(y[:200], p[:200])
    expected = bootstrap_interval(y[:200], p[:200], resamples=200, groups=patients[:200])
    assert women.auroc_interval == expected
    np.testing.assert_allclose(men.gap, (p - y)[200:290].mean(axis=0))
    overstated, right = men.gap_intervals[1], women.gap_intervals[1]
    assert overstated is not None and right is not None and overstated.low > 0.05 > right.low
    for group in (women, men):
        for gap, interval in zip(group.gap, group.gap_intervals, strict=True):
            assert interval is not None and interval.low < gap < interval.high


def test_a_group_without_both_labels_has_no_auroc() -> None:
    (group,) = subgroups([[0], [0]], [[0.1], [0.2]], "site", ["a", "a"], [1, 2], resamples=10)
    assert np.isnan(group.auroc) and group.auroc_interval is None and group.classes == 0
    assert group.gap == pytest.approx([0.15])
    (lone,) = subgroups([[0], [1]], [[0.1], [0.2]], "site", ["a", "a"], [1, 1], resamples=10)
    assert lone.gap_intervals == [None]  # one patient: a resample is that patient again


def test_groups_stand_in_the_order_of_their_numbers() -> None:
    y, p = np.tile([[0], [1]], (10, 1)), np.full((20, 1), 0.5)
    for values in (["2", "10", "1", None] * 5, age_bands([85, 30, 45, 61] * 5)):
        found = [g.value for g in subgroups(y, p, "x", values, np.arange(20), resamples=5)]
        assert found in (["1", "2", "10", "not known"], ["0 to 39", "40 to 59", "60 to 79", "80 +"])


def test_ages_fall_into_bands() -> None:
    assert age_bands([0, 39, 40, 59, 79.5, 80, 300, np.nan]) == [
        "0 to 39",
        "0 to 39",
        "40 to 59",
        "40 to 59",
        "60 to 79",
        "80 +",
        "80 +",
        None,
    ]


def test_nonsense_is_refused_with_a_sentence() -> None:
    for arguments in (("sens",), ("sensitivity",), ("f1", 0.9), ("specificity", 1.1)):
        with pytest.raises(UserError, match="operating point"):
            Rule(*arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="2 positive of 2"):
        choose_threshold([1, 1], [0.1, 0.2], Rule("f1"))
    with pytest.raises(UserError, match="between 0 and 1"):
        net_benefit([1, 0], [0.5, 0.5], [1.0])
    with pytest.raises(UserError, match="found 1 and 2"):
        subgroups([[0], [1]], [[0.1], [0.2]], "site", ["a"], [1, 2])
