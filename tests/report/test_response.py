from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.response import _steepest, range_figure, response_figure
from einthoven.report.trials import Trial


def kept(k: int, auroc: float) -> Trial:
    step = np.array([1.0])
    history = {"val/macro_auroc": (step, np.array([auroc])), "watch/pca/explained": (step, np.array([k / 3]))}
    return Trial({"pca.k": str(k)}, {"pca.k": str(k)}, history)


def test_a_response_is_drawn_in_the_order_of_its_option_with_the_mean_of_the_seeds() -> None:
    runs = [kept(3, 0.9), kept(1, 0.6), kept(3, 0.8), kept(2, 0.8)]
    names = {"watch/pca/explained": "share"}
    figure = response_figure(
        runs, option="pca.k", title="?", xlabel="k", metrics=["val/macro_auroc", "watch/pca/explained"], names=names
    )
    above, below = figure.axes
    line = above.get_lines()[0]
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(line.get_ydata(), [0.6, 0.8, 0.85])
    np.testing.assert_allclose(below.get_lines()[0].get_ydata(), [1 / 3, 2 / 3, 1])
    assert below.get_ylabel() == "share"
    assert above.get_title(loc="left") == "Highest at 3: 0.850 ± 0.071; the first within that spread is 2"
    with pytest.raises(UserError, match=r"pca\.n: expected an option with numbers, found nothing"):
        response_figure(runs, option="pca.n", title="?", xlabel="k")


def test_what_differs_beside_the_option_gets_a_line_of_its_own() -> None:
    runs = [
        Trial(
            {"penalty": name, "penalty.strength": text},
            {"penalty.strength": text},
            {"watch/weight/zeros": (np.array([1.0]), np.array([zeros]))},
        )
        for name, text, zeros in (("l1", "0.1", 0.0), ("l2", "0.1", 0.0), ("l1", "1", 0.5), ("l2", "1", 0.0))
    ]
    (axes,) = response_figure(
        runs, option="penalty.strength", title="?", xlabel="", metrics=["watch/weight/zeros"], log=True
    ).axes
    assert sorted(text.get_text() for text in axes.texts) == ["l1", "l2"]
    drawn = [line.get_ydata().tolist() for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert drawn == [[0.0, 0.5], [0.0, 0.0]] and axes.get_xscale() == "log"


def test_the_steepest_descent_is_found_whatever_happens_after_the_minimum() -> None:
    rates = np.geomspace(1e-5, 1.0, 101)
    fall = 1 / (1 + np.exp((np.log10(rates) + 2.5) * 4))  # steepest at 10^-2.5
    losses = np.where(rates > 0.2, 50.0 * rates, fall)
    assert rates[_steepest(rates, losses)] == pytest.approx(10**-2.5, rel=0.2)
    with pytest.raises(UserError, match="increases"):
        _steepest(rates[::-1], losses)


def test_a_range_test_marks_the_rate_of_each_optimizer() -> None:
    step, rates = np.arange(1.0, 61.0), np.geomspace(1e-4, 1.0, 60)
    losses = 1 / (1 + np.exp((np.log10(rates) + 2) * 4))
    run = Trial({"optimizer": "sgd"}, {}, {"watch/optim/lr": (step, rates), "train/loss": (step, losses)})
    (axes,) = range_figure([run], title="?").axes
    assert [text.get_text() for text in axes.texts] == ["0.01", "sgd"]
