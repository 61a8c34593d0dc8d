from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.starts import distances, objective, starts_figure
from einthoven.report.trials import Trial


def ended(model: str, weight: list[float], losses: tuple[float, ...] = (2.0, 1.0)) -> Trial:
    step = np.arange(1.0, len(losses) + 1)
    history = {"train/loss": (step, np.array(losses)), "train/penalty": (step, np.full(len(losses), 0.5))}
    return Trial({"model": model}, {}, history, {"w": np.array([weight]), "b": np.array([0.0])})


def test_distances_are_those_of_every_two_runs_relative_to_their_norms() -> None:
    runs = [ended("mlp", [1.0, 0.0]), ended("mlp", [0.0, 1.0]), ended("mlp", [1.0, 0.0]), ended("mlp", [4.0, 0.0])]
    np.testing.assert_allclose(distances(runs), [2**0.5, 0, 1.5, 2**0.5, 17**0.5 / 2, 1.5])


def test_what_is_minimized_is_the_loss_with_its_penalty() -> None:
    assert objective(ended("logistic", [1.0]))[1].tolist() == [2.5, 1.5]


def test_a_weight_stands_where_two_starts_took_it() -> None:
    runs = [ended("logistic", [1.0, 0.5], (3.0, 1.0)), ended("logistic", [1.0, 0.5])]
    runs += [ended("mlp", [1.0, 0.0]), ended("mlp", [0.0, 1.0], (2.0, 1.2))]
    descents, convex, network = starts_figure(runs, title="?").axes
    assert [line.get_ydata().tolist() for line in descents.get_lines()] == [
        [3.5, 1.5],
        [2.5, 1.5],
        [2.5, 1.5],
        [2.5, 1.7],
    ]
    assert convex.get_title(loc="left") == "logistic: starts end 0 apart"
    assert network.get_title(loc="left") == "mlp: starts end 1.4 apart"
    drawn = convex.get_lines()[1]
    assert drawn.get_xdata().tolist() == drawn.get_ydata().tolist() == [1.0, 0.5]  # without the bias
    with pytest.raises(UserError, match="mlp has only one run; expected two or more seeds"):
        starts_figure(runs[:3], title="?")
    with pytest.raises(UserError, match="analysis=weights"):
        distances([Trial({}), Trial({})])
