"""Scores of maps: of the best and the worst order, of chance, of methods that ignore what was learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from einthoven.evaluation.faithfulness import (
    deletion_insertion,
    faithfulness,
    permute_weights,
    rank_correlation,
)
from einthoven.evaluation.saliency import ExplainableModel, input_gradient, integrated_gradients
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.xresnet1d import XResNet1d

TARGET = torch.tensor([0, 1])


class Spot(nn.Module):
    """Class k is the sum of 50 samples of lead k alone, less 2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 12, 400))
        with torch.no_grad():
            for k in range(2):
                self.weight[k, k, 100 : 150 + 50 * k] = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("klt,nlt->nk", self.weight, x) - 2.0


def test_deletion_and_insertion_follow_the_order() -> None:
    model, x = Classifier(Frontend(12), Spot()), torch.ones(2, 12, 400)
    relevance = input_gradient(model, x, TARGET)
    deletion, insertion = deletion_insertion(model, x, relevance, TARGET, patch=10, steps=480)
    # class 0 holds 5 patches of ten samples: each adds 1 to the log-odds, from -2 to 3
    steps = torch.sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0]))
    torch.testing.assert_close(insertion[0], torch.cat([steps, steps[-1].expand(475)]), rtol=1e-4, atol=1e-5)
    down = torch.sigmoid(torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0]))
    torch.testing.assert_close(deletion[0], torch.cat([down, down[-1].expand(475)]), rtol=1e-4, atol=1e-5)
    worst = deletion_insertion(model, x, -relevance, TARGET, patch=10).mean(dim=2)
    best = deletion_insertion(model, x, relevance, TARGET, patch=10).mean(dim=2)
    assert (best[0] < worst[0]).all() and (best[1] > worst[1]).all()


def test_records_are_judged_alike_alone_and_together_and_in_patches_that_do_not_divide_them() -> None:
    model = Classifier(Frontend(12), Spot())
    x, order = (torch.rand(2, 12, 400, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    together = deletion_insertion(model, x, order, TARGET, patch=7)
    alone = [deletion_insertion(model, x[[i]], order[[i]], TARGET[[i]], patch=7) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_a_map_that_marks_what_counts_beats_chance_and_one_that_marks_nothing_does_not() -> None:
    model, x = Classifier(Frontend(12), Spot()), torch.ones(2, 12, 400)
    found = faithfulness(model, integrated_gradients, x, TARGET, integrated_gradients(model, x, TARGET), fs=100.0)
    assert (found.deletion < found.random_deletion).all() and (found.insertion > found.random_insertion).all()
    assert (np.abs(found.sanity) < 0.1).all()
    many, target = x[:1].expand(64, 12, 400), torch.zeros(64, dtype=torch.int64)
    drawn = torch.rand(many.shape, generator=torch.Generator().manual_seed(5))
    blind = faithfulness(model, lambda m, x, t: drawn, many, target, drawn, fs=100.0)
    assert blind.deletion.mean() == pytest.approx(blind.random_deletion.mean(), abs=0.05)
    assert blind.insertion.mean() == pytest.approx(blind.random_insertion.mean(), abs=0.05)


def test_a_method_that_looks_at_the_record_alone_fails_the_sanity_check() -> None:
    def edges(model: ExplainableModel, x: Tensor, target: Tensor) -> Tensor:
        return x.diff(dim=2, append=x[..., -1:]).abs()

    torch.manual_seed(0)
    network = XResNet1d(12, 3, bottleneck=False, blocks=(1, 1), stem=(8,), width=8, hidden=8)
    model = Classifier(Frontend(12), network).eval()
    x = torch.randn(2, 12, 300)
    found = faithfulness(model, edges, x, TARGET, edges(model, x, TARGET), fs=100.0)
    assert found.sanity == pytest.approx(np.ones(2))
    plain = faithfulness(model, input_gradient, x, TARGET, input_gradient(model, x, TARGET), fs=100.0)
    assert (plain.sanity < 0.9).all()


def test_weights_are_dealt_anew_in_a_copy_and_norms_follow() -> None:
    torch.manual_seed(0)
    model = Classifier(
        Frontend(12), XResNet1d(12, 3, bottleneck=False, blocks=(1, 1), stem=(8,), width=8, hidden=8)
    ).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(4, 12, 300)
    other = permute_weights(model, x, seed=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for (name, mine), theirs in zip(model.network.named_parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine.flatten().sort().values, theirs.flatten().sort().values), name
    weights = [m.network.get_parameter("stem.0.conv.weight") for m in (model, other)]
    assert not torch.equal(*weights)
    assert not any(module.training for module in other.network.modules() if isinstance(module, nn.BatchNorm2d))
    assert torch.equal(other(x), permute_weights(model, x, seed=3)(x)) and torch.isfinite(other(x)).all()
    silent = [v for n, v in other.network.named_buffers() if n.endswith("running_var") and n.startswith("stage")]
    assert silent and all((value > 0).any() for value in silent)


def test_the_rank_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (3, 4, 20)).astype(float), rng.normal(size=(3, 4, 20))
    expected = [spearmanr(u.ravel(), v.ravel()).statistic for u, v in zip(a, b, strict=True)]
    found = rank_correlation(torch.from_numpy(a), torch.from_numpy(b))
    assert found.numpy() == pytest.approx(expected, abs=1e-12)
    assert torch.isnan(rank_correlation(torch.ones(1, 5), torch.rand(1, 5))).all()
