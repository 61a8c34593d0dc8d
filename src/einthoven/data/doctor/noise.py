"""Noise in decibels: how much stronger the ECG is than each disturbance, lead by lead."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from einthoven.data.doctor import thresholds as limit
from einthoven.data.doctor.finding import Block, Found, by_lead
from einthoven.functional.beats import Float, band_pass

MUSCLE = (20.0, 45.0)  # Hz: below lies the T wave, above the mains; the same band at any sampling frequency from 100 Hz
PIECE = 0.1  # s: shorter than the pauses between QRS complexes


class Noise(NamedTuple):
    """ECG over noise in dB ``(n, L)``; NaN in a lead without voltage and where it cannot be measured."""

    baseline: Float
    powerline: Float
    muscle: Float


def measurable(fs: float) -> dict[str, bool]:
    """Which kinds of noise can be measured at this sampling frequency."""
    return {
        "baseline": True,
        "powerline": fs / 2 > max(limit.MAINS) + 1.0,
        "muscle": fs / 2 > MUSCLE[1],
    }


def measure_noise(block: Block) -> Noise:
    """Power of the ECG, from 0.5 to 40 Hz, over that of wander, mains and muscle.

    Wander: below 0.5 Hz. Mains: at 50 and 60 Hz, within 1 Hz, above what lies within 4 Hz around. Muscle: between 20
    and 45 Hz in the median piece of a tenth of a second, where there is no QRS. Spectra under a Hann window.
    """
    samples = block.x.shape[-1]
    power = block.power * (2.0 / max(samples * np.square(np.hanning(samples)).sum(), 1e-12))
    f = block.frequencies
    wander = power[..., f < 0.5].sum(axis=-1)
    ecg = power[..., (f >= 0.5) & (f <= 40.0)].sum(axis=-1)
    can = measurable(block.fs)
    none = np.full_like(ecg, np.nan)
    mains, muscle = none, none
    if can["powerline"]:
        mains = np.zeros_like(ecg)
        for hertz in limit.MAINS:
            near, around = np.abs(f - hertz) <= 1.0, (np.abs(f - hertz) > 1.0) & (np.abs(f - hertz) <= 4.0)
            floor = np.median(power[..., around], axis=-1) if around.any() else 0.0
            mains += np.maximum(power[..., near].sum(axis=-1) - near.sum() * floor, 0.0)
    if can["muscle"]:
        fast = np.square(band_pass(block.x, block.fs, *MUSCLE))
        piece = max(round(PIECE * block.fs), 1)
        pieces = fast[..., : samples // piece * piece].reshape(*fast.shape[:-1], -1, piece).mean(axis=-1)
        muscle = np.median(pieces, axis=-1) if pieces.shape[-1] else none
    live = block.live & (ecg > 0)

    def ratio(noise: Float) -> Float:
        return np.where(live, 10.0 * np.log10(np.where(live, ecg, 1.0) / np.maximum(noise, 1e-10)), np.nan)

    return Noise(ratio(wander), ratio(mains), ratio(muscle))


def check_noise(block: Block, noise: Noise) -> Found:
    """Leads with less ECG than `thresholds.SNR` allows."""
    for kind, what in (("baseline", "wander below 0.5 Hz"), ("powerline", "mains"), ("muscle", "muscle noise")):
        value, least = getattr(noise, kind), limit.SNR[kind]
        text = "ECG over " + what + " {value:.1f} dB in {lead}; expected {limit:g} dB at least"
        yield from by_lead(block, f"noise_{kind}", "caution", value < least, value, least, text)
