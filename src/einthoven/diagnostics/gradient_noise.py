"""Distance of the gradient of a batch from the gradient of all records, for batches of every size."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.probes import Trained

CHUNK = 256  # records in one forward pass of the full gradient


def gradient_noise(trained: Trained, *, batches: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """Measure the noise of the gradient of a trained model on its training records.

    Batches are drawn without replacement, as in an epoch. So the noise of a batch of B out of n records is
    ``sqrt(tr(covariance) / B * (n - B) / (n - 1))``: it falls as 1/sqrt(B), and it is zero for the batch of all
    records (Cochran 1977, "Sampling techniques", theorem 2.2). The model is in evaluation mode, so there is no dropout
    and the records of a batch do not influence each other.

    Parameters
    ----------
    trained
        The model and its training records.
    batches
        Largest number of batches of each size.
    seed
        Seed of the random batches.

    Returns
    -------
    dict
        ``size`` (S,): 1, 2, 4, … below the number of records. ``noise`` (S,): root mean square over the batches of the
        L2 distance to the gradient of all records. ``gradient``: L2 norm of the gradient of all records. ``records``:
        n.
    """
    n = trained.records["train"]
    generator = torch.Generator().manual_seed(seed)

    # The gradient of all records is the mean over chunks, weighted by their number of records.
    chunks = torch.split(torch.arange(n), CHUNK)
    full = torch.stack([gradient(trained, chunk) * (len(chunk) / n) for chunk in chunks]).sum(dim=0)

    sizes = [2**power for power in range(n.bit_length()) if 2**power < n]
    noise = []
    for size in sizes:
        count = min(batches, n // size)
        rows = torch.randperm(n, generator=generator)[: size * count]
        squares = [(gradient(trained, batch) - full).square().sum() for batch in torch.split(rows, size)]
        noise.append(torch.stack(squares).mean().sqrt())
    return {
        "size": torch.tensor(sizes),
        "noise": torch.stack(noise),
        "gradient": torch.linalg.vector_norm(full),
        "records": torch.tensor(n),
    }


def gradient(trained: Trained, rows: Tensor) -> Tensor:
    """Return the gradient of the mean loss over some training records, as one vector."""
    loss, _ = trained.task.loss(trained.model, trained.batch("train", rows))
    parameters = [p for p in trained.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
