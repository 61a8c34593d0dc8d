"""The decoder of contrastive predictive coding: latents, a causal context, and predictions of later latents."""

from __future__ import annotations

from torch import Tensor, nn

from einthoven.models.blocks import linear


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
        contexts: Tensor = self.context(latents)[0]
        return contexts
