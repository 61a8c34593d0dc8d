"""What an answer loses when a part of the record is taken away (Zeiler & Fergus 2014): a lead, or a kind of wave.

Methods as in `evaluation.saliency`. Nothing of the network is looked at but its output, so that they suit any model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.evaluation.saliency import AT_ONCE, Explained, chosen
from einthoven.functional.waves import WAVES, waves


def occlusion_by_lead(model: Explained, x: Tensor, target: Tensor) -> Tensor:
    """Loss of output with one lead at 0 mV, spread evenly over the samples of that lead.

    The limb leads follow from two of them, and neighbours in the chest are alike: what one lead says the others may
    still say, so that the losses of single leads do not add up to that of all.

    Parameters
    ----------
    model : Explained
    x : Tensor (N, L, T)
        mV.
    target : Tensor of int64 (N,)
        The class of each record.

    Returns
    -------
    Tensor (N, L, T)
        Its sum over time is the loss of each lead.
    """
    kept = 1.0 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    lost = _lost(model, x, target, x[:, None] * kept[:, :, None])
    return lost[:, :, None].expand_as(x) / x.shape[2]


def occlusion_by_wave(model: Explained, x: Tensor, target: Tensor, *, fs: float) -> Tensor:
    """Loss of output with one kind of wave of one lead replaced by straight lines, in all beats at once.

    A line joins what stands before and after the wave, so that neither the level of the lead nor a wander of it is
    taken away. Waves are the windows of `functional.waves`.

    Parameters
    ----------
    model, x, target
        As in `occlusion_by_lead`.
    fs : float
        Hz.

    Returns
    -------
    Tensor (N, L, T)
        Its sum over the samples of a wave in a lead is the loss, over which it is spread evenly; 0 between the waves.
    """
    wave = torch.from_numpy(waves(x.detach().cpu().numpy(), fs)).to(x.device)
    alone = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)[:, :, None]
    found = torch.zeros_like(x)
    for kind in range(1, len(WAVES) + 1):
        inside = wave == kind
        without = torch.where(alone, bridged(x, inside)[:, None], x[:, None])
        share = _lost(model, x, target, without) / inside.sum(dim=1, keepdim=True).clamp(min=1)
        found += share[:, :, None] * inside[:, None]
    return found


def bridged(x: Tensor, inside: Tensor) -> Tensor:
    """Replace runs of samples by straight lines between their neighbours, at the ends of the record by the only one.

    Parameters
    ----------
    x : Tensor (N, L, T)
    inside : Tensor of bool (N, T)
        The samples to replace; where a record is inside as a whole, its ends stay.
    """
    place = torch.arange(x.shape[2], device=x.device).expand(inside.shape)
    before = torch.where(inside, -1, place).cummax(dim=1).values
    after = torch.where(inside, x.shape[2], place).flip(1).cummin(dim=1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after >= x.shape[2], before, after)
    before, after = before.clamp(0, x.shape[2] - 1), after.clamp(0, x.shape[2] - 1)
    part = ((place - before) / (after - before).clamp(min=1)).to(x.dtype)[:, None]
    left, right = (x.gather(2, at[:, None].expand_as(x)) for at in (before, after))
    return torch.where(inside[:, None], left + part * (right - left), x)


@torch.no_grad()
def _lost(model: Explained, x: Tensor, target: Tensor, without: Tensor) -> Tensor:
    """Output of each record less that of each of its versions ``(N, V, L, T)``: (N, V)."""
    versions = without.flatten(0, 1)
    each = target.repeat_interleave(without.shape[1])
    parts = zip(torch.split(versions, AT_ONCE), torch.split(each, AT_ONCE), strict=True)
    left = torch.cat([chosen(model(part), wanted) for part, wanted in parts])
    return chosen(model(x), target)[:, None] - left.view(without.shape[:2])
