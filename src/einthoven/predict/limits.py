"""What a network from a file may take: memory and time are bounded by the weights that come with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from einthoven.errors import UserError
from einthoven.predict.signal import Reads

MOST_VALUES = 1 << 28
"""Values of one tensor while a network reads a record."""

_MOST_NUMBER = 10_000_000
_SPARE_VALUES = 1 << 22

Shapes = Mapping[str, tuple[int, ...]]


def check_numbers(options: object) -> None:
    """Refuse options with a number that no network needs: a constructor may make a list of that length.

    Raises
    ------
    UserError
        Names the number.
    """
    if isinstance(options, Mapping):
        options = list(options.values())
    if isinstance(options, list):
        for option in options:
            check_numbers(option)
    elif isinstance(options, int | float) and abs(options) > _MOST_NUMBER:
        raise UserError(f"an option of {options:.6g}; expected numbers up to {_MOST_NUMBER:,}.")


def check_activations(shapes: Shapes, reads: Reads) -> None:
    """Refuse a network that would fill the memory with what it computes of one record.

    Raises
    ------
    UserError
        States how many values its widest layer may have.
    """
    count = (reads.samples - reads.window) // reads.stride + 2
    widest = max((shape[0] for shape in shapes.values() if shape), default=1)
    values = count * reads.window * max(widest, len(reads.leads))
    if values > MOST_VALUES:
        raise UserError(
            f"{count:,} windows of {reads.window:,} samples and layers of up to {widest:,} channels are {values:,} "
            f"values for one record; expected {MOST_VALUES:,} at most."
        )


class Construction(TorchFunctionMode):
    """Ends a constructor that asks for more memory, or makes more tensors, than the weights in a file account for.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of the tensors in the file.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        # Constructors draw weights in several steps, and keep some constants that are in no file.
        self._values = _SPARE_VALUES + 4 * sum(math.prod(shape) for shape in shapes.values())
        self._calls = 1000 + 100 * len(shapes)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self._calls -= 1
        given = [*args, *(kwargs or {}).values()]
        tensors = [value for value in given if isinstance(value, Tensor)]
        if not tensors:
            self._values -= _product(given)
        elif func is Tensor.repeat:
            self._values -= tensors[0].numel() * _product(given)
        if self._values < 0 or self._calls < 0:
            raise UserError("it has more or larger tensors than the file with its weights.")
        return func(*args, **(kwargs or {}))


@contextmanager
def as_sentence(what: str) -> Iterator[None]:
    """Say in one sentence what a constructor or a network raises: options from a file can make it fail in any way.

    Raises
    ------
    UserError
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"{what} ({type(error).__name__}: {reason}).") from error


def _product(given: object) -> int:
    """An upper bound of the values that a function with these arguments makes."""
    if isinstance(given, list | tuple):
        return math.prod(_product(value) for value in given)
    return max(abs(given), 1) if isinstance(given, int) else 1
