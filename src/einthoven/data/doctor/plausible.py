"""Check whether a record is an ECG at its sampling frequency, and one of an adult without a pacemaker."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import thresholds
from einthoven.data.doctor.finding import Block, Finding, Findings
from einthoven.functional.beats import Float, heart_rate
from einthoven.functional.qrs_edges import qrs_duration
from einthoven.functional.rhythm import SPIKE_BEATS, spike_share

PACING = {"10370003", "251266004", "PACE"}
"""Codes of pacing: SNOMED CT pacing rhythm and ventricular pacing pattern; SCP-ECG."""


def _half_power(block: Block) -> Float:
    """Return the frequency in Hz ``(n,)`` below which half of the power above 1 Hz is. All leads have equal weight."""
    f = block.frequencies
    power = block.power[..., f > 1.0]
    total = power.sum(axis=-1, keepdims=True)
    fractions = power / np.where(total > 0, total, np.inf)
    cumulative = np.cumsum(fractions.sum(axis=1), axis=-1)
    index = (cumulative < 0.5 * cumulative[:, -1:]).sum(axis=-1)
    return np.asarray(f[f > 1.0][np.minimum(index, power.shape[-1] - 1)])


def check_fs(block: Block) -> Findings:
    """Find records with beats that repeat, and a heart rate or a spectrum that no heart has."""
    if block.seconds < thresholds.SPECTRUM_SECONDS:
        return
    low_frequency, high_frequency = thresholds.HALF_POWER
    low_rate, high_rate = thresholds.RATE
    rate = heart_rate(block.beats, block.fs)
    frequency = _half_power(block)
    has_beats = np.median(np.nan_to_num(block.repeatability), axis=1) >= thresholds.REPEATS

    # One finding per record is enough: the heart rate counts only if the spectrum is plausible.
    is_wrong_frequency = (frequency < low_frequency) | (frequency > high_frequency)
    has_plausible_frequency = (frequency >= low_frequency) & (frequency <= high_frequency)
    is_wrong_rate = ((rate < low_rate) | (rate > high_rate)) & has_plausible_frequency

    for value, bounds, is_wrong in (
        (frequency, thresholds.HALF_POWER, is_wrong_frequency),
        (rate, thresholds.RATE, is_wrong_rate),
    ):
        for row in np.flatnonzero(has_beats & is_wrong):
            is_high = value[row] > bounds[1]
            qrs = qrs_duration(block.beat[row : row + 1], block.fs)[0]
            # Some QRS do not stand out, so that they have no duration.
            duration = "" if np.isnan(qrs) else f", QRS {1e3 * qrs:.0f} ms"
            evidence = (
                f"half of the power above 1 Hz lies below {frequency[row]:.1f} Hz, {rate[row]:.0f} beats per minute"
                f"{duration} at {block.fs:g} Hz; expected {low_frequency:g} to "
                f"{high_frequency:g} Hz and {low_rate:g} to {high_rate:g} per minute: the true sampling "
                f"frequency may be {'lower' if is_high else 'higher'}"
            )
            yield int(row), Finding("fs", "warning", (), float(value[row]), bounds[int(is_high)], evidence)


def check_ecg(block: Block) -> Findings:
    """Find records in which no beat repeats: no ECG, or a heart without regular beats (fibrillation, asystole)."""
    if block.seconds < thresholds.SECONDS:
        return
    repeatability = np.median(np.nan_to_num(block.repeatability), axis=1)
    count = (block.beats >= 0).sum(axis=1)
    for row in np.flatnonzero((repeatability < thresholds.REPEATS) & block.has_voltage.any(axis=1)):
        value = float(repeatability[row])
        evidence = (
            f"{count[row]} beats in {block.seconds:.1f} s, the means of whose halves correlate at {value:.2f}; "
            f"expected {thresholds.REPEATS:g} at least"
        )
        yield int(row), Finding("no_ecg", "caution", (), value, thresholds.REPEATS, evidence)


def check_spikes(block: Block) -> Findings:
    """Find records with pacemaker spikes before the beats. A low sampling frequency hides them."""
    beats = np.where(block.beats >= 0, block.beats / block.fs, np.nan)
    share = spike_share(block.x, block.fs, beats)
    for row in np.flatnonzero(share >= SPIKE_BEATS):
        value = float(share[row])
        evidence = f"spikes above 100 Hz before {value:.0%} of the beats; expected less than {SPIKE_BEATS:.0%}"
        yield int(row), Finding("paced", "caution", (), value, SPIKE_BEATS, evidence)


def patient_cautions(age: float, paced: bool) -> list[Finding]:
    """Return the findings that follow from what a header or a table says about the patient."""
    findings = []
    if age < thresholds.CHILD:
        text = f"age {age:g}; normal limits of adults hold from {thresholds.CHILD:g} on"
        findings.append(Finding("child", "caution", (), float(age), thresholds.CHILD, text))
    if paced:
        text = "the header or the table says that the rhythm is paced"
        findings.append(Finding("paced", "caution", (), float("nan"), float("nan"), text))
    return findings


def from_comments(comments: Iterable[str]) -> tuple[float, bool]:
    """Read age and pacing from header comments such as ``Age: 12`` and ``Dx: 10370003``.

    Returns
    -------
    age : float
        Years; NaN if unknown.
    paced : bool
    """
    age = float("nan")
    paced = False
    for comment in comments:
        key, _, value = comment.partition(":")
        key = key.strip().lower()
        if key == "age" and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            age = float(value)
        if key == "dx":
            paced |= bool(PACING & {code.strip() for code in value.split(",")})
    return age, paced


def from_table(age: NDArray[np.floating], pacemaker: Iterable[object], codes: Iterable[object]) -> list[list[Finding]]:
    """Return the cautions for each row of PTB-XL's table: columns `age`, `pacemaker` (free text), `scp_codes`."""
    cautions = []
    for years, text, code in zip(age, pacemaker, codes, strict=True):
        paced = "pacemaker" in str(text) or "'PACE'" in str(code)
        cautions.append(patient_cautions(float(years), paced))
    return cautions
