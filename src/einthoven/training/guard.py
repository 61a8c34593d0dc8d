"""A step whose loss or gradient is not a finite number changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SkippedStepError(Exception):
    """Leaves the step of an optimizer on the CPU; `train_step` catches it, nobody else sees it."""


class Guard:
    """Protects weights and running statistics from steps whose loss or gradient is not finite.

    One bad batch would otherwise end a run: NaN in the weights, in the running statistics of a batch normalization or
    in the moments of an optimizer never leaves again.

    On the CPU, `hold` knows at once whether the numbers are finite, and leaves the step of the optimizer before a
    weight moves. Only running statistics have to be put back. (An optimizer that moves the weights before it asks for
    a gradient, as SAM does, moves them back.)

    On another device that question would wait for the device, so everything happens there: `hold` replaces the
    gradient by zeros, which keeps the state of the optimizer finite, and `restore` puts back what the step has moved.
    The moments of the optimizer then count one gradient of zero.

    Parameters
    ----------
    model
        Its trainable parameters and its floating-point buffers are protected.
    waits : bool, optional
        Whether to ask for the flag at once; by default on the CPU alone, where nothing has to be waited for.

    Attributes
    ----------
    finite : Tensor, bool ()
        Whether the last step was taken, on the device.
    """

    def __init__(self, model: nn.Module, waits: bool | None = None) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = next(model.parameters()).device
        self._waits = self._device.type == "cpu" if waits is None else waits
        statistics = [b for b in model.buffers() if b.is_floating_point()]
        self._tensors = statistics if self._waits else [*self._parameters, *statistics]
        self._before = _Copies(self._tensors)
        self.finite = torch.ones((), dtype=torch.bool)
        if not self._waits:
            self._after = _Copies(self._tensors)
            self._gradients = _Copies(self._parameters)

    @torch.no_grad()
    def remember(self) -> None:
        """Copy what the step may change; called before its forward pass."""
        self._before.take(self._tensors)
        self.finite = torch.ones((), dtype=torch.bool, device=self._device)

    @torch.no_grad()
    def hold(self, finite: Tensor) -> None:
        """Keep a gradient from the optimizer if it is not finite; called after each backward pass.

        An optimizer may ask for several gradients in a step. One that is not finite spoils the step.

        Raises
        ------
        SkippedStepError
            On the CPU, where the gradient is not finite.
        """
        self.finite = self.finite & finite
        if self._waits:
            if not self.finite:
                raise SkippedStepError
            return
        pairs = [(copy, p.grad) for copy, p in zip(self._gradients.views, self._parameters, strict=True)]
        copies = [copy for copy, gradient in pairs if gradient is not None]
        gradients = [gradient for _, gradient in pairs if gradient is not None]
        torch._foreach_copy_(copies, gradients)
        for flat in self._gradients.flats:
            flat.masked_fill_(~self.finite, 0.0)
        torch._foreach_copy_(gradients, copies)

    @torch.no_grad()
    def restore(self) -> None:
        """Undo the step if its numbers were not finite; called at its end."""
        if self._waits:
            if not self.finite:
                self._before.give(self._tensors)
            return
        self._after.take(self._tensors)
        for after, before in zip(self._after.flats, self._before.flats, strict=True):
            torch.where(self.finite, after, before, out=after)
        self._after.give(self._tensors)


class _Copies:
    """Room for copies of some tensors, in one piece for each data type.

    A choice between two sets of tensors is then one operation on the device instead of one for each tensor.

    Attributes
    ----------
    flats : list of Tensor
        The pieces.
    views : list of Tensor
        Parts of them, each in the shape of its tensor.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.flats: list[Tensor] = []
        views: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            members = [number for number, t in enumerate(tensors) if t.dtype == dtype]
            sizes = [tensors[number].numel() for number in members]
            flat = torch.zeros(sum(sizes), dtype=dtype, device=tensors[members[0]].device)
            self.flats.append(flat)
            for number, part in zip(members, torch.split(flat, sizes), strict=True):
                views[number] = part.view(tensors[number].shape)
        self.views = [views[number] for number in range(len(tensors))]

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Copy the tensors."""
        if self.views:
            torch._foreach_copy_(self.views, list(tensors))

    def give(self, tensors: Sequence[Tensor]) -> None:
        """Copy back into the tensors."""
        if self.views:
            torch._foreach_copy_(list(tensors), self.views)


@torch.no_grad()
def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether every entry of some tensors is a finite number, as one device tensor."""
    return torch.stack([t.isfinite().all() for t in tensors]).all()
