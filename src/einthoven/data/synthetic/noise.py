"""Add noise to a record: on the nine electrodes and at 500 Hz, before the leads are formed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.fitted import Levels, NoiseLevels, noise_levels
from einthoven.data.synthetic.leadfield import FROM_ELECTRODES
from einthoven.functional.electrodes import ELECTRODES

Array32 = NDArray[np.float32]

# Matrix (9, 8) from the leads I, II, V1-V6 to the potentials of the electrodes against Wilson's central terminal.
TO_ELECTRODES = np.zeros((9, 8))
TO_ELECTRODES[:3, :2] = np.array([[-1, -1], [2, -1], [-1, 2]]) / 3.0
TO_ELECTRODES[3:, 2:] = np.eye(6)

# The first three of the nine electrodes are on the limbs.
_IS_LIMB = np.array([True] * 3 + [False] * 6)


@dataclass
class NoisePlan:
    """The noise of one record. Each array has one entry per electrode."""

    wander: NDArray[np.float64]
    """Standard deviation of baseline wander in mV."""
    muscle: NDArray[np.float64]
    """Standard deviation of muscle noise in mV."""
    mains: NDArray[np.float64]
    """Amplitude of mains hum in mV."""
    bursts: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Bursts of noise: (electrode, centre in s, width in s, standard deviation in mV)."""
    steps: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Electrode motion: (electrode, time in s, jump in mV, decay in s)."""
    off: tuple[int, float, float] | None = None
    """An electrode without contact: (electrode, from s, to s)."""
    order: NDArray[np.int64] = field(default_factory=lambda: np.arange(9))
    """Which potential each electrode shows: another order is that of exchanged cables."""
    gain: NDArray[np.float64] = field(default_factory=lambda: np.ones(9))
    """Factor of the potential."""
    text: dict[str, str] = field(default_factory=dict)
    """Column of PTB-XL's table -> text about the noise."""


def _draw_levels(rng: np.random.Generator, levels: Levels) -> NDArray[np.float64]:
    """Draw the standard deviation of one kind of noise on each electrode in mV (9,)."""
    own = levels.own * rng.standard_normal(9)
    everywhere, limbs, chest = levels.shared * rng.standard_normal(3)
    return np.asarray(np.exp(levels.mean + own + everywhere + np.where(_IS_LIMB, limbs, chest)))


def draw_noise(rng: np.random.Generator) -> NoisePlan:
    """Draw the noise of one record. The levels are those of ten-second resting ECGs of PTB-XL."""
    levels = noise_levels()
    plan = NoisePlan(
        wander=_draw_levels(rng, levels.wander),
        muscle=_draw_levels(rng, levels.muscle),
        mains=np.exp(rng.normal(np.log(0.002), 0.8, 9)),
        gain=1.0 + rng.normal(0.0, 0.012, 9) + rng.normal(0.0, 0.02),
    )
    # Strong wander in one chest lead.
    if rng.random() < 0.08:
        electrode = int(rng.integers(3, 9))
        plan.wander[electrode] *= rng.uniform(4.0, 9.0)
        plan.text["baseline_drift"] = f" , {ELECTRODES[electrode]}"
    # Muscle noise and hum on the limbs.
    if rng.random() < 0.14:
        limb = int(rng.integers(0, 3))
        plan.muscle[:3] *= rng.uniform(1.5, 2.2)
        plan.muscle[limb] *= rng.uniform(1.3, 2.0)
        plan.mains[:3] *= rng.uniform(3.0, 12.0)
        plan.text["static_noise"] = (" , I-AVR,  ", " , I-AVL,  ", " , I-AVF,  ")[limb]
    # Three bursts of noise on one electrode.
    if rng.random() < 0.03:
        electrode = int(rng.integers(0, 9))
        for _ in range(3):
            centre = rng.uniform(0.5, 9.5)
            width = rng.uniform(0.1, 0.5)
            plan.bursts.append((electrode, centre, width, rng.uniform(0.04, 0.15)))
        plan.text["burst_noise"] = "alles" if electrode < 3 else ELECTRODES[electrode]
    # A motion of one electrode.
    if rng.random() < 0.12:
        electrode = int(rng.integers(0, 9))
        jump = float(rng.normal(0.0, 0.25))
        time = float(rng.uniform(0.5, 9.5))
        plan.steps.append((electrode, time, jump, float(rng.uniform(0.1, 1.0))))
    # A chest electrode that loses its contact.
    if rng.random() < 0.004:
        electrode = int(rng.integers(3, 9))
        start = float(rng.uniform(0.0, 7.0))
        plan.off = (electrode, start, start + float(rng.uniform(1.0, 6.0)))
        plan.text["electrodes_problems"] = ELECTRODES[electrode]
    # Exchanged cables: of the arms, or of two neighbours on the chest.
    if rng.random() < 0.006:
        first = int(rng.choice([0, 3, 4, 5, 6, 7]))
        plan.order[[first, first + 1]] = first + 1, first
    return plan


