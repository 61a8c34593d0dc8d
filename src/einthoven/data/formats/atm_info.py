"""Read the ``.info`` that PhysioBank ATM writes beside a ``.mat``: sampling frequency, gains, bases and units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.file_signals import Metadata, check_sample_count, read_ordinary_file
from einthoven.data.formats.table_text import decode_text
from einthoven.errors import UserError

INFO_SUFFIX = ".info"
MOST_BYTES = 2**20

# The count that marks an invalid sample, as in WFDB format 16.
_INVALID = -32768

_RATE = re.compile(r"Sampling frequency:\s*([0-9.]+(?:e[-+]?[0-9]+)?)\s*Hz", re.IGNORECASE)
_HEADER = re.compile(r"^Row\s+Signal\s+Gain\s+Base\s+Units\s*$", re.IGNORECASE)
_ROW = re.compile(r"^\s*(\d+)\s+(\S.*?)\s+([-+0-9.eE]+)\s+([-+]?\d+)\s+(\S+)\s*$")


@dataclass(frozen=True)
class Info:
    """What the file states: gain in counts per unit, base in counts, and unit of each row of the matrix."""

    metadata: Metadata
    gains: tuple[float, ...]
    bases: tuple[int, ...]
    units: tuple[str, ...]

    def amplitudes(self, counts: NDArray[Any], source: str) -> NDArray[np.float64]:
        """Return the rows of a matrix of counts in their units. Invalid samples are NaN.

        Raises
        ------
        UserError
            If the matrix has another number of rows.
        """
        if counts.ndim != 2 or len(counts) != len(self.gains):
            raise UserError(
                f"{source}: a matrix of shape {counts.shape} found; expected {len(self.gains)} rows, as its "
                f"{INFO_SUFFIX} says."
            )
        check_sample_count(counts.size, source)
        bases = np.array(self.bases, dtype=np.float64)[:, None]
        gains = np.array(self.gains)[:, None]
        values: NDArray[np.float64] = (counts.astype(np.float64) - bases) / gains
        values[counts == _INVALID] = np.nan
        return values


def read_info(path: Path) -> Info:
    """Read an ``.info``.

    Raises
    ------
    UserError
        If it states no sampling frequency, or its rows cannot be read.
    """
    text = decode_text(read_ordinary_file(path, MOST_BYTES))
    rate_match = _RATE.search(text)
    rows: list[re.Match[str]] = []
    is_table = False
    for line in text.splitlines():
        if is_table:
            row = _ROW.match(line)
            if row is None or int(row[1]) != len(rows) + 1:
                break
            rows.append(row)
        is_table = is_table or _HEADER.match(line) is not None
    if rate_match is None or not rows:
        raise UserError(
            f"{path.name}: no sampling frequency or no rows found; expected an {INFO_SUFFIX} of PhysioBank ATM."
        )
    try:
        fs = float(rate_match[1])
        gains = tuple(float(row[3]) for row in rows)
    except ValueError:
        raise UserError(f"{path.name}: a number that cannot be read; expected sampling frequency and gains.") from None
    if not all(np.isfinite(gain) and gain != 0 for gain in gains):
        raise UserError(f"{path.name}: a gain of 0, or one that is not finite; expected counts per unit, such as 200.")
    names = tuple(row[2] for row in rows)
    bases = tuple(int(row[4]) for row in rows)
    return Info(Metadata(fs, None, names), gains, bases, tuple(row[5] for row in rows))
