"""What each condition does to a heart: the textbook signs, as changes of its sources.

Signs after Surawicz and Knilans, "Chou's Electrocardiography in Clinical Practice", and the AHA/ACCF/HRS
recommendations for the standardization and interpretation of the electrocardiogram (2007-2009).
"""

from __future__ import annotations

import numpy as np

from einthoven.data.synthetic.heart import (
    INDEX,
    LEFT,
    REGIONS,
    RIGHT,
    Array,
    Heart,
    Kernels,
    qrs_area,
    rotation,
    unit,
)

# Infarct statement -> part of each segment's forces lost, and the regions that carry Q, ST and T changes.
INFARCTS: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {
    "ASMI": (
        {"septum_left": 0.9, "septum_right": 1.0, "rv_free": 0.4, "anterior": 0.6, "apex": 0.35},
        ("septal", "anterior"),
    ),
    "AMI": ({"septum_right": 0.7, "anterior": 0.7, "apex": 0.6}, ("anterior", "apical")),
    "ALMI": ({"anterior": 0.6, "apex": 0.7, "lateral": 0.7, "high_lateral": 0.5}, ("apical", "lateral")),
    "LMI": ({"lateral": 0.9, "high_lateral": 0.9, "anterior": 0.3}, ("lateral", "high_lateral")),
    "IMI": ({"inferior": 0.6, "apex": 0.3}, ("inferior",)),
    "ILMI": ({"inferior": 0.75, "apex": 0.4, "lateral": 0.6}, ("inferior", "lateral")),
    "IPMI": ({"inferior": 0.75, "posterior": 0.8}, ("inferior", "posterior")),
    "IPLMI": ({"inferior": 0.7, "posterior": 0.7, "lateral": 0.5}, ("inferior", "posterior", "lateral")),
    "PMI": ({"posterior": 1.0, "inferior": 0.2}, ("posterior",)),
}
INJURIES = {"INJAS": ("septal", "anterior"), "INJAL": ("apical", "lateral"), "INJIN": ("inferior",)}
ISCHEMIA = {
    "ISC_": ("lateral",),
    "ISCAL": ("anterior", "apical", "lateral"),
    "ISCAS": ("septal", "anterior"),
    "ISCAN": ("anterior",),
    "ISCLA": ("lateral", "high_lateral"),
    "ISCIN": ("inferior",),
    "ISCIL": ("inferior", "lateral"),
}


def _range(severity: float, low: float, high: float) -> float:
    return low + severity * (high - low)


def _scale_t(heart: Heart, factor: float) -> None:
    heart.recovery.moment = [factor * m for m in heart.recovery.moment]


def _st(heart: Heart, region: str, level: float) -> None:
    """Shift the ST segment over a region by about `level` mV (positive: elevation there)."""
    place, out = REGIONS[region]
    heart.recovery.add(place, 0.40, 0.075, 0.15, level * out)


def _t(heart: Heart, region: str, level: float, centre: float = 0.73) -> None:
    """Add a regional T wave of `level` mV pointing out of the heart there (negative: inversion)."""
    place, out = REGIONS[region]
    heart.recovery.add(place, centre, 0.085, 0.075, level * out)


def infarct(rng: np.random.Generator, heart: Heart, code: str, severity: float, stage: float) -> None:
    """Q waves and loss of R over the region; T inversion; ST elevation as far as the infarct is fresh."""
    lost, regions = INFARCTS[code]
    size = _range(severity, 0.25, 0.95)
    _scale_t(heart, rng.uniform(0.35, 1.0))
    for name, part in lost.items():
        heart.moment[INDEX[name]] *= 1.0 - size * part
    for region in regions:
        place, out = REGIONS[region]
        depth = size * rng.uniform(0.10, 0.42) / np.sqrt(len(regions))
        heart.extra.add(place, rng.uniform(0.24, 0.34) * heart.qrs, 0.11 * heart.qrs, 0.14 * heart.qrs, -depth * out)
        _t(heart, region, -size * rng.uniform(0.0, 0.28) / np.sqrt(len(regions)), centre=0.75)
        fresh = 0.03 * rng.random() + stage * rng.uniform(0.12, 0.35)
        _st(heart, region, fresh * size)
    heart.qrs *= 1.0 + 0.08 * size


