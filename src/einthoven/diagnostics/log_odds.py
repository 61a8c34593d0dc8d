"""The log-odds that a model gives to its training records while it trains, from which margins are computed."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.contracts import Batch


class LogOddsSums:
    """Sums of the log-odds of each training record and class over the steps of a training.

    The mean over the steps is the area under the margin of a class against the rest (AUM), up to the sign: with a
    positive label it is the margin, with a negative label its negative. Pleiss et al. 2020 use the difference to the
    largest other logit. With two outcomes, a class and the rest, this difference is the log-odds.

    Rows with mixed labels are left out: their signal is that of two records. So are rows that only fill up a batch.

    Parameters
    ----------
    rows : int
        Number of rows of the training split.
    single_label : bool
        Whether the logits of a record are one categorical distribution.

    References
    ----------
    Pleiss, Zhang, Elenberg, Weinberger, "Identifying mislabeled data using the area under the margin ranking",
    NeurIPS 2020, equations 1 and 2.
    """

    def __init__(self, rows: int, single_label: bool) -> None:
        self._rows = rows
        self._single_label = single_label
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    @torch.no_grad()
    def update(self, batch: Batch, logits: Tensor, labels: Tensor) -> None:
        """Add the logits (B, K) of the classes, whose labels are (B, K). Nothing here waits for the device."""
        if self._sums is None or self._counts is None:
            self._sums = torch.zeros((self._rows, logits.shape[1]), device=logits.device)
            self._counts = torch.zeros(self._rows, device=logits.device)
        is_hard = ((labels == 0) | (labels == 1)).all(dim=1)
        weights = (is_hard & batch.valid).float()
        log_odds = log_odds_of(logits.float(), self._single_label)
        self._sums.index_add_(0, batch.index, log_odds * weights[:, None])
        self._counts.index_add_(0, batch.index, weights)

    def mean(self) -> Tensor | None:
        """Return the mean log-odds (rows, K); NaN for a row that no step has used. None before the first step."""
        if self._sums is None or self._counts is None:
            return None
        return self._sums / self._counts[:, None]

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return the state that a resumed run needs."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Continue from a `state_dict`."""
        self._sums = state["sums"]
        self._counts = state["counts"]


def log_odds_of(logits: Tensor, single_label: bool) -> Tensor:
    """Return the log-odds of each class against the rest (B, K), of logits (B, K).

    The logit of a sigmoid is the log-odds. With a softmax, it is z_k - log Σ exp(z_j) over the other classes j.
    """
    if not single_label:
        return logits
    is_own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None, :].masked_fill(is_own, -torch.inf)
    return logits - others.logsumexp(dim=2)
