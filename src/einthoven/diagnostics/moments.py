"""Spread of the second moments of an adaptive optimizer."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

KEYS = ("exp_avg_sq", "square_avg", "square", "sum")
"""Names of the running squares in the state of Adam and its variants, RMSprop, schedule-free AdamW and Adagrad."""


@torch.no_grad()
def second_moment_spread(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return ``watch/optim/second_moment_spread``: decades from the 5th to the 95th percentile of the second moments.

    It is ``log10(v₉₅ / v₅)`` over all entries of all parameters. v is the running mean of the squared gradient (with
    Adagrad: the sum). The effective learning rate of a weight is proportional to 1/√v, so these rates differ by half
    as many decades. Near 0, the optimizer behaves like momentum. Percentiles use the nearest rank. A v below the
    smallest normal float32 counts as that number.

    Returns
    -------
    dict
        Empty for an optimizer without second moments, and before its first step.
    """
    moments = [state[key].flatten() for state in optimizer.state.values() for key in KEYS if key in state]
    if not moments:
        return {}
    v = torch.cat(moments).float()
    low = v.kthvalue(math.ceil(0.05 * len(v))).values
    high = v.kthvalue(math.ceil(0.95 * len(v))).values
    tiny = torch.finfo(torch.float32).tiny
    spread = high.clamp_min(tiny).log10() - low.clamp_min(tiny).log10()
    return {"watch/optim/second_moment_spread": spread}
