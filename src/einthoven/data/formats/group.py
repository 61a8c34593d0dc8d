"""A group of signals of one file, before it is chosen and read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.functional.leads import canonical_lead

_BEAT_LABEL = re.compile(r"median|average|representative|template|beat|cycle|calibration", re.IGNORECASE)

Lead = tuple[str, int]
"""Canonical name of a lead, and its sign."""


@dataclass(frozen=True)
class Group:
    """A group of signals with one time axis.

    Attributes
    ----------
    name : str
        For messages, such as "waveform group 2".
    label : str
        What the file calls the group.
    names : tuple of str
        Names of the signals.
    samples : int
        Number of samples of each signal.
    fs : float
        Sampling frequency in Hz.
    load : callable
        Returns the values ``(signals, samples)`` and the unit of each signal.
    start : float or None
        Time of the first sample in s, on a clock that all groups of the file share; None if the file does not state it.
    is_derived : bool
        Whether the file says that the group is computed from other waveforms.
    is_flat : bool
        Whether no signal of the group ever changes.
    """

    name: str
    label: str
    names: tuple[str, ...]
    samples: int
    fs: float
    load: Callable[[], tuple[NDArray[np.floating], tuple[str, ...]]]
    start: float | None = None
    is_derived: bool = False
    is_flat: bool = False

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / self.fs if self.fs > 0 else 0.0

    @cached_property
    def leads(self) -> dict[Lead, int]:
        """The leads of the group, and the row of each."""
        leads: dict[Lead, int] = {}
        for row, name in enumerate(self.names):
            lead = canonical_lead(name)
            if lead is not None:
                leads.setdefault(lead, row)
        return leads

    @property
    def is_beat(self) -> bool:
        """Whether the label says that the group is a median beat or a calibration pulse."""
        return _BEAT_LABEL.search(self.label) is not None

    def describe(self) -> str:
        """Return name, label, number of leads and duration, for a note or a message."""
        label = f" {quote(self.label)}" if self.label else ""
        plural = "" if len(self.leads) == 1 else "s"
        return f"{self.name}{label} ({len(self.leads)} lead{plural}, {self.seconds:.4g} s)"

    @property
    def tolerance(self) -> float:
        """How exact the start is, in s: files state it in ms, and between two samples."""
        return 1e-3 + 1.0 / max(self.fs, 1.0)
