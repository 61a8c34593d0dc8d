"""Settle the sampling frequency of a file: what the file states, and what the user states about it."""

from __future__ import annotations

import math

from einthoven.data.formats.file_signals import Metadata, whole_rate
from einthoven.errors import UserError

LOWEST_RATE = 50.0
"""Hz. A slower recording does not show the waves of a beat. Such a value is nearly always a mistake."""

HIGHEST_RATE = 20_000.0
"""Hz. No electrocardiograph is faster."""

SAME_RATE = 1e-4
"""Largest relative difference of two values that mean the same sampling frequency. Files round it."""

# Other units in which a file can state its times, as multiples of the sampling frequency: ms, µs, ns, minutes, days.
# The last two are for frequencies that were stated per ms and per µs.
_MULTIPLES = (
    (1e3, "1000 times that"),
    (1e6, "1,000,000 times that"),
    (1e9, "1,000,000,000 times that"),
    (1 / 60, "1/60 of that"),
    (1 / 86_400, "1/86,400 of that"),
    (1e-3, "1/1000 of that"),
    (1e-6, "1/1,000,000 of that"),
)

_RARE_MULTIPLES = (1 / 60, 1 / 86_400)

# Hz. The usual sampling frequencies of electrocardiographs.
_USUAL_RATES = (100.0, 5_000.0)


def settle_rate(in_file: float, stated: float | None, caller: Metadata, source: str, origin: str = "") -> float:
    """Return the sampling frequency of a record.

    A value outside of `LOWEST_RATE` to `HIGHEST_RATE` is used only if the user states it. There, the value of the user
    replaces that of the file, because such a file mostly states another unit, or numbers its samples. A value that is
    only for files without one does not contradict a file.

    Parameters
    ----------
    in_file : float
        Sampling frequency that the file states, in Hz.
    stated : float or None
        Sampling frequency that the user states, in a sidecar or as an option.
    caller : Metadata
        It knows how the user states a value.
    source : str
        Name of the file, for messages.
    origin : str
        Where the value of the file comes from, such as "column 'time', in s".

    Returns
    -------
    float
        Hz.

    Raises
    ------
    UserError
        If the file states an implausible value and the user states none, or if both state different plausible values.
    """
    is_plausible = LOWEST_RATE <= in_file <= HIGHEST_RATE
    if stated is not None:
        if not is_plausible:
            return float(stated)
        if abs(stated - in_file) <= SAME_RATE * in_file:
            return in_file
        if caller.only_where_missing and stated == caller.fs:
            return in_file
        place = f"{caller.option('fs', stated)} given" if stated == caller.fs else f"{stated:g} Hz in its .json"
        raise UserError(f"{source}: {in_file:g} Hz in the file{_from(origin)}, {place}; expected one value.")
    if is_plausible:
        return in_file
    raise UserError(
        f"{source}: {in_file:g} Hz found{_from(origin)}; expected {LOWEST_RATE:g} to {HIGHEST_RATE:,.0f} Hz; "
        f"{_advice(in_file, caller)}."
    )


def rate_notes(in_file: float, settled: float) -> tuple[str, ...]:
    """Return a note if the user replaced the sampling frequency of a file."""
    if abs(settled - in_file) <= SAME_RATE * abs(in_file):
        return ()
    return (f"{settled:g} Hz as stated by the user, where the file has {in_file:g} Hz",)


def _from(origin: str) -> str:
    return f" ({origin})" if origin else ""


def _advice(in_file: float, caller: Metadata) -> str:
    """Say how the user can state the sampling frequency, with the most plausible value."""
    low, high = _USUAL_RATES
    if not math.isfinite(in_file):
        return _use("…", caller)
    for factor, words in _MULTIPLES:
        # Rounded times give 499.98 Hz for 500 Hz.
        rate = whole_rate(in_file * factor)
        # Times in minutes or days are rare. A rate that is no whole number does not speak for them.
        is_rare = factor in _RARE_MULTIPLES and not rate.is_integer()
        if low <= rate <= high and not is_rare:
            value = f"{rate:.10g}"
            other = ", or the true value if the file numbers its samples" if in_file == 1 else ""
            return f"{words} is {value} Hz: {_use(value, caller)}{other}"
    return _use("…", caller)


def _use(value: str, caller: Metadata) -> str:
    return "correct the file" if caller.option_style is None else f"use {caller.option('fs', value)}"
