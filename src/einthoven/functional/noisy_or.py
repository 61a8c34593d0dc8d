"""The probability that at least one of several statements holds, computed from their logits."""

from __future__ import annotations

import torch
from torch import Tensor

IMPOSSIBLE = -1e30
"""Logit of a statement whose probability is 0. An exported program may not contain an infinite number."""


def noisy_or_logits(logits: Tensor, table: Tensor) -> Tensor:
    """Return the logits of groups of statements. A group holds if at least one of its statements holds.

    The statements count as independent: ``p(group) = 1 - Π (1 - p(statement))``. So the odds of two statements together
    are ``(1 + o₁)(1 + o₂) - 1 = o₁ + o₂ + o₁o₂``. The logarithm of this sum is finite, and exact up to rounding, also
    where a probability rounds to 0 or 1.

    Parameters
    ----------
    logits : Tensor (..., S)
        Of the statements.
    table : Tensor, int64 (K, M)
        For each group, the positions of its statements, from `member_table`.

    Returns
    -------
    Tensor (..., K)

    References
    ----------
    Pearl, "Probabilistic reasoning in intelligent systems", 1988, section 4.3.2.
    """
    # One more statement, with the probability 0, fills up the rows of the table.
    padded = torch.nn.functional.pad(logits, (0, 1), value=IMPOSSIBLE)
    first, *others = table.unbind(dim=1)
    combined = padded[..., first]
    for position in others:
        other = padded[..., position]
        combined = torch.logsumexp(torch.stack([combined, other, combined + other]), dim=0)
    return combined


def member_table(members: list[list[int]], statements: int) -> Tensor:
    """Return the table (K, M) of `noisy_or_logits`.

    Parameters
    ----------
    members : list of list of int
        For each group, the positions of its statements. Each group has one or more.
    statements : int
        Number of statements, S. Shorter rows are filled up with it.
    """
    width = max(map(len, members))
    rows = [positions + [statements] * (width - len(positions)) for positions in members]
    return torch.tensor(rows, dtype=torch.long)
