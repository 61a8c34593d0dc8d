from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError
from einthoven.models.frontend import Classifier, Frontend
from einthoven.runs.comparison.weight_posterior import WeightPosterior


def trained(x: Tensor, *, single_label: bool = False, classes: int = 2) -> Trained:
    """A linear layer with zero weights on signals of two leads: every probability is ½."""
    layer = nn.Linear(x[0].numel(), classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    model = Classifier(Frontend(x.shape[1]), nn.Sequential(nn.Flatten(), layer)).eval()

    def batch(split: str, rows: Tensor) -> Batch:
        return Batch(x[rows], torch.zeros(len(rows), classes), rows, torch.ones(len(rows), dtype=torch.bool))

    task = SimpleNamespace(single_label=single_label)
    return Trained(model, task, {"train": len(x)}, batch, ("A", "B"), ("I", "II"), 100.0)  # type: ignore[arg-type]


def test_it_is_the_closed_form_of_a_curvature_that_is_the_same_everywhere() -> None:
    """At probabilities of ½, the curvature is ΦᵀΦ/4. Features with mean zero do not depend on the bias."""
    half = torch.randn(300, 2, 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat([half, -half])
    strength = 0.05
    found = {name: value.double().numpy() for name, value in WeightPosterior(strength=strength)(trained(x)).items()}
    precision = len(x) * 2 * strength
    features = x.flatten(1).double().numpy()
    eigenvalues = np.linalg.eigvalsh(features.T @ features / 4)
    variance = np.diag(np.linalg.inv(features.T @ features / 4 + precision * np.eye(4)))
    assert float(found["prior_deviation"]) == pytest.approx(precision**-0.5)
    np.testing.assert_allclose(found["deviation"], np.sqrt([variance, variance]), rtol=1e-6)
    np.testing.assert_array_equal(found["mean"], np.zeros((2, 4)))
    assert float(found["determined"]) == pytest.approx(2 * (eigenvalues / (eigenvalues + precision)).sum())


def test_without_information_the_posterior_is_the_prior() -> None:
    found = WeightPosterior(strength=0.1)(trained(torch.zeros(8, 2, 2)))
    torch.testing.assert_close(found["deviation"], found["prior_deviation"].double().expand(2, 4))
    assert float(found["determined"]) == pytest.approx(0.0, abs=1e-9)


def test_what_has_no_such_posterior_is_refused() -> None:
    with pytest.raises(UserError, match="expected the strength of an L2 penalty"):
        WeightPosterior(strength=0.0)
    with pytest.raises(UserError, match="several labels"):
        WeightPosterior(strength=0.1)(trained(torch.zeros(8, 2, 2), single_label=True))
    with pytest.raises(UserError, match="last linear layer"):
        WeightPosterior(strength=0.1)(trained(torch.zeros(8, 2, 2), classes=3))
