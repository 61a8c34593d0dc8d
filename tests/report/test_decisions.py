"""Reliability and decision curves: what is drawn is what the functions found, with numbers below every column."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.evaluation.operating_points import net_benefit
from einthoven.evaluation.scores import reliability
from einthoven.evaluation.selective import risk_coverage
from einthoven.report.decisions import MOST, decision_curve_figure, reliability_figure, risk_coverage_figure


def case(classes: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    y = (rng.random((300, classes)) < np.linspace(0.1, 0.6, classes)).astype(int)
    return y, rng.random(y.shape), [f"class {k}" for k in range(classes)]


def test_the_curves_are_those_of_the_functions() -> None:
    y, p, names = case(5)
    figure = reliability_figure(y, {"before": p, "after": p**2}, names)
    assert [axes.get_title(loc="left") for axes in figure.axes] == names
    for k, axes in enumerate(figure.axes):
        for line, stated in zip(axes.get_lines()[1:], (p, p**2), strict=True):
            found = reliability(y[:, k], stated[:, k], 10)
            np.testing.assert_allclose(line.get_xydata(), np.stack([found.stated, found.observed], axis=1))
    figure = decision_curve_figure(y, p, names)
    for k, axes in enumerate(figure.axes):
        _, always, model = axes.get_lines()
        at = model.get_xdata()
        for line, benefit in zip((model, always), net_benefit(y[:, k], p[:, k], at), strict=True):
            np.testing.assert_allclose(line.get_ydata(), benefit)


def test_the_risk_coverage_curve_is_drawn_beside_withholding_at_random() -> None:
    curve = risk_coverage(*np.random.default_rng(0).uniform(size=(2, 40)))
    (axes,) = risk_coverage_figure(curve).axes
    drawn, chance, at_80 = axes.get_lines()
    assert at_80.get_ydata() == [curve.risk_at(0.8)]
    np.testing.assert_allclose(drawn.get_xydata(), np.stack([curve.coverage, curve.risk], axis=1))
    assert set(chance.get_ydata()) == {curve.risk[-1]}


def test_of_many_classes_the_most_frequent_are_drawn() -> None:
    y, p, names = case(MOST + 5)
    expected = set(np.argsort(-y.sum(axis=0), kind="stable")[:MOST].tolist())
    for figure in (reliability_figure(y, {"model": p}, names), decision_curve_figure(y, p, names)):
        assert [axes.get_title(loc="left") for axes in figure.axes] == [names[k] for k in sorted(expected)]


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 7])
def test_the_lowest_panel_of_each_column_has_numbers_below(classes: int) -> None:
    figure = decision_curve_figure(*case(classes))
    labelled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert labelled == [k >= classes - 3 for k in range(classes)]


def test_nonsense_is_refused_with_a_sentence() -> None:
    y, p, names = case(2)
    with pytest.raises(UserError, match="3 columns, found"):
        reliability_figure(y, {"model": p}, [*names, "more"])
    with pytest.raises(UserError, match="needs probabilities"):
        reliability_figure(y, {}, names)
    with pytest.raises(UserError, match="needs 1 columns"):
        decision_curve_figure(y, p, names[:1])
