"""Whether it is an ECG at this sampling frequency, and one of an adult without a pacemaker."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import thresholds as limit
from einthoven.data.doctor.finding import Block, Finding, Found
from einthoven.functional.beats import Float, band_pass, heart_rate, qrs_duration

PACING = {"10370003", "251266004", "PACE"}  # SNOMED CT: pacing rhythm, ventricular pacing pattern; SCP-ECG


def half_power(block: Block) -> Float:
    """Frequency in Hz ``(n,)`` below which half of the power above 1 Hz lies, of all leads, each with equal weight."""
    f = block.frequencies
    power = block.power[..., f > 1.0]
    total = power.sum(axis=-1, keepdims=True)
    up_to = np.cumsum((power / np.where(total > 0, total, np.inf)).sum(axis=1), axis=-1)
    return np.asarray(f[f > 1.0][np.minimum((up_to < 0.5 * up_to[:, -1:]).sum(axis=-1), power.shape[-1] - 1)])


def check_fs(block: Block) -> Found:
    """A rate or a spectrum that no heart has, where beats repeat."""
    if block.seconds < limit.SPECTRUM_SECONDS:
        return
    rate, middle = heart_rate(block.beats, block.fs), half_power(block)
    repeating = np.median(np.nan_to_num(block.repeats), axis=1) >= limit.REPEATS
    for value, bounds in ((middle, limit.HALF_POWER), (rate, limit.RATE)):
        wrong = (value < bounds[0]) | (value > bounds[1])
        if bounds is limit.RATE:  # one finding is enough
            wrong &= (middle >= limit.HALF_POWER[0]) & (middle <= limit.HALF_POWER[1])
        for row in np.flatnonzero(repeating & wrong):
            high = value[row] > bounds[1]
            qrs = qrs_duration(block.beat[row : row + 1], block.fs)[0]
            evidence = (
                f"half of the power above 1 Hz lies below {middle[row]:.1f} Hz, {rate[row]:.0f} beats per minute, QRS "
                f"{1e3 * qrs:.0f} ms at {block.fs:g} Hz; expected {limit.HALF_POWER[0]:g} to "
                f"{limit.HALF_POWER[1]:g} Hz and {limit.RATE[0]:g} to {limit.RATE[1]:g} per minute: the true sampling "
                f"frequency may be {'lower' if high else 'higher'}"
            )
            yield int(row), Finding("fs", "warning", (), float(value[row]), bounds[int(high)], evidence)


def check_ecg(block: Block) -> Found:
    """Nothing repeats: not an ECG, or a heart without regular beats (fibrillating ventricles, asystole)."""
    if block.seconds < limit.SECONDS:
        return
    repeats = np.median(np.nan_to_num(block.repeats), axis=1)
    count = (block.beats >= 0).sum(axis=1)
    for row in np.flatnonzero((repeats < limit.REPEATS) & block.live.any(axis=1)):
        evidence = (
            f"{count[row]} beats in {block.seconds:.1f} s, the means of whose halves correlate at {repeats[row]:.2f}; "
            f"expected {limit.REPEATS:g} at least"
        )
        yield int(row), Finding("no_ecg", "caution", (), float(repeats[row]), limit.REPEATS, evidence)


def check_spikes(block: Block) -> Found:
    """Spikes of a pacemaker before the beats, where the sampling frequency shows them."""
    if block.fs < limit.SPIKE_FS or block.beats.shape[1] == 0:
        return
    sharp = np.asarray(np.abs(band_pass(block.x, block.fs, 100.0, None)))
    noise = np.median(sharp, axis=-1, keepdims=True)
    spike = np.asarray(((sharp > limit.SPIKE) & (sharp > limit.SPIKE_NOISE * noise)).any(axis=1))
    window = np.arange(-round(0.12 * block.fs), round(0.02 * block.fs))
    at = np.clip(block.beats[:, :, None] + window, 0, block.x.shape[-1] - 1)
    with_spike = spike[np.arange(len(spike))[:, None, None], at].any(axis=-1) & (block.beats >= 0)
    part = with_spike.sum(axis=1) / np.maximum((block.beats >= 0).sum(axis=1), 1)
    for row in np.flatnonzero(part >= limit.SPIKE_BEATS):
        evidence = (
            f"spikes above 100 Hz before {part[row]:.0%} of the beats; expected less than {limit.SPIKE_BEATS:.0%}"
        )
        yield int(row), Finding("paced", "caution", (), float(part[row]), limit.SPIKE_BEATS, evidence)


def known_cautions(age: float, paced: bool) -> list[Finding]:
    """What the header or the table says of the patient."""
    out = []
    if age < limit.CHILD:
        text = f"age {age:g}; normal limits of adults hold from {limit.CHILD:g} on"
        out.append(Finding("child", "caution", (), float(age), limit.CHILD, text))
    if paced:
        text = "the header or the table says that the rhythm is paced"
        out.append(Finding("paced", "caution", (), float("nan"), float("nan"), text))
    return out


def from_comments(comments: Iterable[str]) -> tuple[float, bool]:
    """Age in years (NaN where unknown) and pacing, from header comments such as ``Age: 12`` and ``Dx: 10370003``."""
    age, paced = float("nan"), False
    for comment in comments:
        key, _, value = comment.partition(":")
        if key.strip().lower() == "age" and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            age = float(value)
        if key.strip().lower() == "dx":
            paced |= bool(PACING & {code.strip() for code in value.split(",")})
    return age, paced


def from_table(age: NDArray[np.floating], pacemaker: Iterable[object], codes: Iterable[object]) -> list[list[Finding]]:
    """Cautions of each row of PTB-XL's table: columns `age`, `pacemaker` (free text) and `scp_codes`."""
    paced = ["pacemaker" in str(text) or "'PACE'" in str(code) for text, code in zip(pacemaker, codes, strict=True)]
    return [known_cautions(float(a), p) for a, p in zip(age, paced, strict=True)]
