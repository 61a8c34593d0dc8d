"""The models of pretraining runs: an encoder, and a decoder that only the pretraining needs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.blocks import linear
from einthoven.models.encoder import embed_local_tokens, embed_tokens
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.time_frontend import TimeFrontend


class PretrainingModel(Classifier):
    """A classifier whose network is the encoder, followed by a decoder.

    In the state dict, the encoder is ``frontend.*`` and ``network.*``, as in a classifier. The decoder is
    ``decoder.*``, and a later training leaves it out.

    Parameters
    ----------
    frontend, network
        As in `Classifier`. The head of the network belongs to the pretraining, too.
    decoder
        Maps the output of the network to what the task needs, such as projections or signals.
    """

    def __init__(self, frontend: Frontend | TimeFrontend, network: nn.Module, decoder: nn.Module) -> None:
        super().__init__(frontend, network)
        self.decoder = decoder

    def features(self, x: Tensor) -> Tensor:
        """Map mV ``[B, leads, T]`` to what the decoder reads: the outputs of the network ``[B, K]``."""
        return self.network(self.frontend(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, leads, T]`` to the outputs of the decoder ``[B, ...]``."""
        return self.decoder(self.features(x))


class TokenModel(PretrainingModel):
    """A pretraining model whose decoder reads the tokens of the network, ``tokens`` or ``local_tokens``.

    The stages behind the tokens, such as the head, get no gradient, so that their weights are frozen. They stay in the
    network: other programs build the same network from the checkpoint.

    Parameters
    ----------
    frontend, network
        As in `Classifier`.
    make_decoder
        (number N of tokens, features D of a token) -> decoder, which maps tokens ``[B, N, D]`` to ``[B, ...]``.
    samples
        Length of a signal.
    local
        Whether a token must see only the signal around it.

    Raises
    ------
    UserError
        If the network has no such tokens, or has tokens of overlapping pieces of the signal.
    """

    def __init__(
        self,
        frontend: Frontend | TimeFrontend,
        network: nn.Module,
        make_decoder: Callable[[int, int], nn.Module],
        samples: int,
        *,
        local: bool = False,
    ) -> None:
        super().__init__(frontend, network, nn.Identity())
        self.local = local
        self.samples = samples
        device = frontend.mean.device
        x = torch.zeros(2, frontend.in_channels, samples, device=device)
        self.eval()
        _, tokens, dim = self.features(x).shape
        if not local:
            check_one_piece(self, samples)
        self.decoder = make_decoder(tokens, dim).to(device)
        self._freeze_unused(x)
        self.train()

    def features(self, x: Tensor) -> Tensor:
        """Map mV ``[B, leads, T]`` to tokens ``[B, N, D]``."""
        return embed_local_tokens(self, x) if self.local else embed_tokens(self, x)

    def _freeze_unused(self, x: Tensor) -> None:
        """Freeze the weights of the network that the tokens of signals do not depend on."""
        weights = [p for p in self.network.parameters() if p.requires_grad]
        # The cuDNN kernels of recurrent layers have no gradients in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            gradients = torch.autograd.grad(self.features(x).sum(), weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is None:
                weight.requires_grad_(False)


class ProjectionHead(nn.Sequential):
    """The second layer of the projection head of a contrastive task. The head of the network is the first layer.

    Batch normalization, ReLU and a linear layer: ``[B, hidden]`` to ``[B, dims]``.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, section 4.2.
    """

    def __init__(self, hidden: int, dims: int) -> None:
        super().__init__(nn.BatchNorm1d(hidden), nn.ReLU(), linear(hidden, dims))


class TokenDecoder(nn.Module):
    """Signals from tokens. Each token becomes the samples at its place, from itself and its two neighbours.

    Parameters
    ----------
    dim, tokens
        Features of a token; number of tokens of a signal.
    leads, samples
        Leads of the signal; length of the signal.
    hidden
        Hidden features.
    """

    def __init__(self, dim: int, tokens: int, leads: int, samples: int, hidden: int) -> None:
        super().__init__()
        self.leads = leads
        self.samples = samples
        self.stride = math.ceil(samples / tokens)
        self.norm = nn.LayerNorm(dim)
        self.mix = nn.Conv1d(dim, hidden, 3, padding=1)
        self.out = linear(hidden, leads * self.stride)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, N, D]`` to signals ``[B, leads, samples]``."""
        mixed = nn.functional.gelu(self.mix(self.norm(tokens).transpose(1, 2)))
        pieces = self.out(mixed.transpose(1, 2)).unflatten(2, (self.leads, self.stride))
        signal: Tensor = pieces.permute(0, 2, 1, 3).flatten(2)
        return signal[..., : self.samples]


def check_one_piece(model: Classifier, samples: int) -> None:
    """Refuse a window that the network reads in several overlapping pieces: its decoder needs one.

    Raises
    ------
    UserError
    """
    starts, length = model.pieces(samples)
    if len(starts) > 1:
        raise UserError(
            f"trainer.window: {type(model.network).__name__} reads a window of {samples} samples in {len(starts)} "
            f"overlapping pieces, and a decoder needs one; expected a window of {length} samples or less, or none."
        )


def without_dropout(network: nn.Module) -> nn.Module:
    """Return the network with dropout switched off in its head.

    Dropout before a posterior would be noise that no decoder can remove.
    """
    head = getattr(network, "head", None)
    for module in head.modules() if isinstance(head, nn.Module) else ():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


class PredictiveDecoder(nn.Module):
    """Latents of tokens, their causal context by a GRU, and one linear prediction for each step ahead.

    Parameters
    ----------
    dim
        Features of a token.
    latent
        Features of a latent.
    context
        Features of a context.
    steps
        Number of steps ahead.

    References
    ----------
    van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", 2018, section 2.2 and
    equation 3. The context by a GRU: section 3.1.
    """

    def __init__(self, dim: int, latent: int, context: int, steps: int) -> None:
        super().__init__()
        self.to_latent = linear(dim, latent)
        self.context = nn.GRU(latent, context, batch_first=True)
        self.predictions = nn.ModuleList(linear(context, latent) for _ in range(steps))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, N, D]`` to contexts ``[B, N, context]``. A context depends on the tokens until its own."""
        return self.contexts(self.to_latent(tokens))

    def contexts(self, latents: Tensor) -> Tensor:
        """Map latents ``[B, N, latent]`` to contexts ``[B, N, context]``."""
        return self.context(latents)[0]


class TruthDecoder(nn.Module):
    """Conditions and traces from tokens.

    The conditions of a window are read from the mean and the maximum over its tokens. The traces run along the signal,
    and each token becomes the samples at its place.

    Parameters
    ----------
    dim, tokens
        Features of a token; number of tokens of a window.
    conditions, traces
        Number of conditions and of traces.
    samples
        Length of a window.
    hidden
        Hidden features.
    """

    def __init__(self, dim: int, tokens: int, conditions: int, traces: int, samples: int, hidden: int) -> None:
        super().__init__()
        self.conditions = nn.Sequential(nn.LayerNorm(2 * dim), linear(2 * dim, conditions))
        self.traces = TokenDecoder(dim, tokens, traces, samples, hidden)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens ``[B, N, D]`` to logits of conditions ``[B, K]`` and traces ``[B, C, samples]``."""
        pooled = torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)
        return self.conditions(pooled), self.traces(tokens)
