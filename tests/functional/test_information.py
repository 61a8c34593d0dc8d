from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch import Tensor

from einthoven.functional import information as info

unit = st.floats(0, 1, width=64)
pairs = st.integers(2, 8).flatmap(
    lambda k: st.tuples(*[st.lists(st.floats(1e-6, 1.0), min_size=k, max_size=k) for _ in range(2)])
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tensor_of(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)


def normalized(values: list[float]) -> Tensor:
    p = tensor(*values)
    return p / p.sum()


@settings(deadline=None)
@given(p=unit, q=unit)
def test_bernoulli_equals_scipy(p: float, q: float) -> None:
    ours_p, ours_q = tensor(p), tensor(q)
    kl = rel_entr(p, q) + rel_entr(1 - p, 1 - q)
    assert info.bernoulli_entropy(ours_p).item() == pytest.approx(scipy.stats.entropy([p, 1 - p]), abs=1e-12)
    assert info.bernoulli_kl(ours_p, ours_q).item() == pytest.approx(kl, abs=1e-12)


@settings(deadline=None)
@given(pair=pairs)
def test_categorical_equals_scipy(pair: tuple[list[float], list[float]]) -> None:
    p, q = (normalized(values) for values in pair)
    assert info.categorical_entropy(p).item() == pytest.approx(scipy.stats.entropy(p.numpy()), abs=1e-12)
    expected = scipy.stats.entropy(p.numpy(), q.numpy())
    assert info.categorical_kl(p, q).item() == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(p=unit, z=st.floats(-30, 30))
def test_bernoulli_from_logits_equals_from_probabilities(p: float, z: float) -> None:
    reference, logit = tensor(p), tensor(z)
    q = logit.sigmoid()
    torch.testing.assert_close(info.bernoulli_entropy(logit, logits=True), info.bernoulli_entropy(q))
    for function in (info.bernoulli_kl, info.bernoulli_cross_entropy):
        torch.testing.assert_close(
            function(reference, logit, logits=True), function(reference, q), rtol=1e-3, atol=1e-9
        )


@settings(deadline=None)
@given(pair=pairs, shift=st.floats(-100, 100))
def test_categorical_from_logits_equals_from_probabilities(pair: tuple[list[float], list[float]], shift: float) -> None:
    p, q = (normalized(values) for values in pair)
    z = q.log() + shift
    torch.testing.assert_close(info.categorical_entropy(z, logits=True), info.categorical_entropy(q))
    for function in (info.categorical_kl, info.categorical_cross_entropy):
        torch.testing.assert_close(function(p, z, logits=True), function(p, q))


# Hard, smoothed and mixed labels.
LABELS = [
    [1.0, 0.0, 0.0, 0.0],
    [0.925, 0.025, 0.025, 0.025],
    [0.3, 0.7, 0.0, 0.0],
    [0.25, 0.25, 0.25, 0.25],
]


@pytest.mark.parametrize("labels", LABELS)
def test_cross_entropy_is_entropy_plus_divergence(labels: list[float]) -> None:
    p = tensor(*labels)
    z = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    p = p.expand_as(z)
    torch.testing.assert_close(
        info.bernoulli_cross_entropy(p, z, logits=True),
        info.bernoulli_entropy(p) + info.bernoulli_kl(p, z, logits=True),
    )
    torch.testing.assert_close(
        info.categorical_cross_entropy(p, z, logits=True),
        info.categorical_entropy(p) + info.categorical_kl(p, z, logits=True),
    )
    # Against the losses that torch offers.
    torch.testing.assert_close(
        info.bernoulli_cross_entropy(p, z, logits=True),
        torch.nn.functional.binary_cross_entropy_with_logits(z, p, reduction="none"),
    )
    torch.testing.assert_close(
        info.categorical_cross_entropy(p, z, logits=True),
        torch.nn.functional.cross_entropy(z, p, reduction="none"),
    )


@settings(deadline=None)
@given(p=unit, q=unit)
def test_divergence_is_positive_unless_equal(p: float, q: float) -> None:
    kl = info.bernoulli_kl(tensor(p), tensor(q)).item()
    assert kl >= 0
    assert info.bernoulli_kl(tensor(p), tensor(p)).item() == pytest.approx(0, abs=1e-15)
    # Pinsker: KL >= 2 |p - q|^2, so it is zero only where they are equal.
    assert kl >= 2 * (p - q) ** 2 - 1e-12


@settings(deadline=None)
@given(pair=pairs)
def test_categorical_divergence_obeys_pinsker(pair: tuple[list[float], list[float]]) -> None:
    p, q = (normalized(values) for values in pair)
    total_variation = 0.5 * float((p - q).abs().sum())
    assert info.categorical_kl(p, q).item() >= 2 * total_variation**2 - 1e-12
    assert info.categorical_kl(p, p).item() == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(p=st.floats(0.01, 0.99), q=st.floats(0.01, 0.99))
def test_divergence_is_not_symmetric(p: float, q: float) -> None:
    assume(abs(p - q) > 0.05 and abs(p + q - 1) > 0.05)  # symmetric at p = q and at p = 1 - q only
    a, b = tensor(p), tensor(q)
    assert info.bernoulli_kl(a, b).item() != pytest.approx(info.bernoulli_kl(b, a).item(), rel=1e-6)


def test_entropy_is_largest_when_uniform() -> None:
    assert info.bernoulli_entropy(tensor(0.5)).item() == pytest.approx(math.log(2))
    assert info.categorical_entropy(torch.zeros(1, 5), logits=True).item() == pytest.approx(math.log(5))


def test_certain_distributions() -> None:
    assert info.bernoulli_entropy(tensor(0.0, 1.0)).tolist() == [0.0, 0.0]
    assert info.bernoulli_kl(tensor(0.0, 1.0, 0.0), tensor(0.0, 1.0, 1.0)).tolist() == [0.0, 0.0, math.inf]
    assert info.categorical_kl(tensor(0.0, 1.0), tensor(0.0, 1.0)).item() == 0.0
    assert info.categorical_kl(tensor(0.5, 0.5), tensor(0.0, 1.0)).item() == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_stay_finite_with_their_gradients(dtype: torch.dtype) -> None:
    z = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=dtype, requires_grad=True)
    p = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], dtype=dtype)
    values = [
        info.bernoulli_entropy(z, logits=True),
        info.categorical_entropy(z, logits=True),
        info.bernoulli_cross_entropy(p, z, logits=True),
        info.categorical_cross_entropy(p, z, logits=True),
        info.bernoulli_kl(p, z, logits=True),
        info.categorical_kl(p, z, logits=True),
    ]
    for value in values:
        assert torch.isfinite(value).all()
        (gradient,) = torch.autograd.grad(value.sum(), z)
        assert torch.isfinite(gradient).all()
    assert values[0].detach().tolist() == [[0.0, 0.0, pytest.approx(math.log(2))], [0.0, 0.0, 0.0]]
    assert values[2].detach()[0].tolist() == pytest.approx([1e4, 1e4, math.log(2)])


