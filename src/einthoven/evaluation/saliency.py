"""Saliency maps: which samples of a record contribute to a prediction. Gradients, Grad-CAM and attention roll-out.

A method is a function ``f(model, x [N, L, T] mV, target [N]) -> [N, L, T]``. It returns the contribution of each sample
of each lead to the output of the class `target`. `evaluation.occlusion` contains methods that occlude parts of the
record. `evaluation.faithfulness` measures the quality of the maps.

The PCA over the leads is a part of the model. So the maps refer to the leads, because the chain rule applies the
transposed matrix of the principal components. If a method has signs, a positive contribution speaks for the class and a
negative one against it. No contribution proves a cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.errors import UserError

BATCH_SIZE = 64
"""Number of records or copies of records that go through the network together."""


class ExplainableModel(Protocol):
    """The interface of a model that can be explained. The model is in evaluation mode."""

    @property
    def network(self) -> nn.Module:
        """The part of the model after the frontend."""

    @property
    def frontend(self) -> nn.Module:
        """The part of the model that scales and projects the leads."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Map mV ``[N, L, T]`` to one number per class ``[N, K]``: logits or log-odds."""

    def windows(self, samples: int, /) -> tuple[list[int], int]:
        """Return the first samples of the windows that the network reads one by one, and the length of a window."""

    def pieces(self, samples: int, /) -> tuple[list[int], int]:
        """Return the same for the parts of a window that the attention reads one by one."""


Method = Callable[[ExplainableModel, Tensor, Tensor], Tensor]


def input_gradient(model: ExplainableModel, x: Tensor, target: Tensor) -> Tensor:
    """Compute gradient times input, ``x ∂f/∂x``.

    To first order, it is the amount by which the output falls if a sample is set to 0 mV.

    The gradient alone (Simonyan, Vedaldi & Zisserman, "Deep inside convolutional networks", 2014, section 3) shows to
    which samples the output is sensitive. It does not show how much these samples contribute. The product with the
    input is a term of a linear model, in the unit of the output (Shrikumar, Greenside & Kundaje, "Learning important
    features through propagating activation differences", 2017, section 3.1, where it is a baseline).

    Parameters
    ----------
    model : ExplainableModel
        The model.
    x : Tensor (N, L, T)
        Records in mV.
    target : Tensor of int64 (N,)
        The class of each record that is explained.
    """
    return x * gradient(model, x, target)


