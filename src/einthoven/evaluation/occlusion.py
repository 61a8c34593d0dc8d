"""Occlusion (Zeiler & Fergus 2014): how much the output falls if a lead or a kind of wave is removed from the record.

The functions are methods as in `evaluation.saliency`. They use only the output of the model, so they work for any
model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.evaluation.saliency import BATCH_SIZE, ExplainableModel, select_output
from einthoven.functional.waves import WAVES, waves


def occlusion_by_lead(model: ExplainableModel, x: Tensor, target: Tensor) -> Tensor:
    """Compute the fall of the output if one lead is set to 0 mV. It is divided evenly over the samples of the lead.

    The limb leads can be computed from two of them, and neighbouring chest leads are similar. So other leads can
    contain the information of a lead that is removed. For this reason, the falls of single leads do not add up to that
    of all leads.

    Parameters
    ----------
    model : ExplainableModel
        The model.
    x : Tensor (N, L, T)
        Records in mV.
    target : Tensor of int64 (N,)
        The class of each record that is explained.

    Returns
    -------
    Tensor (N, L, T)
        The sum over the samples of a lead is the fall of the output without this lead.
    """
    is_kept = 1.0 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    fall = _output_fall(model, x, target, x[:, None] * is_kept[:, :, None])
    return fall[:, :, None].expand_as(x) / x.shape[2]


FindWaves = Callable[[NDArray[np.floating], float], NDArray[np.int8]]
"""Signals (N, L, T) in mV, and Hz -> the wave of each sample (N, T): 0 for none, 1 to 4 for the entries of `WAVES`."""


def occlusion_by_wave(
    model: ExplainableModel, x: Tensor, target: Tensor, *, fs: float, find_waves: FindWaves = waves
) -> Tensor:
    """Compute the fall of the output if one kind of wave in one lead is replaced by straight lines, in all beats.

    A line connects the samples before and after the wave. So the level and the baseline wander of the lead remain.

    Parameters
    ----------
    model, x, target
        As in `occlusion_by_lead`.
    fs : float
        Sampling frequency in Hz.
    find_waves : callable
        By default the intervals around each QRS of `functional.waves`. `predict.explaining.find_waves` finds the waves
        themselves.

    Returns
    -------
    Tensor (N, L, T)
        The sum over the samples of a kind of wave in a lead is the fall of the output without it. The fall is divided
        evenly over these samples. The map is 0 between the waves.
    """
    # The waves are found on the CPU, so this line waits for the device.
    wave_of_sample = torch.from_numpy(find_waves(x.detach().cpu().numpy(), fs)).to(x.device)
    is_same_lead = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)[:, :, None]
    relevance = torch.zeros_like(x)
    for wave in range(1, len(WAVES) + 1):
        is_inside = wave_of_sample == wave
        occluded = torch.where(is_same_lead, _bridge(x, is_inside)[:, None], x[:, None])
        fall = _output_fall(model, x, target, occluded)
        fall_per_sample = fall / is_inside.sum(dim=1, keepdim=True).clamp(min=1)
        relevance += fall_per_sample[:, :, None] * is_inside[:, None]
    return relevance


def _bridge(x: Tensor, is_inside: Tensor) -> Tensor:
    """Replace intervals of records (N, L, T) by straight lines between the samples before and after them.

    `is_inside` (N, T) marks the samples to replace. At the ends of the record, there is only one such sample, and the
    line is constant. If all samples of a record are marked, the line connects its first and last sample.
    """
    # Find the last sample before each interval and the first sample after it.
    last = x.shape[2] - 1
    position = torch.arange(x.shape[2], device=x.device).expand(is_inside.shape)
    before = torch.where(is_inside, -1, position).cummax(dim=1).values
    after = torch.where(is_inside, x.shape[2], position).flip(1).cummin(dim=1).values.flip(1)

    # At an end of the record, use the sample of the other side.
    has_before = before >= 0
    has_after = after <= last
    start = torch.where(has_before, before, after).clamp(0, last)
    stop = torch.where(has_after, after, before).clamp(0, last)

    fraction = ((position - start) / (stop - start).clamp(min=1)).to(x.dtype)[:, None]
    start_value = x.gather(2, start[:, None].expand_as(x))
    stop_value = x.gather(2, stop[:, None].expand_as(x))
    return torch.where(is_inside[:, None], start_value + fraction * (stop_value - start_value), x)


@torch.no_grad()
def _output_fall(model: ExplainableModel, x: Tensor, target: Tensor, occluded: Tensor) -> Tensor:
    """Return the output of each record minus that of each of its occluded versions (N, V, L, T): (N, V)."""
    versions = occluded.flatten(0, 1)
    targets = target.repeat_interleave(occluded.shape[1])
    outputs = []
    for batch, batch_target in zip(torch.split(versions, BATCH_SIZE), torch.split(targets, BATCH_SIZE), strict=True):
        outputs.append(select_output(model(batch), batch_target))
    return select_output(model(x), target)[:, None] - torch.cat(outputs).view(occluded.shape[:2])
