"""The hash of the weights of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def hash_weights(weights: Mapping[str, Tensor], start: bytes = b"") -> str:
    """Return the SHA-256 of tensors with their names, types and shapes. The order of the tensors does not matter.

    Parameters
    ----------
    weights : mapping of str to Tensor
    start : bytes
        What is hashed before the tensors.

    Returns
    -------
    str
        64 hex digits.
    """
    digest = hashlib.sha256(start)
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        # A view as bytes also works for types that NumPy does not have.
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
