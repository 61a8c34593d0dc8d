from __future__ import annotations

import numpy as np
import pytest

from einthoven.report.gradient_noise import _finite_factor, _power_law, gradient_noise_figure
from einthoven.report.trials import Trial

SIZE = 2.0 ** np.arange(7)


def test_a_power_law_is_found_with_its_exponent() -> None:
    assert _power_law(SIZE, 3.0 / np.sqrt(SIZE)) == (pytest.approx(3.0), pytest.approx(-0.5))
    assert _power_law(SIZE, SIZE**-0.8)[1] == pytest.approx(-0.8)


def test_the_figure_tells_the_slope_and_where_noise_and_gradient_are_alike() -> None:
    noise = 4.0 / np.sqrt(SIZE) * _finite_factor(SIZE, 100.0)
    found = {"size": SIZE, "noise": noise, "gradient": np.array(1.0), "records": np.array(100)}
    (axes,) = gradient_noise_figure([Trial({"model": "mlp"}, arrays=found)], title="?").axes
    assert [text.get_text() for text in axes.texts] == ["mlp: slope -0.50"]
    (diamond,) = [line for line in axes.get_lines() if line.get_marker() == "D" and len(line.get_xdata())]
    assert diamond.get_xdata() == pytest.approx([16.0]) and diamond.get_ydata() == pytest.approx([1.0])
