"""Contrastive predictive coding: the context sees no future, the scores are those of the candidates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.contrastive import info_nce
from einthoven.losses.regression import mse
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.s4d import S4D
from einthoven.tasks.cpc import CPC


def task(**options: Any) -> CPC:
    return CPC(**{"latent": 6, "context": 5, "steps": 3, "negatives": 7, **options})


def model(network: nn.Module | None = None) -> Classifier:
    torch.manual_seed(0)
    network = network or ConvAttention(12, 1, window=1.0, channels=(8, 8), heads=2, drop_path=0.0)
    return task().build_model(Classifier(Frontend(12), network), 100)


def batch(n: int = 4) -> Batch:
    x = torch.randn(n, 12, 100, generator=torch.Generator().manual_seed(1))
    return Batch(x, torch.zeros(n, 0), torch.arange(n), torch.ones(n, dtype=torch.bool))


def test_a_context_sees_no_later_signal() -> None:
    trained: Any = model().eval()
    x = batch(1).x
    changed = x.clone()
    changed[..., 60:] += 1.0
    difference = (trained(changed) - trained(x)).abs().amax(dim=(0, 2)).detach()
    # A token is 4 samples. The convolutions see 13 samples to each side at most.
    assert difference.shape == (25,)
    assert difference[:11].max() == 0 and difference[18:].min() > 0


def test_the_scores_are_those_of_a_loop_over_candidates() -> None:
    trained: Any = model().eval()
    torch.manual_seed(4)
    scores, contexts = task().candidate_scores(trained, batch().x)
    torch.manual_seed(4)
    drawn = torch.randint(4 * 25, (7,)).tolist()
    latents = trained.decoder.to_latent(trained.features(batch().x)).detach().numpy()
    flat = latents.reshape(100, 6)
    assert [s.shape for s in scores] == [(4, 24, 8), (4, 23, 8), (4, 22, 8)]
    # The last prediction has its own right latent among the wrong candidates.
    drawn_record, place = divmod(next(number for number in drawn if number % 25 > 0), 25)
    for record, time, ahead in [(0, 0, 1), (2, 9, 2), (3, 21, 3), (drawn_record, place - 1, 1)]:
        predict = trained.decoder.predictions[ahead - 1]
        predicted = predict(contexts[record, time]).detach().numpy() / math.sqrt(6)
        expected = [predicted @ latents[record, time + ahead]]
        for number in drawn:
            is_right = number == record * 25 + time + ahead
            expected.append(-math.inf if is_right else predicted @ flat[number])
        np.testing.assert_allclose(scores[ahead - 1][record, time].detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    assert -math.inf in expected


def test_loss_and_scores_are_means_over_steps_and_times() -> None:
    trained = model().eval()
    torch.manual_seed(4)
    candidates, _ = task().candidate_scores(trained, batch().x)
    torch.manual_seed(4)
    scores = task().scores(trained, batch()).detach()
    expected = torch.stack([-torch.log_softmax(s, dim=2)[..., 0].mean(dim=1) for s in candidates]).mean(dim=0)
    torch.testing.assert_close(scores[:, 0], expected.detach())
    # A right latent among the wrong candidates does not count: some predictions have fewer than eight candidates.
    counts = [s.isfinite().sum(dim=2).double() for s in candidates]
    assert min(float(count.min()) for count in counts) < 8
    logs = torch.stack([count.log().mean(dim=1) for count in counts]).mean(dim=0)
    torch.testing.assert_close(scores[:, 1], (logs - expected.detach()).float())
    torch.manual_seed(4)
    torch.testing.assert_close(task().loss(trained, batch())[0].detach(), expected.mean().detach())


def test_a_perfect_prediction_is_found() -> None:
    scores = torch.tensor([[[9.0, 0.0, -1.0], [0.0, 1.0, 0.0]]])
    partner = torch.tensor([[1.0, 0.0, 0.0]]).expand(2, -1)
    loss = info_nce(scores[0], partner)
    np.testing.assert_allclose(loss, -torch.log_softmax(scores[0], dim=1)[:, 0])


def test_the_attention_is_not_trained_as_it_would_see_the_future() -> None:
    trained = model()
    loss, _ = task().loss(trained, batch())
    loss.backward()  # type: ignore[no-untyped-call]
    stages = {name.split(".")[0] for name, p in trained.network.named_parameters() if p.requires_grad}
    assert stages == {"stem", "conv"}
    assert all(p.grad is not None for p in trained.parameters() if p.requires_grad)


def test_what_cannot_predict_is_refused() -> None:
    with pytest.raises(UserError, match="S4D: its tokens see the whole window; expected a network of convolutions"):
        model(S4D(12, 1, width=8, depth=1))
    network = ConvAttention(12, 1, window=1.0, channels=(8, 8), heads=2)
    with pytest.raises(UserError, match=r"task.steps=25: a window has 25 tokens; expected fewer steps"):
        task(steps=25).build_model(Classifier(Frontend(12), network), 100)
    with pytest.raises(UserError, match=r"task.negatives=0"):
        task(negatives=0)
    with pytest.raises(UserError, match=r"loss=mse: it compares signals or quantities"):
        task(objective=mse)
