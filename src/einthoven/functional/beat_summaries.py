"""The measures of the beats of records in few numbers: medians, spreads, variability of RR, and frontal axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.functional import qtc
from einthoven.functional.beat_measures import BeatMeasures
from einthoven.functional.beats import frontal_axis
from einthoven.functional.summaries import Summary, summarize

Float = NDArray[np.float64]


@dataclass(frozen=True)
class AxisSummary:
    """The axes (n,) of a wave in degrees, NaN without a deflection, and the summary of the deviations of the beats."""

    angle: Float
    has_areas: NDArray[np.bool_]
    deviation: Summary


@dataclass(frozen=True)
class BeatSummaries:
    """Summaries over the beats of n records. Intervals are in ms.

    Attributes
    ----------
    rate, rr, rr_difference : Summary of (n,)
        Heart rate, RR intervals in seconds, and differences of successive RR intervals.
    sdnn, rmssd : ndarray, shape (n,)
        Of all RR intervals in ms, as in Task Force, Circulation 93:1043, 1996. Premature beats are not taken out.
    pr, qrs, qt, qtc_fridericia, qtc_bazett : Summary of (n,)
    axes : mapping of str to AxisSummary
        Empty without the leads of the axes.
    st : Summary of (n, L)
    """

    rate: Summary
    rr: Summary
    rr_difference: Summary
    sdnn: Float
    rmssd: Float
    pr: Summary
    qrs: Summary
    qt: Summary
    qtc_fridericia: Summary
    qtc_bazett: Summary
    axes: Mapping[str, AxisSummary]
    st: Summary


def summarize_beats(beats: BeatMeasures, axis_rows: Sequence[int]) -> BeatSummaries:
    """Summarize the measures of the beats of all records; `axis_rows` are the rows of I and aVF, or empty."""
    difference = np.diff(beats.rr, axis=1)
    rr = summarize(beats.rr)
    mean = _sum(beats.rr) / np.maximum(rr.count, 1)
    squares = _sum(np.square(beats.rr - mean[:, None]))
    rr_difference = summarize(difference)
    mean_square = _sum(np.square(difference)) / np.maximum(rr_difference.count, 1)

    # Each QT is corrected by the median RR interval of the record, because QT follows RR slowly.
    qt = 1e3 * beats.qt
    median_rr = rr.median[:, None]
    axes = {}
    if axis_rows:
        areas = {"axis_p": beats.p_area, "axis_qrs": beats.qrs_area, "axis_t": beats.t_area}
        axes = {name: _axis(area[:, axis_rows]) for name, area in areas.items()}
    return BeatSummaries(
        rate=summarize(60.0 / beats.rr),
        rr=rr,
        rr_difference=rr_difference,
        sdnn=1e3 * np.sqrt(squares / np.maximum(rr.count - 1, 1)),
        rmssd=1e3 * np.sqrt(mean_square),
        pr=summarize(1e3 * beats.pr),
        qrs=summarize(1e3 * beats.qrs),
        qt=summarize(qt),
        qtc_fridericia=summarize(qtc.fridericia(qt, median_rr)),
        qtc_bazett=summarize(qtc.bazett(qt, median_rr)),
        axes=axes,
        st=summarize(beats.st),
    )


def _sum(values: Float) -> Float:
    """Return the sum of the finite values of each row (n, B).

    `cumsum` adds one value after the other, so that zeros for unknown values do not change the rounding.
    """
    if not values.shape[1]:
        return np.zeros(len(values))
    known = np.where(np.isfinite(values), values, 0.0)
    return known.cumsum(axis=1)[:, -1]


def _axis(areas: Float) -> AxisSummary:
    """Return the axis of the median net areas (n, 2, B) in I and aVF."""
    is_known: NDArray[np.bool_] = np.asarray(np.isfinite(areas).all(axis=1))
    known_areas = np.where(is_known[:, None], areas, np.nan)
    median = summarize(known_areas).median
    angle = frontal_axis(median[:, 0], median[:, 1])
    # Angles are compared as differences from the axis, so that 179 and -179 degrees are neighbours.
    angles_of_beats = frontal_axis(known_areas[:, 0], known_areas[:, 1])
    deviation = (angles_of_beats - angle[:, None] + 180.0) % 360.0 - 180.0
    return AxisSummary(angle, np.asarray(is_known.any(axis=1)), summarize(deviation))
