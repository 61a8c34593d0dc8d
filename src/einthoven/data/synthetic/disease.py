"""Change the sources of a heart so that the ECG shows the textbook signs of a condition.

The signs follow Surawicz and Knilans, "Chou's Electrocardiography in Clinical Practice", and the AHA/ACCF/HRS
recommendations for the standardization and interpretation of the electrocardiogram (2007-2009).

Each function changes the heart in place. `severity` is between 0 and 1.
"""

from __future__ import annotations

import numpy as np

from einthoven.data.synthetic.heart import (
    INDEX,
    LEFT,
    REGIONS,
    Array,
    Heart,
    qrs_area,
    rotation,
    unit,
)

# Infarct statement -> lost fraction of the force of each segment, and the regions with changes of Q, ST and T.
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

# Statement -> regions.
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


def interpolate(severity: float, low: float, high: float) -> float:
    """Return a value between `low` (severity 0) and `high` (severity 1)."""
    return low + severity * (high - low)


def scale_t(heart: Heart, factor: float) -> None:
    """Multiply all sources of ST and T by a factor."""
    heart.recovery.moment = [factor * moment for moment in heart.recovery.moment]


def scale_muscle(heart: Heart, segments: list[int], factor: Array | float) -> None:
    """Multiply the force of the muscle of some segments."""
    factors = np.broadcast_to(factor, len(segments))[:, None]
    heart.moment[segments] += (factors - 1.0) * heart.muscle[segments]
    heart.muscle[segments] *= factors


def _shift_st(heart: Heart, region: str, level: float) -> None:
    """Shift the ST segment over a region by about `level` mV. A positive level is an elevation."""
    place, outward = REGIONS[region]
    heart.recovery.add(place, 0.40, 0.075, 0.15, level * outward)


def _add_t(heart: Heart, region: str, level: float, centre: float = 0.73) -> None:
    """Add a T wave of `level` mV that points out of the heart in a region. A negative level is an inversion."""
    place, outward = REGIONS[region]
    heart.recovery.add(place, centre, 0.085, 0.075, level * outward)


def infarct(rng: np.random.Generator, heart: Heart, code: str, severity: float, stage: float) -> None:
    """Add Q waves, loss of R and T inversion over the regions, and ST elevation if the infarct is fresh."""
    lost_fractions, regions = INFARCTS[code]
    size = interpolate(severity, 0.25, 0.95)
    scale_t(heart, rng.uniform(0.35, 1.0))

    # Dead segments lose their force.
    for name, fraction in lost_fractions.items():
        scale_muscle(heart, [INDEX[name]], 1.0 - size * fraction)

    # The early forces point away from the infarct.
    for region in regions:
        place, outward = REGIONS[region]
        depth = size * rng.uniform(0.10, 0.42) / np.sqrt(len(regions))
        centre = rng.uniform(0.24, 0.34) * heart.qrs
        heart.extra.add(place, centre, 0.11 * heart.qrs, 0.14 * heart.qrs, -depth * outward)
        _add_t(heart, region, -size * rng.uniform(0.0, 0.28) / np.sqrt(len(regions)), centre=0.75)
        elevation = 0.03 * rng.random() + stage * rng.uniform(0.12, 0.35)
        _shift_st(heart, region, elevation * size)
    heart.qrs *= 1.0 + 0.08 * size


