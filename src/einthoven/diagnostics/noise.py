"""How much of a batch's gradient is signal, and how much the chance of which records are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from einthoven.contracts import Autocast, Batch, Task


def signal_and_noise(small: Sequence[Sequence[Tensor]], size: int) -> tuple[Tensor, Tensor]:
    """Unbiased estimates of ‖G‖² and tr Σ from gradients of several batches.

    G is the expected gradient and Σ the covariance of the gradient of one record. The two batch sizes are that of the
    given batches and that of all of them together::

        ‖G‖² ≈ (B ‖g_B‖² - b ‖g_b‖²) / (B - b)        tr Σ ≈ (‖g_b‖² - ‖g_B‖²) / (1/b - 1/B)

    McCandlish et al. 2018, "An empirical model of large-batch training", appendix A.1, with ‖g_b‖² their mean.

    Parameters
    ----------
    small
        The gradient of each of the n ≥ 2 batches, as a list of tensors.
    size
        Records in each of them, b; B is n times as many.
    """
    count = len(small)
    squares = torch.stack([_square(gradient) for gradient in small]).mean()
    total = list(small[0])
    for gradient in small[1:]:
        total = list(torch._foreach_add(total, list(gradient)))
    large = _square(total) / count**2
    return (count * large - squares) / (count - 1), (squares - large) * size * count / (count - 1)


class NoiseScale:
    """``watch/grad/noise_scale`` = tr Σ / ‖G‖², in records: about where doubling the batch stops paying fully.

    McCandlish et al. 2018, equation 2.9 (the simple noise scale). Each measurement passes the batch through the model
    once more, in parts and apart from the training: the gradients of the step, and the running statistics, stay as
    they are. Numerator and denominator are exponential running means, each by itself, for the mean of their quotients
    would be biased. Where the mean of ‖G‖² is not above zero, no scale can be told: the value is not a number. The
    gradient is that of the loss, without a penalty.

    Parameters
    ----------
    model, task, autocast
        As in a training step.
    parts : int
        Equal parts of a batch, 2 or more; what is left over is left out.
    horizon : float
        Measurements over which the running means forget.
    """

    def __init__(self, model: nn.Module, task: Task, autocast: Autocast, parts: int = 2, horizon: float = 10.0) -> None:
        self._model, self._task, self._autocast = model, task, autocast
        self._parts, self._keep = parts, 1.0 - 1.0 / horizon
        self._means: Tensor | None = None  # (2,): of tr Σ and of ‖G‖²

    def update(self, batch: Batch) -> Tensor:
        """Take in a batch; return the noise scale, as a device tensor."""
        size = len(batch.x) // self._parts
        buffers = list(self._model.buffers())
        kept = [buffer.clone() for buffer in buffers]
        gradients = [self._gradient(_rows(batch, k * size, size)) for k in range(self._parts)]
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
            signal, noise = signal_and_noise(gradients, size)
            now = torch.stack([noise, signal])
            self._means = now if self._means is None else self._blended(self._means.to(now.device), now)
            noise, signal = self._means
            return torch.where(signal > 0, noise / signal, torch.nan)

    def _blended(self, means: Tensor, now: Tensor) -> Tensor:
        """The running means after another measurement; one that is not finite is left out."""
        blended = torch.where(means.isfinite().all(), torch.lerp(now, means, self._keep), now)
        return torch.where(now.isfinite().all(), blended, means)

    def _gradient(self, batch: Batch) -> list[Tensor]:
        with torch.enable_grad(), self._autocast():
            loss, _ = self._task.loss(self._model, batch)
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return list(found)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._means = state["means"]


def _rows(batch: Batch, first: int, count: int) -> Batch:
    return type(batch)(*(getattr(batch, f.name)[first : first + count] for f in fields(batch)))


def _square(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(tensors))).square().sum()
