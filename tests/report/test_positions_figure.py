"""Figure of the similarity of positions."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.positions import positions_figure


@pytest.mark.parametrize("tokens", [1, 4, 30])
def test_the_matrix_and_the_mean_by_distance_are_drawn(tokens: int) -> None:
    distance = np.abs(np.subtract.outer(np.arange(tokens), np.arange(tokens)))
    similarity = 0.9**distance
    figure = positions_figure(similarity, title="Positions: sinusoidal")
    square, line, scale = figure.axes
    assert "cosine" in scale.get_ylabel() and "cosine" in line.get_ylabel()
    np.testing.assert_array_equal(square.images[0].get_array(), similarity)
    np.testing.assert_allclose(line.lines[0].get_ydata(), 0.9 ** np.arange(tokens))
    assert square.get_title(loc="left") == "Positions: sinusoidal"


@pytest.mark.parametrize("shape", [(3, 4), (0, 0), (5,)])
def test_what_is_not_square_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="needs a matrix"):
        positions_figure(np.zeros(shape), title="")
