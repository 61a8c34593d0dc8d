"""QRS complexes of SCP-ECG (section 4): where a reference beat was subtracted, and which samples were kept.

References
----------
EN 1064:2005+A1:2007, 5.7 and annex C. Numbers of samples count from 1, at the rate of the reference beat.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<HHH")
_SUBTRACTION = np.dtype([("kind", "<u2"), ("start", "<u4"), ("center", "<u4"), ("end", "<u4")])
_PROTECTION = np.dtype([("start", "<u4"), ("end", "<u4")])

# Complexes of this type are like the reference beat, which was subtracted from them.
_LIKE_REFERENCE_BEAT = 0


@dataclass(frozen=True)
class Subtraction:
    """Where a reference beat was subtracted.

    Attributes
    ----------
    fiducial : int
        The sample of the reference beat that lies on the center of a complex.
    zones : ndarray of int64, shape (zones, 3)
        First sample, center and last sample of each zone. The zones are sorted and do not overlap.
    """

    fiducial: int
    zones: NDArray[np.int64]


def parse_subtraction(section: memoryview) -> Subtraction:
    """Parse the zones of section 4 from which the reference beat was subtracted.

    Raises
    ------
    ValueError, struct.error
        If the section is cut off, or if zones overlap.
    """
    _, fiducial, count = _HEADER.unpack_from(section)
    rows = np.frombuffer(section[_HEADER.size : _HEADER.size + count * _SUBTRACTION.itemsize], _SUBTRACTION)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} QRS zones of {count}")
    rows = rows[rows["kind"] == _LIKE_REFERENCE_BEAT]
    zones = np.stack([rows["start"], rows["center"], rows["end"]], axis=1).astype(np.int64)
    return Subtraction(fiducial, _sort_zones(zones))


def parse_protected(section: memoryview) -> NDArray[np.int64]:
    """Parse the zones of section 4 in which bimodal compression keeps all samples.

    Returns
    -------
    ndarray of int64, shape (zones, 2)
        First and last sample of each zone. The zones are sorted and do not overlap.

    Raises
    ------
    ValueError, struct.error
        If the section is cut off or has no such zones, or if zones overlap.
    """
    _, _, count = _HEADER.unpack_from(section)
    start = _HEADER.size + count * _SUBTRACTION.itemsize
    rows = np.frombuffer(section[start : start + count * _PROTECTION.itemsize], _PROTECTION)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} protected zones of {count}")
    return _sort_zones(np.stack([rows["start"], rows["end"]], axis=1).astype(np.int64))


def _sort_zones(zones: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort zones by their first sample, and leave out the empty ones."""
    is_empty = zones[:, -1] < np.maximum(zones[:, 0], 1)
    zones = zones[~is_empty]
    zones = zones[np.argsort(zones[:, 0], kind="stable")]
    if (zones[1:, 0] <= zones[:-1, -1]).any():
        raise ValueError("QRS zones that overlap")
    return zones


def _zone_of_sample(samples: NDArray[np.int64], zones: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of the zone in which each sample lies; -1 for a sample in none."""
    row = np.searchsorted(zones[:, 0], samples, side="right") - 1
    ends = np.concatenate([zones[:, -1], [-1]])
    return np.where(samples <= ends[row], row, -1)


def reference_beat_samples(
    start: int, count: int, subtraction: Subtraction, beat: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what was subtracted from the samples of a lead.

    Parameters
    ----------
    start, count : int
        First sample of the lead, from 1, and number of its samples.
    subtraction : Subtraction
    beat : ndarray
        The reference beat of the lead.

    Returns
    -------
    ndarray of float64, shape (count,)
        0 outside of the zones.
    """
    result = np.zeros(count)
    samples = np.arange(start, start + count)
    row = _zone_of_sample(samples, subtraction.zones)
    centers = np.concatenate([subtraction.zones[:, 1], [0]])
    position = samples - centers[row] + subtraction.fiducial - 1
    is_beat = (row >= 0) & (position >= 0) & (position < len(beat))
    result[is_beat] = beat[position[is_beat]]
    return result


def stored_positions(start: int, count: int, protected: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """Return the time of each value that bimodal compression stores for a lead, in samples from the first one.

    Inside of the protected zones, every sample is stored. Between two zones, each value is the mean of `factor`
    samples. Samples that are left over before the next zone are stored, too.

    Parameters
    ----------
    start, count : int
        First sample of the lead, from 1, and number of its samples before the compression.
    protected : ndarray of int64, shape (zones, 2)
        The result of `parse_protected`.
    factor : int
    """
    samples = np.arange(start, start + count)
    index = np.arange(count)
    is_protected = _zone_of_sample(samples, protected) >= 0

    # First sample of the gap between two zones in which a sample lies, and the end of this gap.
    first = np.maximum.accumulate(np.where(is_protected, index + 1, 0))
    end = np.minimum.accumulate(np.where(is_protected, index, count)[::-1])[::-1]
    in_gap = index - first
    is_averaged = ~is_protected & (in_gap < (end - first) // factor * factor)
    is_stored = ~is_averaged | (in_gap % factor == 0)
    positions = np.where(is_averaged, index + (factor - 1) / 2, index)
    return positions[is_stored]


def restore(values: NDArray[np.int64], positions: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return all samples of a lead after bimodal compression: linear between the stored values.

    The mean of some samples lies in the middle of their times.
    """
    return np.interp(np.arange(count), positions, values)