def injury(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Subendocardial injury: marked ST depression over the region, some loss of R, T inversion."""
    for region in INJURIES[code]:
        _st(heart, region, -_range(severity, 0.08, 0.22))
        _t(heart, region, -_range(severity, 0.05, 0.25))
    _scale_t(heart, rng.uniform(0.4, 0.9))
    heart.moment[INDEX["septum_right"]] *= 0.7


def ischemia(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Regional ST depression and T inversion on a flattened T wave."""
    regions = ISCHEMIA[code]
    part = 1.0 / len(regions) ** 0.5
    _scale_t(heart, rng.uniform(0.25, 0.8))
    for region in regions:
        _st(heart, region, -part * _range(severity, 0.0, 0.14) * rng.uniform(0.3, 1.0))
        _t(heart, region, -part * _range(severity, 0.08, 0.38) * rng.uniform(0.5, 1.2))


def nonspecific(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """NDT: flat or slightly inverted T. NST_: slight ST depression. DIG: sagging ST. LNGQT, EL."""
    if code == "NDT":
        _scale_t(heart, _range(1 - severity, 0.15, 0.65))
        _t(
            heart,
            str(rng.choice(["lateral", "apical", "inferior", "high_lateral"])),
            -_range(severity, 0.02, 0.12),
        )
        _st(heart, "apical", -0.05 * rng.random())
    elif code == "NST_":
        level = _range(severity, 0.02, 0.10)
        for region in ("apical", "inferior") if rng.random() < 0.5 else ("apical", "lateral"):
            _st(heart, region, -level)
        _scale_t(heart, rng.uniform(0.35, 0.9))
    elif code == "DIG":
        for region in ("apical", "lateral"):
            place, out = REGIONS[region]
            heart.recovery.add(place, 0.52, 0.15, 0.09, -_range(severity, 0.06, 0.16) * out)
        _scale_t(heart, rng.uniform(0.3, 0.7))
        heart.qtc *= 0.92
    elif code == "LNGQT":
        heart.qtc *= _range(severity, 1.14, 1.28)
    elif code == "EL":
        heart.qtc *= _range(severity, 1.04, 1.15)
        _scale_t(heart, _range(1 - severity, 0.1, 0.5))
        place, out = REGIONS["centre"]
        heart.recovery.add(place, 1.10, 0.07, 0.08, _range(severity, 0.05, 0.15) * out)  # U wave
        _st(heart, "apical", -_range(severity, 0.02, 0.08))
    elif code == "ANEUR":
        for region in ("septal", "anterior"):
            _st(heart, region, _range(severity, 0.08, 0.2))


def _frontal_angle(heart: Heart) -> float:
    """Return the direction of the QRS area in the frontal plane, radians, 0 to the left, pi/2 to the feet."""
    x, y, _ = qrs_area(heart)
    return float(np.arctan2(y, x))


def fascicular_block(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Turn the QRS after its first 30 ms up and left (LAFB) or down and right (LPFB)."""
    anterior = code == "LAFB"
    # Directions of the dipole; Dower's leads see them some 15 degrees further from the horizontal.
    target = np.deg2rad(-_range(severity, 27, 50) if anterior else _range(severity, 90, 112))
    late = heart.centre > 0.3 * heart.qrs
    heart.moment[late] *= 0.85
    # The spared fascicle activates its wall first.
    first = np.array([-0.03, 0.16, -0.05]) if anterior else np.array([0.12, -0.16, -0.03])
    place = heart.place[INDEX["inferior" if anterior else "high_lateral"]]
    heart.extra.add(place, 0.22 * heart.qrs, 0.08 * heart.qrs, 0.08 * heart.qrs, first * rng.uniform(0.7, 1.4))
    # The anterolateral wall, reached last, points up and back: S waves as far as V6.
    last = np.array([-0.16, -0.08, 0.22]) if anterior else np.array([-0.16, 0.12, 0.12])
    heart.extra.add(heart.place[INDEX["high_lateral"]], 0.78 * heart.qrs, 0.010, 0.010, last * rng.uniform(0.5, 1.5))
    for _ in range(3):
        turn = rotation(0.0, 0.0, float(target - _frontal_angle(heart)))
        heart.moment[late] = heart.moment[late] @ turn.T
    delay = np.where(late, _range(severity, 1.06, 1.16), 1.0)
    heart.centre *= delay
    heart.qrs *= _range(severity, 1.06, 1.16)
    _scale_t(heart, rng.uniform(0.7, 1.0))


def right_bundle_block(heart: Heart, complete: bool, severity: float) -> None:
    """The right ventricle is reached late and alone: r' in V1, slurred S in I and V6."""
    duration = _range(severity, 0.124, 0.158) if complete else _range(severity, 0.096, 0.114)
    size = _range(severity, 0.42, 0.85) if complete else _range(severity, 0.16, 0.40)
    heart.moment[RIGHT] *= 0.4 if complete else 0.8
    width = 0.018 if complete else 0.011
    place = heart.place[INDEX["rv_free"]]
    centre = max(duration - 2.0 * width, 0.85 * heart.qrs)
    heart.extra.add(place, centre, 1.25 * width, width, size * np.array([-0.62, 0.02, -0.45]))
    heart.qrs = max(duration, heart.qrs)


def spread_from(heart: Heart, origin: Array, duration: float, gain: float = 1.15) -> None:
    """Activate the ventricles cell to cell from `origin` (cm) over `duration` seconds.

    Used for left bundle branch block, paced beats, ventricular ectopy and pre-excitation.
    """
    path = heart.place - origin
    distance = np.linalg.norm(path, axis=1)
    strength = np.linalg.norm(heart.moment, axis=1)
    travel = path / np.maximum(distance, 1e-6)[:, None]
    outward = heart.moment / np.maximum(strength, 1e-6)[:, None]
    direction = 0.7 * travel + 0.3 * outward
    direction /= np.maximum(np.linalg.norm(direction, axis=1), 1e-6)[:, None]
    heart.moment = gain * strength[:, None] * direction
    heart.centre = duration * (0.22 + 0.56 * distance / distance.max())
    heart.width = np.full(len(distance), 0.125 * duration)
    heart.extra = Kernels()
    heart.qrs = duration


def left_bundle_block(rng: np.random.Generator, heart: Heart, complete: bool, severity: float) -> None:
    """Left ventricle from the right septum: no septal q, wide notched R in I and V6, deep S in V1-V3."""
    if complete:
        origin = np.array([-3.0, 0.5, -2.5]) + rng.normal(0.0, 0.4, 3)
        spread_from(heart, origin, _range(severity, 0.128, 0.168), gain=rng.uniform(1.0, 1.35))
    else:
        heart.moment[INDEX["septum_left"]] *= -1.5
        heart.moment[INDEX["septum_right"]] *= 0.4
        heart.centre *= 1.2
        heart.width *= 1.15
        heart.qrs = max(1.2 * heart.qrs, 0.108)


def conduction_delay(rng: np.random.Generator, heart: Heart, severity: float) -> None:
    """Widen and notch the QRS without the pattern of either bundle branch."""
    factor = max(_range(severity, 0.108, 0.132) / heart.qrs, 1.05)
    heart.centre = factor * heart.centre * (1 + rng.normal(0.0, 0.07, len(heart.centre)))
    heart.width = heart.width * factor**0.7
    heart.qrs *= factor
    late = rng.normal([-0.05, -0.03, 0.24], 0.13)
    heart.extra.add(heart.place[INDEX["high_lateral"]], 0.80 * heart.qrs, 0.012, 0.012, late)


def preexcitation(rng: np.random.Generator, heart: Heart, severity: float) -> None:
    """Short PR and a slow delta wave from an accessory pathway at the base, before the normal QRS."""
    site = [(4.5, -2.0, 3.0), (0.5, 1.0, 4.0), (-3.5, -1.0, -1.0), (4.0, 2.0, 3.5)][int(rng.integers(4))]
    lead_in = _range(severity, 0.030, 0.048)
    heart.centre = heart.centre + lead_in
    heart.extra.centre = [c + lead_in for c in heart.extra.centre]
    heart.qrs += lead_in
    early = unit(np.array([2.0, 2.0, -1.0]) - np.array(site)) * _range(severity, 0.25, 0.5)
    heart.extra.add(np.array(site) * 0.7, lead_in * 1.15, 0.45 * lead_in, 0.4 * lead_in, early)
    heart.pr = rng.uniform(0.085, 0.115)


def hypertrophy_left(rng: np.random.Generator, heart: Heart, severity: float) -> None:
    """More left ventricle: tall R in I, aVL, V5-V6, deep S in V1-V3, slightly longer QRS; strain follows ISC_."""
    grown = _range(severity, 0.32, 1.0)
    heart.moment[LEFT] *= 1.0 + grown * rng.uniform(0.75, 1.25, (len(LEFT), 1))
    turn = rotation(np.deg2rad(rng.normal(-6.0, 5.0)), 0.0, np.deg2rad(rng.normal(-3.0, 8.0)))
    heart.moment = heart.moment @ turn.T
    heart.centre *= 1.0 + 0.12 * severity
    heart.width *= 1.0 + 0.06 * severity
    heart.qrs *= 1.0 + 0.12 * severity
    _scale_t(heart, rng.uniform(0.55, 1.0))


def strain(heart: Heart, severity: float) -> None:
    """ST depression with asymmetric T inversion over the thick wall."""
    _scale_t(heart, 0.6)
    away = -unit(np.array([0.85, 0.15, 0.45]))
    place = REGIONS["lateral"][0] * 0.6
    heart.recovery.add(place, 0.45, 0.10, 0.14, _range(severity, 0.03, 0.15) * away)
    heart.recovery.add(place, 0.75, 0.10, 0.07, _range(severity, 0.10, 0.42) * away)


def hypertrophy_right(heart: Heart, severity: float) -> None:
    """Right axis, tall R in V1, deep S in V5-V6, T inversion V1-V3."""
    grown = _range(severity, 0.5, 1.1)
    place = heart.place[INDEX["rv_free"]]
    heart.extra.add(place, 0.52 * heart.qrs, 0.012, 0.014, grown * np.array([-0.62, 0.35, -0.42]))
    heart.moment[LEFT] *= 0.75
    heart.moment = heart.moment @ rotation(0.0, 0.0, np.deg2rad(_range(severity, 25, 55))).T
    _t(heart, "septal", -_range(severity, 0.1, 0.3))


def atrial_overload(heart: Heart, left: bool, severity: float) -> None:
    """LAE: long notched P, deep negative end in V1. RAE: tall peaked P in II, III, aVF."""
    if left and heart.atria.moment:
        heart.atria.centre[1] += 0.022
        heart.atria.moment[1] = heart.atria.moment[1] * _range(severity, 1.2, 1.9) + np.array([0.0, 0.0, 0.05])
        heart.p_duration += 0.022
    elif heart.atria.moment:
        heart.atria.moment[0] = heart.atria.moment[0] * _range(severity, 1.6, 2.4) + np.array([0.0, 0.06, -0.02])


def recover_from(heart: Heart, before: Array, part: float) -> None:
    """Add the secondary T wave: the ventricular gradient survives a change of activation.

    Wilson's ventricular gradient, the area of QRS plus T, depends on recovery alone; what the QRS area
    gains over `before`, the T area loses.
    """
    change = qrs_area(heart) - before
    width = 0.085
    qt = heart.qtc * 0.93
    moment = -part * change / (width * qt * np.sqrt(2 * np.pi))
    heart.recovery.add(REGIONS["centre"][0], 0.70, 1.1 * width, 0.9 * width, moment)
