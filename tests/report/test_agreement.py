from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.agreement import agreement_figure


def test_it_draws_what_was_predicted_and_the_limits_of_agreement() -> None:
    rng = np.random.default_rng(0)
    true, error = rng.normal(70, 15, 50), rng.normal(2, 5, 50)
    both, difference = agreement_figure(true, error, "heart_rate", "bpm").axes
    np.testing.assert_allclose(both.collections[0].get_offsets(), np.stack([true, true + error], axis=1))
    np.testing.assert_allclose(difference.collections[0].get_offsets(), np.stack([true + error / 2, error], axis=1))
    drawn = [line.get_ydata()[0] for line in difference.lines]
    bias, sd = error.mean(), error.std()
    assert drawn == pytest.approx([bias, bias - 1.96 * sd, bias + 1.96 * sd])
    assert "heart_rate of 50 records" in both.get_title(loc="left") and "bpm" in both.get_xlabel()


@pytest.mark.parametrize(("true", "error"), [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
def test_what_cannot_be_drawn_is_refused(true: list[float], error: list[float]) -> None:
    with pytest.raises(UserError, match="figure of agreement"):
        agreement_figure(true, error, "age", "years")
