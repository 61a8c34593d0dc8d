"""Uncertain predictions in an evaluation: errors if they are withheld, and true labels that sets of labels miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from einthoven.evaluation.selective import ALPHA_OF_CLASSES, ALPHAS, COVERAGES
from einthoven.functional.class_names import parts
from einthoven.terminal.display import results_table


def unsure_table(metrics: Mapping[str, float]) -> Table:
    """Return the metrics of `einthoven.evaluation.selective.selective_metrics` as a table."""
    rows = []
    for coverage in COVERAGES:
        risk = metrics[f"abstention/risk_{coverage * 100:.0f}"]
        rows.append([f"share of wrong decisions if {coverage:.0%} of the records are answered", f"{risk:.3f}"])
    rows.append(["mean of this share over all shares of answered records", f"{metrics['abstention/area']:.3f}"])
    for alpha in ALPHAS:
        missed = metrics.get(f"conformal/missed_{alpha * 100:.0f}")
        if missed is not None:
            size = metrics[f"conformal/size_{alpha * 100:.0f}"]
            rows.append(
                [f"true labels missed by sets that may miss {alpha:.0%}", f"{missed:.1%} ({size:.1f} labels per set)"]
            )
    return results_table("Uncertain predictions", ["measure", "value"], rows)


def coverage_table(metrics: Mapping[str, float], classes: Sequence[str]) -> Table | None:
    """Return how often sets of labels contain each class in its positive records; None without positive records."""
    if "conformal/size_own" not in metrics:
        return None
    size = metrics[f"conformal/size_{ALPHA_OF_CLASSES * 100:.0f}"]
    metric_names = parts(classes)
    rows = []
    for name in classes:
        metric = metric_names[name]
        if f"conformal/coverage/{metric}" in metrics:
            one = metrics[f"conformal/coverage/{metric}"]
            own = metrics[f"conformal/coverage_own/{metric}"]
            rows.append([name, f"{one:.1%}", f"{own:.1%}"])
    rows.append(["size of a set", f"{size:.1f}", f"{metrics['conformal/size_own']:.1f}"])
    title = f"Share of the true labels that are in the set of their record (expected: {1 - ALPHA_OF_CLASSES:.0%})"
    return results_table(title, ["class", "one threshold", "a threshold for each class"], rows)