@pytest.mark.parametrize("classes", [1, 2, 5, 23])
def test_the_value_of_a_record_has_the_reduction_of_the_loss(classes: int) -> None:
    rng = np.random.default_rng(classes)
    p, q = rng.uniform(0.05, 0.95, (2, 6, classes))
    bernoulli = scipy.stats.entropy([p, 1 - p]), scipy.stats.entropy([p, 1 - p], [q, 1 - q])
    for value, expected in zip(
        (info.entropy(tensor_of(p), False), info.kl(tensor_of(p), tensor_of(q), False)), bernoulli, strict=True
    ):
        np.testing.assert_allclose(value, expected.mean(axis=-1))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(info.entropy(tensor_of(p), True), scipy.stats.entropy(p, axis=1), atol=1e-12)
    np.testing.assert_allclose(info.kl(tensor_of(p), tensor_of(q), True), scipy.stats.entropy(p, q, axis=1), atol=1e-12)


def test_any_dimension_may_hold_the_classes() -> None:
    z = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    p = z.flip(0).softmax(1)
    for found, expected in [
        (
            info.categorical_entropy(z, logits=True, dim=1),
            info.categorical_entropy(z.transpose(1, 2), logits=True),
        ),
        (
            info.categorical_kl(p, z, logits=True, dim=1),
            info.categorical_kl(p.transpose(1, 2), z.transpose(1, 2), logits=True),
        ),
    ]:
        assert found.shape == (3, 5)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
