"""Draw the times of the beats: RR intervals of each rhythm, premature beats, and the waves of a fibrillating atrium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.heart import Array

# Kinds of beats.
NORMAL = 0
VENTRICULAR = 1
ATRIAL = 2

STOP = 12.0
"""Time in s after which there is no beat."""


@dataclass
class Beats:
    """The beats of one record. Each array has one entry per beat."""

    onset: Array
    """QRS onset in s."""
    kind: NDArray[np.int64]
    """NORMAL, VENTRICULAR or ATRIAL."""
    p_wave: NDArray[np.bool_]
    """Whether a P wave precedes the QRS."""
    rr: Array
    """Smoothed RR interval in s, which determines QT."""


def draw_rate(rng: np.random.Generator, rhythm: str, usual: float) -> float:
    """Draw the ventricular rate (per minute) of one record. `usual` is the patient's mean rate in sinus rhythm."""
    if rhythm == "SBRAD":
        return float(rng.uniform(44.0, 58.5))
    if rhythm == "STACH":
        return float(101.0 + rng.exponential(11.0))
    if rhythm == "AFIB":
        return float(np.clip(rng.normal(86.0, 20.0), 50.0, 150.0))
    if rhythm == "PACE":
        return float(rng.uniform(55.0, 90.0))
    return float(np.clip(usual + rng.normal(0.0, 4.0), 50.0, 99.0))


def _sinus(rng: np.random.Generator, mean: float, depth: float) -> Array:
    """Draw the QRS onsets of sinus rhythm, with a mean RR interval of `mean` s.

    The RR interval varies with breathing (0.2-0.3 Hz, relative amplitude `depth`), with slow waves near 0.1 Hz, and by
    a little jitter (McSharry et al. 2003).
    """
    breathing_frequency = rng.uniform(0.18, 0.32)
    slow_frequency = rng.uniform(0.07, 0.12)
    phase = rng.uniform(0.0, 2 * np.pi, 2)
    onsets = [-2.5 + mean * rng.random()]
    jitters = rng.normal(0.0, 0.006, int((STOP + 3) / mean * 2) + 20)
    for jitter in jitters:
        t = onsets[-1]
        if t > STOP:
            break
        variation = depth * np.sin(2 * np.pi * breathing_frequency * t + phase[0])
        variation += 0.35 * depth * np.sin(2 * np.pi * slow_frequency * t + phase[1])
        onsets.append(t + mean * max(1.0 + variation + jitter, 0.5))
    return np.array(onsets)


