"""Draw the individual heart and chest of a patient, and the heart of one record before any condition is applied.

The moments of the sources follow a normal distribution that is fitted to real signals (see `fitted`). Hearts outside of
the limits of a normal ECG are drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from einthoven.data.synthetic.fitted import Interval, population
from einthoven.data.synthetic.heart import (
    CENTRES,
    MOMENTS,
    MUSCLE,
    P_SOURCES,
    PLACES,
    REGIONS,
    SEGMENTS,
    T_CLOCK,
    T_FALL,
    T_MOMENTS,
    T_REGIONS,
    T_RISE,
    WIDTHS,
    Array,
    Heart,
    Kernels,
    rotation,
    unit,
)
from einthoven.data.synthetic.leadfield import ELECTRODE_POSITIONS, lead_field
from einthoven.data.synthetic.normality import Sources, is_normal, qrs_and_t


@dataclass(frozen=True)
class Build:
    """Individual properties of a patient's heart and chest. All records of the patient share them."""

    gain: float
    """Factor of all voltages."""
    qrs_moments: Array
    """Dipole moment of each segment (10, 3)."""
    t_moments: Array
    """Dipole moment of each source of ST and T (7, 3)."""
    p_moments: Array
    """Dipole moment of the right and of the left atrium (2, 3)."""
    muscle: Array
    """Part of `qrs_moments` that grows and dies with the muscle of the segment (10, 3)."""
    notches: Kernels
    """Small sources of the QRS: centres and widths as fractions of the QRS, moments at a gain of one."""
    st: Kernels
    """Small sources of ST: centres and widths as fractions of QT, moments at a gain of one."""
    t_skew: float
    """Delay of T as a fraction of QT."""
    pr: float
    qrs: float
    qtc: float
    rate: float
    """Heart rate per minute in sinus rhythm."""
    electrodes: Array
    """Position of each electrode in cm (9, 3)."""


def _draw_interval(rng: np.random.Generator, interval: Interval, covariates: Array, low: float, high: float) -> float:
    """Draw one value of an interval, limited to what is normal."""
    mean = float(interval.effects @ covariates)
    return float(np.clip(rng.normal(mean, interval.spread), low, high))


def place_electrodes(rng: np.random.Generator, build: Build) -> Array:
    """Return the positions (9, 3) of the electrodes in one record in cm. Some are placed too high or too low."""
    positions = build.electrodes + rng.normal(0.0, 0.4, (9, 3))
    if rng.random() < 0.05:
        positions[3:5, 1] -= rng.uniform(2.0, 5.0)
    if rng.random() < 0.05:
        positions[6:, 1] += rng.uniform(1.5, 4.0)
    return np.asarray(positions)


def _draw_electrodes(rng: np.random.Generator) -> Array:
    """Draw where the electrodes of one patient are."""
    positions = ELECTRODE_POSITIONS * np.exp(rng.normal(0.0, 0.05)) + rng.normal(0.0, 0.5, (9, 3))
    return np.asarray(positions)


# Hearts that are drawn at most until one is normal.
MOST_DRAWS = 60


def _draw_muscle(rng: np.random.Generator, moments: Array) -> Array:
    """Draw the force of the muscle of each segment, turned as the heart is turned."""
    usual = unit(WIDTHS @ MOMENTS)
    here = unit(WIDTHS @ moments)

    # The shortest turn from one direction to the other (Rodrigues' formula).
    axis = np.cross(usual, here)
    cosine = float(usual @ here)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + cross + cross @ cross / max(1.0 + cosine, 0.1)
    mass = MUSCLE * np.exp(rng.normal(0.0, 0.25, len(SEGMENTS)))
    return np.asarray(mass[:, None] * MOMENTS @ turn.T)


def _draw_notches(rng: np.random.Generator) -> Kernels:
    """Draw three small sources of the QRS, which make notches and slurs."""
    notches = Kernels()
    for _ in range(3):
        place = PLACES[int(rng.integers(len(PLACES)))]
        width = rng.uniform(0.05, 0.09)
        notches.add(place, rng.uniform(0.15, 0.9), width, width, rng.normal(0.0, 0.05, 3))
    return notches


def _draw_st(rng: np.random.Generator) -> Kernels:
    """Draw two small sources of ST, which make it slope and bend."""
    st = Kernels()
    for _ in range(2):
        place, _ = REGIONS[str(rng.choice(list(REGIONS)))]
        width = rng.uniform(0.06, 0.12)
        st.add(place, rng.uniform(0.28, 0.5), width, width, rng.normal(0.0, 0.025, 3))
    return st


