"""What do age and sex tell about the superclasses that a model has not already read from the ECG?

    python bench/bench_age_sex.py PTBXL_ROOT [RECIPE[+RECIPE] ...]

The recipes are those of `bench_recipes.py`; A+B is a mean. Nothing is trained but a logistic regression per class. It
reads the log-odds of the recipe, and in the second row age, its square, sex, their product and whether the age is
missing, too. It is fitted to two of the three groups of folds and judged on the third, whose records the recipe has not
seen either.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recipe_results import HELD_OUT, SCALE, Held, Judged, Records, join, read, read_records
from recipe_table import differences, print_tables
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "recipes"
MODE = "groups"
SEEDS = (0, 1, 2)
OLDEST = 90.0
"""PTB-XL writes 300 for patients above 89 years."""

Array = NDArray[np.float64]


def read_demographics(root: Path, records: Records) -> Array:
    """Return age, its square, sex, their product and whether the age is missing, (n, 5). The age is in decades."""
    table = pd.read_csv(root / "ptbxl_database.csv", index_col="ecg_id").loc[records.ecg_id]
    age = table["age"].clip(upper=OLDEST)
    is_missing = age.isna().to_numpy(np.float64)
    decades = (age.fillna(age.median()).to_numpy(np.float64) - 60.0) / 10.0
    sex = table["sex"].to_numpy(np.float64)
    return np.stack([decades, decades**2, sex, decades * sex, is_missing], axis=1)


def read_recipe(records: Records, text: str) -> Judged:
    """Return the out-of-fold probabilities of a recipe, or of a mean A+B, for each seed."""
    held_out = [Held(MODE, folds) for folds in HELD_OUT[MODE]]
    parts = np.zeros(len(records.ecg_id), np.int64)
    for number, held in enumerate(held_out):
        parts[np.isin(records.fold, held.folds)] = number
    p = {}
    for seed in SEEDS:
        members = []
        for name in text.split("+"):
            predictions = [read(held.file(RESULTS, name, seed)) for held in held_out]
            members.append(join(predictions, records))
        p[seed] = np.mean(members, axis=0)
    return Judged(text, p, parts, 0, 0.0, frozenset())


def with_logistic(records: Records, recipe: Judged, name: str, more: Array) -> Judged:
    """Return the probabilities of logistic regressions on the log-odds of a recipe and more columns (n, m)."""
    by_seed = {}
    for seed, p in recipe.p.items():
        log_odds = logit(p.clip(1 / SCALE, 1 - 1 / SCALE))
        fitted = np.zeros_like(p)
        for k in range(p.shape[1]):
            columns = np.column_stack([log_odds[:, k], more])
            for part in np.unique(recipe.parts):
                is_held = recipe.parts == part
                regression = LogisticRegression(max_iter=2000).fit(columns[~is_held], records.y[~is_held, k])
                fitted[is_held, k] = regression.predict_proba(columns[is_held])[:, 1]
        by_seed[seed] = fitted
    return replace(recipe, name=name, p=by_seed)


def main(root: Path, names: list[str]) -> None:
    records = read_records(root)
    demographics = read_demographics(root, records)
    nothing = np.zeros((len(records.ecg_id), 0))
    for name in names:
        recipe = read_recipe(records, name)
        alone = with_logistic(records, recipe, f"{name}, logistic regression", nothing)
        both = with_logistic(records, recipe, f"{name}, logistic regression with age and sex", demographics)
        print_tables(records, [alone, both], alone, differences(records, [both], alone))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["default", "gradient_boosting", "default+gradient_boosting"])
