from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.delineation import delineation_figure


def test_it_has_the_lead_the_true_waves_and_a_curve_for_each_wave() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((3, 200))
    figure = delineation_figure(rng.normal(size=200), p > 0.5, p, 100.0, lead="II", title="a $record$", subtitle="Dice")
    above, below = figure.axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["P", "QRS", "T"]
    for line, curve in zip(below.get_lines(), p, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), curve)
    assert r"a \$record\$" in above.get_title(loc="left")


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="a lead and three masks"):
        delineation_figure(np.zeros(5), np.zeros((3, 4)), np.zeros((3, 5)), 100.0, lead="II", title="", subtitle="")
