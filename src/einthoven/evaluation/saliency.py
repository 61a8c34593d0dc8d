"""What in a record a network's answer rests on: gradients, Grad-CAM, attention roll-out.

A method is a function ``f(model, x [N, L, T] mV, target [N]) -> [N, L, T]``: of each sample of each lead, what it
contributes to the output of class `target`. Methods of occlusion stand in `evaluation.occlusion`, and what any of them
is worth is measured in `evaluation.faithfulness`.

The projection of the leads is a part of the model, so that what is found lands on the leads by itself: the chain rule
carries it back through the transposed matrix of the principal components. Contributions are signed (for and against the
class) where a method knows a sign; none of them is a cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.errors import UserError

AT_ONCE = 64  # records through a network together, whatever they are copies of


class Explained(Protocol):
    """What a method needs of a model, which is in evaluation mode."""

    @property
    def network(self) -> nn.Module:
        """What stands behind the projection of the leads."""

    @property
    def frontend(self) -> nn.Module:
        """The projection."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Map mV ``[N, L, T]`` to one number a class ``[N, K]``: logits, or log-odds."""

    def windows(self, samples: int, /) -> tuple[list[int], int]:
        """Where the windows begin that the network is given one by one, and how long they are, in samples."""

    def pieces(self, samples: int, /) -> tuple[list[int], int]:
        """The same of the parts of a window that attention reads one by one."""


Method = Callable[[Explained, Tensor, Tensor], Tensor]


def input_gradient(model: Explained, x: Tensor, target: Tensor) -> Tensor:
    """Gradient times input ``x ∂f/∂x``: what setting a sample to 0 mV would take from the output, to first order.

    The gradient alone (Simonyan, Vedaldi & Zisserman, "Deep inside convolutional networks", 2014, section 3) tells to
    which samples the output is sensitive, not what those that are there have contributed. Times the input it is the
    share of a linear model's terms, in the unit of the output (Shrikumar, Greenside & Kundaje, "Learning important
    features through propagating activation differences", 2017, section 3.1, there as a baseline).

    Parameters
    ----------
    model : Explained
    x : Tensor (N, L, T)
        mV.
    target : Tensor of int64 (N,)
        The class of each record.
    """
    return x * gradient(model, x, target)


