"""Each loss against its likelihood, its closed form, and the losses that it contains."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.distributions import Bernoulli, Categorical

from einthoven.errors import UserError
from einthoven.functional.information import bernoulli_entropy, bernoulli_kl, categorical_entropy, categorical_kl
from einthoven.losses.classification import (
    asymmetric,
    balanced_weights,
    binary_cross_entropy,
    cross_entropy,
    focal,
    softmax_cross_entropy,
)

LOSSES = {
    "cross-entropy": cross_entropy,
    "smoothed": partial(cross_entropy, label_smoothing=0.1),
    "focal": focal,
    "focal, gamma 0.5": partial(focal, gamma=0.5),
    "weighted focal": partial(focal, alpha=0.25),
    "asymmetric": partial(asymmetric, gamma_positive=1.0),
    "asymmetric without margin": partial(asymmetric, margin=0.0),
}
SOFTMAX = {name: loss for name, loss in LOSSES.items() if "asymmetric" not in name and "weighted" not in name}


def logits_and_labels(kind: str, records: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits, and labels that are hard, or mixed as mixup mixes them; for a softmax, rows sum to 1."""
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(records, classes, generator=generator, dtype=torch.float64)
    y = torch.eye(classes, dtype=torch.float64)[torch.arange(records) % classes]
    if kind == "mixed":
        y = 0.3 * y + 0.7 * y.flip(0)
    return z, y


