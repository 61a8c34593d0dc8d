"""Read the header of a safetensors file that can be damaged or can come from a stranger."""

from __future__ import annotations

import math
import os
from reprlib import repr as short_repr
from typing import BinaryIO

from einthoven.errors import UserError
from einthoven.strict_json import parse_json

_MAX_HEADER_BYTES = 1 << 26


def safetensors_header(file: BinaryIO, source: str) -> bytes:
    """Return the first bytes of a safetensors file: the length of the header (eight bytes) and the header (JSON).

    A header that does not fit into the file is refused. `source` is the name of the file, for the message.
    """
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
        raise UserError(f"{source} is damaged: the header of this safetensors file does not fit into it")
    return start + file.read(length)


def safetensors_shapes(file: BinaryIO, source: str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors in a safetensors file, without the tensors. `source` is its name, for the message.

    Neither a tensor nor all of them can have more values than the file has bytes for them; others are refused. So the
    shapes limit the memory that they explain.
    """
    start = safetensors_header(file, source)
    header = parse_json(start[8:], source)
    data_bytes = os.fstat(file.fileno()).st_size - len(start)
    shapes = {}
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            has_counts = all(type(count) is int and count >= 0 for count in (first, end, *shape))
            if not has_counts or end > data_bytes or math.prod(shape) > end - first:
                raise ValueError(f"{name[:100]} of the shape {short_repr(shape)} does not fit into the file")
            shapes[name] = shape
        # Tensors that share their bytes would explain a network of any size.
        if sum(map(math.prod, shapes.values())) > data_bytes:
            raise ValueError("the tensors do not fit into the file together")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source} is damaged: {type(error).__name__}: {error}") from None
    return shapes
