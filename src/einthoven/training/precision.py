"""Where to compute, and in which number format."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from einthoven.errors import UserError

Autocast = Callable[[], AbstractContextManager[object]]

PRECISIONS = ("auto", "fp32", "bf16")


def choose_device(name: str) -> torch.device:
    """The device by that name; ``auto`` takes CUDA, then MPS, then the CPU."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name.split(":")[0], False):
        have = ", ".join(kind for kind, there in available.items() if there)
        raise UserError(f"trainer.device={name}: not available here; available: {have} (or auto).")
    return torch.device(name)


def choose_autocast(precision: str, device: torch.device) -> tuple[str, Autocast]:
    """Resolve ``auto`` and give the context in which forward passes run.

    ``auto`` takes bf16 on CUDA devices with bf16 matrix units, and fp32 elsewhere: on CPUs the small
    operations between the convolutions eat the gain (``bench/bench_precision.py`` prints the ratio).

    Returns
    -------
    name : str
        ``fp32`` or ``bf16``.
    autocast : callable
        Makes the context manager; weights, gradients and losses stay in float32 in either case.
    """
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision={precision}: expected one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bf16" if fast else "fp32"
    if precision == "fp32":
        return precision, contextlib.nullcontext
    return precision, lambda: torch.autocast(device.type, dtype=torch.bfloat16)
