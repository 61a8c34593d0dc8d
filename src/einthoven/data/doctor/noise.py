"""Noise in decibels: how much stronger the ECG is than each kind of noise, for each lead."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from einthoven.data.doctor import thresholds
from einthoven.data.doctor.finding import Block, Findings, findings_by_lead
from einthoven.functional.beats import Float, band_pass

MUSCLE = (20.0, 45.0)
"""Hz. The band is above the T wave and below the mains, and it exists at every sampling frequency from 100 Hz on."""

PIECE = 0.1
"""Length of a piece in s. It is shorter than the pauses between QRS complexes."""


class Noise(NamedTuple):
    """ECG over noise in dB ``(n, L)``; NaN if a lead has no voltage, or if the noise cannot be measured."""

    baseline: Float
    powerline: Float
    muscle: Float


def measurable(fs: float) -> dict[str, bool]:
    """Return for each kind of noise whether it can be measured at this sampling frequency."""
    return {
        "baseline": True,
        "powerline": fs / 2 > max(thresholds.MAINS) + 1.0,
        "muscle": fs / 2 > MUSCLE[1],
    }


def measure_noise(block: Block) -> Noise:
    """Measure the power of the ECG, from 0.5 to 40 Hz, over that of wander, mains and muscle noise.

    Wander is below 0.5 Hz. Mains is within 1 Hz of 50 and 60 Hz, above the level within 4 Hz. Muscle noise is between
    20 and 45 Hz in the median piece of a tenth of a second, which contains no QRS. Spectra are under a Hann window.
    """
    # The factor makes the sum over frequencies equal to the mean square of the signal.
    samples = block.x.shape[-1]
    power = block.power * (2.0 / max(samples * np.square(np.hanning(samples)).sum(), 1e-12))
    f = block.frequencies
    wander = power[..., f < 0.5].sum(axis=-1)
    ecg = power[..., (f >= 0.5) & (f <= 40.0)].sum(axis=-1)
    is_measurable = measurable(block.fs)
    unknown = np.full_like(ecg, np.nan)

    # The ECG has power at the mains frequency, too. It is estimated from the frequencies around and subtracted.
    mains = unknown
    if is_measurable["powerline"]:
        mains = np.zeros_like(ecg)
        for mains_frequency in thresholds.MAINS:
            distance = np.abs(f - mains_frequency)
            is_near = distance <= 1.0
            is_around = (distance > 1.0) & (distance <= 4.0)
            floor = np.median(power[..., is_around], axis=-1) if is_around.any() else 0.0
            mains += np.maximum(power[..., is_near].sum(axis=-1) - is_near.sum() * floor, 0.0)

    # The QRS has power in the band of muscle noise, but only in a minority of the pieces. The median ignores them.
    muscle = unknown
    if is_measurable["muscle"]:
        squared = np.square(band_pass(block.x, block.fs, *MUSCLE))
        piece = max(round(PIECE * block.fs), 1)
        whole_pieces = squared[..., : samples // piece * piece]
        piece_power = whole_pieces.reshape(*squared.shape[:-1], -1, piece).mean(axis=-1)
        if piece_power.shape[-1]:
            muscle = np.median(piece_power, axis=-1)

    has_ecg = block.has_voltage & (ecg > 0)

    def decibels(noise: Float) -> Float:
        return np.where(has_ecg, 10.0 * np.log10(np.where(has_ecg, ecg, 1.0) / np.maximum(noise, 1e-10)), np.nan)

    return Noise(decibels(wander), decibels(mains), decibels(muscle))


def check_noise(block: Block, noise: Noise) -> Findings:
    """Find leads whose ECG over noise is below `thresholds.SNR`."""
    for kind, description in (("baseline", "wander below 0.5 Hz"), ("powerline", "mains"), ("muscle", "muscle noise")):
        value = getattr(noise, kind)
        minimum = thresholds.SNR[kind]
        text = f"the ratio of ECG to {description} is {{value:.1f}} dB in {{lead}}; expected {{limit:g}} dB at least"
        yield from findings_by_lead(block, f"noise_{kind}", "caution", value < minimum, value, minimum, text)
