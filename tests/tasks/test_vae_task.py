"""The variational autoencoder: its bound, its divergences, and where its gradients flow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.contrastive import info_nce
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.mlp import MLP
from einthoven.tasks.vae import VAE


def task(**options: Any) -> VAE:
    return VAE(**{"latent": 3, "beta": 1.0, "free_nats": 0.0, **options})


def model() -> Any:
    torch.manual_seed(0)
    frontend = Frontend(12)
    frontend.mean.fill_(0.1)
    frontend.std.fill_(0.5)
    network = ConvAttention(12, 6, window=1.0, channels=(8, 8), heads=2, dropout=0.0, drop_path=0.0)
    trained: Any = task().build_model(Classifier(frontend, network), 100)
    with torch.no_grad():
        trained.decoder.signal.log_sd.fill_(-0.7)
    return trained


def batch(n: int = 4) -> Batch:
    x = torch.randn(n, 12, 100, generator=torch.Generator().manual_seed(1))
    return Batch(x, torch.zeros(n, 0), torch.arange(n), torch.ones(n, dtype=torch.bool))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_that_of_the_distributions_of_torch(beta: float) -> None:
    trained = model().eval()
    torch.manual_seed(3)
    loss, _ = task(beta=beta).record_losses(trained, batch())
    torch.manual_seed(3)
    mean, log_variance = task().posterior(trained, batch().x)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    z = mean + posterior.stddev * torch.randn_like(mean)
    noise = Independent(Normal(trained.decoder.signal(z), math.exp(-0.7)), 2)
    scaled = (batch().x - 0.1) / 0.5
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = kl_divergence(posterior, prior).sum(dim=1)
    expected = (-noise.log_prob(scaled) + beta * divergence) / 1200
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)

    torch.manual_seed(3)
    scores = task(beta=beta).scores(trained, batch())
    torch.testing.assert_close(scores[:, 1], (noise.log_prob(scaled) - divergence) / 1200, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[:, 2], divergence, rtol=1e-4, atol=1e-5)


def test_free_nats_are_paid_by_each_dimension_and_have_no_gradient() -> None:
    kl = torch.tensor([[0.05, 0.3], [0.2, 0.01]], requires_grad=True)
    terms = {"kl": kl, "nll": torch.tensor([1.0, 2.0])}
    loss = task(free_nats=0.1, beta=2.0).weigh(terms, 10)
    np.testing.assert_allclose(loss.detach(), [1 + 2 * 0.4 / 10, 2 + 2 * 0.3 / 10], rtol=1e-6)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert kl.grad is not None
    np.testing.assert_allclose(kl.grad, [[0, 0.2], [0.2, 0]], rtol=1e-6)


def test_gradients_reach_the_tokens_and_the_decoder() -> None:
    trained = model()
    loss, _ = task().loss(trained, batch())
    loss.backward()
    assert all(p.grad is not None for p in trained.parameters() if p.requires_grad)
    stages = {name.split(".")[0] for name, p in trained.network.named_parameters() if p.requires_grad}
    assert stages == {"stem", "conv", "attention"}
    assert bool(trained.decoder.signal.log_sd.grad.abs() > 0)
    assert trained(batch().x).shape == (4, 12, 100)


def test_a_network_without_tokens_has_the_posterior_in_its_head() -> None:
    network = MLP(12, 6, samples=100, width=8, dropout=0.5)
    trained: Any = task().build_model(Classifier(Frontend(12), network), 100)
    mean, log_variance = task().posterior(trained.eval(), batch().x)
    torch.testing.assert_close(torch.cat([mean, log_variance], dim=1), network(batch().x))
    loss, _ = task().loss(trained.train(), batch())
    loss.backward()
    assert all(p.grad is not None for p in trained.parameters())


def test_the_best_noise_is_the_error_of_the_reconstruction() -> None:
    """At the minimum over σ, σ² is the mean squared error (Rybkin et al. 2021)."""
    trained = model().eval()
    optimizer = torch.optim.LBFGS([trained.decoder.signal.log_sd], max_iter=50)
    for p in trained.parameters():
        p.requires_grad_(p is trained.decoder.signal.log_sd)

    def closure() -> Any:
        optimizer.zero_grad()
        torch.manual_seed(0)
        loss, _ = task().loss(trained, batch())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    torch.manual_seed(0)
    error = task().scores(trained, batch())[:, 3].mean()
    assert float(trained.decoder.signal.log_sd.detach().exp().square()) == pytest.approx(float(error), rel=1e-3)


def test_r2_is_the_share_of_the_energy() -> None:
    p = np.array([[1.0, -1.0, 3.0, 0.2, 0.8], [3.0, -2.0, 5.0, 0.4, 1.6]])
    metrics = task().metrics(np.zeros((2, 0)), p, ())
    assert metrics == pytest.approx({"loss": 2.0, "elbo": -1.5, "kl": 4.0, "r2": 0.75})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"latent": 0}, "task.latent=0: expected a number of 1 or more"),
        ({"beta": -1.0}, "task.beta=-1.0: expected a number from 0 to"),
        ({"free_nats": -1.0}, "task.free_nats=-1.0"),
        ({"objective": info_nce}, "loss=info_nce: it is a loss of scores of candidates"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        task(**options)


def test_new_signals_are_decoded_from_the_density_of_the_posteriors_and_not_from_the_prior() -> None:
    trained = model().eval()
    # Posteriors far from the prior: two dimensions are narrow, and the third one has a standard deviation of 2.
    with torch.no_grad():
        trained.decoder.posterior.out.weight.zero_()
        trained.decoder.posterior.out.bias.copy_(torch.tensor([6.0, -6.0, 0.0, -9.0, -9.0, math.log(4)]))
    examples = [batch(128).x, batch(128).x]
    decoded = []
    trained.decoder.signal.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
    torch.manual_seed(0)
    signals = task().generate(trained, 20, examples)
    assert signals.shape == (20, 12, 100) and bool(signals.isfinite().all())
    assert decoded[0].shape == (20, 3)
    assert (decoded[0][:, :2] - torch.tensor([6.0, -6.0])).abs().max() < 1
    assert 1 < float(decoded[0][:, 2].std()) < 3
    torch.manual_seed(0)
    torch.testing.assert_close(task().generate(trained, 20, examples), signals)
    torch.testing.assert_close(signals, trained.decoder.signal(decoded[0]) * 0.5 + 0.1)
