"""Limits of a network from a file: the size of its weights file limits the memory and time that it may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from einthoven.errors import UserError
from einthoven.predict.signal import InputFormat

VALUES_LIMIT = 1 << 28
"""A tensor may have at most this many values while the network reads a record."""

_NUMBER_LIMIT = 10_000_000
_SPARE_VALUES = 1 << 22

Shapes = Mapping[str, tuple[int, ...]]


def check_numbers(options: object) -> None:
    """Refuse options that contain a very large number, because a constructor may build a list of that length.

    Raises
    ------
    UserError
        The message contains the number.
    """
    if isinstance(options, Mapping):
        options = list(options.values())
    if isinstance(options, list):
        for option in options:
            check_numbers(option)
    elif isinstance(options, int | float) and abs(options) > _NUMBER_LIMIT:
        raise UserError(f"an option of {options:.6g}; expected numbers up to {_NUMBER_LIMIT:,}.")


def check_activations(shapes: Shapes, input_format: InputFormat) -> None:
    """Refuse a network whose activations for one record would fill the memory.

    Raises
    ------
    UserError
        The message contains the number of values, and how many are allowed.
    """
    windows = (input_format.samples - input_format.window) // input_format.stride + 2
    widest = max((shape[0] for shape in shapes.values() if shape), default=1)
    values = windows * input_format.window * max(widest, len(input_format.leads))
    if values > VALUES_LIMIT:
        raise UserError(
            f"{windows:,} windows of {input_format.window:,} samples and layers of up to {widest:,} channels are "
            f"{values:,} values for one record; expected {VALUES_LIMIT:,} at most."
        )


class ConstructionLimits(TorchFunctionMode):
    """Stop a constructor that asks for more memory, or makes more tensors, than the weights in the file explain.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shapes of the tensors in the file.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        # Constructors draw weights in several steps, and create some constants that are in no file.
        self._values_left = _SPARE_VALUES + 4 * sum(math.prod(shape) for shape in shapes.values())
        self._calls_left = 1000 + 100 * len(shapes)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self._calls_left -= 1
        arguments = [*args, *(kwargs or {}).values()]
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        if not tensors:
            self._values_left -= _largest_product(arguments)
        elif func is Tensor.repeat:
            self._values_left -= tensors[0].numel() * _largest_product(arguments)
        if self._values_left < 0 or self._calls_left < 0:
            raise UserError("it has more or larger tensors than the file with its weights.")
        return func(*args, **(kwargs or {}))


@contextmanager
def construction_limits(shapes: Shapes | None, what: str) -> Iterator[None]:
    """Limit what a constructor may take, as in `ConstructionLimits`, and turn any exception of it into a UserError.

    Parameters
    ----------
    shapes : mapping of str to tuple of int, or None
        Shapes of the weights that a stranger may have written. None for a network of the user, which has no limits.
    what : str
        The start of the sentence.
    """
    if shapes is None:
        yield
        return
    with one_sentence(what), ConstructionLimits(shapes):
        yield


@contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Turn any exception of a constructor or a network into a UserError, because options from a file can cause any.

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


def _largest_product(arguments: object) -> int:
    """Return an upper bound of the number of values that a function with these arguments creates."""
    if isinstance(arguments, list | tuple):
        return math.prod(_largest_product(value) for value in arguments)
    return max(abs(arguments), 1) if isinstance(arguments, int) else 1