def integrated_gradients(model: ExplainableModel, x: Tensor, target: Tensor, *, steps: int = 32) -> Tensor:
    """Compute the mean gradient on the line from 0 mV to the record, times the record.

    The contributions add up to ``f(x) - f(0)``, up to the error of the midpoint rule (Sundararajan, Taly & Yan,
    "Axiomatic attribution for deep networks", 2017, equation 1 and proposition 1). The line begins at 0 mV in every
    lead. The network knows such signals, because the default augmentation sets leads and intervals to 0 mV.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`.
    steps : int
        Number of points on the line at which the gradient is computed.
    """
    factors = (torch.arange(steps, dtype=x.dtype, device=x.device) + 0.5) / steps
    total = torch.zeros_like(x)
    for batch in torch.split(factors, max(BATCH_SIZE // len(x), 1)):
        scaled = (batch.view(-1, 1, 1, 1) * x).flatten(0, 1)
        gradients = gradient(model, scaled, target.repeat(len(batch)))
        total += gradients.view(len(batch), *x.shape).sum(dim=0)
    return x * total / steps


def grad_cam(model: ExplainableModel, x: Tensor, target: Tensor) -> Tensor:
    """Compute where the last convolutions detect features of the class (Grad-CAM).

    The map is the same in every lead and is at least 0. It is ``relu(Σ_c α_c A_c)``. A_c are the activations of channel
    c in the last stage with a convolution. α_c is the mean over time of the gradient with respect to A_c. The curve is
    interpolated linearly between the steps of the activations (Selvaraju et al., "Grad-CAM: visual explanations from
    deep networks via gradient-based localization", 2017, equations 1 and 2). Where windows overlap, it is the mean of
    the windows.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`.

    Raises
    ------
    UserError
        If no stage of the network has a convolution.
    """
    activations: list[Tensor] = []

    def save_activation(stage: nn.Module, inputs: object, output: Tensor) -> Tensor:
        activations.append(output)
        # The next stage may change its input in place.
        return output.clone()

    handle = _last_convolution(model.network).register_forward_hook(save_activation)
    try:
        activation_gradient = gradient(model, x, target, activations=activations)
    finally:
        handle.remove()
    activation = activations[0].detach().flatten(2)
    channel_weight = activation_gradient.flatten(2).mean(dim=2, keepdim=True)
    curve = (channel_weight * activation).sum(dim=1).relu()
    return _merge_windows(curve, *model.windows(x.shape[2]), x)


def attention_rollout(model: ExplainableModel, x: Tensor, target: Tensor) -> Tensor:
    """Compute which parts of a record a transformer reads (attention roll-out).

    The map is the same in every lead and is at least 0. It is the share of each token in the mean of the tokens after
    all blocks, see `rollout`. Where windows overlap, it is the mean of the windows.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`. The result does not depend on the class.

    Raises
    ------
    UserError
        If the network has no attention maps.
    """
    attention_maps: Callable[[Tensor], dict[str, Tensor]] | None = getattr(model.network, "attention_maps", None)
    if attention_maps is None:
        name = type(model.network).__name__
        raise UserError(f"attention_rollout: {name} has no attention maps; expected a network with attention.")
    window_starts, window = model.windows(x.shape[2])
    piece_starts, piece = model.pieces(window)
    windows = torch.stack([x[..., start : start + window] for start in window_starts], dim=1).flatten(0, 1)
    with torch.no_grad():
        maps = attention_maps(model.frontend(windows))
        shares = rollout(list(maps.values()))
    starts = [window_start + piece_start for window_start in window_starts for piece_start in piece_starts]
    return _merge_windows(shares, starts, piece, x)


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Compute the share of each token in the mean of the tokens after all blocks, times the number of tokens.

    The result is 1 if all tokens have the same share. In each block, the attention (the mean over its heads) and the
    skip connection around it have a weight of one half each. The matrices of all blocks are multiplied. Source: Abnar
    and Zuidema 2020, "Quantifying attention flow in transformers", section 3. The other layers of the blocks are left
    out.

    Parameters
    ----------
    maps : sequence of Tensor (..., heads, N, N)
        Attention weights of each block, in the order of the blocks. A token (row) reads other tokens (columns).

    Returns
    -------
    Tensor (..., N)
    """
    tokens = maps[0].shape[-1]
    identity = torch.eye(tokens, dtype=maps[0].dtype, device=maps[0].device)
    flow = identity
    for weights in maps:
        flow = (weights.mean(dim=-3) + identity) / 2 @ flow
    return flow.mean(dim=-2) * tokens


def gradient(model: ExplainableModel, x: Tensor, target: Tensor, activations: list[Tensor] | None = None) -> Tensor:
    """Compute the gradient of the output of class `target` (N,) of each record with respect to `x`.

    With `activations`, it is that of the first tensor of this list instead. The forward pass may fill the list.
    """
    x = x.detach().requires_grad_()
    # In evaluation mode, the recurrent layers of cuDNN have no backward pass.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        total = select_output(model(x), target).sum()
        (result,) = torch.autograd.grad(total, x if activations is None else activations[0])
    return result


def select_output(outputs: Tensor, target: Tensor) -> Tensor:
    """Select the output of the class `target` (N,) of each record: (N, K) -> (N,)."""
    return outputs.gather(1, target[:, None])[:, 0]


def _last_convolution(network: nn.Module) -> nn.Module:
    """Return the last stage (direct child) of a network that contains a convolution."""
    last = None
    for stage in network.children():
        if any(isinstance(module, nn.Conv1d | nn.Conv2d) for module in stage.modules()):
            last = stage
    if last is None:
        raise UserError(f"grad_cam: {type(network).__name__} has no convolution; expected a network with one.")
    return last


def _merge_windows(curve: Tensor, starts: list[int], length: int, x: Tensor) -> Tensor:
    """Merge the curves (N W, n) of W windows per record into one curve over its samples: (N, L, T)."""
    # Interpolate the curve of each window to one value per sample.
    fine = F.interpolate(curve[:, None], size=length, mode="linear", align_corners=False).view(len(x), len(starts), -1)

    # Divide the sum over the windows by the number of windows at each sample. The last window may end after the record.
    samples = (torch.tensor(starts, device=x.device)[:, None] + torch.arange(length, device=x.device)).flatten()
    size = max(x.shape[2], starts[-1] + length)
    total = x.new_zeros(len(x), size).index_add_(1, samples, fine.flatten(1).to(x.dtype))
    count = x.new_zeros(size).index_add_(0, samples, x.new_ones(len(samples))).clamp(min=1)
    return (total / count)[:, None, : x.shape[2]].expand_as(x).contiguous()