def injury(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Add subendocardial injury: strong ST depression and T inversion over the regions, and some loss of R."""
    for region in INJURIES[code]:
        _shift_st(heart, region, -interpolate(severity, 0.08, 0.22))
        _add_t(heart, region, -interpolate(severity, 0.05, 0.25))
    scale_t(heart, rng.uniform(0.4, 0.9))
    scale_muscle(heart, [INDEX["septum_right"]], 0.7)


def ischemia(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Flatten the T wave, and add ST depression and T inversion over the regions."""
    regions = ISCHEMIA[code]
    share = 1.0 / len(regions) ** 0.5
    scale_t(heart, rng.uniform(0.25, 0.8))
    for region in regions:
        _shift_st(heart, region, -share * interpolate(severity, 0.0, 0.14) * rng.uniform(0.3, 1.0))
        _add_t(heart, region, -share * interpolate(severity, 0.08, 0.38) * rng.uniform(0.5, 1.2))


def nonspecific(rng: np.random.Generator, heart: Heart, code: str, severity: float) -> None:
    """Add non-specific changes of ST, T and QT.

    NDT: flat or slightly inverted T. NST_: slight ST depression. DIG: sagging ST and short QT. LNGQT: long QT.
    EL: long QT, flat T and a U wave. ANEUR: ST elevation.
    """
    if code == "NDT":
        scale_t(heart, interpolate(1 - severity, 0.15, 0.65))
        region = str(rng.choice(["lateral", "apical", "inferior", "high_lateral"]))
        _add_t(heart, region, -interpolate(severity, 0.02, 0.12))
        _shift_st(heart, "apical", -0.05 * rng.random())
    elif code == "NST_":
        level = interpolate(severity, 0.02, 0.10)
        regions = ("apical", "inferior") if rng.random() < 0.5 else ("apical", "lateral")
        for region in regions:
            _shift_st(heart, region, -level)
        scale_t(heart, rng.uniform(0.35, 0.9))
    elif code == "DIG":
        for region in ("apical", "lateral"):
            place, outward = REGIONS[region]
            heart.recovery.add(place, 0.52, 0.15, 0.09, -interpolate(severity, 0.06, 0.16) * outward)
        scale_t(heart, rng.uniform(0.3, 0.7))
        heart.qtc *= 0.92
    elif code == "LNGQT":
        heart.qtc *= interpolate(severity, 1.14, 1.28)
    elif code == "EL":
        heart.qtc *= interpolate(severity, 1.04, 1.15)
        scale_t(heart, interpolate(1 - severity, 0.1, 0.5))
        # The U wave follows T.
        place, outward = REGIONS["centre"]
        heart.recovery.add(place, 1.10, 0.07, 0.08, interpolate(severity, 0.05, 0.15) * outward)
        _shift_st(heart, "apical", -interpolate(severity, 0.02, 0.08))
    elif code == "ANEUR":
        for region in ("septal", "anterior"):
            _shift_st(heart, region, interpolate(severity, 0.08, 0.2))


def hypertrophy_left(rng: np.random.Generator, heart: Heart, severity: float) -> None:
    """Enlarge the left ventricle: tall R in I, aVL and V5-V6, deep S in V1-V3, slightly longer QRS.

    The strain pattern is a condition of its own (ISC_, see `strain`).
    """
    growth = interpolate(severity, 0.32, 1.0)
    scale_muscle(heart, LEFT, 1.0 + growth * rng.uniform(0.75, 1.25, len(LEFT)))
    turn = rotation(np.deg2rad(rng.normal(-6.0, 5.0)), 0.0, np.deg2rad(rng.normal(-3.0, 8.0)))
    heart.moment = heart.moment @ turn.T
    heart.centre *= 1.0 + 0.12 * severity
    heart.width *= 1.0 + 0.06 * severity
    heart.qrs *= 1.0 + 0.12 * severity
    scale_t(heart, rng.uniform(0.55, 1.0))


def strain(heart: Heart, severity: float) -> None:
    """Add ST depression and an asymmetric T inversion over the thick wall."""
    scale_t(heart, 0.6)
    away = -unit(np.array([0.85, 0.15, 0.45]))
    place = REGIONS["lateral"][0] * 0.6
    heart.recovery.add(place, 0.45, 0.10, 0.14, interpolate(severity, 0.03, 0.15) * away)
    heart.recovery.add(place, 0.75, 0.10, 0.07, interpolate(severity, 0.10, 0.42) * away)


def hypertrophy_right(heart: Heart, severity: float) -> None:
    """Enlarge the right ventricle: right axis, tall R in V1, deep S in V5-V6, T inversion in V1-V3."""
    growth = interpolate(severity, 0.5, 1.1)
    place = heart.place[INDEX["rv_free"]]
    heart.extra.add(place, 0.52 * heart.qrs, 0.012, 0.014, growth * np.array([-0.62, 0.35, -0.42]))
    scale_muscle(heart, LEFT, 0.75)
    heart.moment = heart.moment @ rotation(0.0, 0.0, np.deg2rad(interpolate(severity, 25, 55))).T
    _add_t(heart, "septal", -interpolate(severity, 0.1, 0.3))


def atrial_overload(heart: Heart, left: bool, severity: float) -> None:
    """Enlarge an atrium.

    Left: long notched P with a deep negative end in V1. Right: tall peaked P in II, III and aVF.
    """
    # In some rhythms there is no P wave. The first source is the right atrium, the second one the left.
    if not heart.atria.moment:
        return
    right_moment, left_moment = heart.atria.moment
    if left:
        heart.atria.centre[1] += 0.022
        heart.atria.moment[1] = left_moment * interpolate(severity, 1.2, 1.9) + np.array([0.0, 0.0, 0.05])
        heart.p_duration += 0.022
    else:
        heart.atria.moment[0] = right_moment * interpolate(severity, 1.6, 2.4) + np.array([0.0, 0.06, -0.02])


def recover_from(heart: Heart, area_before: Array, fraction: float) -> None:
    """Add the secondary change of the T wave after a change of the QRS.

    Wilson's ventricular gradient, the area of QRS plus T, does not depend on the order of activation. If the QRS area
    grows, the T area shrinks by the same amount.

    Parameters
    ----------
    heart : Heart
        The heart after the change.
    area_before : array (3,)
        QRS area before the change.
    fraction : float
        Fraction of the change that T compensates.
    """
    change = qrs_area(heart) - area_before
    width = 0.085
    qt = heart.qtc * 0.93
    moment = -fraction * change / (width * qt * np.sqrt(2 * np.pi))
    heart.recovery.add(REGIONS["centre"][0], 0.70, 1.1 * width, 0.9 * width, moment)
