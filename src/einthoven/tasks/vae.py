"""Variational pretraining: a few latent dimensions describe a signal, and a decoder gives the signal back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.functional.information import gaussian_kl
from einthoven.losses.regression import mse
from einthoven.models.frontend import Classifier
from einthoven.models.mixture import sample_density
from einthoven.models.pretraining import PretrainingModel, TokenModel, check_one_piece, without_dropout
from einthoven.models.signal_decoder import SignalDecoder, TokenPosterior, VariationalDecoder
from einthoven.tasks.objective import check_objective
from einthoven.tasks.pretext import Array, Pretext, check_number


@dataclass(frozen=True, kw_only=True)
class VAE(Pretext):
    """Encode a signal into a Gaussian over latent dimensions, and decode a sample of it.

    The loss of a record is the negative evidence lower bound in nats per value of the signal (a value is one lead at
    one sample)::

        log σ + ½ log 2π + mse / (2 σ²) + β Σ max(KL of a dimension, free nats) / number of values

    σ is the standard deviation of the noise, which is trained with the decoder. KL is the divergence of the posterior
    of a latent dimension from the standard normal distribution. The signal is scaled by the frontend.

    Parameters
    ----------
    latent : int
        Latent dimensions.
    beta : float
        Weight of the divergence. 1: the evidence lower bound.
    free_nats : float
        A smaller divergence of a latent dimension costs as much as this one. So a dimension is not switched off while
        the decoder does not use it yet. The limit is applied to each record.
    objective : callable
        The squared error of a signal, ``mse`` above. With another loss of signals, `elbo` is no bound of the evidence.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss does not compare signals.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014. β: Higgins et al., "beta-VAE", ICLR 2017. Free nats:
    Kingma et al., "Improved variational inference with inverse autoregressive flow", NeurIPS 2016, appendix C.8.
    """

    latent: int
    beta: float
    free_nats: float
    objective: Callable[..., Tensor] = mse

    name = "vae"
    output = "signal"
    score_names = ("loss", "elbo", "kl", "squared_error", "energy")
    summary_names = ("loss", "elbo", "kl", "r2")
    monitor = "elbo"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "elbo": "evidence, at least (nats per value)",
        "kl": "divergence from the prior (nats per record)",
        "r2": "R² of the reconstruction",
        "loss": "loss",
    }
    calls_whole_model = False
    needs_windows = True

    def __post_init__(self) -> None:
        """Check the ranges, and check the loss on two made-up records."""
        check_number("latent", self.latent, 1)
        check_number("beta", self.beta, 0, 1e6)
        check_number("free_nats", self.free_nats, 0, 1e6)
        check_objective(self.objective, torch.eye(2), "identity")

    @property
    def network_outputs(self) -> int:
        """Number of outputs that the network is built with: mean and log variance of each latent dimension.

        A network with tokens does not use its head.
        """
        return 2 * self.latent

    def build_model(self, model: Classifier, samples: int) -> Classifier:
        """Return the model with a decoder of signals."""
        check_one_piece(model, samples)
        signal = SignalDecoder(self.latent, model.frontend.in_channels, samples)
        if not hasattr(model.network, "tokens"):
            return PretrainingModel(
                model.frontend, without_dropout(model.network), VariationalDecoder(nn.Identity(), signal)
            )

        # A network with tokens tells where a beat is. Its pooled embedding does not.
        def make_decoder(tokens: int, dim: int) -> nn.Module:
            return VariationalDecoder(TokenPosterior(dim, tokens, self.latent), signal)

        return TokenModel(model.frontend, model.network, make_decoder, samples)

    def posterior(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (B, latent) of the latent dimensions of signals (B, L, T) in mV."""
        assert isinstance(model, PretrainingModel)
        assert isinstance(model.decoder, VariationalDecoder)
        return model.decoder.mean_and_log_variance(model.features(x))

    def terms(self, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """Encode signals (B, L, T) in mV, draw a sample of each posterior from torch's generator, and decode it.

        Returns
        -------
        dict of str to Tensor
            ``mean`` (B, latent); ``kl`` (B, latent) in nats; ``nll`` (B,), the negative log-likelihood in nats per
            value; ``error`` (B,), the mean squared error; ``energy`` (B,), the mean square of the scaled signal.
        """
        variational: Any = model
        frontend = variational.frontend
        mean, log_variance = self.posterior(model, x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        scaled = (x - frontend.mean) / frontend.std
        error = self.objective(variational.decoder.signal(z).float(), scaled, output="identity", prior=None)
        log_sd = variational.decoder.signal.noise_log_sd()
        nll = log_sd + 0.5 * math.log(2 * math.pi) + 0.5 * error * (-2 * log_sd).exp()
        kl = gaussian_kl(mean, log_variance)
        energy = scaled.square().flatten(1).mean(dim=1)
        return {"mean": mean, "kl": kl, "nll": nll, "error": error, "energy": energy}

    def weigh(self, terms: Mapping[str, Tensor], values: int) -> Tensor:
        """Return the loss of each record (B,) from the `terms` of signals with so many values."""
        paid = terms["kl"].clamp(min=self.free_nats).sum(dim=1)
        return terms["nll"] + self.beta * paid / values

    def record_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each record (B,), and the means of the posteriors (B, latent)."""
        terms = self.terms(model, batch.x)
        return self.weigh(terms, batch.x[0].numel()), terms["mean"]

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return loss, evidence lower bound (nats per value), divergence (nats), squared error and energy, (B, 5)."""
        terms = self.terms(model, batch.x)
        values = batch.x[0].numel()
        divergence = terms["kl"].sum(dim=1)
        elbo = -terms["nll"] - divergence / values
        loss = self.weigh(terms, values)
        return torch.stack([loss, elbo, divergence, terms["error"], terms["energy"]], dim=1)

    def embed(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the means of the posteriors (B, latent) of signals (B, L, T) in mV."""
        return self.posterior(model, x)[0]

    def latent_divergences(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the divergence of each latent dimension from the prior (B, latent) in nats."""
        return gaussian_kl(*self.posterior(model, x))

    def reconstruct(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstructions of signals (B, L, T) in mV, from the posterior means. Nothing is hidden."""
        frontend: Any = model.frontend
        return model(x).float() * frontend.std + frontend.mean, torch.zeros_like(x, dtype=torch.bool)

    def sample_latents(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return a sample of the posterior (B, latent) of each of the signals (B, L, T) in mV."""
        mean, log_variance = self.posterior(model, x)
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

    def decode(self, model: nn.Module, z: Tensor) -> Tensor:
        """Return the signals (B, L, T) in mV that latent vectors (B, latent) stand for, without noise."""
        variational: Any = model
        scaled: Tensor = variational.decoder.signal(z).float()
        return scaled * variational.frontend.std + variational.frontend.mean

    def generate(self, model: nn.Module, count: int, examples: Iterable[Tensor]) -> Tensor:
        """Return new signals (count, L, T) in mV.

        The latent vectors are new samples of the density of the posteriors of the examples, and not of the prior.
        A beat may begin at any moment of a window, and the prior does not know that the beats of a window belong
        together: most of its latent vectors are far from those of any signal.
        """
        latents = torch.cat([self.sample_latents(model, x).detach().cpu() for x in examples])
        seed = int(torch.randint(2**31 - 1, ()))
        z = torch.from_numpy(sample_density(latents.double().numpy(), count, seed)).float()
        return self.decode(model, z.to(next(model.parameters()).device))

    def summarize(self, means: Array) -> Array:
        """Return loss, evidence, divergence and R² from the mean scores (R, 5).

        R² is 1 minus squared error over energy: 0 for a flat line, 1 for the signal itself.
        """
        summary = means[:, :4].copy()
        summary[:, 3] = 1 - means[:, 3] / means[:, 4]
        return summary
