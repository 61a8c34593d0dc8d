"""The tables and the figure of `bench_recipes.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from numpy.typing import NDArray
from recipe_results import Judged, Records

from einthoven.evaluation.intervals import Interval, compute_interval
from einthoven.evaluation.metrics import auroc_per_class, macro_auroc
from einthoven.evaluation.resampling import number_groups, resample_statistic
from einthoven.evaluation.scores import brier_per_class, log_loss_per_class
from einthoven.evaluation.weighted_auroc import WeightedAUROC
from einthoven.report.style import BLUE, FAINT, INK, new_figure, use_style

RESAMPLES = 1000
LEVEL = 0.95

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Difference of an AUROC between a recipe and the reference, with its bootstrap interval over patients."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.interval.low:+.4f} to {self.interval.high:+.4f})"


def differences(records: Records, judged: Sequence[Judged], reference: Judged) -> dict[str, dict[str, Difference]]:
    """Return the differences of each recipe to the reference, for ``macro`` and for each class.

    Both AUROCs are means over the seeds. All recipes are resampled with the same patients.
    """
    names = ("macro", *records.classes)
    reference_auroc, reference_resampled = _aurocs(records, reference)
    by_recipe = {}
    for recipe in judged:
        auroc, resampled = _aurocs(records, recipe)
        values = auroc - reference_auroc
        resampled_differences = resampled - reference_resampled
        by_recipe[recipe.name] = {
            name: Difference(float(values[k]), compute_interval(resampled_differences[:, k], LEVEL))
            for k, name in enumerate(names)
        }
    return by_recipe


def _aurocs(records: Records, recipe: Judged) -> tuple[Array, Array]:
    """Return macro AUROC and AUROC of each class, (1 + K,), and those of the resamples, (resamples, 1 + K)."""
    positive = records.y == 1
    patient = number_groups(records.patient, len(records.patient))
    # The same seed draws the same patients for all recipes.
    resampled = [resample_statistic(WeightedAUROC(positive, p), patient, RESAMPLES, seed=0) for p in recipe.p.values()]
    of_classes = np.mean([auroc_per_class(records.y, p) for p in recipe.p.values()], axis=0)
    resampled_of_classes = np.mean(resampled, axis=0)
    auroc = np.concatenate([[of_classes.mean()], of_classes])
    macro_resampled = resampled_of_classes.mean(axis=1, keepdims=True)
    return auroc, np.concatenate([macro_resampled, resampled_of_classes], axis=1)


def aurocs_of_parts(records: Records, recipe: Judged, parts: NDArray[np.int64]) -> list[float]:
    """Return the macro AUROC of each part of the records: the mean over the seeds. `parts` numbers the records."""
    aurocs = []
    for part in np.unique(parts):
        rows = parts == part
        aurocs.append(float(np.mean([macro_auroc(records.y[rows], p[rows]) for p in recipe.p.values()])))
    return aurocs


def print_tables(records: Records, judged: Sequence[Judged], reference: Judged) -> None:
    """Print the results of each recipe, and the differences to the reference, as tables in Markdown."""
    print(f"\n| recipe | seeds | macro AUROC | mean of parts | {' | '.join(records.classes)} ", end="")
    print("| NLL | Brier | parameters | minutes |")
    print("|---" * (8 + len(records.classes)) + "|")
    for recipe in judged:
        print(_result_row(records, recipe))
    of_folds = aurocs_of_parts(records, reference, records.fold)
    print(f"\nThe macro AUROC of {reference.name} in single folds is {min(of_folds):.3f} to {max(of_folds):.3f}.")
    by_recipe = differences(records, [recipe for recipe in judged if recipe is not reference], reference)
    print(f"\n| less {reference.name} | macro | {' | '.join(records.classes)} |")
    print("|---" * (2 + len(records.classes)) + "|")
    for name, found in sorted(by_recipe.items(), key=lambda item: -item[1]["macro"].value):
        print(f"| {name} | {' | '.join(map(str, found.values()))} |")
    compared = "1 row is" if len(by_recipe) == 1 else f"{len(by_recipe)} rows are"
    expected = (1 - LEVEL) * len(by_recipe)
    print(
        f"\n{compared} compared with {reference.name} on {len(records.ecg_id)} records. If none were better or worse, "
        f"about {expected:.1f} intervals of the macro AUROC would still not contain 0."
    )


def _result_row(records: Records, recipe: Judged) -> str:
    """Return a row of the table of results."""
    probabilities = list(recipe.p.values())
    of_classes = np.mean([auroc_per_class(records.y, p) for p in probabilities], axis=0)
    macros = [macro_auroc(records.y, p) for p in probabilities]
    spread = f" ± {np.std(macros, ddof=1):.4f}" if len(macros) > 1 else ""
    nll = np.mean([log_loss_per_class(records.y, np.clip(p, 5e-5, 1 - 5e-5)).mean() for p in probabilities])
    brier = np.mean([brier_per_class(records.y, p).mean() for p in probabilities])
    cells = [
        recipe.name,
        str(len(probabilities)),
        f"{np.mean(macros):.4f}{spread}",
        f"{np.mean(aurocs_of_parts(records, recipe, recipe.parts)):.4f}",
        *(f"{value:.3f}" for value in of_classes),
        f"{nll:.4f}",
        f"{brier:.4f}",
        f"{recipe.parameters:,}" if recipe.parameters else "",
        f"{recipe.minutes:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def draw_figure(records: Records, judged: Sequence[Judged], reference: Judged, path: Path) -> None:
    """Draw the differences to the reference with their intervals: macro AUROC, MI and CD."""
    by_recipe = differences(records, [recipe for recipe in judged if recipe is not reference], reference)
    names = sorted(by_recipe, key=lambda name: by_recipe[name]["macro"].value)
    rows = np.arange(len(names))
    with use_style():
        figure = new_figure(12, 1.2 + 0.36 * len(names))
        panels = figure.subplots(1, 3, sharey=True)
        for axes, of in zip(panels, ("macro", "MI", "CD"), strict=True):
            values = np.array([by_recipe[name][of].value for name in names])
            low = np.array([by_recipe[name][of].interval.low for name in names])
            high = np.array([by_recipe[name][of].interval.high for name in names])
            is_clear = (low > 0) | (high < 0)
            axes.axvline(0, color=INK, linewidth=1)
            for chosen, color in ((is_clear, BLUE), (~is_clear, FAINT)):
                axes.hlines(rows[chosen], low[chosen], high[chosen], color=color)
                axes.plot(values[chosen], rows[chosen], "o", color=color, markersize=5)
            axes.set_title("macro AUROC" if of == "macro" else f"AUROC of {of}")
            axes.set_xlabel(f"difference to {reference.name}")
        panels[0].set_yticks(rows, [fill(name.replace("+", " + "), 36) for name in names], fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
