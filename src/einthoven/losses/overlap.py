"""Losses of masks, one value per record. They measure the overlap of two sets of samples."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from einthoven.errors import UserError


def soft_dice(p: Tensor, y: Tensor, *, smooth: float = 0.0) -> Tensor:
    """Return one minus the Dice coefficient, averaged over the classes: ``1 - (2 Σ p y + s) / (Σ p + Σ y + s)``.

    For masks of 0 and 1, the Dice coefficient is twice the size of the intersection divided by the sum of the sizes. If
    a class is in neither mask, both masks agree, and its loss is 0.

    Parameters
    ----------
    p, y : Tensor (B, C, T)
        Probabilities and masks in [0, 1].
    smooth : float
        s, 0 or more. It makes the gradient continuous for a class that is not in `y`.

    Returns
    -------
    Tensor (B,)

    References
    ----------
    Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945; Milletari, Navab &
    Ahmadi, "V-Net", 3DV 2016, section 3 (with squares in the denominator).
    """
    size = p.sum(dim=-1) + y.sum(dim=-1) + smooth
    overlap = 2 * (p * y).sum(dim=-1) + smooth
    is_present = size > 0
    dice = overlap.where(is_present, 1.0) / size.where(is_present, 1.0)
    return (1 - dice).mean(dim=-1)


def dice_cross_entropy(
    logits: Tensor, y: Tensor, *, output: str = "sigmoid", prior: Tensor | None = None, smooth: float = 1.0
) -> Tensor:
    """Return soft Dice plus the mean cross-entropy of the samples.

    Dice compares whole masks. The cross-entropy compares single samples.

    Parameters
    ----------
    logits, y : Tensor (B, C, T)
        ``sigmoid``: masks that may overlap. ``softmax`` over C: exactly one mask is 1 at each sample.
    output : str
        ``sigmoid`` or ``softmax``.
    prior : Tensor, optional
        Not used. Each loss accepts it.
    smooth : float
        As in `soft_dice`.

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If there is no time axis: labels of whole records are no masks.

    References
    ----------
    Isensee et al., "nnU-Net", Nature Methods 18, 2021, methods: loss function.
    """
    if y.ndim != 3:
        raise UserError("loss=dice: it is a loss of masks, and this task has one value per record; expected another.")
    if output == "softmax":
        cross_entropy = -(y * F.log_softmax(logits, dim=1)).sum(dim=1).mean(dim=-1)
        return soft_dice(logits.softmax(dim=1), y, smooth=smooth) + cross_entropy
    cross_entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none").flatten(1).mean(dim=1)
    return soft_dice(logits.sigmoid(), y, smooth=smooth) + cross_entropy