def draw_build(rng: np.random.Generator, age: int, female: bool) -> Build:
    """Draw the individual morphology of one patient, whose heart is normal before any condition is applied."""
    for _ in range(MOST_DRAWS):
        build = _draw_build(rng, age, female)
        if _is_normal(build, age, female):
            break
    return build


def _is_normal(build: Build, age: int, female: bool) -> bool:
    """Return whether a reader would call the QRS and the T wave normal."""
    t_centre, t_width = np.array(T_CLOCK).T
    t_places = np.array([REGIONS[name][0] for name in T_REGIONS])
    qrs, t = qrs_and_t(
        Sources(lead_field(PLACES, build.electrodes), build.gain * build.qrs_moments, CENTRES, WIDTHS),
        Sources(lead_field(t_places, build.electrodes), build.gain * build.t_moments, t_centre + build.t_skew, t_width),
    )
    return is_normal(qrs, t, age, female)


def _draw_build(rng: np.random.Generator, age: int, female: bool) -> Build:
    """Draw the individual morphology of one patient of the population."""
    normal = population()
    covariates = np.array([1.0, (age - 50) / 20.0, female - 0.5])
    log_gain = _draw_interval(rng, normal.gain, covariates, -0.6, 0.6)
    mean = np.append(covariates, log_gain) @ normal.effects
    moments = (mean + rng.standard_normal(len(normal.loadings)) @ normal.loadings).reshape(-1, 3)
    segments = len(SEGMENTS)
    t_end = segments + len(T_MOMENTS)
    return Build(
        gain=float(np.exp(log_gain)),
        qrs_moments=moments[:segments],
        t_moments=moments[segments:t_end],
        p_moments=moments[t_end:],
        muscle=_draw_muscle(rng, moments[:segments]),
        notches=_draw_notches(rng),
        st=_draw_st(rng),
        t_skew=float(rng.normal(0.0, 0.02)),
        pr=_draw_interval(rng, normal.pr, covariates, 0.112, 0.198),
        qrs=_draw_interval(rng, normal.qrs, covariates, 0.072, 0.108),
        qtc=_draw_interval(rng, normal.qtc, covariates, 0.36, 0.46),
        rate=float(np.clip(rng.normal(70.0, 10.5), 51.0, 98.0)),
        electrodes=_draw_electrodes(rng),
    )


def _notches(build: Build) -> Kernels:
    """Return the small sources of the QRS, with their times in s."""
    sources = build.notches
    notches = Kernels()
    for place, centre, width, moment in zip(sources.place, sources.centre, sources.left, sources.moment, strict=True):
        notches.add(place, centre * build.qrs, width * build.qrs, width * build.qrs, build.gain * moment)
    return notches


def normal_heart(rng: np.random.Generator, build: Build, p_wave: bool = True) -> Heart:
    """Draw the heart of a patient in one record, before any condition is applied."""
    # Breathing, posture and time turn the heart a little between two records of a patient.
    turn = rotation(*rng.normal(0.0, 0.05, 3))
    small_turn = rotation(*rng.normal(0.0, 0.02, 3))

    # ST and T.
    recovery = Kernels()
    t_moments = build.gain * float(np.exp(rng.normal(0.0, 0.08))) * build.t_moments @ turn.T
    for (centre, width), name, moment in zip(T_CLOCK, T_REGIONS, t_moments, strict=True):
        place, _ = REGIONS[name]
        recovery.add(place, centre + build.t_skew, width * T_RISE, width * T_FALL, moment)

    for place, centre, width, moment in zip(
        build.st.place, build.st.centre, build.st.left, build.st.moment, strict=True
    ):
        recovery.add(place, centre, width, width, build.gain * moment)

    # The right atrium is activated first, then the left one.
    atria = Kernels()
    if p_wave:
        p_moments = build.gain * float(np.exp(rng.normal(0.0, 0.1))) * build.p_moments
        for place, centre, left, right, moment in zip(*P_SOURCES, p_moments, strict=True):
            atria.add(place, centre, left, right, moment)
    return Heart(
        pr=build.pr,
        qrs=build.qrs,
        qtc=build.qtc,
        p_duration=0.105,
        atria=atria,
        place=PLACES @ small_turn.T,
        centre=CENTRES * build.qrs,
        width=WIDTHS * build.qrs,
        moment=build.gain * build.qrs_moments @ turn.T,
        muscle=build.gain * build.muscle @ turn.T,
        extra=_notches(build),
        recovery=recovery,
    )
