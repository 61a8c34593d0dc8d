"""What the recording adds, on the nine electrodes and at 500 Hz, before any lead is formed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from einthoven.data.synthetic.leadfield import FROM_ELECTRODES
from einthoven.functional.electrodes import ELECTRODES

Array32 = NDArray[np.float32]

# Electrode potentials against Wilson's central terminal from the eight independent leads.
TO_ELECTRODES = np.zeros((9, 8))
TO_ELECTRODES[:3, :2] = np.array([[-1, -1], [2, -1], [-1, 2]]) / 3.0
TO_ELECTRODES[3:, 2:] = np.eye(6)

_LIMB = np.array([True] * 3 + [False] * 6)


@dataclass
class NoisePlan:
    """How noisy one record is: standard deviations per electrode in mV, and what PTB-XL's columns say of it."""

    wander: NDArray[np.float64]
    muscle: NDArray[np.float64]
    mains: NDArray[np.float64]
    bursts: list[tuple[int, float, float, float]] = field(default_factory=list)
    """(electrode, centre s, width s, standard deviation mV)"""
    steps: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Electrode motion: (electrode, time s, jump mV, decay s)"""
    off: tuple[int, float, float] | None = None
    """Lead off: (electrode, from s, to s)"""
    gain: NDArray[np.float64] = field(default_factory=lambda: np.ones(9))
    text: dict[str, str] = field(default_factory=dict)


def draw_noise(rng: np.random.Generator) -> NoisePlan:
    """Draw the noise of one record; levels as in ten-second resting ECGs of PTB-XL."""
    plan = NoisePlan(
        wander=np.exp(rng.normal(np.log(np.where(_LIMB, 0.019, 0.036)), 0.55) + rng.normal(0.0, 0.35)),
        muscle=np.exp(rng.normal(np.log(np.where(_LIMB, 0.0046, 0.0024)), 0.25) + rng.normal(0.0, 0.45)),
        mains=np.exp(rng.normal(np.log(0.002), 0.8, 9)),
        gain=1.0 + rng.normal(0.0, 0.012, 9) + rng.normal(0.0, 0.02),
    )
    if rng.random() < 0.08:
        lead = int(rng.integers(3, 9))
        plan.wander[lead] *= rng.uniform(4.0, 9.0)
        plan.text["baseline_drift"] = f" , {ELECTRODES[lead]}"
    if rng.random() < 0.14:
        limb = int(rng.integers(0, 3))
        plan.muscle[:3] *= rng.uniform(1.5, 2.2)
        plan.muscle[limb] *= rng.uniform(1.3, 2.0)
        plan.mains[:3] *= rng.uniform(3.0, 12.0)
        plan.text["static_noise"] = (" , I-AVR,  ", " , I-AVL,  ", " , I-AVF,  ")[limb]
    if rng.random() < 0.03:
        lead = int(rng.integers(0, 9))
        plan.bursts = [(lead, rng.uniform(0.5, 9.5), rng.uniform(0.1, 0.5), rng.uniform(0.04, 0.15)) for _ in range(3)]
        plan.text["burst_noise"] = "alles" if lead < 3 else ELECTRODES[lead]
    if rng.random() < 0.12:
        lead = int(rng.integers(0, 9))
        jump = float(rng.normal(0.0, 0.25))
        plan.steps.append((lead, float(rng.uniform(0.5, 9.5)), jump, float(rng.uniform(0.1, 1.0))))
    if rng.random() < 0.004:
        lead, start = int(rng.integers(3, 9)), float(rng.uniform(0.0, 7.0))
        plan.off = (lead, start, start + float(rng.uniform(1.0, 6.0)))
        plan.text["electrodes_problems"] = ELECTRODES[lead]
    return plan


def _shapes(samples: int, fs: float) -> tuple[Array32, Array32]:
    """Return the amplitude spectra of baseline wander and of muscle noise, each of unit variance in time."""
    f = fft.rfftfreq(samples, 1 / fs)
    wander = np.where(f > 0, 1.0 / np.maximum(f, 0.08) ** 1.5, 0.0) * np.exp(-((f / 2.5) ** 2))
    muscle = (f / (f + 12.0)) * np.exp(-((f / 120.0) ** 2)) + 0.10 / np.maximum(f, 0.5) ** 0.5
    muscle[0] = 0.0
    unit = [s / np.sqrt(2.0 * (s**2).sum()) * samples for s in (wander, muscle)]
    return unit[0].astype(np.float32), unit[1].astype(np.float32)


_SHAPES: dict[tuple[int, float], tuple[Array32, Array32]] = {}


def add_noise(
    rng: np.random.Generator, clean: Array32, plan: NoisePlan, time: NDArray[np.float64], level: float
) -> Array32:
    """Return the eight leads with the plan's noise, drawn on the electrodes.

    Parameters
    ----------
    clean : array (8, T)
        Noise-free leads in mV.
    time : array (T,)
        Seconds, evenly spaced; the record itself starts at 0.
    level : float
        Multiplies every disturbance: 0 none, 1 as in practice.
    """
    samples = clean.shape[1]
    key = (samples, round(1 / (time[1] - time[0]), 6))
    if key not in _SHAPES:
        _SHAPES[key] = _shapes(*key)
    wander, muscle = _SHAPES[key]
    a = np.square(plan.wander).astype(np.float32)[:, None] * np.square(wander)
    a += np.square(plan.muscle).astype(np.float32)[:, None] * np.square(muscle)
    spectrum = rng.standard_normal((9, len(wander) * 2), dtype=np.float32).view(np.complex64)
    spectrum *= np.sqrt(a)
    turn = np.exp(1j * rng.uniform(0.0, 2 * np.pi))
    for hertz, part in ((50.0, turn), (150.0, 0.2 * turn**2)):
        spectrum[:, round(hertz * samples / key[1])] += (0.5 * samples * part * plan.mains).astype(np.complex64)
    noise = fft.irfft(spectrum, n=samples, axis=1)
    for electrode, centre, width, size in plan.bursts:
        shape = size * np.exp(-0.5 * ((time - centre) / width) ** 2)
        noise[electrode] += (shape * rng.standard_normal(samples)).astype(np.float32)
    for electrode, start, jump, decay in plan.steps:
        after = np.maximum(time - start, 0.0)
        noise[electrode] += (np.where(time >= start, jump, 0.0) * np.exp(-after / decay)).astype(np.float32)
    gain = 1.0 + level * (plan.gain - 1.0)
    potential = gain[:, None].astype(np.float32) * (TO_ELECTRODES.astype(np.float32) @ clean)
    if plan.off is not None and level > 0:
        electrode, start, stop = plan.off
        gone = (time >= start) & (time < stop)
        potential[electrode, gone] = 0.0
        noise[electrode, gone] += (0.3 * np.sin(2 * np.pi * 50.0 * time[gone])).astype(np.float32)
    potential += np.float32(level) * noise
    return np.asarray(FROM_ELECTRODES.astype(np.float32) @ potential)