def integrated_gradients(model: Explained, x: Tensor, target: Tensor, *, steps: int = 32) -> Tensor:
    """The gradient, averaged on the way from 0 mV to the record, times the record.

    Complete: the contributions add up to ``f(x) - f(0)``, up to the error of the midpoint rule with so many steps
    (Sundararajan, Taly & Yan, "Axiomatic attribution for deep networks", 2017, equation 1 and proposition 1). The way
    begins at a record of which nothing was recorded, 0 mV in every lead, as the default augmentation shows leads and
    moments to the network.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`.
    steps : int
        Places on the way at which the gradient is taken.
    """
    places = (torch.arange(steps, dtype=x.dtype, device=x.device) + 0.5) / steps
    total = torch.zeros_like(x)
    for part in torch.split(places, max(AT_ONCE // len(x), 1)):
        scaled = (part.view(-1, 1, 1, 1) * x).flatten(0, 1)
        total += gradient(model, scaled, target.repeat(len(part))).view(len(part), *x.shape).sum(dim=0)
    return x * total / steps


def grad_cam(model: Explained, x: Tensor, target: Tensor) -> Tensor:
    """Where the last convolutions found what speaks for the class; one curve, the same in every lead, none below 0.

    ``relu(Σ_c α_c A_c)``, A the activations of the last stage with a convolution, α_c the mean over time of the
    gradient with respect to channel c; linear between its steps (Selvaraju et al., "Grad-CAM: visual explanations from
    deep networks via gradient-based localization", 2017, equations 1 and 2), and the mean where windows overlap.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`.

    Raises
    ------
    UserError
        If no stage of the network has a convolution.
    """
    kept: list[Tensor] = []

    def keep(stage: nn.Module, given: object, out: Tensor) -> Tensor:
        kept.append(out)
        return out.clone()  # what follows may change it in place

    handle = _last_convolution(model.network).register_forward_hook(keep)
    try:
        found = gradient(model, x, target, of=kept)
    finally:
        handle.remove()
    activation, found = kept[0].detach().flatten(2), found.flatten(2)
    curve = (found.mean(dim=2, keepdim=True) * activation).sum(dim=1).relu()
    return _over_windows(curve, *model.windows(x.shape[2]), x)


def attention_rollout(model: Explained, x: Tensor, target: Tensor) -> Tensor:
    """Which moments a transformer reads, whatever the class; one curve, the same in every lead, none below 0.

    Share of each token in the mean of those after all blocks (`rollout`); the mean where windows overlap.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`; the class makes no difference.

    Raises
    ------
    UserError
        If the network has no attention maps.
    """
    read: Callable[[Tensor], dict[str, Tensor]] | None = getattr(model.network, "attention_maps", None)
    if read is None:
        name = type(model.network).__name__
        raise UserError(f"attention_rollout: {name} has no attention maps; expected a network with attention.")
    starts, window = model.windows(x.shape[2])
    parts, length = model.pieces(window)
    given = torch.stack([x[..., start : start + window] for start in starts], dim=1).flatten(0, 1)
    with torch.no_grad():
        flow = rollout(list(read(model.frontend(given)).values()))
    return _over_windows(flow, [start + part for start in starts for part in parts], length, x)


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Share of each token in the mean of the tokens after all blocks, times their number: 1 where all are alike.

    The attention of a block, averaged over its heads, and the skip connection around it count one half each, and the
    blocks are multiplied: Abnar and Zuidema 2020, "Quantifying attention flow in transformers", section 3. What the
    blocks do beside attention is left out.

    Parameters
    ----------
    maps : sequence of Tensor (..., heads, N, N)
        Of each block, in their order, the weights with which a token (row) reads the others (columns).

    Returns
    -------
    Tensor (..., N)
    """
    tokens = maps[0].shape[-1]
    flow = eye = torch.eye(tokens, dtype=maps[0].dtype, device=maps[0].device)
    for weights in maps:
        flow = (weights.mean(dim=-3) + eye) / 2 @ flow
    return flow.mean(dim=-2) * tokens


def gradient(model: Explained, x: Tensor, target: Tensor, of: list[Tensor] | None = None) -> Tensor:
    """Gradient of the output of class `target` (N,) of each record with respect to `x`, or to the first tensor of `of`.

    `of` may be filled by the forward pass.
    """
    x = x.detach().requires_grad_()
    # the recurrent layers of cuDNN have a gradient in training alone
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        total = chosen(model(x), target).sum()
        (found,) = torch.autograd.grad(total, x if of is None else of[0])
    return found


def chosen(outputs: Tensor, target: Tensor) -> Tensor:
    """Output of the class `target` (N,) of each record: (N, K) to (N,)."""
    return outputs.gather(1, target[:, None])[:, 0]


def _last_convolution(network: nn.Module) -> nn.Module:
    """The last stage (direct child) of a network that has a convolution."""
    stages = [s for s in network.children() if any(isinstance(m, nn.Conv1d | nn.Conv2d) for m in s.modules())]
    if not stages:
        raise UserError(f"grad_cam: {type(network).__name__} has no convolution; expected a network with one.")
    return stages[-1]


def _over_windows(curve: Tensor, starts: list[int], length: int, x: Tensor) -> Tensor:
    """Curves of the windows of each record, one after the other (N W, n), as one over its samples: (N, L, T)."""
    fine = F.interpolate(curve[:, None], size=length, mode="linear", align_corners=False).view(len(x), len(starts), -1)
    samples = (torch.tensor(starts, device=x.device)[:, None] + torch.arange(length, device=x.device)).flatten()
    size = max(x.shape[2], starts[-1] + length)
    total = x.new_zeros(len(x), size).index_add_(1, samples, fine.flatten(1).to(x.dtype))
    cover = x.new_zeros(size).index_add_(0, samples, x.new_ones(len(samples))).clamp(min=1)
    return (total / cover)[:, None, : x.shape[2]].expand_as(x).contiguous()
