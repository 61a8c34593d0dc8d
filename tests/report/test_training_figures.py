from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure

from einthoven.errors import UserError
from einthoven.report.figures import History
from einthoven.report.training import (
    cooccurrence_figure,
    gradient_flow_figure,
    information_figure,
    update_ratio_figure,
)

STAGES = ("stem", "body", "head")


def history(steps: int = 300, every: int = 1, **others: float) -> History:
    at = np.arange(1, steps + 1, every)
    values = {f"watch/grad/norm/{stage}": 10.0**-k * np.ones(len(at)) for k, stage in enumerate(STAGES)}
    values |= {f"watch/update/ratio/{stage}": 1e-3 * (k + 1) * np.ones(len(at)) for k, stage in enumerate(STAGES)}
    values |= {name.replace("__", "/"): np.full(len(at), value) for name, value in others.items()}
    return {name: (at.tolist(), series.tolist()) for name, series in values.items()}


def drawn(figure: Figure) -> int:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=50)
    return len(buffer.getvalue())


def cells(figure: Figure) -> np.ma.MaskedArray:
    (mesh,) = figure.axes[0].collections
    found: np.ma.MaskedArray = mesh.get_array()  # type: ignore[assignment]
    return found.reshape(len(STAGES), -1)


def test_a_stage_that_was_frozen_at_first_has_its_gradient_at_its_steps() -> None:
    of_run = dict(history(20))
    at, values = of_run["watch/grad/norm/stem"]
    of_run["watch/grad/norm/stem"] = (at[15:], list(values[15:]))
    at, values = of_run["watch/grad/norm/head"]
    of_run["watch/grad/norm/head"] = (at, np.linspace(1.0, 2.0, 20).tolist())
    shown = cells(gradient_flow_figure(of_run, STAGES))
    assert shown.shape == (3, 20)
    assert shown.mask[0].tolist() == [True] * 15 + [False] * 5
    np.testing.assert_allclose(shown[2], np.linspace(1.0, 2.0, 20))


def test_the_heat_map_holds_the_norms_from_the_input_upwards() -> None:
    figure = gradient_flow_figure(history(40), STAGES)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(STAGES)
    assert not figure.axes[0].yaxis.get_inverted()
    np.testing.assert_allclose(cells(figure), np.repeat([[1.0], [0.1], [0.01]], 40, axis=1))
    assert figure.axes[1].get_yscale() == "log" and drawn(figure) > 1000


def test_many_steps_are_averaged_and_no_gradient_is_left_blank() -> None:
    made = dict(history(5000))
    steps, _ = made["watch/grad/norm/body"]
    made["watch/grad/norm/body"] = (steps, np.geomspace(1e-4, 1e4, 5000))
    made["watch/grad/norm/head"] = (steps, np.zeros(5000))
    found = cells(gradient_flow_figure(made, STAGES))
    assert found.shape[1] <= 160
    assert np.ma.getmaskarray(found)[2].all() and not np.ma.getmaskarray(found)[:2].any()
    assert np.exp(np.log(found[1]).mean()) == pytest.approx(1.0, rel=0.01)  # of logarithms


def test_updates_are_drawn_stage_by_stage_with_the_usual_size() -> None:
    figure = update_ratio_figure(history(100, 10), STAGES)
    (axes,) = figure.axes
    curves = {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.get_lines()}
    assert set(STAGES) <= set(curves) and curves["body"].tolist() == pytest.approx([2e-3] * 10)
    assert axes.get_yscale() == "log" and any(np.allclose(y, 1e-3) for y in curves.values())
    assert drawn(figure) > 1000


def test_entropy_and_divergences_have_a_panel_each() -> None:
    both = information_figure(history(watch__diag__entropy=1.5, watch__diag__kl_prior=0.1, watch__diag__kl_drift=0.2))
    assert [axes.get_title(loc="left") for axes in both.axes] == ["Entropy", "Divergence (KL)"]
    assert [len(axes.get_lines()) for axes in both.axes] == [1, 2] and both.axes[1].get_yscale() == "log"
    (only,) = information_figure(history(watch__diag__kl_prior=0.1)).axes

    # The entropy of certain labels is a sentence and no line.
    (axes,) = information_figure(history(watch__diag__entropy=1.5, watch__diag__entropy_labels=0.0)).axes
    assert "that of the labels is 0" in axes.get_title(loc="left")
    assert [line.get_label() for line in axes.lines] == ["predictions"]
    (axes,) = information_figure(history(watch__diag__entropy=1.5, watch__diag__entropy_labels=0.2)).axes
    assert axes.get_title(loc="left") == "Entropy" and len(axes.lines) == 2
    assert only.get_title(loc="left") == "Divergence (KL)" and drawn(both) > 1000


def test_shares_of_classes_that_stand_together() -> None:
    y = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    figure = cooccurrence_figure(y, ("NORM", "SR", "MI"), title="together")
    share = np.ma.filled(figure.axes[0].get_images()[0].get_array(), np.nan)  # type: ignore[arg-type]
    expected = [[100, 200 / 3, 0], [200 / 3, 100, 0], [np.nan] * 3]
    np.testing.assert_allclose(share, expected)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["NORM (3)", "SR (3)", "MI (0)"]
    assert drawn(figure) > 1000


def test_what_was_not_measured_is_refused() -> None:
    for draw in (gradient_flow_figure, update_ratio_figure):
        with pytest.raises(UserError, match="found none"):
            draw({}, STAGES)
    with pytest.raises(UserError, match="watch/diag/entropy"):
        information_figure({})
    with pytest.raises(UserError, match="2 names"):
        cooccurrence_figure(np.zeros((4, 3)), ("NORM", "MI"), title="")
