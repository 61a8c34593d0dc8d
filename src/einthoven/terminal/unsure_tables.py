"""What an evaluation says of unsure answers: what is gained by withholding them, and what sets of statements miss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from einthoven.evaluation.conformal import missed_share, risk_control_threshold
from einthoven.evaluation.uncertainty import RiskCoverage, entropy, risk_coverage, wrong_decisions
from einthoven.terminal.display import results_table

Float = NDArray[np.float64]
ALPHAS = (0.05, 0.1, 0.2)  # expected shares of missed true statements that sets are offered for
COVERAGES = (1.0, 0.9, 0.8, 0.5)


def abstention(y: Float, p: Float, single_label: bool) -> RiskCoverage:
    """Share of wrong decisions among the records that are answered, the unsure by their entropy withheld."""
    return risk_coverage(wrong_decisions(y, p, single_label), entropy(p, single_label))


def unsure_metrics(fit_y: Float, fit_p: Float, y: Float, p: Float, single_label: bool) -> dict[str, float]:
    """Of calibrated probabilities: ``abstention/…`` of the reported records, and what their sets miss.

    ``conformal/missed_ALPHA`` should be ALPHA percent at most, as a mean over many such splits.
    """
    curve = abstention(y, p, single_label)
    found = {"abstention/area": curve.area}
    for coverage in COVERAGES:
        at = int(np.searchsorted(curve.coverage, coverage - 1e-9))  # records that are equally unsure go together
        found[f"abstention/risk_{coverage * 100:.0f}"] = float(curve.risk[at])
    for alpha in ALPHAS if y.any() and fit_y.any() else ():
        threshold = risk_control_threshold(fit_y, fit_p, alpha)
        found[f"conformal/missed_{alpha * 100:.0f}"] = float(missed_share(y, p, threshold).mean())
        found[f"conformal/size_{alpha * 100:.0f}"] = float((p >= threshold).sum(axis=1).mean())
    return found


def unsure_table(metrics: Mapping[str, float]) -> Table:
    """Both in one table."""
    rows = []
    for coverage in COVERAGES:
        risk = metrics[f"abstention/risk_{coverage * 100:.0f}"]
        rows.append([f"wrong decisions, {coverage:.0%} of the records answered", f"{risk:.3f}"])
    for alpha in ALPHAS:
        if (missed := metrics.get(f"conformal/missed_{alpha * 100:.0f}")) is not None:
            size = metrics[f"conformal/size_{alpha * 100:.0f}"]
            rows.append([f"true statements missed by sets for {alpha:.0%}", f"{missed:.1%} (sets of {size:.1f})"])
    return results_table("unsure answers", ["what", "value"], rows)
