"""A finding of the doctor, and the block of records that the checks examine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor.thresholds import FLAT
from einthoven.functional.beats import Float, Int
from einthoven.functional.qrs_edges import qrs_edges

SEVERITIES = ("info", "caution", "warning", "error")
"""The lowest severity comes first."""

CODES = {
    "unreadable": "cannot be read",
    "missing_leads": "leads are missing",
    "reading": "parts of the file are not read, or values are replaced",
    "invalid": "samples marked invalid",
    "flat": "lead without any voltage",
    "stuck": "lead stands still for a while",
    "clipped": "lead cut off at its largest value",
    "disconnected": "lead does not follow the heartbeat",
    "limb_law": "limb leads contradict each other",
    "unit": "amplitudes of another unit",
    "swap_la_ra": "arm electrodes exchanged",
    "swap_ra_ll": "right arm and left leg exchanged",
    "swap_ra_rl": "right arm and right leg exchanged",
    "swap_chest": "neighbouring chest electrodes exchanged",
    "fs": "implausible at the stated sampling frequency",
    "no_ecg": "no beat that repeats",
    "child": "normal limits of adults do not hold",
    "paced": "paced",
    "noise_baseline": "baseline wander",
    "noise_powerline": "powerline hum",
    "noise_muscle": "muscle noise",
    "unmeasurable": "cannot be measured at this sampling frequency",
}
"""Code of a finding -> its meaning in a few words."""


@dataclass(frozen=True)
class Finding:
    """One finding in one record.

    Attributes
    ----------
    code : str
        A key of `CODES`.
    severity : str
        ``error``: the record must not be used as it is. ``warning``: the record is probably wrong, and someone should
        look at it. ``caution``: the record is right, but differs from the clean resting ECGs of adults that a model
        expects. ``info``: no fault.
    leads : tuple of str
        The leads with this finding. Empty if the finding is about the whole record.
    value, threshold : float
        The measured value and the threshold of the check. If several leads have the finding, the value is that of the
        worst lead. NaN if there is no value or no threshold.
    evidence : str
        A phrase for the user with the value and the expected value.
    """

    code: str
    severity: str
    leads: tuple[str, ...]
    value: float
    threshold: float
    evidence: str


@dataclass(frozen=True)
class Block:
    """Records of one length, and the quantities that several checks need.

    The shapes use n records, L leads, T samples, W samples of a beat, and F frequencies.
    """

    x: Float
    """Signal in mV ``(n, L, T)``; zero where the record has no finite sample."""
    is_valid: NDArray[np.bool_]
    """Whether a sample was finite ``(n, L, T)``."""
    invalid_fraction: Float
    """Fraction of samples that were not finite ``(n, L)``."""
    fs: float
    """Sampling frequency in Hz."""
    leads: tuple[str, ...]
    """Names of the leads."""
    beats: Int
    """Sample index of each QRS complex ``(n, beats)``. Records with fewer beats are padded with negative values."""
    beat: Float
    """Representative beat ``(n, L, W)``."""
    repeatability: Float
    """Correlation between the means of two halves of the beats ``(n, L)``; see `beat_and_repeatability`."""
    span: Float
    """Typical peak-to-peak amplitude ``(n, L)`` in mV: the median over pieces of two seconds."""

    def has(self, *leads: str) -> bool:
        """Return whether the records have all of these leads."""
        return set(leads) <= set(self.leads)

    def row(self, lead: str) -> int:
        """Return the row of a lead in the axis L."""
        return self.leads.index(lead)

    @property
    def seconds(self) -> float:
        """Length of the records in seconds."""
        return float(self.x.shape[2] / self.fs)

    @cached_property
    def longest_still(self) -> Float:
        """Longest time in which a lead does not change its value ``(n, L)``, s."""
        # A run of k differences that are zero has k + 1 equal samples.
        return (longest_run(np.diff(self.x, axis=-1) == 0) + 1) / self.fs

    @cached_property
    def qrs(self) -> tuple[Float, Float]:
        """Onset and end of the QRS ``(n,)``, in seconds from the start of the representative beat."""
        return qrs_edges(self.beat, self.fs)

    @cached_property
    def waves(self) -> tuple[Float, Float]:
        """The waves of the representative beat, separated.

        P is 200 to 30 ms before the QRS. The isoelectric line is measured just before and after P.

        Returns
        -------
        qrst : ndarray, shape (n, L, W)
            QRS and T above the isoelectric line in mV; zero outside.
        p : ndarray, shape (n, L)
            Mean of the P wave in mV.
        """
        onset, end = self.qrs
        time = np.arange(self.beat.shape[-1]) / self.fs
        since_onset = time - onset[:, None]
        since_end = time - end[:, None]
        is_p = (since_onset >= -0.20) & (since_onset <= -0.03)
        is_before_p = (since_onset >= -0.24) & (since_onset < -0.20)
        is_after_p = (since_onset >= -0.02) & (since_onset <= 0)
        is_line = is_before_p | is_after_p
        is_qrst = (since_onset >= 0) & (since_end <= 0.30)

        def mean(beat: Float, is_included: NDArray[np.bool_]) -> Float:
            weights = is_included / np.maximum(is_included.sum(axis=1, keepdims=True), 1)
            return np.asarray(np.einsum("nlw,nw->nl", beat, weights))

        beat = np.nan_to_num(self.beat)
        beat = beat - mean(beat, is_line)[..., None]
        return beat * is_qrst[:, None], mean(beat, is_p)

    @cached_property
    def power(self) -> Float:
        """Power spectrum ``(n, L, F)``. The mean is removed and a Hann window is applied before the transform."""
        centred = self.x - self.x.mean(axis=-1, keepdims=True)
        spectrum = np.fft.rfft(centred * np.hanning(self.x.shape[-1]), axis=-1)
        return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag))

    @property
    def frequencies(self) -> Float:
        """Frequencies of `power` in Hz ``(F,)``."""
        return np.asarray(np.fft.rfftfreq(self.x.shape[-1], 1.0 / self.fs))

    @property
    def has_voltage(self) -> NDArray[np.bool_]:
        """Whether a lead has a voltage ``(n, L)``."""
        return self.span >= FLAT


def longest_run(condition: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the length of the longest run of true values along the last axis."""
    # At each position, the current run is as long as the distance to the last false value. Positions start at 1, so
    # that 0 means that there is no false value yet.
    positions = np.arange(1, condition.shape[-1] + 1)
    last_false = np.maximum.accumulate(np.where(condition, 0, positions), axis=-1)
    return np.asarray((positions - last_false).max(axis=-1, initial=0))


Findings = Iterator[tuple[int, Finding]]
"""Pairs of a row and a finding. The row is the index of the record in the block."""

Check = Callable[[Block], Findings]


def findings_by_lead(
    block: Block, code: str, severity: str, is_bad: NDArray[np.bool_], value: Float, threshold: float, text: str
) -> Findings:
    """Yield one finding for each record that has a bad lead.

    Parameters
    ----------
    block : Block
    code, severity : str
    is_bad : ndarray of bool, shape (n, L)
    value : ndarray, shape (n, L)
        The measured value of each lead.
    threshold : float
    text : str
        Template of the evidence. It may contain ``{lead}`` (name of the worst lead), ``{value}`` (its value) and
        ``{limit}`` (the threshold).
    """
    for row in np.flatnonzero(is_bad.any(axis=1)):
        columns = np.flatnonzero(is_bad[row])
        worst = columns[np.argmax(np.abs(value[row, columns] - threshold))]
        worst_value = float(value[row, worst])
        leads = tuple(block.leads[column] for column in columns)
        evidence = text.format(lead=block.leads[worst], value=worst_value, limit=threshold)
        yield int(row), Finding(code, severity, leads, worst_value, threshold, evidence)
