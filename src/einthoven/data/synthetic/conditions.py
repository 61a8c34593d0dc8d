"""Draw the patients: age, sex, conditions with their severity, and rhythm.

The prevalences, and how often superclasses occur together, follow the published label tables of PTB-XL (Wagner et al.
2020, "PTB-XL, a large publicly available electrocardiography dataset", Scientific Data 7:154). Rare conditions are
drawn more often, so that a set of two thousand records contains them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")

Menu = dict[tuple[str, ...], float]
"""A combination of codes -> its relative frequency."""

# Combinations of superclasses, as fractions of all patients.
_COMBINATIONS: Menu = {
    ("NORM",): 0.416,
    ("NORM", "CD"): 0.019,
    ("MI",): 0.117,
    ("STTC",): 0.109,
    ("CD",): 0.080,
    ("MI", "CD"): 0.062,
    ("HYP", "STTC"): 0.039,
    ("MI", "STTC"): 0.028,
    ("HYP",): 0.027,
    ("CD", "STTC"): 0.023,
    (): 0.015,
    ("HYP", "MI", "STTC"): 0.016,
    ("CD", "HYP"): 0.013,
    ("CD", "MI", "STTC"): 0.011,
    ("CD", "HYP", "STTC"): 0.010,
    ("HYP", "MI"): 0.008,
    ("CD", "HYP", "MI", "STTC"): 0.007,
    ("CD", "HYP", "MI"): 0.006,
}

# The statements of each superclass. Statements that can occur together form combinations.
_MI: Menu = {
    ("IMI",): 0.33,
    ("ASMI",): 0.28,
    ("ASMI", "IMI"): 0.09,
    ("ILMI",): 0.07,
    ("AMI",): 0.06,
    ("ALMI",): 0.04,
    ("LMI",): 0.03,
    ("ASMI", "ILMI"): 0.02,
    ("INJAS",): 0.025,
    ("INJAL",): 0.02,
    ("INJIN",): 0.005,
    ("IPLMI",): 0.01,
    ("IPMI",): 0.01,
    ("PMI",): 0.01,
}
_CD: Menu = {
    ("LAFB",): 0.26,
    ("IRBBB",): 0.17,
    ("IVCD",): 0.13,
    ("1AVB",): 0.10,
    ("CLBBB",): 0.09,
    ("CRBBB",): 0.06,
    ("LAFB", "IRBBB"): 0.03,
    ("LAFB", "CRBBB"): 0.03,
    ("LAFB", "1AVB"): 0.03,
    ("CLBBB", "1AVB"): 0.02,
    ("CRBBB", "1AVB"): 0.01,
    ("LPFB",): 0.035,
    ("WPW",): 0.03,
    ("ILBBB",): 0.02,
}
_HYP: Menu = {
    ("LVH",): 0.72,
    ("LVH", "LAO/LAE"): 0.07,
    ("LAO/LAE",): 0.10,
    ("RVH",): 0.03,
    ("RVH", "RAO/RAE"): 0.03,
    ("RAO/RAE",): 0.05,
}
_STTC: Menu = {
    ("NDT",): 0.37,
    ("ISC_",): 0.17,
    ("NST_",): 0.15,
    ("ISCAL",): 0.12,
    ("ISCIN",): 0.035,
    ("ISCIL",): 0.03,
    ("ISCAS",): 0.03,
    ("ISCLA",): 0.03,
    ("ISCAN",): 0.01,
    ("LNGQT",): 0.025,
    ("EL",): 0.02,
    ("DIG",): 0.03,
}
_MENU: dict[str, Menu] = {"MI": _MI, "CD": _CD, "HYP": _HYP, "STTC": _STTC}

# These conditions hide or imitate the signs of some other statements, which are then drawn less often.
_WIDE = {"CLBBB", "WPW"}

# Mean and standard deviation of the age in years.
_AGE = {"NORM": (52.0, 17.0), "OTHER": (66.5, 13.0)}


@dataclass
class Patient:
    """One patient."""

    number: int
    age: int
    female: bool
    conditions: dict[str, float]
    """Statement -> severity from 0 to 1, for the conditions that last over all records."""
    stage: float = 0.0
    """Stage of an infarct: 0 is old, 1 is fresh."""
    likelihood: dict[str, float] = field(default_factory=dict)
    """Statement -> likelihood in percent."""


def _choose(rng: np.random.Generator, menu: dict[Choice, float]) -> Choice:
    """Draw one key of a menu with a probability in proportion to its value."""
    weights = np.array(list(menu.values()))
    return list(menu)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def draw_patient(rng: np.random.Generator, number: int) -> Patient:
    """Draw one patient with the conditions that last over all records of the patient."""
    superclasses = _choose(rng, _COMBINATIONS)
    codes: list[str] = []
    for name in superclasses:
        if name == "NORM":
            codes.append("NORM")
        elif name == "CD" and "NORM" in superclasses:
            codes.append("IRBBB" if rng.random() < 0.65 else "IVCD")
        elif name == "STTC" and "HYP" in superclasses and rng.random() < 0.75:
            codes.append("ISC_")
        else:
            combination = _choose(rng, _MENU[name])
            codes.extend(combination)

    # A wide QRS hides or imitates these statements. Three in ten of them stay.
    if _WIDE & set(codes):
        codes = [code for code in codes if code not in {"LAFB", "IMI", "ISC_"} or rng.random() < 0.3]
    if {"ASMI", "AMI", "ALMI"} & set(codes) and rng.random() < 0.05:
        codes.append("ANEUR")

    # Age and sex depend on the conditions.
    mean, spread = _AGE["NORM" if "NORM" in codes else "OTHER"]
    if {"WPW", "IRBBB"} & set(codes):
        mean -= 8.0
    age = int(np.clip(rng.normal(mean, spread), 16, 89))
    fraction_of_men = {"NORM": 0.45, "MI": 0.64, "CD": 0.63, "HYP": 0.57, "STTC": 0.48}
    male_probability = float(np.mean([fraction_of_men[name] for name in superclasses])) if superclasses else 0.5

    severity = {code: float(rng.beta(1.8, 1.8)) for code in codes}
    likelihood = {}
    for code in codes:
        likelihood[code] = float(rng.choice([100, 80, 50, 35, 15], p=[0.55, 0.15, 0.15, 0.05, 0.10]))
    stage = float(rng.beta(2.0, 2.0)) if rng.random() < 0.10 else 0.0
    is_female = bool(rng.random() > male_probability)
    return Patient(number, age, is_female, severity, stage, likelihood)


def draw_rhythm(rng: np.random.Generator, patient: Patient) -> str:
    """Draw the basic rhythm of one record."""
    if "WPW" in patient.conditions or "1AVB" in patient.conditions:
        menu = {"SR": 0.90, "STACH": 0.04, "SBRAD": 0.06}
    elif "NORM" in patient.conditions:
        menu = {"SR": 0.845, "SARRH": 0.055, "SBRAD": 0.05, "STACH": 0.035, "AFIB": 0.002}
        if patient.age < 35:
            menu["SARRH"] = 0.15
    else:
        # Atrial fibrillation becomes more frequent with age.
        age_factor = 0.5 + max(patient.age - 50, 0) / 30.0
        menu = {"SR": 0.77, "SARRH": 0.02, "SBRAD": 0.02, "STACH": 0.045, "AFIB": 0.11 * age_factor}
        menu |= {"AFLT": 0.012, "PACE": 0.02}
        if "DIG" in patient.conditions:
            menu["AFIB"] = 1.0
    return _choose(rng, menu)
