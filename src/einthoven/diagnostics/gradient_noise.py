"""How far the gradient of a batch lies from that of all records, for batches of every size."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.probes import Trained

CHUNK = 256  # records at a time, where they are many


def gradient_noise(trained: Trained, *, batches: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """Noise of the gradient at the weights of the trained model, on its training records.

    Batches are drawn as an epoch draws them, without replacement, so that the noise of a batch of B out of n records
    is ``sqrt(tr(covariance) / B * (n - B) / (n - 1))``: it falls as 1/sqrt(B), and to zero where the batch holds all
    records (Cochran 1977, "Sampling techniques", theorem 2.2). The model is in evaluation mode: no dropout, and each
    record by itself.

    Parameters
    ----------
    trained
        The model and its training records.
    batches
        Batches of each size, where there are as many.
    seed
        Of the draws.

    Returns
    -------
    dict
        ``size`` (S,), 1, 2, 4, … below the number of records; ``noise`` (S,), root mean square over the batches of the
        L2 distance from the gradient of all records; ``gradient``, the L2 norm of the latter; ``records``, n.
    """
    n = trained.records["train"]
    generator = torch.Generator().manual_seed(seed)
    parts = torch.split(torch.arange(n), CHUNK)
    full = torch.stack([gradient(trained, part) * (len(part) / n) for part in parts]).sum(dim=0)
    sizes = [2**power for power in range(n.bit_length()) if 2**power < n]
    noise = []
    for size in sizes:
        drawn = torch.randperm(n, generator=generator)[: size * min(batches, n // size)]
        squares = [(gradient(trained, part) - full).square().sum() for part in torch.split(drawn, size)]
        noise.append(torch.stack(squares).mean().sqrt())
    return {
        "size": torch.tensor(sizes),
        "noise": torch.stack(noise),
        "gradient": torch.linalg.vector_norm(full),
        "records": torch.tensor(n),
    }


def gradient(trained: Trained, rows: Tensor) -> Tensor:
    """Gradient of the mean loss over some training records, as one vector."""
    loss, _ = trained.task.loss(trained.model, trained.batch("train", rows))
    parameters = [p for p in trained.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
