"""When the heart beats: RR intervals of each rhythm, ectopic beats, and the waves of a fibrillating atrium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.heart import Array

NORMAL, VENTRICULAR, ATRIAL = 0, 1, 2


@dataclass
class Beats:
    """The beats of one record: QRS onsets (s), their kind, whether a P wave precedes, and RR for QT (s)."""

    onset: Array
    kind: NDArray[np.int64]
    p_wave: NDArray[np.bool_]
    rr: Array


def draw_rate(rng: np.random.Generator, rhythm: str, usual: float) -> float:
    """Draw the ventricular rate (per minute) of one record; `usual` is the patient's own in sinus rhythm."""
    if rhythm == "SBRAD":
        return float(rng.uniform(44.0, 58.5))
    if rhythm == "STACH":
        return float(101.0 + rng.exponential(11.0))
    if rhythm == "AFIB":
        return float(np.clip(rng.normal(86.0, 20.0), 50.0, 150.0))
    if rhythm == "PACE":
        return float(rng.uniform(60.0, 80.0))
    return float(np.clip(usual + rng.normal(0.0, 4.0), 50.0, 99.0))


def _sinus(rng: np.random.Generator, mean: float, depth: float, stop: float) -> Array:
    """Sinus RR: breathing at 0.2-0.3 Hz, slow waves near 0.1 Hz and a little jitter (McSharry et al. 2003)."""
    breath, slow = rng.uniform(0.18, 0.32), rng.uniform(0.07, 0.12)
    phase = rng.uniform(0.0, 2 * np.pi, 2)
    times = [-2.5 + mean * rng.random()]
    jitter = rng.normal(0.0, 0.006, int((stop + 3) / mean * 2) + 20)
    for j in jitter:
        t = times[-1]
        if t > stop:
            break
        sway = depth * np.sin(2 * np.pi * breath * t + phase[0])
        sway += 0.35 * depth * np.sin(2 * np.pi * slow * t + phase[1])
        times.append(t + mean * max(1.0 + sway + j, 0.5))
    return np.array(times)


def draw_beats(
    rng: np.random.Generator,
    rhythm: str,
    rate: float,
    age: int,
    ectopic: tuple[int, int] = (0, 0),
    bigeminy: bool = False,
    stop: float = 12.0,
) -> Beats:
    """Draw the beats of one record, from before its start until after its end.

    Parameters
    ----------
    rhythm : str
        A rhythm statement: SR, SBRAD, STACH, SARRH, AFIB, AFLT or PACE.
    rate : float
        Mean ventricular rate, per minute (in flutter only a wish: the atrium divides).
    ectopic : (int, int)
        How many ventricular and atrial premature beats fall into the record.
    bigeminy : bool
        Every second beat is a ventricular premature one.
    """
    mean = 60.0 / rate
    if rhythm == "AFIB":
        spread = rng.uniform(0.14, 0.26)
        rr = np.maximum(mean * rng.gamma(spread**-2, spread**2, int(16 / mean) + 12), 0.32)
        onset = -2.5 + np.cumsum(rr)
    elif rhythm == "AFLT":
        atrial = 60.0 / rng.uniform(250.0, 320.0)
        blocks = [2, 4] if rng.random() < 0.5 else [3, 4]
        steady = int(rng.choice(blocks))
        many = 60
        ratio = np.full(many, steady) if rng.random() < 0.5 else rng.choice(blocks, many)
        onset = -2.5 + np.cumsum(ratio * atrial)
    elif rhythm == "PACE":
        onset = np.arange(-2.5 + mean * rng.random(), stop, mean)
    else:
        depth = rng.uniform(0.09, 0.20) if rhythm == "SARRH" else rng.uniform(0.005, 0.045) * (1.6 - age / 80)
        onset = _sinus(rng, mean, depth, stop)
    onset = onset[onset < stop]
    rr = np.diff(onset, prepend=onset[0] - mean)
    kind = np.zeros(len(onset), dtype=np.int64)
    inside = np.flatnonzero((onset > 0.6) & (onset < 9.3))
    if bigeminy:
        chosen = {int(i): VENTRICULAR for i in inside[::2]}
    else:
        picks = rng.permutation(inside)[: sum(ectopic)]
        chosen = {int(i): VENTRICULAR if n < ectopic[0] else ATRIAL for n, i in enumerate(picks)}
    early_shift = 0.0
    shift = np.zeros(len(onset))
    for i in range(len(onset)):
        shift[i] = early_shift
        if i in chosen and (i - 1) not in chosen:
            kind[i] = chosen[i]
            early = rng.uniform(0.25, 0.42) * rr[i]
            shift[i] -= early
            if kind[i] == ATRIAL:
                early_shift -= 0.8 * early  # the sinus node is reset; a ventricular beat leaves it alone
    onset = onset + shift
    order = np.argsort(onset)
    onset, kind = onset[order], kind[order]
    rr = np.diff(onset, prepend=onset[0] - mean)
    # QT follows the rate of the last several beats, not of one.
    smooth = np.empty_like(rr)
    level = mean if rhythm != "AFLT" else float(rr[1:].mean())
    for i, value in enumerate(rr):
        level += 0.12 * (value - level)
        smooth[i] = level
    p_wave = np.full(len(onset), rhythm not in {"AFIB", "AFLT", "PACE"}) & (kind != VENTRICULAR)
    return Beats(onset, kind, p_wave, smooth)


def atrial_activity(rng: np.random.Generator, rhythm: str, time: Array) -> Array:
    """Return the atrial dipole (3, T), mV, while the atria fibrillate or flutter."""
    if rhythm == "AFLT":
        rate = rng.uniform(4.3, 5.2)
        phase = 2 * np.pi * rate * time + rng.uniform(0, 2 * np.pi)
        wave = sum(np.sin(k * phase + 0.4 * k) / k for k in range(1, 5))
        direction = np.array([0.01, -0.09, -0.05]) * rng.uniform(0.8, 1.8)
        return np.asarray(direction[:, None] * wave)
    size = np.exp(rng.normal(np.log(0.022), 0.55))
    step = time[1] - time[0]
    out = np.zeros((3, len(time)))
    for weight in (1.0, 0.6):
        rate = rng.uniform(4.5, 8.0)
        knots = rng.normal(0.0, 1.0, int(time[-1] - time[0]) * 3 + 4)
        drift = np.interp(time, np.linspace(time[0], time[-1], len(knots)), knots)
        phase = np.cumsum(2 * np.pi * step * rate * (1 + 0.12 * drift)) + rng.uniform(0, 2 * np.pi)
        direction = np.array([0.3, 0.6, -1.0]) + rng.normal(0.0, 0.35, 3)
        envelope = 1 + 0.35 * np.interp(time, np.linspace(time[0], time[-1], 9), rng.normal(0.0, 1.0, 9))
        out += size * weight * direction[:, None] * envelope * (np.sin(phase) + 0.3 * np.sin(2 * phase + 1.0))
    return out
