"""Render the leads: the sum of the kernels of every beat, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.heart import Array, Heart, Kernels, rotation
from einthoven.data.synthetic.leadfield import lead_field

# Bits of a mask.
P_BIT = 1
QRS_BIT = 2
T_BIT = 4

# Begin of the T wave as a fraction of QT: the earliest kernel rises above the ST segment here.
T_ONSET = 0.53


@dataclass
class Wave:
    """The K kernels of one wave, projected onto the L leads: eight, or the three axes of the heart vector."""

    centre: Array
    """Centre of each kernel (K,), on the clock of the wave (see `Kernels`)."""
    left: Array
    """Standard deviation before the centre (K,)."""
    right: Array
    """Standard deviation after the centre (K,)."""
    leads: Array
    """Amplitudes on the leads at rest (K, L), mV."""
    breath: Array
    """Change of the amplitudes at full inspiration (K, L), mV."""


@dataclass
class Complex:
    """The three waves of one kind of beat, and their times in s."""

    p: Wave | None
    qrs: Wave
    t: Wave
    pr: float
    p_duration: float
    qrs_duration: float
    qtc: float


Field = Callable[[Array], Array]
"""Places of K sources (K, 3) -> what a unit dipole at each place gives on the leads (K, L, 3)."""


def _project_wave(kernels: Kernels, field_at: Field, sway: Array) -> Wave:
    """Project kernels onto the leads. `sway` (3, 3) rotates the heart to its position at full inspiration."""
    field = field_at(np.array(kernels.place))
    moment = np.array(kernels.moment)
    rest = np.einsum("klx,kx->kl", field, moment)
    change = np.einsum("klx,kx->kl", field, moment @ sway.T) - rest
    return Wave(np.array(kernels.centre), np.array(kernels.left), np.array(kernels.right), rest, change)


def project(heart: Heart, electrodes: Array, sway: float) -> Complex:
    """Project the sources of a heart onto the eight leads.

    Parameters
    ----------
    heart : Heart
    electrodes : array (9, 3)
        Positions of the electrodes in cm.
    sway : float
        Angle in radians by which a deep breath turns the heart.
    """
    return _project(heart, lambda places: lead_field(places, electrodes), sway)


def project_dipole(heart: Heart, sway: float) -> Complex:
    """Return the sources of a heart on the three axes of the heart vector: x to the left, y to the feet, z to the back.

    Parameters
    ----------
    heart, sway
        As in `project`.
    """
    return _project(heart, lambda places: np.broadcast_to(np.eye(3), (len(places), 3, 3)), sway)


def _project(heart: Heart, field_at: Field, sway: float) -> Complex:
    """Project the sources of a heart by a field."""
    turn = rotation(0.5 * sway, 0.0, sway)
    depolarization = Kernels(
        list(heart.place) + heart.extra.place,
        list(heart.centre) + heart.extra.centre,
        list(heart.width) + heart.extra.left,
        list(heart.width) + heart.extra.right,
        list(heart.moment) + heart.extra.moment,
    )
    return Complex(
        p=_project_wave(heart.atria, field_at, turn) if heart.atria.moment else None,
        qrs=_project_wave(depolarization, field_at, turn),
        t=_project_wave(heart.recovery, field_at, turn),
        pr=heart.pr,
        p_duration=heart.p_duration,
        qrs_duration=heart.qrs,
        qtc=heart.qtc,
    )


def _draw(
    out: NDArray[np.float32],
    wave: Wave,
    start: Array,
    clock: Array,
    breath: Array,
    span: tuple[float, float],
    fs: float,
) -> None:
    """Add one wave of B beats to the leads (L, T), in place.

    `start` (B,) is the sample at which the clock of the wave is zero, `clock` (B,) the seconds per unit of the clock,
    and `breath` (B,) the phase of breathing from -1 to 1. The wave begins and ends at `span` in s after `start`.
    """
    # Times of the samples on the clock of the wave, shape (B, length).
    first = np.ceil(start + span[0] * fs).astype(int)
    length = int((span[1] - span[0]) * fs)
    clock_time = ((first - start)[:, None] + np.arange(length)) / fs / clock[:, None]

    # Two-sided Gaussian kernels exp(-z**2 / 2), shape (B, K, length), computed in place.
    # The limit of -40 avoids subnormal numbers, which are slow.
    z = clock_time.astype(np.float32)[:, None, :] - wave.centre.astype(np.float32)[:, None]
    inverse_left = (1 / wave.left).astype(np.float32)[:, None]
    inverse_right = (1 / wave.right).astype(np.float32)[:, None]
    z *= np.where(z < 0, inverse_left, inverse_right)
    np.square(z, out=z)
    z *= -0.5
    np.maximum(z, -40.0, out=z)
    np.exp(z, out=z)

    # Sum the kernels of each beat, and add the part that is inside of the record.
    amplitudes = wave.leads[None] + breath[:, None, None] * wave.breath[None]
    beats = amplitudes.transpose(0, 2, 1).astype(np.float32) @ z
    for beat, begin in zip(beats, first, strict=True):
        low = max(begin, 0)
        high = min(begin + length, out.shape[1])
        if low < high:
            out[:, low:high] += beat[:, low - begin : high - begin]


def draw_complexes(
    out: NDArray[np.float32],
    shape: Complex,
    onset: Array,
    rr: Array,
    p_wave: NDArray[np.bool_],
    breath: Array,
    origin: float,
    fs: float,
) -> None:
    """Add the B beats of one kind to the leads.

    Parameters
    ----------
    out : ndarray of float32, shape (L, T)
        The leads; changed in place.
    shape : Complex
    onset : ndarray, shape (B,)
        QRS onsets in s.
    rr : ndarray, shape (B,)
        RR intervals in s that determine QT.
    p_wave : ndarray of bool, shape (B,)
        Whether a beat has a P wave.
    breath : ndarray, shape (B,)
        Phase of breathing, -1 to 1.
    origin : float
        Time of the first sample in s.
    fs : float
        Hz.
    """
    if len(onset) == 0:
        return
    start = (onset - origin) * fs
    ones = np.ones(len(onset))
    _draw(out, shape.qrs, start, ones, breath, (-0.06, shape.qrs_duration + 0.12), fs)
    qt = _qt_interval(shape.qtc, rr)
    _draw(out, shape.t, start, qt, breath, (0.0, 1.35 * float(qt.max()) + 0.02), fs)
    if shape.p is not None and p_wave.any():
        p_start = start[p_wave] - shape.pr * fs
        _draw(out, shape.p, p_start, ones[p_wave], breath[p_wave], (-0.04, shape.p_duration + 0.06), fs)


def _qt_interval(qtc: float, rr: Array) -> Array:
    """Return QT by Fridericia's formula: QTc times the cube root of RR in seconds."""
    return np.asarray(qtc * np.cbrt(rr))


