"""What a step costs: records per second, waiting for data, floating-point operations, memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from einthoven.contracts import Autocast, Batch, Task
from einthoven.training.guard import Guard

REPORT_STEPS = 50
"""Steps between two reports, if an epoch is longer."""


class StepMeter:
    """Measures the steps between two reports, which are at the end of each epoch and every fifty steps of a longer one.

    The clock runs from the request of a batch to the end of its step. So evaluations and checkpoints do not count. On a
    GPU, the host may be a few steps ahead of the device, and nothing here waits for it.

    Parameters
    ----------
    records : int
        Records of a step, in all processes together.
    flops : int
        Floating-point operations of a step, as `count_flops` counts them. 0: unknown.
    ceiling : float
        Floating-point operations per second that the processes together reach in a product of matrices.
    device : torch.device
    steps_per_epoch : int
    """

    def __init__(self, records: int, flops: int, ceiling: float, device: torch.device, steps_per_epoch: int) -> None:
        self._records = records
        self._flops = flops
        self._ceiling = ceiling
        self._device = device
        self._steps_per_epoch = steps_per_epoch
        self._forget()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches, and measure how long the loop waits for each of them."""
        iterator = iter(batches)
        while True:
            self._start = time.perf_counter()
            batch = next(iterator, None)
            if batch is None:
                return
            self._waited += time.perf_counter() - self._start
            yield batch

    def after_step(self, step: int) -> Mapping[str, Tensor | float]:
        """Return ``system/…`` if a report is due after this many steps."""
        self._seconds += time.perf_counter() - self._start
        self._steps += 1
        step_in_epoch = step % self._steps_per_epoch
        if step_in_epoch and step_in_epoch % REPORT_STEPS:
            return {}
        metrics = {
            "system/records_per_s": self._steps * self._records / self._seconds,
            "system/data_wait_ms": 1000.0 * self._waited / self._steps,
            "system/memory_mb": peak_memory() / 1e6,
        }
        if self._flops:
            rate = self._steps * self._flops / self._seconds
            metrics["system/gflops"] = rate / 1e9
            metrics["system/share_of_ceiling"] = rate / self._ceiling
        if self._device.type == "cuda":
            metrics["system/gpu_memory_mb"] = torch.cuda.max_memory_allocated(self._device) / 1e6
        self._forget()
        return metrics

    def _forget(self) -> None:
        """Begin to measure anew."""
        self._seconds = 0.0
        self._waited = 0.0
        self._steps = 0


def count_flops(model: nn.Module, task: Task, batch: Batch, autocast: Autocast) -> int:
    """Return the floating-point operations of a forward and a backward pass, counted in a pass of this batch.

    Convolutions, products of matrices and attention are counted, with two operations for a multiplication and an
    addition. Recurrent layers, Fourier transforms and elementwise operations are not (`torch.utils.flop_counter`).

    Parameters
    ----------
    model : nn.Module
        Its weights and running statistics are not changed, and its gradients are removed.
    batch : Batch
        A few records. The operations are proportional to their number.
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    guard = Guard(model, waits=True)
    guard.remember()
    model.train()
    devices = [batch.x.device] if batch.x.device.type == "cuda" else []
    # torch does not count this product, which `models/convolution.py` uses on some processors.
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addbmm: _operations_of_addbmm})
    with torch.random.fork_rng(devices), counter:
        with autocast():
            loss, _ = task.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    # The pass has changed the running statistics, and left a gradient.
    guard.return_to_start()
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return int(counter.get_total_flops())


def _operations_of_addbmm(
    added: torch.Size, first: torch.Size, second: torch.Size, out_shape: object = None, **options: object
) -> int:
    """Return the operations of the sum of products of matrices (B, n, m) and (B, m, p)."""
    return 2 * first.numel() * second[2]


def matmul_rate(device: torch.device, autocast: Autocast = nullcontext, repeats: int = 4) -> float:
    """Return the floating-point operations per second of a product of square matrices, the best of a few.

    It takes some milliseconds, and is the ceiling of what a network can reach in this number format.
    """
    size = 4096 if device.type == "cuda" else 384
    x = torch.ones(size, size, device=device)
    fastest = float("inf")
    with torch.no_grad(), autocast():
        # The first product also chooses the kernel.
        for _ in range(repeats + 1):
            _wait(device)
            start = time.perf_counter()
            torch.mm(x, x)
            _wait(device)
            fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * size**3 / fastest


def peak_memory() -> int:
    """Return the largest resident memory that this process has had, in bytes; 0 where the system does not tell it."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, and Linux kilobytes.
    return peak if sys.platform == "darwin" else 1024 * peak


def _wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
