"""Memory that runs out in a step: the batch passes through the model in smaller parts, and the step begins again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from einthoven.errors import UserError
from einthoven.training.accumulation import count_parts

Result = TypeVar("Result")

_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")
"""Parts of the messages of a plain RuntimeError: those of CPUs and of MPS, and of cuBLAS and cuDNN."""


class MicroBatch:
    """Number of records that pass through the model at once. It is halved when memory runs out.

    Parameters
    ----------
    size : int or None
        The largest number of records. None: the whole batch.
    records : int or None
        Records of a batch. None: memory that runs out is an error, because a batch must not be divided further.
    smallest : int
        A part has at least this many records.
    is_training : bool
        False: the records are those of an evaluation. Then only the sentences differ.
    say : callable
        Shows a sentence to the user.
    """

    def __init__(
        self,
        size: int | None = None,
        *,
        records: int | None = None,
        smallest: int = 1,
        is_training: bool = True,
        say: Callable[[str], None] = print,
    ) -> None:
        self.size = size
        self._records = records
        self._smallest = smallest
        self._is_training = is_training
        self._say = say

    def within_memory(self, attempt: Callable[[], Result], begin_again: Callable[[], None] | None) -> Result:
        """Call `attempt` until the memory suffices, with a smaller size each time, and return its result.

        Parameters
        ----------
        attempt : callable
            Reads `size`.
        begin_again : callable or None
            Undoes what a failed attempt has changed. None: the attempt cannot be repeated.

        Raises
        ------
        UserError
            If memory runs out and the size cannot be halved.
        """
        before = self.size
        while True:
            try:
                result = attempt()
                break
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if begin_again is None or not self._can_halve():
                    raise UserError(self._advice()) from error
            # The exception kept the tensors of the attempt until here.
            begin_again()
            self._halve()
        if self.size != before:
            self._say(self._note())
        return result

    def _note(self) -> str:
        if not self._is_training:
            return (
                f"The memory was not enough for an evaluation. From now on, at most {self.size} records pass through "
                "the model at once."
            )
        return (
            f"The memory was not enough for a step. From now on, at most {self.size} records pass through the model at "
            f"once, and their gradients add up to that of the batch (trainer.micro_batch={self.size})."
        )

    def _can_halve(self) -> bool:
        """Return whether a batch can pass through the model in parts of half the size."""
        if self._records is None:
            return False
        half = (self.size or self._records) // 2
        return half >= 1 and self._records // count_parts(self._records, half) >= self._smallest

    def _halve(self) -> None:
        assert self._records is not None
        self.size = (self.size or self._records) // 2
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()

    def _advice(self) -> str:
        at_once = "a whole batch" if self.size is None else f"{self.size} records"
        if not self._is_training:
            return (
                f"memory ran out in an evaluation that passes {at_once} through the model at once. Expected more free "
                "memory, a smaller trainer.batch_size, shorter windows (trainer.window) or a smaller model."
            )
        return (
            f"memory ran out in a step that passes {at_once} through the model at once. Expected a smaller "
            "trainer.micro_batch or trainer.batch_size, shorter windows (trainer.window) or a smaller model."
        )


@contextmanager
def memory_for(purpose: str, remedy: str) -> Iterator[None]:
    """Turn an error of memory that runs out inside this block into a sentence.

    Parameters
    ----------
    purpose : str
        What needs the memory, such as ``the diagnostics of a step``.
    remedy : str
        What needs less memory.

    Raises
    ------
    UserError
        If memory runs out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(f"memory ran out in {purpose}. Expected {remedy}, or more free memory.") from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(message in str(error) for message in _MESSAGES)
