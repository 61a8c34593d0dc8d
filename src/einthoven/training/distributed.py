"""Several processes that train one model together.

Each process has the whole model, and draws the whole batch with its augmentation. It passes its share of the records
through the model. The outputs of all shares are gathered in each process, so that the loss is that of the whole batch,
also where the loss of a record depends on other records. The gradient of each process is its part of the gradient of
this loss. The sum over the processes is the gradient of the step. All else is the same in each process.

See decision 0041 for the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from einthoven.functional.shares import Share, draw_rows, sharing
from einthoven.training.batch_norm import synchronized_batch_norm
from einthoven.training.collectives import all_gather, all_reduce, broadcast, lost_process
from einthoven.training.connection import Meeting


class ConnectedProcesses:
    """Processes that are connected by `torch.distributed`: see `einthoven.contracts.Processes`.

    Attributes
    ----------
    rank, size : int
    folder : Path or None
        Folder of the run that the processes train.
    """

    def __init__(self, rank: int, size: int, meeting: Meeting | None = None) -> None:
        self.rank = rank
        self.size = size
        self._meeting = meeting
        self.folder: Path | None = None
        # Code is compiled for a function. So each module has the same function in all steps.
        self._functions: dict[nn.Module, Callable[..., Tensor]] = {}

    def meet(self, folder: Path) -> None:
        """Wait until all processes have assembled the run of this folder. Only here, a process may be late."""
        self.folder = folder
        if self._meeting is None:
            return
        if self.rank == 0:
            self._meeting.tell_folder(folder)
        self._meeting.meet()

    def wait_for_folder(self) -> Path | None:
        """Return the folder of the run, as soon as the first process has prepared it; None if there is none."""
        assert self._meeting is not None
        return self._meeting.wait_for_folder()

    @contextmanager
    def share(self, model: nn.Module) -> Iterator[None]:
        """Pass the share of this process through the model in each call inside this block.

        A call still takes the records of all processes, and returns the outputs of all records. Batch normalization
        has the statistics of all records, and dropout has the random numbers that it has with one process.
        """
        # Compiled code sends its messages without `all_reduce`, so that its errors arrive here.
        with lost_process(), ExitStack() as stack:
            call = _SharedCall(self.rank, self.size)
            for hook in (model.register_forward_pre_hook(call.take), model.register_forward_hook(call.gather)):
                stack.callback(hook.remove)
            stack.callback(call.end)
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    stack.enter_context(self._replaced(module, synchronized_batch_norm))
                if type(module) is nn.Dropout:
                    stack.enter_context(self._replaced(module, _dropout))
            yield

    @contextmanager
    def _replaced(self, module: nn.Module, function: Callable[..., Tensor]) -> Iterator[None]:
        """Let a module compute another function of itself and its input inside this block."""
        module.forward = self._functions.setdefault(module, partial(function, module))
        try:
            yield
        finally:
            # From here on, the module finds the method of its class again.
            del module.forward

    def sum_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        with torch.no_grad():
            for dtype in dict.fromkeys(t.dtype for t in tensors):
                # One message for all tensors of a data type takes less time than many small messages.
                members = [t for t in tensors if t.dtype == dtype]
                flat = torch.cat([t.flatten() for t in members])
                all_reduce(flat)
                parts = torch.split(flat, [t.numel() for t in members])
                torch._foreach_copy_(members, [part.view_as(t) for part, t in zip(parts, members, strict=True)])

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (n, ...) of all processes, in the order of the processes, without gradient."""
        return torch.cat(_gather(rows.detach(), self.gather_numbers([len(rows)])))

    def gather_numbers(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers of all processes, in the order of the processes. Each process has equally many."""
        own = torch.tensor(list(numbers), dtype=torch.int64)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        all_gather(parts, own)
        return torch.cat(parts).tolist()

    def any(self, is_true: bool) -> bool:
        """Return whether a condition is true in one or more processes."""
        return any(self.gather_numbers([int(is_true)]))

    def agree(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics of the first process. The others have measured the same, up to rounding."""
        values = torch.tensor(list(metrics.values()), dtype=torch.float64)
        broadcast(values)
        return dict(zip(metrics, values.tolist(), strict=True))

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Give each tensor the values that it has in the first process."""
        for tensor in tensors:
            broadcast(tensor)


class _SharedCall:
    """Hooks that turn a call of a model with a whole batch into a call with the share of this process."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank = rank
        self._size = size
        self._stack = ExitStack()
        self._sizes: list[int] = []

    def take(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the records (n, ...) of this process instead of those of the whole batch (B, ...).

        Fewer records than processes occur only in an evaluation. Then each process computes all of them.
        """
        (x,) = inputs
        if len(x) < self._size and not torch.is_grad_enabled():
            self._sizes = []
            return inputs
        parts = x.tensor_split(self._size)
        self._sizes = [len(part) for part in parts]
        start = sum(self._sizes[: self._rank])
        self._stack.enter_context(sharing(Share(start, self._sizes[self._rank], len(x))))
        return (parts[self._rank],)

    def gather(self, model: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        """Return the outputs of all records. Those of this process keep their gradient."""
        self.end()
        if not self._sizes:
            return output
        if isinstance(output, tuple):
            return tuple(self._join(part) for part in output)
        return self._join(output)

    def _join(self, own: Tensor) -> Tensor:
        parts = _gather(own.detach(), self._sizes)
        parts[self._rank] = own
        return torch.cat(parts)

    def end(self) -> None:
        """End the share, also if the forward pass has failed."""
        self._stack.close()


def _gather(own: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the rows of each process, which have so many rows."""
    # All processes send equally many rows, so that the shorter ones are filled up.
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    received = [torch.empty_like(padded) for _ in sizes]
    all_gather(received, padded)
    return [rows[:count] for rows, count in zip(received, sizes, strict=True)]


def _dropout(module: nn.Dropout, x: Tensor) -> Tensor:
    """Drop the values that one process would drop."""
    if not module.training or module.p == 0.0:
        return x

    def draw(rows: int) -> Tensor:
        # The mask is drawn in the order of the memory, so that it gets the layout of the input.
        order = sorted(range(x.ndim), key=lambda dim: x.stride(dim), reverse=True)
        shape = [rows, *x.shape[1:]]
        ones = torch.ones([shape[dim] for dim in order], dtype=x.dtype, device=x.device)
        places = [order.index(dim) for dim in range(x.ndim)]
        return nn.functional.dropout(ones.permute(places), module.p, training=True)

    return x * draw_rows(len(x), draw)
