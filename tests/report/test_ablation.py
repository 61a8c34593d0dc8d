from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.ablation import ablation_figure, difference
from einthoven.report.trials import Trial


def scored(augment: str, seed: int, auroc: float) -> Trial:
    history = {"val/macro_auroc": (np.array([1.0]), np.array([auroc]))}
    return Trial({"augment": augment}, {"seed": str(seed)}, history)


GAINS = {"none": 0.0, "noise": 0.02, "mixup": -0.01}
RUNS = [scored(name, seed, 0.7 + 0.1 * seed + gain) for seed in range(3) for name, gain in GAINS.items()]


def test_choices_are_compared_seed_by_seed() -> None:
    gain, error = difference({"0": 0.72, "1": 0.81, "2": 0.5}, {"0": 0.7, "1": 0.8})
    assert gain == pytest.approx(0.015)
    assert error == pytest.approx(0.005)  # of two differences, whatever the seeds have in common
    assert difference({"0": 0.5}, {"0": 0.4}) == (pytest.approx(0.1), 0.0)


def test_choices_stand_by_their_means_with_what_they_gain() -> None:
    (axes,) = ablation_figure(RUNS, reference="none", title="?").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mixup", "none", "noise"]
    assert [text.get_text() for text in axes.texts] == ["-0.010 ± 0.000", "reference", "+0.020 ± 0.000"]
    with pytest.raises(UserError, match=r"=nothing: there is no such run; choose one of none, noise, mixup"):
        ablation_figure(RUNS, reference="nothing", title="?")
