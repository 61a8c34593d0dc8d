from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats
import torch
from torch import Tensor, nn

from einthoven.diagnostics.information import (
    PriorKL,
    confident_wrong,
    entropy_histogram,
    kl_drift,
    kl_windows,
    label_information,
    predictive_entropy,
)


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


def test_entropy_of_independent_classes_is_their_mean() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.double().sigmoid().numpy()
    expected = np.mean([scipy.stats.entropy([q, 1 - q]) for row in p for q in row])
    assert predictive_entropy(logits).item() == pytest.approx(expected, rel=1e-5)
    assert predictive_entropy(torch.zeros(2, 5)).item() == pytest.approx(math.log(2))


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
    assert found == pytest.approx(np.mean([bernoulli_kl(p, q) for p, q in pairs]), rel=1e-4)


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
        assert found == pytest.approx(np.mean([*map(bernoulli_kl, p, q)]), rel=1e-3)


def test_prior_is_zero_for_a_calibrated_head_and_not_otherwise() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    right, wrong = torch.tensor([0.5, 0.25]).expand(4, 2), torch.tensor([0.5, 0.5]).expand(4, 2)
    assert PriorKL().update(labels, right).item() == pytest.approx(0, abs=1e-7)
    assert PriorKL().update(labels, wrong).item() == pytest.approx(bernoulli_kl(0.25, 0.5) / 2, rel=1e-5)


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


def test_prior_resumes_from_a_count_of_batches() -> None:
    batches = make_batches(6)
    whole = PriorKL()
    for batch in batches[:5]:
        whole.update(*batch)
    older = PriorKL()
    older.load_state_dict({"count": 5, "sums": whole.state_dict()["sums"]})
    torch.testing.assert_close(older.update(*batches[5]), whole.update(*batches[5]))


def test_prior_refuses_an_impossible_horizon() -> None:
    with pytest.raises(ValueError, match="at least 1 batch"):
        PriorKL(0.5)


@pytest.mark.parametrize("as_arrays", [False, True])
def test_drift_equals_brute_force(as_arrays: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    previous, now = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    p, q = previous.sigmoid(), now.sigmoid()
    expected = np.mean([*map(bernoulli_kl, p.numpy().ravel(), q.numpy().ravel())])
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


# ---------------------------------------------------------------- labels, windows, confidence


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("single_label", [False, True])
def test_cross_entropy_is_the_entropy_of_the_labels_and_a_divergence(soft: bool, single_label: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(8, 4, generator=generator, dtype=torch.float64)
    labels = torch.rand(8, 4, generator=generator, dtype=torch.float64)
    labels = labels / labels.sum(-1, keepdim=True) if single_label else labels
    if not soft:
        labels = nn.functional.one_hot(labels.argmax(-1), 4).double() if single_label else labels.round()
    p = logits.softmax(-1) if single_label else logits.sigmoid()
    found = label_information(labels, logits, single_label)
    pairs = [(labels, p)] if single_label else [(labels, p), (1 - labels, 1 - p)]
    size = 8 if single_label else 8 * 4
    kl = sum(scipy.special.rel_entr(a.numpy(), b.numpy()).sum() for a, b in pairs) / size
    entropy = sum(scipy.special.entr(a.numpy()).sum() for a, _ in pairs) / size
    assert found["watch/diag/kl_labels"].item() == pytest.approx(kl, rel=1e-4)
    assert found["watch/diag/entropy_labels"].item() == pytest.approx(entropy, rel=1e-4, abs=1e-9)
    loss = nn.functional.cross_entropy if single_label else nn.functional.binary_cross_entropy_with_logits
    assert sum(value.item() for value in found.values()) == pytest.approx(loss(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("single_label", [False, True])
def test_records_that_fill_up_a_batch_count_nothing(single_label: bool) -> None:
    labels, logits = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([True, True, False, True, False, True])
    padded = label_information(labels, logits, single_label, valid)
    alone = label_information(labels[valid], logits[valid], single_label)
    torch.testing.assert_close(padded, alone)
    entropy = predictive_entropy(logits, single_label, valid)
    torch.testing.assert_close(entropy, predictive_entropy(logits[valid], single_label))
    probabilities = logits.sigmoid()
    prior = PriorKL().update(labels, probabilities, valid)
    torch.testing.assert_close(prior, PriorKL().update(labels[valid], probabilities[valid]))


@pytest.mark.parametrize("single_label", [False, True])
def test_windows_of_a_record_equal_brute_force(single_label: bool) -> None:
    rng = np.random.default_rng(0)
    p, record = rng.random((9, 3)), np.array([7, 2, 7, 7, 2, 5, 7, 2, 9])
    p = p / p.sum(1, keepdims=True) if single_label else p
    means = []
    for r in (7, 2):  # 5 and 9 have one window
        mine = p[record == r]
        pairs = [(mine, mine.mean(0))] if single_label else [(mine, mine.mean(0)), (1 - mine, 1 - mine.mean(0))]
        size = len(mine) if single_label else mine.size
        means.append(sum(scipy.special.rel_entr(a, b).sum() for a, b in pairs) / size)
    assert kl_windows(p, record, single_label=single_label) == pytest.approx(np.mean(means))
    assert kl_windows(p, np.arange(9)) is None
    if single_label:  # Jensen-Shannon: entropy of the mean less mean of the entropies
        pair = p[record == 2][:2]
        expected = scipy.spatial.distance.jensenshannon(*pair) ** 2
        assert kl_windows(pair, np.zeros(2, int), single_label=True) == pytest.approx(expected)


def test_windows_that_agree_or_are_saturated() -> None:
    assert kl_windows(np.tile([[1.0, 0.0, 0.3]], (4, 1)), np.zeros(4, int)) == pytest.approx(0, abs=1e-12)
    assert kl_windows(np.array([[1.0], [0.0]]), np.zeros(2, int)) == pytest.approx(math.log(2))


def test_confidence_that_is_wrong() -> None:
    y = np.array([[1.0, 0.0], [0.0, 1.0]])
    p = np.array([[0.05, 0.95], [0.89, 0.99]])
    assert confident_wrong(y, p) == 0.5
    assert confident_wrong(y, p, 0.85) == 0.75
    rng = np.random.default_rng(0)
    p = rng.random((100_000, 1))
    assert confident_wrong(rng.random(p.shape) < p, p) == pytest.approx(0.2 * 0.05, rel=0.1)


@pytest.mark.parametrize("single_label", [False, True])
def test_the_histogram_has_every_record_in_its_bin(single_label: bool) -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.3] * 4, 200) if single_label else rng.beta(0.3, 0.3, (200, 4))
    counts, edges = entropy_histogram(p, single_label=single_label, bins=7)
    bernoulli = (scipy.special.entr(p) + scipy.special.entr(1 - p)).mean(1)
    entropy = scipy.special.entr(p).sum(1) if single_label else bernoulli
    assert counts.sum() == 200 and edges[-1] == pytest.approx(math.log(4) if single_label else math.log(2))
    assert counts.tolist() == [int(((entropy >= a) & (entropy < b)).sum()) for a, b in pairwise(edges)]
    sure, unsure = np.eye(4)[:3], np.full((3, 4), 0.25 if single_label else 0.5)
    assert entropy_histogram(sure, single_label=single_label)[0][0] == 3
    assert entropy_histogram(unsure, single_label=single_label)[0][-1] == 3
