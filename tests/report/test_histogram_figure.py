from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report import histograms
from einthoven.report.histograms import histogram_figure

EDGES = np.logspace(-3, 3, 7)


def test_a_column_has_the_shares_of_an_epoch_and_a_line_marks_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "MOST_COLUMNS", 3)
    counts = np.array([[0, 4, 4, 0, 0, 0], [0, 0, 1, 3, 0, 0], [0, 0, 0, 0, 0, 0], [30, 0, 0, 63, 7, 0]])
    figure = histogram_figure([2, 4, 6, 8], counts, EDGES, title="Weights", label="magnitude", log=True)
    axes = figure.axes[0]
    mesh = axes.collections[0].get_array()
    assert mesh is not None
    # The third of the four epochs is left out, and so are the zeros and the bins that no epoch uses.
    np.testing.assert_allclose(np.ma.filled(mesh, 0.0).T, [[50, 50, 0, 0], [0, 25, 75, 0], [0, 0, 63, 7]])
    assert axes.get_title(loc="left") == "Weights (30 % are zero in the last epoch)"
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_xdata()), [2, 4, 8])
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata(), float), [0.055, 5.5, 5.5])
    assert axes.get_ylim() == pytest.approx((0.01, 100)) and axes.get_yscale() == "log"


def test_one_epoch_shows_no_change() -> None:
    with pytest.raises(UserError, match="two epochs or more; found 1"):
        histogram_figure([1], [[1, 2]], [0, 0.5, 1], title="", label="", log=False)
