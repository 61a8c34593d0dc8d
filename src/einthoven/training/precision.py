"""Choice of the device and of the number format of forward passes."""

from __future__ import annotations

import contextlib

import torch

from einthoven.contracts import Autocast
from einthoven.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16")


def choose_device(name: str) -> torch.device:
    """Return the device of this name. ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    UserError
        If the device is not available.
    """
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [kind for kind in is_available if is_available[kind]]
    if name == "auto":
        return torch.device(available[0])
    if name.split(":")[0] not in available:
        raise UserError(f"trainer.device={name}: not available here. Expected one of {', '.join(available)}, or auto.")
    return torch.device(name)


def choose_autocast(precision: str, device: torch.device) -> tuple[str, Autocast]:
    """Resolve ``auto``, and return the context in which forward passes run.

    ``auto`` takes bf16 on CUDA devices with bf16 matrix units, and fp32 elsewhere. On CPUs, bf16 saves time in the
    convolutions, but it loses this time in the small operations between them. ``bench/bench_precision.py`` measures the
    speed of bf16 relative to fp32.

    Returns
    -------
    name : str
        ``fp32`` or ``bf16``.
    autocast : callable
        Returns a new context manager for a forward pass. Weights, gradients and losses stay in float32 in both cases.

    Raises
    ------
    UserError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision={precision}: expected one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        has_bf16_units = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bf16" if has_bf16_units else "fp32"
    if precision == "fp32":
        return precision, contextlib.nullcontext
    return precision, lambda: torch.autocast(device.type, dtype=torch.bfloat16)