def _noise_spectra(samples: int, fs: float, levels: NoiseLevels) -> tuple[Array32, Array32]:
    """Return the amplitude spectra of baseline wander (F,) and of muscle noise on each electrode (9, F).

    The noise has unit variance in time.
    """
    f = np.fft.rfftfreq(samples, 1 / fs)
    wander = np.where(f > 0, 1.0 / np.maximum(f, 0.08) ** levels.wander_slope, 0.0) * np.exp(-((f / 2.5) ** 2))
    muscle = (f / (f + 12.0)) * np.exp(-((f / 120.0) ** 2)) + 0.10 / np.maximum(f, 0.5) ** 0.5
    muscle[0] = 0.0
    corrections = [np.exp(np.interp(f, levels.muscle_frequencies, row)) for row in levels.muscle_correction]
    muscle_of_group = muscle * np.array(corrections)

    # By Parseval's theorem, this makes the variance in time equal to one. The real and the imaginary part of the
    # random spectrum have a variance of one each.
    wander = wander / np.sqrt(4.0 * (wander**2).sum()) * samples
    muscle_of_group /= np.sqrt(4.0 * (muscle_of_group**2).sum(1, keepdims=True)) / samples
    group = np.where(_IS_LIMB, 0, 1)
    return wander.astype(np.float32), muscle_of_group[group].astype(np.float32)


# (samples, fs) -> spectra. All records of a set have the same length.
_SPECTRA: dict[tuple[int, float], tuple[Array32, Array32]] = {}


def add_noise(
    rng: np.random.Generator, clean: Array32, plan: NoisePlan, time: NDArray[np.float64], level: float
) -> Array32:
    """Return the eight leads with noise, which is drawn on the electrodes.

    Parameters
    ----------
    rng : numpy.random.Generator
    clean : array (8, T)
        Noise-free leads in mV.
    plan : NoisePlan
    time : array (T,)
        Seconds, evenly spaced. The record itself starts at 0.
    level : float
        Factor of all noise: 0 is none, 1 is the level of PTB-XL.
    """
    samples = clean.shape[1]
    fs = round(1 / (time[1] - time[0]), 6)
    if (samples, fs) not in _SPECTRA:
        _SPECTRA[samples, fs] = _noise_spectra(samples, fs, noise_levels())
    wander, muscle = _SPECTRA[samples, fs]

    from scipy import fft

    # Wander and muscle noise: a random spectrum with the power of both.
    power = np.square(plan.wander).astype(np.float32)[:, None] * np.square(wander)
    power += np.square(plan.muscle).astype(np.float32)[:, None] * np.square(muscle)
    spectrum = rng.standard_normal((9, len(wander) * 2), dtype=np.float32).view(np.complex64)
    spectrum *= np.sqrt(power)

    # Mains hum: 50 Hz and its third harmonic, with the same phase on all electrodes.
    phase = np.exp(1j * rng.uniform(0.0, 2 * np.pi))
    for frequency, amplitude in ((50.0, phase), (150.0, 0.2 * phase**2)):
        spectrum[:, round(frequency * samples / fs)] += (0.5 * samples * amplitude * plan.mains).astype(np.complex64)
    noise = fft.irfft(spectrum, n=samples, axis=1)

    # Bursts and motion of single electrodes.
    for electrode, centre, width, size in plan.bursts:
        envelope = size * np.exp(-0.5 * ((time - centre) / width) ** 2)
        noise[electrode] += (envelope * rng.standard_normal(samples)).astype(np.float32)
    for electrode, start, jump, decay in plan.steps:
        elapsed = np.maximum(time - start, 0.0)
        noise[electrode] += (np.where(time >= start, jump, 0.0) * np.exp(-elapsed / decay)).astype(np.float32)

    # The potentials of the electrodes. An electrode without contact shows hum only.
    gain = 1.0 + level * (plan.gain - 1.0)
    potential = gain[:, None].astype(np.float32) * (TO_ELECTRODES.astype(np.float32) @ clean)
    if level > 0:
        potential = potential[plan.order]
    if plan.off is not None and level > 0:
        electrode, start, stop = plan.off
        is_off = (time >= start) & (time < stop)
        potential[electrode, is_off] = 0.0
        noise[electrode, is_off] += (0.3 * np.sin(2 * np.pi * 50.0 * time[is_off])).astype(np.float32)
    potential += np.float32(level) * noise
    return np.asarray(FROM_ELECTRODES.astype(np.float32) @ potential)
