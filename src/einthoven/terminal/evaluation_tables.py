"""The tables that `einthoven evaluate` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from einthoven.evaluation.comparison import Difference
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.operating_points import Point, Rule
from einthoven.evaluation.subgroups import Subgroup
from einthoven.functional.class_names import parts
from einthoven.terminal.display import results_table


def metrics_table(
    classes: Sequence[str], metrics: Mapping[str, float], macro: Interval, per_class: Sequence[Interval | None]
) -> Table:
    """AUROC of each class with its interval, and what calibration changed."""
    rows = [["macro AUROC", _with(metrics["macro_auroc"], macro)]]
    written = parts(classes)
    for name, interval in zip(classes, per_class, strict=True):
        if interval is not None:
            rows.append([f"AUROC {name}", _with(metrics[f"auroc/{written[name]}"], interval)])
    for key, label in (("nll", "negative log-likelihood"), ("brier", "Brier score"), ("ece", "calibration error")):
        rows.append([label, f"{metrics[f'{key}/before']:.4f} → {metrics[f'{key}/after']:.4f}"])
    return results_table("metrics; calibration: before → after", ["metric", "value"], rows)


def points_table(points: Mapping[str, Point], rule: Rule) -> Table:
    """One rule's threshold of each class, judged on the reported records."""
    rows = [
        [
            name,
            f"{point.threshold:.3f}",
            *(_with(point.judged[m], point.intervals[m], 2) for m in ("sensitivity", "specificity", "ppv")),
            _with(point.transfer, point.transfer_interval, 2, "+"),
        ]
        for name, point in points.items()
    ]
    title = f"operating points, {rule} where they were chosen (the other rules: evaluation.json)"
    return results_table(title, ["class", "threshold", "sensitivity", "specificity", "PPV", "transfer error"], rows)


def subgroups_table(groups: Sequence[Subgroup], classes: Sequence[str]) -> Table:
    """Each group with its AUROC and the class whose stated and observed shares differ most."""
    rows = []
    for group in groups:
        k = int(np.argmax(np.abs(group.gap)))
        rows.append(
            [
                f"{group.attribute}: {group.value}{' (small)' if group.small else ''}",
                str(group.records),
                "–" if np.isnan(group.auroc) else f"{_with(group.auroc, group.auroc_interval)} of {group.classes}",
                f"{classes[k]} {_with(float(group.gap[k]), group.gap_intervals[k], 2, '+')}",
            ]
        )
    return results_table("subgroups", ["group", "records", "macro AUROC, classes", "largest calibration gap"], rows)


def differences_table(differences: Mapping[str, Difference]) -> Table:
    """Paired differences with intervals and p."""
    rows = [
        [name, _with(d.difference, d.interval, 4, "+"), f"{d.p:.3f}", str(d.classes), str(d.interval.resamples)]
        for name, d in differences.items()
    ]
    return results_table("comparisons on the same records", ["what", "difference", "p", "classes", "resamples"], rows)


def _with(value: float, interval: Interval | None, digits: int = 3, sign: str = "") -> str:
    shown = "–" if np.isnan(value) else f"{value:{sign}.{digits}f}"
    if interval is None:
        return shown
    return f"{shown} ({interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f})"
