"""Change the order in which the ventricles are activated: blocks of the bundles and fascicles, and preexcitation.

Sources and conventions as in `disease`.
"""

from __future__ import annotations

import numpy as np

from einthoven.data.synthetic.disease import interpolate, scale_muscle, scale_t
from einthoven.data.synthetic.heart import INDEX, RIGHT, Array, Heart, Kernels, qrs_area, rotation, unit


def _frontal_angle(heart: Heart) -> float:
    """Return the direction of the QRS area in the frontal plane in radians: 0 is left, pi/2 is towards the feet."""
    x, y, _ = qrs_area(heart)
    return float(np.arctan2(y, x))


def fascicular_block(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Turn the QRS, except its beginning, up and left (LAFB) or down and right (LPFB)."""
    # Dower's leads show an axis that is about 15 degrees further from the horizontal than the dipole.
    if code == "LAFB":
        target = np.deg2rad(-interpolate(severity, 16, 50))
        first_wall = "inferior"
        first_moment = np.array([-0.03, 0.16, -0.05])
        last_moment = np.array([-0.16, -0.08, 0.22])
    else:
        target = np.deg2rad(interpolate(severity, 90, 112))
        first_wall = "high_lateral"
        first_moment = np.array([0.12, -0.16, -0.03])
        last_moment = np.array([-0.16, 0.12, 0.12])
    is_late = heart.centre > 0.3 * heart.qrs
    heart.moment[is_late] *= 0.85
    heart.muscle[is_late] *= 0.85

    # The healthy fascicle activates its wall first.
    first_place = heart.place[INDEX[first_wall]]
    width = 0.08 * heart.qrs
    heart.extra.add(first_place, 0.22 * heart.qrs, width, width, first_moment * rng.uniform(0.7, 1.4))

    # The wall that is activated last points up or down, and back. It makes S waves in V1 to V6.
    last_place = heart.place[INDEX["high_lateral"]]
    heart.extra.add(last_place, 0.78 * heart.qrs, 0.010, 0.010, last_moment * rng.uniform(0.5, 1.5))

    # Turn the late segments. Mostly three steps reach the target, although the early segments do not turn.
    for _ in range(3):
        turn = rotation(0.0, 0.0, float(target - _frontal_angle(heart)))
        heart.moment[is_late] = heart.moment[is_late] @ turn.T
        heart.muscle[is_late] = heart.muscle[is_late] @ turn.T

    # Strong early forces can keep the axis away from the target. Then all sources turn.
    turn = rotation(0.0, 0.0, float(target - _frontal_angle(heart)))
    heart.moment = heart.moment @ turn.T
    heart.extra.moment = [turn @ moment for moment in heart.extra.moment]
    delay = np.where(is_late, interpolate(severity, 1.06, 1.16), 1.0)
    heart.centre *= delay
    heart.qrs *= interpolate(severity, 1.06, 1.16)
    scale_t(heart, rng.uniform(0.7, 1.0))


def right_bundle_block(rng: np.random.Generator, heart: Heart, complete: bool, severity: float) -> None:
    """Activate the right ventricle late and alone: r' in V1, slurred S in I and V6.

    Readers also call an rSr' of normal duration an incomplete block (Surawicz and Knilans, chapter 5). So the duration
    of an incomplete block does not depend on the height of r'.
    """
    place = heart.place[INDEX["rv_free"]]
    if complete:
        duration = interpolate(severity, 0.124, 0.158)
        size = interpolate(severity, 0.42, 0.85)
        direction = np.array([-0.62, 0.02, -0.45])
        width = 0.018
    else:
        duration = rng.uniform(0.090, 0.115)
        size = interpolate(severity, 0.10, 0.42)
        direction = np.array([-0.42, 0.0, -0.50]) + rng.normal(0.0, [0.16, 0.12, 0.06])
        width = rng.uniform(0.008, 0.013)
    scale_muscle(heart, RIGHT, 0.4 if complete else 0.8)
    centre = max(duration - 2.0 * width, 0.85 * heart.qrs)
    heart.extra.add(place, centre, 1.25 * width, width, size * direction)
    heart.qrs = max(duration, heart.qrs)


def spread_from(heart: Heart, origin: Array, duration: float, gain: float = 1.15) -> None:
    """Activate the ventricles from cell to cell, starting at one place.

    This is used for left bundle branch block, paced beats and ventricular premature beats.

    Parameters
    ----------
    heart : Heart
    origin : array (3,)
        Place in cm where the activation starts.
    duration : float
        Duration of the QRS in s.
    gain : float
        Factor of all moments.
    """
    # The moments point in the direction of travel, and partly out of the heart as before.
    path = heart.place - origin
    distance = np.linalg.norm(path, axis=1)
    travel = path / np.maximum(distance, 1e-6)[:, None]
    outward = heart.moment / np.maximum(np.linalg.norm(heart.moment, axis=1), 1e-6)[:, None]
    direction = 0.7 * travel + 0.3 * outward
    direction /= np.maximum(np.linalg.norm(direction, axis=1), 1e-6)[:, None]
    heart.moment = gain * np.linalg.norm(heart.muscle, axis=1)[:, None] * direction

    # A segment is activated the later, the further away it is.
    heart.centre = duration * (0.22 + 0.56 * distance / distance.max())
    heart.width = np.full(len(distance), 0.125 * duration)
    heart.extra = Kernels()
    heart.qrs = duration


def left_bundle_block(rng: np.random.Generator, heart: Heart, complete: bool, severity: float) -> None:
    """Activate the left ventricle from the right septum: no septal q, wide R in I and V6, deep S in V1-V3."""
    if complete:
        origin = np.array([-3.0, 0.5, -2.5]) + rng.normal(0.0, 0.4, 3)
        spread_from(heart, origin, interpolate(severity, 0.128, 0.168), gain=rng.uniform(1.0, 1.35))
    else:
        scale_muscle(heart, [INDEX["septum_left"]], -1.5)
        scale_muscle(heart, [INDEX["septum_right"]], 0.4)
        heart.centre *= 1.2
        heart.width *= 1.15
        heart.qrs = max(1.2 * heart.qrs, 0.108)


def conduction_delay(rng: np.random.Generator, heart: Heart, severity: float) -> None:
    """Widen and notch the QRS without the pattern of a bundle branch block."""
    factor = max(interpolate(severity, 0.108, 0.132) / heart.qrs, 1.05)
    heart.centre = factor * heart.centre * (1 + rng.normal(0.0, 0.07, len(heart.centre)))
    heart.width = heart.width * factor**0.7
    heart.qrs *= factor
    late_moment = rng.normal([-0.05, -0.03, 0.24], 0.13)
    heart.extra.add(heart.place[INDEX["high_lateral"]], 0.80 * heart.qrs, 0.012, 0.012, late_moment)


def preexcitation(rng: np.random.Generator, heart: Heart, severity: float) -> None:
    """Shorten PR, and add a slow delta wave from an accessory pathway at the base before the normal QRS."""
    sites = [(4.5, -2.0, 3.0), (0.5, 1.0, 4.0), (-3.5, -1.0, -1.0), (4.0, 2.0, 3.5)]
    site = np.array(sites[int(rng.integers(4))])

    # The normal QRS follows the delta wave.
    delta_duration = interpolate(severity, 0.030, 0.048)
    heart.centre = heart.centre + delta_duration
    heart.extra.centre = [centre + delta_duration for centre in heart.extra.centre]
    heart.qrs += delta_duration

    # The delta wave points from the pathway to the middle of the ventricles.
    moment = unit(np.array([2.0, 2.0, -1.0]) - site) * interpolate(severity, 0.25, 0.5)
    heart.extra.add(site * 0.7, delta_duration * 1.15, 0.45 * delta_duration, 0.4 * delta_duration, moment)
    heart.pr = rng.uniform(0.085, 0.115)
