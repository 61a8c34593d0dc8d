"""Uncertainty of recipes on real records: calibration, selective prediction and conformal coverage of each class.

    python bench/bench_uncertainty.py PTBXL_ROOT [--mode groups|folds] [--recipes A B A+B …] [--reference A]

A+B is the mean of the probabilities of two recipes. It trains nothing. It reads the out-of-fold predictions of
`bench_recipes.py` from docs/results/recipes. The patients are divided into five parts. Calibration (a slope and an
offset for the logit of each class) and thresholds of sets are fitted on four parts and measured on the fifth, in turn,
in the same way for all recipes. Prints for each recipe the negative log-likelihood and the calibration error (ECE)
before and after, the risk at 80 % coverage and the area below the risk-coverage curve, the coverage of each class by
sets for 90 %, with one threshold for all classes and with one for each class; and the difference of the negative
log-likelihood from the reference, with its interval over patients. With several seeds, each figure is the mean over
the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from cross_fit import CrossFit, cross_fit
from numpy.typing import NDArray
from recipe_results import HELD_OUT, MOST_SEEDS, Held, Records, join, read, read_records

from einthoven.evaluation.calibration import Vector
from einthoven.evaluation.comparison import difference_of_means
from einthoven.evaluation.conformal import coverage_per_class, missed_share
from einthoven.evaluation.scores import calibration_error_per_class, log_loss_per_class
from einthoven.evaluation.selective import ALPHA_OF_CLASSES, abstention

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "recipes"
PARTS = 5

Array = NDArray[np.float64]


def read_recipes(results: Path, records: Records, recipes: str, mode: str) -> dict[int, Array]:
    """Return the out-of-fold probabilities (n, K) of each complete seed of a recipe, or of the mean of several: A+B."""
    members = [read_recipe(results, records, recipe, mode) for recipe in recipes.split("+")]
    seeds = sorted(set.intersection(*(set(member) for member in members)))
    return {seed: np.mean([member[seed] for member in members], axis=0) for seed in seeds}


def read_recipe(results: Path, records: Records, recipe: str, mode: str) -> dict[int, Array]:
    """Return the out-of-fold probabilities (n, K) of each complete seed of a recipe."""
    by_seed = {}
    for seed in range(MOST_SEEDS):
        files = [Held(mode, folds).file(results, recipe, seed) for folds in HELD_OUT[mode]]
        if not all(file.exists() for file in files):
            continue
        p = join([read(file) for file in files], records)
        if not np.isnan(p).any():
            by_seed[seed] = p
    return by_seed


def fit_on_others(records: Records, p: Array) -> CrossFit:
    """Calibrate the records of each part of the patients, and make their sets, by what is fitted on the other parts."""
    names, number_of_patient = np.unique(records.patient, return_inverse=True)
    part = (np.random.default_rng(0).permutation(len(names)) % PARTS)[number_of_patient]
    return cross_fit(partial(Vector, records.classes, False), records.y, p, part, alphas=(ALPHA_OF_CLASSES,))


def measure(records: Records, p: Array, fitted: CrossFit) -> dict[str, float]:
    """Return the figures of one seed of a recipe."""
    curve = abstention(records.y, fitted.p, single_label=False)
    # A set is a probability of 0 or 1 here, so that the functions of the package take it.
    sets = {
        "one": fitted.in_set[ALPHA_OF_CLASSES].astype(float),
        "own": fitted.in_own_set[ALPHA_OF_CLASSES].astype(float),
    }
    figures = {
        "nll before": float(log_loss_per_class(records.y, p).mean()),
        "nll": float(log_loss_per_class(records.y, fitted.p).mean()),
        "ece before": float(calibration_error_per_class(records.y, p).mean()),
        "ece": float(calibration_error_per_class(records.y, fitted.p).mean()),
        "risk at 80 %": curve.risk_at(0.8),
        "risk at 100 %": curve.risk_at(1.0),
        "area": curve.area,
        "missed": float(missed_share(records.y, sets["one"], 0.5).mean()),
    }
    for kind, members in sets.items():
        figures[f"size {kind}"] = float(members.sum(axis=1).mean())
        coverage = coverage_per_class(records.y, members, np.full(len(records.classes), 0.5))
        for name, value in zip(records.classes, coverage, strict=True):
            figures[f"{name} {kind}"] = float(value)
    return figures


def mean_nll(y: object, p: object) -> float:
    """Return the negative log-likelihood, as the mean over records and classes."""
    return float(log_loss_per_class(y, p).mean())


def show(figures: Mapping[str, Mapping[str, float]], columns: Mapping[str, str]) -> None:
    """Print a Markdown table of some figures: one line for each recipe."""
    print("\n| recipe | " + " | ".join(columns.values()) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for recipe, values in figures.items():
        print(f"| {recipe} | " + " | ".join(f"{values[name]:.4f}" for name in columns) + " |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Uncertainty of recipes")
    parser.add_argument("root", type=Path)
    parser.add_argument("--mode", choices=sorted(HELD_OUT), default="groups")
    parser.add_argument("--recipes", nargs="*")
    parser.add_argument("--reference", help="the recipe that others are compared with; the first one by default")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    records = read_records(options.root)
    recipes = options.recipes or sorted(folder.name for folder in options.results.iterdir() if folder.is_dir())

    figures = {}
    calibrated: dict[str, list[Array]] = {}
    for recipe in recipes:
        by_seed = read_recipes(options.results, records, recipe, options.mode)
        if not by_seed:
            print(f"{recipe}: no complete predictions of the mode {options.mode}")
            continue
        fitted = {seed: fit_on_others(records, p) for seed, p in by_seed.items()}
        measured = [measure(records, by_seed[seed], fitted[seed]) for seed in by_seed]
        figures[recipe] = {name: float(np.mean([values[name] for values in measured])) for name in measured[0]}
        calibrated[recipe] = [of_seed.p for of_seed in fitted.values()]
    if not figures:
        raise SystemExit(f"{options.results}: no predictions of {', '.join(recipes)}; bench_recipes.py makes them")

    print(f"{len(records.ecg_id)} records of {len(set(records.patient))} patients, folds 1-9, mode {options.mode}")
    counts = [f"{recipe} {len(calibrated[recipe])}" for recipe in figures]
    print(f"seeds: {', '.join(counts)}")
    calibration = {"nll before": "NLL before", "nll": "NLL after", "ece before": "ECE before", "ece": "ECE after"}
    show(figures, calibration)
    show(figures, {"risk at 100 %": "wrong, all answered", "risk at 80 %": "wrong, 80 % answered", "area": "AURC"})
    print("\nSets for 90 %, one threshold for all classes")
    show(figures, {"missed": "true labels missed", "size one": "labels in a set"})
    print("\nShare of the positive records of each class whose set has the class")
    show(figures, {f"{name} one": name for name in records.classes})
    print("\nSets for 90 %, a threshold for each class")
    show(figures, {"size own": "labels in a set", **{f"{name} own": name for name in records.classes}})

    reference = options.reference or next(iter(figures))
    print(f"\n| recipe | NLL after, minus that of {reference} | 95 % interval over patients |\n|---|---|---|")
    for recipe, p in calibrated.items():
        if recipe != reference:
            found = difference_of_means(records.y, calibrated[reference], p, mean_nll, groups=records.patient)
            print(f"| {recipe} | {found.difference:+.4f} | {found.interval.low:+.4f} to {found.interval.high:+.4f} |")


if __name__ == "__main__":
    main()
