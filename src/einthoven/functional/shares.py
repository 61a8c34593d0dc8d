"""The share of this process, where several processes pass one batch through the model together.

A random number belongs to a record of the batch, and not to a process. So a process draws the random numbers of the
whole batch, and uses those of its own records. Then they are the same with any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The records of a batch that one process passes through the model.

    Attributes
    ----------
    start, count : int
        Position of the first record in the batch, and number of records.
    total : int
        Records of the batch.
    """

    start: int
    count: int
    total: int


# A forward pass belongs to the process, so this does, too. None: the process computes whole batches.
_current: Share | None = None


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let `draw_rows` draw for the batch of `share` inside this block."""
    global _current
    before = _current
    _current = share
    try:
        yield
    finally:
        _current = before


def draw_rows(rows: int, draw: Callable[[int], Tensor]) -> Tensor:
    """Draw random numbers for the rows of this process.

    Parameters
    ----------
    rows : int
        Number of rows of this process. Each record has the same number of rows, such as its windows.
    draw : callable
        (number of rows of the whole batch) -> random numbers, with one row of the batch in each row.
    """
    if _current is None:
        return draw(rows)
    rows_per_record = rows // _current.count
    drawn = draw(_current.total * rows_per_record)
    return drawn.narrow(0, _current.start * rows_per_record, rows)
