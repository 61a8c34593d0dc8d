"""What an adaptive optimizer remembers: how far apart its second moments lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

KEYS = ("exp_avg_sq", "square_avg", "square", "sum")
"""Names under which optimizers keep running squares: the Adams, RMSprop, schedule-free AdamW, Adagrad."""


@torch.no_grad()
def second_moment_spread(optimizer: Optimizer) -> dict[str, Tensor]:
    """``watch/optim/second_moment_spread``: decades between the 5th and the 95th percentile of the second moments.

    ``log10(v₉₅ / v₅)`` over all entries of all parameters, v being the running mean (Adagrad: the sum) of the squared
    gradient. Half of it are the decades between the learning rates that the weights in effect have, as those go with
    1/√v: near 0, the optimizer does what momentum would. Percentiles are those of the nearest rank; a v below the
    smallest normal float32 counts as that.

    Returns
    -------
    dict
        Empty for an optimizer without second moments, and before its first step.
    """
    moments = [state[key].flatten() for state in optimizer.state.values() for key in KEYS if key in state]
    if not moments:
        return {}
    every = torch.cat(moments).float()
    low, high = (every.kthvalue(math.ceil(share * len(every))).values for share in (0.05, 0.95))
    tiny = torch.finfo(torch.float32).tiny
    return {"watch/optim/second_moment_spread": high.clamp_min(tiny).log10() - low.clamp_min(tiny).log10()}
