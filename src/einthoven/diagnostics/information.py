"""What the predictions say, in nats: how unsure they are, is their prior right, how far did they move."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.functional.information import (
    bernoulli_entropy,
    bernoulli_kl,
    categorical_entropy,
    categorical_kl,
)


@torch.no_grad()
def predictive_entropy(logits: Tensor, single_label: bool = False) -> Tensor:
    """Mean entropy of the predictions, in nats, as a device tensor.

    Parameters
    ----------
    logits
        ``[B, K]``.
    single_label
        Whether each row is one categorical distribution; otherwise it is K Bernoulli distributions, and the
        entropies of its classes are added.
    """
    logits = logits.float()  # half precision loses the tails
    if single_label:
        return categorical_entropy(logits, logits=True).mean()
    return bernoulli_entropy(logits, logits=True).sum(dim=-1).mean()


class PriorKL:
    """Divergence of the mean predictions from the frequencies of the labels.

    Is the head's prior right? Sum over classes of the Bernoulli KL(label marginal || mean predicted
    marginal). Both marginals are exponential running means over the same batches, so chance fluctuations of
    the labels in a batch appear in both. They start from nothing and are corrected for it as the moments of
    Adam are (Kingma & Ba, 2015, section 3), so the first value is that of the first batch.

    Parameters
    ----------
    horizon
        Batches over which the running mean forgets: a batch's weight falls by 1/e in about `horizon` updates.
    """

    def __init__(self, horizon: float = 100.0) -> None:
        if not horizon >= 1.0:
            raise ValueError(f"the horizon of a running mean is at least 1 batch, found {horizon}")
        self.horizon = horizon
        self._count = 0
        self._sums: Tensor | None = None  # (2, K): labels, predictions

    @torch.no_grad()
    def update(self, labels: Tensor, probabilities: Tensor) -> Tensor:
        """Take in a batch; return ``diag/kl_prior``, as a device tensor.

        Parameters
        ----------
        labels
            ``[B, K]``, hard or soft.
        probabilities
            ``[B, K]``, of the model.
        """
        batch = torch.stack([labels.float().mean(dim=0), probabilities.float().mean(dim=0)])
        previous = torch.zeros_like(batch) if self._sums is None else self._sums.to(batch.device)
        keep = 1.0 - 1.0 / self.horizon
        self._count += 1
        self._sums = keep * previous + (1.0 - keep) * batch
        marginals = self._sums / (1.0 - keep**self._count)
        reference, predicted = marginals.clamp(0.0, 1.0)  # the division may round to just above 1
        return bernoulli_kl(reference, predicted).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"count": self._count, "sums": None if self._sums is None else self._sums.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._count = int(state["count"])
        self._sums = None if state["sums"] is None else state["sums"].clone()


def kl_drift(
    p_previous: Tensor | NDArray[np.floating[Any]],
    p_now: Tensor | NDArray[np.floating[Any]],
    *,
    single_label: bool = False,
) -> float:
    """Mean KL(p_previous || p_now) over records, in nats: how far the function moved between two evaluations.

    Parameters
    ----------
    p_previous, p_now
        Probabilities ``(n, K)`` on the same records. Those of now are kept one float32 rounding step away
        from 0 and 1, so that one saturated output does not make the mean infinite.
    single_label
        Whether each row is one categorical distribution; otherwise the Bernoulli divergences of the classes
        are added.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    previous, now = (torch.as_tensor(p).detach().double() for p in (p_previous, p_now))
    if previous.shape != now.shape:
        raise ValueError(f"predictions on different records: {tuple(previous.shape)} and {tuple(now.shape)}")
    eps = torch.finfo(torch.float32).eps
    now = now.clamp(eps, 1.0 - eps)
    kl = categorical_kl(previous, now) if single_label else bernoulli_kl(previous, now).sum(dim=-1)
    return float(kl.mean())  # sync: once per evaluation