@pytest.mark.parametrize("kind", ["hard", "mixed"])
def test_cross_entropy_is_minus_the_log_likelihood(kind: str) -> None:
    z, y = logits_and_labels(kind)
    if kind == "hard":  # of which scipy knows the probability, too
        found = cross_entropy(z, y, output="sigmoid"), cross_entropy(z, y, output="softmax")
        by_scipy = stats.bernoulli(z.sigmoid().numpy()).logpmf(y.numpy()).mean(axis=1)
        np.testing.assert_allclose(found[0], -by_scipy, rtol=1e-12)
        by_scipy = stats.multinomial(1, z.softmax(dim=1).numpy()).logpmf(y.numpy())
        np.testing.assert_allclose(found[1], -by_scipy, rtol=1e-12)
    bernoulli = y * Bernoulli(logits=z).log_prob(torch.ones(())) + (1 - y) * Bernoulli(logits=z).log_prob(
        torch.zeros(())
    )
    torch.testing.assert_close(cross_entropy(z, y, output="sigmoid"), -bernoulli.mean(dim=1))
    log_p = torch.stack([Categorical(logits=z).log_prob(torch.tensor(k)) for k in range(4)], dim=1)
    torch.testing.assert_close(cross_entropy(z, y, output="softmax"), -(y * log_p).sum(dim=1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["hard", "mixed"])
def test_cross_entropy_is_entropy_plus_divergence(kind: str, smoothing: float) -> None:
    z, y = logits_and_labels(kind)
    smoothed = (1 - smoothing) * y + smoothing / 2
    expected = (bernoulli_entropy(smoothed) + bernoulli_kl(smoothed, z, logits=True)).mean(dim=1)
    torch.testing.assert_close(cross_entropy(z, y, output="sigmoid", label_smoothing=smoothing), expected)
    smoothed = (1 - smoothing) * y + smoothing / 4
    expected = categorical_entropy(smoothed) + categorical_kl(smoothed, z, logits=True)
    torch.testing.assert_close(cross_entropy(z, y, output="softmax", label_smoothing=smoothing), expected)


def test_label_smoothing_is_that_of_torch() -> None:
    z, y = logits_and_labels("hard")
    expected = torch.nn.functional.cross_entropy(z, y, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(cross_entropy(z, y, output="softmax", label_smoothing=0.2), expected)


def test_by_default_nothing_stands_between_the_loss_and_the_plain_ones() -> None:
    z, y = (t.float() for t in logits_and_labels("mixed"))
    prior = y.mean(dim=0)
    assert torch.equal(cross_entropy(z, y, output="sigmoid", prior=prior), binary_cross_entropy(z, y))
    assert torch.equal(cross_entropy(z, y, output="softmax", prior=prior), softmax_cross_entropy(z, y))


@pytest.mark.parametrize("kind", ["hard", "mixed"])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_focal_without_focus_is_cross_entropy(output: str, kind: str) -> None:
    z, y = logits_and_labels(kind)
    torch.testing.assert_close(focal(z, y, output=output, gamma=0.0), cross_entropy(z, y, output=output))


@pytest.mark.parametrize("kind", ["hard", "mixed"])
def test_asymmetric_without_exponents_and_margin_is_binary_cross_entropy(kind: str) -> None:
    z, y = logits_and_labels(kind)
    found = asymmetric(z, y, gamma_positive=0.0, gamma_negative=0.0, margin=0.0)
    torch.testing.assert_close(found, binary_cross_entropy(z, y))
    same = partial(asymmetric, gamma_positive=2.0, gamma_negative=2.0, margin=0.0)
    torch.testing.assert_close(same(z, y), focal(z, y, gamma=2.0))


def test_focal_is_its_formula() -> None:
    z, y = logits_and_labels("hard")
    p = torch.sigmoid(z).numpy()
    p_t = np.where(y == 1, p, 1 - p)
    alpha = np.where(y == 1, 0.25, 0.75)
    expected = -(alpha * (1 - p_t) ** 2 * np.log(p_t)).mean(axis=1)
    np.testing.assert_allclose(focal(z, y, gamma=2.0, alpha=0.25).numpy(), expected)
    q = torch.softmax(z, dim=1).numpy()[y.numpy() == 1]
    np.testing.assert_allclose(focal(z, y, output="softmax").numpy(), -((1 - q) ** 2) * np.log(q))


def test_asymmetric_is_its_formula() -> None:
    z, y = logits_and_labels("hard")
    p = torch.sigmoid(z).numpy()
    shifted = np.maximum(p - 0.05, 0)
    hit, rejected = (1 - p) ** 1 * np.log(p), shifted**4 * np.log(1 - shifted)
    expected = -np.where(y == 1, hit, rejected).mean(axis=1)
    np.testing.assert_allclose(asymmetric(z, y, gamma_positive=1.0).numpy(), expected)


def test_a_negative_below_the_margin_costs_nothing_and_moves_nothing() -> None:
    z = torch.full((1, 1), math.log(0.04 / 0.96), requires_grad=True)
    loss = asymmetric(z, torch.zeros(1, 1), margin=0.05)
    loss.sum().backward()
    assert loss.item() == 0.0 and z.grad is not None and z.grad.item() == 0.0


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    y = torch.eye(3)[labels]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    positive, _ = balanced_weights(y.mean(dim=0), "softmax")
    np.testing.assert_allclose(positive.numpy(), expected, rtol=1e-6)
    positive, negative = balanced_weights(y.mean(dim=0), "sigmoid")
    for k in range(3):
        expected = compute_class_weight("balanced", classes=np.arange(2), y=y[:, k].numpy().astype(int))
        np.testing.assert_allclose([negative[k], positive[k]], expected, rtol=1e-6)


def test_balanced_cross_entropy_weighs_each_record_by_its_class() -> None:
    z, y = logits_and_labels("hard", records=7, classes=3)
    prior = y.mean(dim=0)
    weight = compute_class_weight("balanced", classes=np.arange(3), y=y.argmax(dim=1).numpy())
    expected = torch.nn.functional.cross_entropy(z, y.argmax(dim=1), weight=torch.from_numpy(weight), reduction="none")
    torch.testing.assert_close(cross_entropy(z, y, output="softmax", prior=prior, class_weight="balanced"), expected)
    found = cross_entropy(z, y, output="sigmoid", prior=prior, class_weight="balanced")
    weight = torch.where(y == 1, 0.5 / prior, 0.5 / (1 - prior))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(z, y, weight=weight, reduction="none").mean(dim=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_a_class_without_a_training_record_has_no_weight_and_no_nan(output: str) -> None:
    z, y = logits_and_labels("hard", classes=3)
    prior = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    assert cross_entropy(z, y, output=output, prior=prior, class_weight="balanced").isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_sigmoid_losses(name: str) -> None:
    z, y = logits_and_labels("mixed")
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, y, output="sigmoid"), (z.requires_grad_(),))


@pytest.mark.parametrize("name", SOFTMAX)
def test_gradients_of_softmax_losses(name: str) -> None:
    z, y = logits_and_labels("mixed")
    assert torch.autograd.gradcheck(lambda z: SOFTMAX[name](z, y, output="softmax"), (z.requires_grad_(),))


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_finite_at_extreme_logits(name: str, output: str) -> None:
    if output == "softmax" and name not in SOFTMAX:
        return
    z = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [200.0, -90.0]], requires_grad=True)
    loss = LOSSES[name](z, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), output=output)
    loss.sum().backward()
    assert loss.isfinite().all() and (loss >= 0).all()
    assert z.grad is not None and z.grad.isfinite().all()
    assert loss[1] > loss[0]  # wrong, and right


