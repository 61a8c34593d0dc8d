"""Gradient noise scale: how much the gradient of a batch depends on which records are in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from einthoven.contracts import ONE_PROCESS, Autocast, Batch, Processes, Task


def signal_and_noise(gradients: Sequence[Sequence[Tensor]], size: int) -> tuple[Tensor, Tensor]:
    """Return unbiased estimates of ‖G‖² and tr Σ from the gradients of several batches.

    G is the expected gradient. Σ is the covariance of the gradient of one record. The estimate compares two batch
    sizes: the size b of each batch, and the size B of all batches together::

        ‖G‖² ≈ (B ‖g_B‖² - b ‖g_b‖²) / (B - b)        tr Σ ≈ (‖g_b‖² - ‖g_B‖²) / (1/b - 1/B)

    McCandlish et al. 2018, "An empirical model of large-batch training", appendix A.1. ‖g_b‖² is the mean over the
    batches.

    Parameters
    ----------
    gradients
        The gradient of each of the n ≥ 2 batches, as a list of tensors.
    size
        Number of records in each batch, b. B is n b.
    """
    count = len(gradients)
    small_square = torch.stack([_squared_norm(gradient) for gradient in gradients]).mean()

    # The gradient of the large batch is the mean of the gradients of its parts.
    total = list(gradients[0])
    for gradient in gradients[1:]:
        total = list(torch._foreach_add(total, list(gradient)))
    large_square = _squared_norm(total) / count**2

    signal = (count * large_square - small_square) / (count - 1)
    noise = (small_square - large_square) * size * count / (count - 1)
    return signal, noise


class NoiseScale:
    """``watch/grad/noise_scale`` = tr Σ / ‖G‖², in records.

    Below this batch size, twice the batch needs about half the steps. Above it, a larger batch brings less and less.

    McCandlish et al. 2018, equation 2.9 (the simple noise scale). Each measurement passes the batch through the model
    once more, in parts. The gradients of the step and the running statistics do not change. tr Σ and ‖G‖² have
    separate exponential running means, because the mean of their quotients would be biased. If the mean of ‖G‖² is not
    above zero, the value is not a number. The gradient is that of the loss without penalty.

    Parameters
    ----------
    model, task, autocast
        Same as in `train_step`.
    parts : int
        Number of equal parts of a batch, 2 or more. Records that remain are left out.
    horizon : float
        A measurement loses about 1/e of its weight in the running means after this many further measurements.
    processes : Processes
        The processes that measure together.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        autocast: Autocast,
        parts: int = 2,
        horizon: float = 10.0,
        processes: Processes = ONE_PROCESS,
    ) -> None:
        self._model = model
        self._task = task
        self._autocast = autocast
        self.parts = parts
        self._processes = processes
        self._decay = 1.0 - 1.0 / horizon
        self._means: Tensor | None = None  # (2,): means of tr Σ and of ‖G‖²

    def update(self, batch: Batch) -> Tensor:
        """Measure a batch and return the noise scale as a device tensor."""
        size = len(batch.x) // self.parts

        # The extra forward passes change the running statistics of batch norm, so these are restored afterwards.
        buffers = list(self._model.buffers())
        copies = [buffer.clone() for buffer in buffers]
        gradients = [self._gradient(_slice(batch, part * size, size)) for part in range(self.parts)]
        with torch.no_grad():
            for buffer, copy in zip(buffers, copies, strict=True):
                buffer.copy_(copy)

            signal, noise = signal_and_noise(gradients, size)
            measured = torch.stack([noise, signal])
            if self._means is None:
                self._means = measured
            else:
                self._means = self._blend(self._means.to(measured.device), measured)
            noise, signal = self._means
            return torch.where(signal > 0, noise / signal, torch.nan)

    def _blend(self, means: Tensor, measured: Tensor) -> Tensor:
        """Return the running means after another measurement; a measurement that is not finite is left out."""
        blended = torch.where(means.isfinite().all(), torch.lerp(measured, means, self._decay), measured)
        return torch.where(measured.isfinite().all(), blended, means)

    def _gradient(self, batch: Batch) -> list[Tensor]:
        with torch.enable_grad(), self._autocast(), self._processes.share(self._model):
            loss, _ = self._task.loss(self._model, batch)
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        gradients = list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))
        self._processes.sum_up(gradients)
        return gradients

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._means = state["means"]


def _slice(batch: Batch, start: int, count: int) -> Batch:
    columns = [getattr(batch, field.name)[start : start + count] for field in fields(batch)]
    return type(batch)(*columns)


def _squared_norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(tensors))).square().sum()
