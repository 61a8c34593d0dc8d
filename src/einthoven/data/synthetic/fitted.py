"""The numbers that `bench/fit_hearts.py` and `bench/fit_noise.py` fit to real signals. They are in `fitted.json`.

The fit reads signals, age and sex. It reads no diagnosis. `fitted.json` names the records that it was made from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FILE = Path(__file__).with_name("fitted.json")


@dataclass(frozen=True)
class Interval:
    """An interval of the beat in a population, in s: its mean depends on age and sex."""

    effects: Array
    """Mean at 50 years, change per 20 years, and women minus men (3,)."""
    spread: float
    """Standard deviation."""


@dataclass(frozen=True)
class Population:
    """Normal hearts of many people: a normal distribution of the moments of all sources.

    The sources are 10 segments of the QRS, 7 sources of ST and T, and 2 sources of the P wave, with x, y and z each.
    """

    effects: Array
    """Mean of the moments at 50 years, change per 20 years, women minus men, change per unit of log gain (4, 57)."""
    loadings: Array
    """Principal directions of the moments between people, each of the length of one standard deviation (K, 57)."""
    gain: Interval
    """Log of the factor of all voltages."""
    pr: Interval
    qrs: Interval
    qtc: Interval


@dataclass(frozen=True)
class Levels:
    """How strong one kind of noise is on RA, LA, LL and V1 to V6: a normal distribution of the log of its SD in mV."""

    mean: Array
    """Mean of each electrode (9,)."""
    own: Array
    """Standard deviation of each electrode, independent of the others (9,)."""
    shared: Array
    """Standard deviations of the parts that all electrodes, the limbs and the chest have in common (3,)."""


@dataclass(frozen=True)
class NoiseLevels:
    """Noise of clinical recordings."""

    wander: Levels
    wander_slope: float
    """The amplitude of baseline wander falls with this power of the frequency."""
    muscle: Levels
    muscle_frequencies: Array
    """Hz (F,)."""
    muscle_correction: Array
    """Log of the factor of the amplitude spectrum of muscle noise at these frequencies: limbs, chest (2, F)."""


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def fitted_folds() -> list[int]:
    """Return the folds of PTB-XL whose signals the numbers were fitted to."""
    return sorted({int(fold) for part in _content().values() for fold in part["folds"]})


def _interval(values: dict[str, Any]) -> Interval:
    return Interval(np.array(values["effects"]), float(values["spread"]))


@lru_cache(maxsize=1)
def population() -> Population:
    """Return the distribution of normal hearts."""
    heart = _content()["heart"]
    return Population(
        effects=np.array(heart["effects"]),
        loadings=np.array(heart["loadings"]),
        gain=_interval(heart["gain"]),
        pr=_interval(heart["pr"]),
        qrs=_interval(heart["qrs"]),
        qtc=_interval(heart["qtc"]),
    )


@lru_cache(maxsize=1)
def lead_factors() -> Array:
    """Return the sensitivity of I, II and V1 to V6 as a multiple of Dower's (8,)."""
    return np.array(_content()["heart"]["lead_factors"])


@lru_cache(maxsize=1)
def noise_levels() -> NoiseLevels:
    """Return the noise of clinical recordings."""
    return read_noise_levels(_content()["noise"])


def read_noise_levels(noise: dict[str, Any]) -> NoiseLevels:
    """Return the part "noise" of `fitted.json` with its types."""
    return NoiseLevels(
        wander=_levels(noise["wander"]),
        wander_slope=float(noise["wander_slope"]),
        muscle=_levels(noise["muscle"]),
        muscle_frequencies=np.array(noise["muscle_frequencies"]),
        muscle_correction=np.array(noise["muscle_correction"]),
    )


def _levels(rows: list[list[float]]) -> Levels:
    mean, own, shared = rows
    return Levels(np.array(mean), np.array(own), np.array(shared))
