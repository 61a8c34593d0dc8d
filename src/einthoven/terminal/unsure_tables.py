"""Uncertain predictions in an evaluation: errors if they are withheld, and true labels that sets of labels miss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from einthoven.evaluation.conformal import missed_share, risk_control_threshold
from einthoven.evaluation.uncertainty import RiskCoverage, entropy, risk_coverage, wrong_decisions
from einthoven.terminal.display import results_table

Float = NDArray[np.float64]
ALPHAS = (0.05, 0.1, 0.2)
"""Shares of missed true labels for which sets of labels are made."""
COVERAGES = (1.0, 0.9, 0.8, 0.5)
"""Shares of the records for which predictions are given; those with the largest entropy are withheld."""


def abstention(y: Float, p: Float, single_label: bool) -> RiskCoverage:
    """Return the share of wrong decisions for each share of records, if those with the largest entropy are withheld.

    Parameters
    ----------
    y, p : array of float64, shape (n, K)
        Labels and calibrated probabilities.
    single_label : bool
    """
    return risk_coverage(wrong_decisions(y, p, single_label), entropy(p, single_label))


def unsure_metrics(fit_y: Float, fit_p: Float, y: Float, p: Float, single_label: bool) -> dict[str, float]:
    """Return ``abstention/…`` and ``conformal/…`` metrics of the reported records.

    ``conformal/missed_ALPHA`` should be at most ALPHA percent, as a mean over many such splits.

    Parameters
    ----------
    fit_y, fit_p : array of float64, shape (m, K)
        Labels and calibrated probabilities of the records on which the thresholds of the sets are fitted.
    y, p : array of float64, shape (n, K)
        The same of the reported records.
    single_label : bool
    """
    curve = abstention(y, p, single_label)
    metrics = {"abstention/area": curve.area}
    for coverage in COVERAGES:
        # Records with the same entropy are withheld together, so the curve may have no point at this coverage.
        position = int(np.searchsorted(curve.coverage, coverage - 1e-9))
        metrics[f"abstention/risk_{coverage * 100:.0f}"] = float(curve.risk[position])
    # Without a true label, nothing can be missed.
    if y.any() and fit_y.any():
        for alpha in ALPHAS:
            threshold = risk_control_threshold(fit_y, fit_p, alpha)
            metrics[f"conformal/missed_{alpha * 100:.0f}"] = float(missed_share(y, p, threshold).mean())
            metrics[f"conformal/size_{alpha * 100:.0f}"] = float((p >= threshold).sum(axis=1).mean())
    return metrics


def unsure_table(metrics: Mapping[str, float]) -> Table:
    """Return the metrics of `unsure_metrics` as a table."""
    rows = []
    for coverage in COVERAGES:
        risk = metrics[f"abstention/risk_{coverage * 100:.0f}"]
        rows.append([f"wrong decisions, {coverage:.0%} of the records answered", f"{risk:.3f}"])
    for alpha in ALPHAS:
        missed = metrics.get(f"conformal/missed_{alpha * 100:.0f}")
        if missed is not None:
            size = metrics[f"conformal/size_{alpha * 100:.0f}"]
            rows.append([f"true labels missed by sets for {alpha:.0%}", f"{missed:.1%} (sets of {size:.1f})"])
    return results_table("uncertain predictions", ["measure", "value"], rows)
