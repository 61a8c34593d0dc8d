"""The tables, the CSV and the figure of `bench_recipes.py`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
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


def print_tables(
    records: Records,
    judged: Sequence[Judged],
    reference: Judged,
    by_recipe: Mapping[str, Mapping[str, Difference]],
    options: Mapping[str, str] | None = None,
) -> None:
    """Print the results of each recipe as two tables in Markdown: all classes together, and each class. Best first.

    Parameters
    ----------
    records : Records
    judged : sequence of Judged
    reference : Judged
        The recipe that the others are compared with.
    by_recipe : mapping
        Their differences to the reference (`differences`).
    options : mapping of str to str, optional
        Options of each recipe, for a column in the place of the Brier score.
    """
    ordered = _best_first(judged, reference, by_recipe)
    names = ["recipe", "macro AUROC", f"difference to {reference.name} (95 %, patients)", "Brier", "minutes"]
    if options is not None:
        # A table of six columns would be too wide for a page.
        names.remove("Brier")
        names.insert(1, "options")
    _print_header(names)
    for recipe in ordered:
        cells = [_shown(recipe), _mean_and_spread(records, recipe)]
        cells.append(str(by_recipe[recipe.name]["macro"]) if recipe.name in by_recipe else "")
        if options is None:
            cells.append(f"{_brier(records, recipe):.4f}")
        else:
            cells.insert(1, options.get(recipe.name, ""))
        cells.append(f"{recipe.minutes:.1f}")
        print(f"| {' | '.join(cells)} |")

    print(f"\nAUROC of each class. Bold: the interval of the difference to {reference.name} does not contain 0.")
    _print_header(["recipe", *records.classes])
    for recipe in ordered:
        found = by_recipe.get(recipe.name, {})
        of_classes = np.mean([auroc_per_class(records.y, p) for p in recipe.p.values()], axis=0)
        cells = []
        for name, value in zip(records.classes, of_classes, strict=True):
            is_clear = name in found and not found[name].interval.low <= 0 <= found[name].interval.high
            cells.append(f"**{value:.3f}**" if is_clear else f"{value:.3f}")
        print(f"| {_shown(recipe)} | {' | '.join(cells)} |")

    seeds = ", ".join(f"{recipe.name} {len(recipe.p)}" for recipe in ordered)
    print(f"\nSeeds: {seeds}.")
    of_folds = aurocs_of_parts(records, reference, records.fold)
    print(f"The macro AUROC of {reference.name} in single folds is {min(of_folds):.3f} to {max(of_folds):.3f}.")
    compared = "1 row is" if len(by_recipe) == 1 else f"{len(by_recipe)} rows are"
    expected = (1 - LEVEL) * len(by_recipe)
    print(
        f"{compared} compared with {reference.name} on {len(records.ecg_id)} records. If none were better or worse, "
        f"about {expected:.1f} intervals of the macro AUROC would still not contain 0."
    )


def write_csv(
    records: Records,
    judged: Sequence[Judged],
    reference: Judged,
    by_recipe: Mapping[str, Mapping[str, Difference]],
    path: Path,
) -> None:
    """Write all figures of each recipe: those of the tables, and the differences of each class with their intervals."""
    lines = []
    for recipe in _best_first(judged, reference, by_recipe):
        probabilities = list(recipe.p.values())
        macros = [macro_auroc(records.y, p) for p in probabilities]
        of_classes = np.mean([auroc_per_class(records.y, p) for p in probabilities], axis=0)
        nll = np.mean([log_loss_per_class(records.y, np.clip(p, 5e-5, 1 - 5e-5)).mean() for p in probabilities])
        line: dict[str, object] = {
            "recipe": recipe.name,
            "seeds": len(probabilities),
            "macro_auroc": f"{np.mean(macros):.4f}",
            "macro_auroc_sd": f"{np.std(macros, ddof=1):.4f}" if len(macros) > 1 else "",
            "mean_of_parts": f"{np.mean(aurocs_of_parts(records, recipe, recipe.parts)):.4f}",
        }
        line |= {f"auroc_{name}": f"{value:.4f}" for name, value in zip(records.classes, of_classes, strict=True)}
        line |= {"nll": f"{nll:.4f}", "brier": f"{_brier(records, recipe):.4f}"}
        line |= {"parameters": recipe.parameters or "", "minutes": f"{recipe.minutes:.1f}"}
        found = by_recipe.get(recipe.name, {})
        for name in ("macro", *records.classes):
            ends = [found[name].value, found[name].interval.low, found[name].interval.high] if name in found else []
            texts = [f"{value:+.4f}" for value in ends] or ["", "", ""]
            line |= dict(zip((f"less_{name}", f"less_{name}_low", f"less_{name}_high"), texts, strict=True))
        lines.append(line)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _best_first(
    judged: Sequence[Judged], reference: Judged, by_recipe: Mapping[str, Mapping[str, Difference]]
) -> list[Judged]:
    """Return the recipes, sorted by their difference to the reference."""

    def gain(recipe: Judged) -> float:
        return 0.0 if recipe is reference else by_recipe[recipe.name]["macro"].value

    return sorted(judged, key=gain, reverse=True)


def _print_header(names: Sequence[str]) -> None:
    """Print the first two lines of a table in Markdown."""
    print(f"\n| {' | '.join(names)} |")
    print("|---" * len(names) + "|")


def _shown(recipe: Judged) -> str:
    """Return the name of a recipe as a page shows it. A long mean can be broken into lines."""
    return recipe.name.replace("+", " + ")


def _mean_and_spread(records: Records, recipe: Judged) -> str:
    """Return the macro AUROC as a text: the mean over the seeds, and their standard deviation."""
    macros = [macro_auroc(records.y, p) for p in recipe.p.values()]
    spread = f" ± {np.std(macros, ddof=1):.4f}" if len(macros) > 1 else ""
    return f"{np.mean(macros):.4f}{spread}"


def _brier(records: Records, recipe: Judged) -> float:
    """Return the Brier score: the mean over the seeds."""
    return float(np.mean([brier_per_class(records.y, p).mean() for p in recipe.p.values()]))


def draw_figure(by_recipe: Mapping[str, Mapping[str, Difference]], reference: Judged, path: Path) -> None:
    """Draw the differences to the reference with their intervals: macro AUROC, MI and CD."""
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