def draw_mask(
    mask: NDArray[np.uint8],
    shape: Complex,
    onset: Array,
    rr: Array,
    p_wave: NDArray[np.bool_],
    next_onset: Array,
    fs: float,
) -> None:
    """Set the P, QRS and T bits of the B beats of one kind in a mask.

    Parameters
    ----------
    mask : ndarray of uint8, shape (T,)
        Changed in place. The first sample is at 0 s.
    shape, onset, rr, p_wave, fs
        As in `draw_complexes`.
    next_onset : ndarray, shape (B,)
        The next QRS onset in s. T ends there at the latest.
    """

    def set_bit(begin: float, end: float, bit: int) -> None:
        low = max(int(np.ceil(begin * fs)), 0)
        high = int(np.floor(end * fs)) + 1
        if high > 0:
            mask[low:high] |= bit

    intervals = _qt_interval(shape.qtc, rr)
    for start, qt, has_p, limit in zip(onset, intervals, p_wave, next_onset, strict=True):
        set_bit(start, start + shape.qrs_duration, QRS_BIT)
        set_bit(start + max(T_ONSET * qt, shape.qrs_duration), min(start + qt, limit), T_BIT)
        if has_p and shape.p is not None:
            set_bit(start - shape.pr, start - shape.pr + shape.p_duration, P_BIT)
