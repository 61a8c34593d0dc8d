"""From logits to probabilities, with a temperature: above 1 they are less sure, below 1 more."""

from __future__ import annotations

from torch import Tensor


def sigmoid(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """One Bernoulli distribution a class: ``1 / (1 + exp(-z / T))``, the softmax of (z, 0).

    Parameters
    ----------
    logits : Tensor (..., K)
    temperature : float
        Above 0.
    """
    return tempered(logits, temperature).sigmoid()


def softmax(logits: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    """One categorical distribution over `dim`: ``exp(z_k / T) / Σ_j exp(z_j / T)``.

    Parameters
    ----------
    logits : Tensor
    temperature : float
        Above 0. Towards 0 the largest logit takes all, towards infinity all classes are alike.
    dim : int
        The classes.

    References
    ----------
    Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network", 2015, equation 1.
    """
    return tempered(logits, temperature).softmax(dim)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature."""
    return logits if temperature == 1.0 else logits / temperature
