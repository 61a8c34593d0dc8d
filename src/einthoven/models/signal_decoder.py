"""The decoder of a variational autoencoder: the posterior of a few latent dimensions, and signals from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from einthoven.models.blocks import linear

CHANNELS = (128, 64, 32)
"""Channels of the decoder, from the latent dimensions on. Each transposed convolution doubles the time axis."""

MOST_LOG_VARIANCE = 10.0
"""Largest absolute logarithm of a posterior variance. Beyond it, the exponential loses its precision."""

TOKEN_FEATURES = 16
"""Features of a token that the posterior reads."""

SMALLEST_LOG_SD = -5.0
"""Smallest logarithm of the standard deviation of the noise. Signals that do not vary would have none."""


class SignalDecoder(nn.Module):
    """Transposed convolutions from latent dimensions to a signal, and the noise around it.

    The noise is Gaussian. It has one standard deviation for all leads and samples, which is trained.

    Parameters
    ----------
    latent
        Latent dimensions.
    leads, samples
        Leads of the signal; length of the signal.
    channels
        Channels of the layers. Each layer after the first doubles the time axis.

    References
    ----------
    The trained standard deviation: Rybkin, Daniilidis & Levine, "Simple and effective VAE training with calibrated
    decoders", ICML 2021, section 4.1.
    """

    def __init__(self, latent: int, leads: int, samples: int, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        self.samples = samples
        self.channels = channels[0]
        self.steps = math.ceil(samples / 2 ** (len(channels) - 1))
        self.start = linear(latent, self.channels * self.steps)
        self.layers = nn.Sequential()
        for before, after in pairwise(channels):
            self.layers.append(nn.BatchNorm1d(before))
            self.layers.append(nn.GELU())
            self.layers.append(nn.ConvTranspose1d(before, after, 6, stride=2, padding=2))
        self.layers.append(nn.BatchNorm1d(channels[-1]))
        self.layers.append(nn.GELU())
        self.out = nn.Conv1d(channels[-1], leads, 7, padding=3)
        self.log_sd = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """Map latent vectors ``[B, latent]`` to scaled signals ``[B, leads, samples]``."""
        steps = self.start(z).view(len(z), self.channels, self.steps)
        signal: Tensor = self.out(self.layers(steps))
        return signal[..., : self.samples]

    def noise_log_sd(self) -> Tensor:
        """Return the logarithm of the standard deviation of the noise."""
        return self.log_sd.clamp(min=SMALLEST_LOG_SD)


class TokenPosterior(nn.Module):
    """The posterior of latent dimensions from tokens: the places of the tokens count, as a beat has its place.

    Parameters
    ----------
    dim, tokens
        Features of a token; number of tokens of a signal.
    latent
        Latent dimensions.
    """

    def __init__(self, dim: int, tokens: int, latent: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.narrow = linear(dim, TOKEN_FEATURES)
        self.out = linear(tokens * TOKEN_FEATURES, 2 * latent)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, N, D]`` to means and log variances ``[B, 2 latent]``."""
        narrow = nn.functional.gelu(self.narrow(self.norm(tokens)))
        return self.out(narrow.flatten(1))


class VariationalDecoder(nn.Module):
    """The posterior of latent dimensions from the features of an encoder, and the decoder of signals.

    Parameters
    ----------
    posterior
        Maps the features of the encoder to means and log variances ``[B, 2 latent]``.
    signal
        Maps latent vectors to signals.
    """

    def __init__(self, posterior: nn.Module, signal: SignalDecoder) -> None:
        super().__init__()
        self.posterior = posterior
        self.signal = signal

    def mean_and_log_variance(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance ``[B, latent]`` of the latent dimensions from the features of the encoder."""
        mean, log_variance = self.posterior(features).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scaled signals ``[B, leads, samples]`` that the means of the posteriors stand for."""
        return self.signal(self.mean_and_log_variance(features)[0])