@given(st.floats(0, 5), st.floats(-20, 20))
def test_focal_costs_no_more_than_cross_entropy(gamma: float, logit: float) -> None:
    z, y = torch.tensor([[logit]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    assert 0 <= focal(z, y, gamma=gamma).item() <= binary_cross_entropy(z, y).item() + 1e-12


def test_each_record_has_a_value_of_its_own() -> None:
    z, y = logits_and_labels("hard")
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(z, y, output="sigmoid")[2:3], loss(z[2:3], y[2:3], output="sigmoid"))


@pytest.mark.parametrize(
    ("loss", "output", "expected"),
    [
        (partial(cross_entropy, class_weight="equal"), "sigmoid", "loss.class_weight=equal: expected none or balanced"),
        (partial(cross_entropy, label_smoothing=1.0), "sigmoid", "loss.label_smoothing=1.0"),
        (cross_entropy, "identity", "loss=cross_entropy: it is a loss of classes"),
        (focal, "identity", "loss=focal"),
        (asymmetric, "identity", "loss=asymmetric"),
        (asymmetric, "softmax", "loss=asymmetric: it treats positive and negative labels differently"),
        (partial(asymmetric, margin=1.0), "sigmoid", "loss.margin=1.0"),
        (partial(asymmetric, gamma_negative=-1.0), "sigmoid", "loss.gamma_negative=-1.0"),
        (partial(focal, gamma=math.nan), "sigmoid", "loss.gamma=nan"),
        (partial(focal, gamma=1e300), "sigmoid", "loss.gamma=1e+300: expected a number from 0 to 100"),
        (partial(focal, alpha=1.0), "sigmoid", "loss.alpha=1.0"),
        (partial(focal, alpha=0.25), "softmax", "loss.alpha=0.25: it weighs positive labels against negative labels"),
    ],
)
def test_what_does_not_fit_is_one_sentence(loss: Callable[..., Tensor], output: str, expected: str) -> None:
    z, y = logits_and_labels("hard")
    with pytest.raises(UserError) as refusal:
        loss(z, y, output=output)
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_only_cross_entropy_asks_for_the_share_of_the_positives(share: float) -> None:
    """Of records that look alike: label smoothing asks for a mixture with a coin, focal for less certainty."""

    def answer(loss: Callable[..., Tensor]) -> float:
        def expected(z: float) -> float:
            logit = torch.full((2, 1), z, dtype=torch.float64)
            of_one, of_none = loss(logit, torch.tensor([[1.0], [0.0]], dtype=torch.float64)).tolist()
            return float(share * of_one + (1 - share) * of_none)

        z = optimize.minimize_scalar(expected, bounds=(-12, 12), method="bounded", options={"xatol": 1e-9}).x
        return float(1 / (1 + math.exp(-z)))

    assert answer(cross_entropy) == pytest.approx(share, abs=1e-6)
    assert answer(partial(cross_entropy, label_smoothing=0.2)) == pytest.approx(0.8 * share + 0.1, abs=1e-6)
    assert answer(partial(focal, gamma=0.0)) == pytest.approx(share, abs=1e-6)
    less_sure = abs(answer(focal) - 0.5)
    assert less_sure < abs(share - 0.5) - 0.02 if share != 0.5 else less_sure < 1e-6
    assert answer(asymmetric) > share + 0.02  # negatives that are forgotten do not pull it down
