from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from einthoven.diagnostics.information import PriorKL, kl_drift, predictive_entropy


def bernoulli_kl(p: float, q: float) -> float:
    return float(scipy.stats.entropy([p, 1 - p], [q, 1 - q]))


def make_batches(count: int, size: int = 16, classes: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            (torch.rand(size, classes, generator=generator) < 0.3).float(),
            torch.rand(size, classes, generator=generator),
        )
        for _ in range(count)
    ]


def test_entropy_of_independent_classes_adds_up() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.double().sigmoid().numpy()
    expected = np.mean([sum(scipy.stats.entropy([q, 1 - q]) for q in row) for row in p])
    assert predictive_entropy(logits).item() == pytest.approx(expected, rel=1e-5)
    assert predictive_entropy(torch.zeros(2, 5)).item() == pytest.approx(5 * math.log(2))


def test_entropy_of_exclusive_classes() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.double().softmax(-1).numpy()
    expected = np.mean([scipy.stats.entropy(row) for row in p])
    assert predictive_entropy(logits, True).item() == pytest.approx(expected, rel=1e-5)
    assert predictive_entropy(logits.bfloat16(), True).dtype == torch.float32


def test_prior_of_the_first_batch_is_its_own() -> None:
    labels, probabilities = make_batches(1)[0]
    found = PriorKL().update(labels, probabilities).item()
    pairs = zip(labels.mean(0).tolist(), probabilities.mean(0).tolist(), strict=True)
    assert found == pytest.approx(sum(bernoulli_kl(p, q) for p, q in pairs), rel=1e-4)


def test_prior_is_a_weighted_mean_over_batches() -> None:
    horizon, batches = 5.0, make_batches(12)
    prior = PriorKL(horizon)
    for last in range(1, len(batches) + 1):
        found = prior.update(*batches[last - 1]).item()
        weights = np.array([(1 - 1 / horizon) ** (last - 1 - i) for i in range(last)])
        p, q = (
            np.average([pair[side].mean(0).numpy() for pair in batches[:last]], axis=0, weights=weights)
            for side in (0, 1)
        )
        assert found == pytest.approx(sum(map(bernoulli_kl, p, q)), rel=1e-3)


def test_prior_is_zero_for_a_calibrated_head_and_not_otherwise() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    right, wrong = torch.tensor([0.5, 0.25]).expand(4, 2), torch.tensor([0.5, 0.5]).expand(4, 2)
    assert PriorKL().update(labels, right).item() == pytest.approx(0, abs=1e-7)
    assert PriorKL().update(labels, wrong).item() == pytest.approx(bernoulli_kl(0.25, 0.5), rel=1e-5)


def test_prior_stays_a_number_for_a_class_that_is_always_present() -> None:
    prior = PriorKL(horizon=7.3)
    ones = torch.ones(4, 2)
    values = [prior.update(ones, ones * 0.999).item() for _ in range(200)]
    assert np.isfinite(values).all()


def test_prior_resumes_exactly() -> None:
    batches = make_batches(10)
    whole, first = PriorKL(), PriorKL()
    for batch in batches[:5]:
        whole.update(*batch)
        first.update(*batch)
    state = first.state_dict()
    first.update(*batches[9])  # must not reach the state that was taken
    resumed = PriorKL()
    resumed.load_state_dict(state)
    for batch in batches[5:]:
        assert torch.equal(whole.update(*batch), resumed.update(*batch))
    fresh = PriorKL()
    fresh.load_state_dict(PriorKL().state_dict())
    assert torch.equal(fresh.update(*batches[0]), PriorKL().update(*batches[0]))


def test_prior_refuses_an_impossible_horizon() -> None:
    with pytest.raises(ValueError, match="at least 1 batch"):
        PriorKL(0.5)


@pytest.mark.parametrize("as_arrays", [False, True])
def test_drift_equals_brute_force(as_arrays: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    previous, now = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    p, q = previous.sigmoid(), now.sigmoid()
    expected = np.mean([sum(map(bernoulli_kl, a, b)) for a, b in zip(p.numpy(), q.numpy(), strict=True)])
    arguments = (p.numpy(), q.numpy()) if as_arrays else (p, q)
    assert kl_drift(*arguments) == pytest.approx(expected)
    p, q = previous.softmax(-1), now.softmax(-1)
    expected = np.mean([scipy.stats.entropy(a, b) for a, b in zip(p.numpy(), q.numpy(), strict=True)])
    assert kl_drift(p, q, single_label=True) == pytest.approx(expected)


def test_drift_of_nothing_is_zero_and_of_saturated_outputs_finite() -> None:
    p = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    assert kl_drift(p, p) == pytest.approx(0, abs=1e-12)
    assert 1 < kl_drift(torch.zeros(1, 2), torch.ones(1, 2)) < 50
    with pytest.raises(ValueError, match="different records"):
        kl_drift(p, p[:4])
