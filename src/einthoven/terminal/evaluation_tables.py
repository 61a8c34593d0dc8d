"""The tables of `einthoven evaluate` and `einthoven probe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from einthoven.evaluation.comparison import Difference
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.operating_points import Point, Rule
from einthoven.evaluation.probe_comparison import ProbeResult
from einthoven.evaluation.selective import ALPHA_OF_CLASSES, ALPHAS, COVERAGES
from einthoven.evaluation.subgroups import Subgroup
from einthoven.functional.class_names import parts
from einthoven.terminal.display import results_table

CALIBRATION_METRICS = {"nll": "negative log-likelihood", "brier": "Brier score", "ece": "calibration error"}

RATES = ("sensitivity", "specificity", "ppv")


def metrics_table(
    classes: Sequence[str], metrics: Mapping[str, float], macro: Interval, per_class: Sequence[Interval | None]
) -> Table:
    """Return the AUROC of each class with its interval, and the calibration metrics before and after calibration."""
    rows = [["macro AUROC", _with_interval(metrics["macro_auroc"], macro)]]
    metric_names = parts(classes)
    for name, interval in zip(classes, per_class, strict=True):
        if interval is not None:
            rows.append([f"AUROC {name}", _with_interval(metrics[f"auroc/{metric_names[name]}"], interval)])
    for metric, label in CALIBRATION_METRICS.items():
        rows.append([label, f"{metrics[f'{metric}/before']:.4f} → {metrics[f'{metric}/after']:.4f}"])
    return results_table("Metrics (→: before and after the calibration)", ["metric", "value"], rows)


def points_table(points: Mapping[str, Point], rule: Rule) -> Table:
    """Return the threshold that one rule chose for each class, with its rates on the reported records."""
    rows = []
    for name, point in points.items():
        rates = [_with_interval(point.judged[rate], point.intervals[rate], 2) for rate in RATES]
        transfer = _with_interval(point.transfer, point.transfer_interval, 2, "+")
        rows.append([name, f"{point.threshold:.3f}", *rates, transfer])
    title = (
        f"Operating points: each threshold was chosen for {rule} on other records. The last column is the "
        f"{rule.measure} here minus that on those records. evaluation.json has other rules."
    )
    return results_table(title, ["class", "threshold", "sensitivity", "specificity", "PPV", "difference"], rows)


def subgroups_table(groups: Sequence[Subgroup], classes: Sequence[str]) -> Table:
    """Return the AUROC of each subgroup, and its class with the largest calibration gap."""
    rows = []
    for group in groups:
        size = " (small)" if group.small else ""
        auroc = "–"
        if not np.isnan(group.auroc):
            auroc = f"{_with_interval(group.auroc, group.auroc_interval)} of {group.classes}"
        k = int(np.argmax(np.abs(group.gap)))
        gap = _with_interval(float(group.gap[k]), group.gap_intervals[k], 2, "+")
        rows.append([f"{group.attribute}: {group.value}{size}", str(group.records), auroc, f"{classes[k]} {gap}"])
    return results_table("Subgroups", ["group", "records", "macro AUROC, classes", "largest calibration gap"], rows)


def differences_table(differences: Mapping[str, Difference]) -> Table:
    """Return paired differences with their intervals and p values."""
    rows = []
    for name, difference in differences.items():
        value = _with_interval(difference.difference, difference.interval, 4, "+")
        resamples = str(difference.interval.resamples)
        rows.append([name, value, f"{difference.p:.3f}", str(difference.classes), resamples])
    columns = ["comparison", "difference", "p", "classes", "resamples"]
    return results_table("Comparisons on the same records", columns, rows)


def probe_table(results: Mapping[str, ProbeResult], names: Mapping[str, str]) -> Table:
    """Return the macro AUROC of each kind of probe: of the trained encoder, of random encoders, and the difference."""
    rows = []
    for kind, result in results.items():
        spread = "" if np.isnan(result.random_sd) else f" ± {result.random_sd:.3f}"
        difference = _with_interval(result.difference.difference, result.difference.interval, 3, "+")
        rows.append(
            [
                names[kind],
                _with_interval(result.macro_auroc, result.interval),
                f"{result.random_mean:.3f}{spread}",
                difference,
                f"{result.difference.p:.3f}",
            ]
        )
    count = len(next(iter(results.values())).random)
    title = f"Macro AUROC of the embeddings. random: the mean ± sd of {count} random encoder{'s' * (count > 1)}"
    return results_table(title, ["probe", "this run", "random", "difference", "p"], rows)


def _with_interval(value: float, interval: Interval | None, digits: int = 3, sign: str = "") -> str:
    """Return a value with its interval as text. With the sign ``+``, positive numbers have one."""
    text = "–" if np.isnan(value) else _rounded(value, digits, sign)
    if interval is None:
        return text
    return f"{text} ({_rounded(interval.low, digits, sign)} to {_rounded(interval.high, digits, sign)})"


def _rounded(value: float, digits: int, sign: str) -> str:
    """Return a rounded number as text. A small negative number is 0.00, not -0.00."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


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
