"""What the doctor finds: a code, how serious it is, which leads, and the numbers it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor.thresholds import FLAT
from einthoven.functional.beats import Float, Int, qrs_edges

SEVERITIES = ("info", "caution", "warning", "error")  # ascending

CODES = {  # code -> what it means, in a few words
    "unreadable": "cannot be read",
    "missing_leads": "leads are missing",
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


@dataclass(frozen=True)
class Finding:
    """One finding in one record.

    Attributes
    ----------
    code : str
        A key of `CODES`.
    severity : str
        ``error``: not to be used as it is. ``warning``: probably wrong, to be looked at. ``caution``: right, but not
        what a model for adults' clean resting ECGs expects. ``info``: no fault.
    leads : tuple of str
        Leads concerned; empty where it is the whole record.
    value, threshold : float
        The measure (of the worst lead) and the limit it passed; NaN where there is none.
    evidence : str
        Both in words.
    """

    code: str
    severity: str
    leads: tuple[str, ...]
    value: float
    threshold: float
    evidence: str


@dataclass(frozen=True)
class Block:
    """Records of one length with what every check needs: ``(n, L, T)`` mV without gaps, and their beats."""

    x: Float
    invalid: Float
    """Part of the samples that was not finite ``(n, L)``; zeros stand there now."""
    fs: float
    leads: tuple[str, ...]
    beats: Int
    beat: Float
    """Representative beat ``(n, L, W)``."""
    repeats: Float
    """Repeatability ``(n, L)``."""
    span: Float
    """Median over pieces of two seconds of the peak-to-peak amplitude ``(n, L)``, mV."""

    def has(self, *leads: str) -> bool:
        """Whether all of these leads are there."""
        return set(leads) <= set(self.leads)

    def at(self, lead: str) -> int:
        """Row of a lead."""
        return self.leads.index(lead)

    @property
    def seconds(self) -> float:
        """Length of the records."""
        return float(self.x.shape[2] / self.fs)

    @cached_property
    def still(self) -> Float:
        """The longest time that a lead keeps one value ``(n, L)``, s."""
        return (longest_run(np.diff(self.x, axis=-1) == 0) + 1) / self.fs

    @cached_property
    def qrs(self) -> tuple[Float, Float]:
        """Onset and end of the QRS in the representative beat ``(n,)``, s."""
        return qrs_edges(self.beat, self.fs)

    @cached_property
    def power(self) -> Float:
        """Squared spectrum under a Hann window, without the mean ``(n, L, F)``; its frequencies are `frequencies`."""
        centred = self.x - self.x.mean(axis=-1, keepdims=True)
        spectrum = np.fft.rfft(centred * np.hanning(self.x.shape[-1]), axis=-1)
        return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag))

    @property
    def frequencies(self) -> Float:
        """Of `power`, in Hz ``(F,)``."""
        return np.asarray(np.fft.rfftfreq(self.x.shape[-1], 1.0 / self.fs))

    @property
    def live(self) -> NDArray[np.bool_]:
        """Leads with any voltage ``(n, L)``."""
        return self.span >= FLAT


def longest_run(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Length of the longest run of true along the last axis."""
    places = np.arange(1, chosen.shape[-1] + 1)
    return np.asarray((places - np.maximum.accumulate(np.where(chosen, 0, places), axis=-1)).max(axis=-1, initial=0))


Found = Iterator[tuple[int, Finding]]
Check = Callable[[Block], Found]


def by_lead(
    block: Block, code: str, severity: str, bad: NDArray[np.bool_], value: Float, threshold: float, text: str
) -> Found:
    """One finding for each record with a bad lead (n, L); `text` is formatted with the worst value and its lead."""
    for row in np.flatnonzero(bad.any(axis=1)):
        columns = np.flatnonzero(bad[row])
        worst = columns[np.argmax(np.abs(value[row, columns] - threshold))]
        number = float(value[row, worst])
        names = tuple(block.leads[c] for c in columns)
        evidence = text.format(lead=block.leads[worst], value=number, limit=threshold)
        yield int(row), Finding(code, severity, names, number, threshold, evidence)
