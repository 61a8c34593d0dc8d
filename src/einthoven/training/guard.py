"""A guard that undoes every training step whose loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SkippedStepError(Exception):
    """Leaves the step of an optimizer on the CPU. `train_step` catches it."""


class Guard:
    """Protects weights and running statistics from steps whose loss or gradient is not finite.

    One bad batch would otherwise end a run: NaN never leaves the weights, the running statistics of a batch
    normalization or the moments of an optimizer.

    On the CPU, `hold` knows at once whether the numbers are finite, and leaves the step of the optimizer before a
    weight moves. Only the running statistics have to be restored. (An optimizer that moves the weights before it asks
    for a gradient, as SAM does, moves them back.)

    On another device, this check would wait for the device, so that all work is done there: `hold` replaces the
    gradient by zeros, which keeps the state of the optimizer finite, and `restore` undoes the step. The moments of the
    optimizer then include one gradient of zero.

    Parameters
    ----------
    model : nn.Module
        Its trainable parameters and its buffers are protected.
    waits : bool or None
        Whether to read the flag on the host. None reads it only on the CPU, where this costs nothing.

    Attributes
    ----------
    finite : Tensor, bool ()
        Whether the last step was taken, on the device.
    skipped_in_a_row : Tensor, float32 ()
        Number of steps that were skipped since the last step that was taken, on the device.
    """

    def __init__(self, model: nn.Module, waits: bool | None = None) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = next(model.parameters()).device
        self._waits = self._device.type == "cpu" if waits is None else waits
        statistics = list(model.buffers())
        self._tensors = statistics if self._waits else [*self._parameters, *statistics]
        self._before = _Copies(self._tensors)
        self.finite = torch.ones((), dtype=torch.bool)
        self.skipped_in_a_row = torch.zeros((), device=self._device)
        self._skipped = torch.zeros((), device=self._device)
        if not self._waits:
            self._after = _Copies(self._tensors)
            self._gradients = _Copies(self._parameters)

    @torch.no_grad()
    def remember(self) -> None:
        """Copy the tensors that the step may change. Call this before the forward pass."""
        self._before.copy_from(self._tensors)
        self.finite = torch.ones((), dtype=torch.bool, device=self._device)

    @torch.no_grad()
    def return_to_start(self) -> None:
        """Undo what a part of a step has changed, so that the step can begin again."""
        self._before.copy_to(self._tensors)

    @torch.no_grad()
    def hold(self, finite: Tensor) -> None:
        """Keep a gradient that is not finite from the optimizer. Call this after each backward pass.

        An optimizer may ask for several gradients in a step. One that is not finite spoils the step.

        Raises
        ------
        SkippedStepError
            On the CPU, if the gradient is not finite.
        """
        self.finite = self.finite & finite
        if self._waits:
            if not self.finite:
                raise SkippedStepError
            return
        pairs = [(copy, p.grad) for copy, p in zip(self._gradients.views, self._parameters, strict=True)]
        copies = [copy for copy, gradient in pairs if gradient is not None]
        gradients = [gradient for _, gradient in pairs if gradient is not None]
        # `masked_fill_` replaces NaN, which a multiplication by zero would not.
        torch._foreach_copy_(copies, gradients)
        for flat in self._gradients.flats:
            flat.masked_fill_(~self.finite, 0.0)
        torch._foreach_copy_(gradients, copies)

    @torch.no_grad()
    def restore(self) -> None:
        """Undo the step if its numbers were not finite. Call this at the end of the step."""
        # The counters stay on the device, so that counting does not wait for it.
        is_skipped = (~self.finite).float()
        self._skipped += is_skipped
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * is_skipped
        if self._waits:
            if not self.finite:
                self._before.copy_to(self._tensors)
            return
        self._after.copy_from(self._tensors)
        for after, before in zip(self._after.flats, self._before.flats, strict=True):
            torch.where(self.finite, after, before, out=after)
        self._after.copy_to(self._tensors)

    def continue_from(self, skipped: int, skipped_in_a_row: int) -> None:
        """Continue to count from these numbers, which are those of a checkpoint."""
        self._skipped.fill_(skipped)
        self.skipped_in_a_row.fill_(skipped_in_a_row)

    @property
    def skipped(self) -> int:
        """Number of steps that were skipped since the last call of `take_skipped`."""
        # Device-to-host sync.
        return int(self._skipped)

    def take_skipped(self) -> int:
        """Return the number of steps that were skipped since the last call, and start to count again."""
        count = self.skipped
        self._skipped.zero_()
        return count


class _Copies:
    """Copies of some tensors, in one piece of memory for each data type.

    A choice between two sets of tensors is then one operation on the device instead of one for each tensor.

    Attributes
    ----------
    flats : list of Tensor
        One piece of memory for each data type.
    views : list of Tensor
        The copies: parts of `flats`, each in the shape of its tensor.
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

    def copy_from(self, tensors: Sequence[Tensor]) -> None:
        """Copy the tensors."""
        if self.views:
            torch._foreach_copy_(self.views, list(tensors))

    def copy_to(self, tensors: Sequence[Tensor]) -> None:
        """Write the copies into the tensors."""
        if self.views:
            torch._foreach_copy_(list(tensors), self.views)


@torch.no_grad()
def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Return whether all values of some tensors are finite, as one device tensor."""
    return torch.stack([t.isfinite().all() for t in tensors]).all()
