"""Refuse records that a trained model cannot read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from einthoven.errors import UserError


class Input(Protocol):
    """What a model reads.

    Attributes
    ----------
    fs : float
        Sampling frequency in Hz.
    """

    @property
    def leads(self) -> tuple[str, ...]:
        """Names of the leads."""

    @property
    def fs(self) -> float:
        """Sampling frequency in Hz."""


def refuse_other_input(source: str, expected: Input, leads: Sequence[str] | None, fs: float | None) -> None:
    """Refuse records with other leads, or another sampling frequency (Hz), than a model reads.

    `source` is the option that named the model. Leads and frequency are None if they are not known yet.
    """
    if leads is not None and tuple(leads) != expected.leads:
        raise UserError(
            f"{source}: reads the leads {' '.join(expected.leads)}, and these records have {' '.join(leads)}; "
            "expected the same leads in the same order (data.leads)."
        )
    if fs is not None and float(fs) != expected.fs:
        raise UserError(
            f"{source}: reads records at {expected.fs:g} Hz, and these have {fs:g} Hz; expected the same (data.fs)."
        )
