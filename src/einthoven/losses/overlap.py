"""Losses of masks, one value per record: how far two sets of samples overlap."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_dice(p: Tensor, y: Tensor, *, smooth: float = 0.0) -> Tensor:
    """One minus the Dice coefficient, mean over the classes: ``1 - (2 Σ p y + s) / (Σ p + Σ y + s)``.

    On masks of 0 and 1 it is one minus twice the size of the intersection over the sum of the sizes. Where a class is
    in neither mask, both agree, and its loss is 0.

    Parameters
    ----------
    p, y : Tensor (B, C, T)
        Probabilities and masks in [0, 1].
    smooth : float
        s, 0 or more; it gives a class that is absent from `y` a gradient that does not jump.

    Returns
    -------
    Tensor (B,)

    References
    ----------
    Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945; Milletari, Navab &
    Ahmadi, "V-Net", 3DV 2016, section 3, there with squares in the denominator.
    """
    size = p.sum(dim=-1) + y.sum(dim=-1) + smooth
    overlap = 2 * (p * y).sum(dim=-1) + smooth
    present = size > 0
    dice = overlap.where(present, 1.0) / size.where(present, 1.0)
    return (1 - dice).mean(dim=-1)


def dice_cross_entropy(logits: Tensor, y: Tensor, *, output: str = "sigmoid", smooth: float = 1.0) -> Tensor:
    """Soft Dice plus the mean cross-entropy of the samples: one looks at the whole of a mask, the other at each sample.

    Parameters
    ----------
    logits, y : Tensor (B, C, T)
        Masks that may overlap (``sigmoid``), or of which exactly one holds at a time (``softmax`` over C).
    output : str
        ``sigmoid`` or ``softmax``.
    smooth : float
        As in `soft_dice`.

    Returns
    -------
    Tensor (B,)

    References
    ----------
    Isensee et al., "nnU-Net", Nature Methods 18, 2021, methods: loss function.
    """
    if output == "softmax":
        cross_entropy = -(y * F.log_softmax(logits, dim=1)).sum(dim=1).mean(dim=-1)
        return soft_dice(logits.softmax(dim=1), y, smooth=smooth) + cross_entropy
    cross_entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none").flatten(1).mean(dim=1)
    return soft_dice(logits.sigmoid(), y, smooth=smooth) + cross_entropy