def draw_beats(
    rng: np.random.Generator,
    rhythm: str,
    rate: float,
    age: int,
    ectopic: tuple[int, int] = (0, 0),
    bigeminy: bool = False,
) -> Beats:
    """Draw the beats of one record, from before its start until after its end.

    Parameters
    ----------
    rng : numpy.random.Generator
    rhythm : str
        A rhythm statement: SR, SBRAD, STACH, SARRH, AFIB, AFLT or PACE.
    rate : float
        Mean ventricular rate per minute. Atrial flutter ignores it: its rate is a fraction of the atrial rate.
    age : int
        Age of the patient in years.
    ectopic : (int, int)
        Number of ventricular and of atrial premature beats in the record.
    bigeminy : bool
        Whether every second beat is a ventricular premature one.
    """
    # QRS onsets of the rhythm without premature beats. All start at -2.5 s.
    mean = 60.0 / rate
    if rhythm == "AFIB":
        # The intervals are independent of each other.
        spread = rng.uniform(0.14, 0.26)
        rr = np.maximum(mean * rng.gamma(spread**-2, spread**2, int(16 / mean) + 12), 0.32)
        onset = -2.5 + np.cumsum(rr)
    elif rhythm == "AFLT":
        # Every second, third or fourth atrial wave is conducted, steadily or in turn.
        atrial_interval = 60.0 / rng.uniform(250.0, 320.0)
        ratios = [2, 4] if rng.random() < 0.5 else [3, 4]
        steady_ratio = int(rng.choice(ratios))
        count = 60
        ratio = np.full(count, steady_ratio) if rng.random() < 0.5 else rng.choice(ratios, count)
        onset = -2.5 + np.cumsum(ratio * atrial_interval)
    elif rhythm == "PACE":
        onset = np.arange(-2.5 + mean * rng.random(), STOP, mean)
    else:
        depth = rng.uniform(0.09, 0.20) if rhythm == "SARRH" else rng.uniform(0.005, 0.045) * (1.6 - age / 80)
        onset = _sinus(rng, mean, depth)
    onset = onset[onset < STOP]
    rr = np.diff(onset, prepend=onset[0] - mean)

    # Choose the beats inside of the record that become premature.
    inside = np.flatnonzero((onset > 0.6) & (onset < 9.3))
    premature: dict[int, int] = {}
    if bigeminy:
        for index in inside[::2]:
            premature[int(index)] = VENTRICULAR
    else:
        ventricular_count, atrial_count = ectopic
        chosen = rng.permutation(inside)[: ventricular_count + atrial_count]
        for position, index in enumerate(chosen):
            premature[int(index)] = VENTRICULAR if position < ventricular_count else ATRIAL

    # Shift the premature beats. An atrial one also resets the sinus node, so that all later beats are earlier.
    # After a ventricular one there is a compensatory pause.
    kind = np.zeros(len(onset), dtype=np.int64)
    shift = np.zeros(len(onset))
    sinus_shift = 0.0
    for index in range(len(onset)):
        shift[index] = sinus_shift
        if index in premature and (index - 1) not in premature:
            kind[index] = premature[index]
            prematurity = rng.uniform(0.25, 0.42) * rr[index]
            shift[index] -= prematurity
            if kind[index] == ATRIAL:
                sinus_shift -= 0.8 * prematurity
    onset = onset + shift
    order = np.argsort(onset)
    onset = onset[order]
    kind = kind[order]

    # QT follows the mean rate of the last beats, not the last interval.
    rr = np.diff(onset, prepend=onset[0] - mean)
    smooth_rr = np.empty_like(rr)
    level = mean if rhythm != "AFLT" else float(rr[1:].mean())
    for index, interval in enumerate(rr):
        level += 0.12 * (interval - level)
        smooth_rr[index] = level

    p_wave = np.full(len(onset), rhythm not in {"AFIB", "AFLT", "PACE"}) & (kind != VENTRICULAR)
    return Beats(onset, kind, p_wave, smooth_rr)


def atrial_activity(rng: np.random.Generator, rhythm: str, time: Array) -> Array:
    """Draw the atrial dipole (3, T) in mV during atrial fibrillation (AFIB) or flutter (AFLT).

    Parameters
    ----------
    rng : numpy.random.Generator
    rhythm : str
    time : ndarray, shape (T,)
        Seconds, evenly spaced.
    """
    # Flutter: a sawtooth of four harmonics.
    if rhythm == "AFLT":
        frequency = rng.uniform(4.3, 5.2)
        phase = 2 * np.pi * frequency * time + rng.uniform(0, 2 * np.pi)
        wave = sum(np.sin(k * phase + 0.4 * k) / k for k in range(1, 5))
        direction = np.array([0.01, -0.09, -0.05]) * rng.uniform(0.8, 1.8)
        return np.asarray(direction[:, None] * wave)

    # Fibrillation: two waves whose frequency, amplitude and direction drift.
    amplitude = np.exp(rng.normal(np.log(0.022), 0.55))
    step = time[1] - time[0]
    dipole = np.zeros((3, len(time)))
    for weight in (1.0, 0.6):
        frequency = rng.uniform(4.5, 8.0)
        knots = rng.normal(0.0, 1.0, int(time[-1] - time[0]) * 3 + 4)
        drift = np.interp(time, np.linspace(time[0], time[-1], len(knots)), knots)
        phase = np.cumsum(2 * np.pi * step * frequency * (1 + 0.12 * drift)) + rng.uniform(0, 2 * np.pi)
        direction = np.array([0.3, 0.6, -1.0]) + rng.normal(0.0, 0.35, 3)
        envelope = 1 + 0.35 * np.interp(time, np.linspace(time[0], time[-1], 9), rng.normal(0.0, 1.0, 9))
        wave = np.sin(phase) + 0.3 * np.sin(2 * phase + 1.0)
        dipole += amplitude * weight * direction[:, None] * envelope * wave
    return dipole
