"""From sources and beats to leads: every kernel of every beat, in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.heart import Array, Heart, Kernels, rotation
from einthoven.data.synthetic.leadfield import lead_field

P_BIT, QRS_BIT, T_BIT = 1, 2, 4
# T begins where its earliest kernel leaves the ST segment; in parts of QT, which ends at 1.
T_ONSET = 0.53


@dataclass
class Wave:
    """Kernels of one wave as the leads see them.

    Times (K,) are on the wave's clock; `leads` (K, 8) at rest and `breath` (K, 8) their change at full
    inspiration, mV.
    """

    centre: Array
    left: Array
    right: Array
    leads: Array
    breath: Array


@dataclass
class Complex:
    """The three waves of one kind of beat, with the extents (s; T in parts of QT) that the mask shows."""

    p: Wave | None
    qrs: Wave
    t: Wave
    pr: float
    p_duration: float
    qrs_duration: float
    qtc: float


def _wave(kernels: Kernels, electrodes: Array, sway: Array) -> Wave:
    field, moment = lead_field(np.array(kernels.place), electrodes), np.array(kernels.moment)
    rest = np.einsum("klx,kx->kl", field, moment)
    change = np.einsum("klx,kx->kl", field, moment @ sway.T) - rest
    return Wave(np.array(kernels.centre), np.array(kernels.left), np.array(kernels.right), rest, change)


def project(heart: Heart, electrodes: Array, sway: float) -> Complex:
    """Project the sources of a heart onto the eight leads.

    Parameters
    ----------
    electrodes : array (9, 3)
        Places of the electrodes, cm.
    sway : float
        How far a deep breath turns the heart, radians.
    """
    turn = rotation(0.5 * sway, 0.0, sway)
    depolarization = Kernels(
        list(heart.place) + heart.extra.place,
        list(heart.centre) + heart.extra.centre,
        list(heart.width) + heart.extra.left,
        list(heart.width) + heart.extra.right,
        list(heart.moment) + heart.extra.moment,
    )
    return Complex(
        p=_wave(heart.atria, electrodes, turn) if heart.atria.moment else None,
        qrs=_wave(depolarization, electrodes, turn),
        t=_wave(heart.recovery, electrodes, turn),
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
    """Add one wave of several beats: `start` (B,) sample of the clock's zero, `clock` (B,) seconds per unit."""
    first = np.ceil(start + span[0] * fs).astype(int)
    length = int((span[1] - span[0]) * fs)
    at = ((first - start)[:, None] + np.arange(length)) / fs / clock[:, None]
    z = at.astype(np.float32)[:, None, :] - wave.centre.astype(np.float32)[:, None]
    rising, falling = ((1 / x).astype(np.float32)[:, None] for x in (wave.left, wave.right))
    z *= np.where(z < 0, rising, falling)
    np.square(z, out=z)
    z *= -0.5
    np.maximum(z, -40.0, out=z)  # keeps the exponential clear of slow subnormal numbers
    np.exp(z, out=z)
    leads = wave.leads[None] + breath[:, None, None] * wave.breath[None]
    beats = leads.transpose(0, 2, 1).astype(np.float32) @ z
    for i, a in enumerate(first):
        low, high = max(a, 0), min(a + length, out.shape[1])
        if low < high:
            out[:, low:high] += beats[i, :, low - a : high - a]


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
    """Add the beats of one kind to `out` (8, T), whose first sample is at `origin` seconds.

    `onset` are the QRS onsets (s), `rr` the RR intervals that set QT, `breath` the phase -1..1 of breathing.
    """
    if len(onset) == 0:
        return
    start = (onset - origin) * fs
    ones = np.ones(len(onset))
    _draw(out, shape.qrs, start, ones, breath, (-0.06, shape.qrs_duration + 0.12), fs)
    qt = qt_interval(shape.qtc, rr)
    _draw(out, shape.t, start, qt, breath, (0.0, 1.35 * float(qt.max()) + 0.02), fs)
    if shape.p is not None and p_wave.any():
        p_start = start[p_wave] - shape.pr * fs
        _draw(out, shape.p, p_start, ones[p_wave], breath[p_wave], (-0.04, shape.p_duration + 0.06), fs)


def qt_interval(qtc: float, rr: Array) -> Array:
    """Fridericia's QT: QTc times the cube root of RR in seconds."""
    return np.asarray(qtc * np.cbrt(rr))


def draw_mask(
    mask: NDArray[np.uint8],
    shape: Complex,
    onset: Array,
    rr: Array,
    p_wave: NDArray[np.bool_],
    nxt: Array,
    fs: float,
) -> None:
    """Set the P, QRS and T bits of the beats of one kind in `mask` (T,), sample 0 at time 0.

    T ends at the next QRS onset `nxt` at the latest.
    """

    def mark(begin: float, end: float, bit: int) -> None:
        low, high = max(int(np.ceil(begin * fs)), 0), int(np.floor(end * fs)) + 1
        if high > 0:
            mask[low:high] |= bit

    qt = qt_interval(shape.qtc, rr)
    for t0, q, has_p, limit in zip(onset, qt, p_wave, nxt, strict=True):
        mark(t0, t0 + shape.qrs_duration, QRS_BIT)
        mark(t0 + max(T_ONSET * q, shape.qrs_duration), min(t0 + q, limit), T_BIT)
        if has_p and shape.p is not None:
            mark(t0 - shape.pr, t0 - shape.pr + shape.p_duration, P_BIT)
