"""Selective prediction: the errors that remain if the most uncertain records get no answer, and sets of labels.

A model that answers 80 % of the records leaves the others to a human reader. The risk-coverage curve says how many
wrong decisions remain for each share of answered records. Conformal sets name the labels that a record may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.conformal import class_thresholds, coverage_per_class, missed_share, risk_control_threshold
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.scores import check_probabilities
from einthoven.evaluation.uncertainty import entropy
from einthoven.functional.class_names import parts

ALPHAS = (0.05, 0.1, 0.2)
"""Shares of missed true labels for which sets of labels are made."""

ALPHA_OF_CLASSES = 0.1
"""Share of missed true labels for which the coverage of each class is reported."""

COVERAGES = (1.0, 0.9, 0.8, 0.5)
"""Shares of the records for which predictions are given; those with the largest entropy are withheld."""


@dataclass(frozen=True)
class RiskCoverage:
    """Risk-coverage curve: the mean loss if the most uncertain records are left out.

    Attributes
    ----------
    coverage : array of float64, shape (m,)
        Share of records that are not left out, ascending to 1.
    risk : array of float64, shape (m,)
        Mean loss of these records.
    area : float
        Mean of the risk over all coverages k/n (AURC). If the uncertainty is not related to the loss, it equals the
        risk at full coverage.
    """

    coverage: FloatArray
    risk: FloatArray
    area: float

    def risk_at(self, coverage: float) -> float:
        """Return the risk at the smallest coverage of the curve that is not below this one.

        Records with the same uncertainty are left out together, so the curve may have no point at a given coverage.
        """
        position = int(np.searchsorted(self.coverage, coverage - 1e-9))
        return float(self.risk[position])


def wrong_decisions(y_true: npt.ArrayLike, p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """Return the loss (n,) of each record: the share of classes with a wrong decision at the threshold 0.5.

    With `single_label`, the loss is 1 if the class with the highest probability is wrong, otherwise 0.
    """
    positive, probability = check_probabilities(y_true, p)
    if single_label:
        return (positive.argmax(axis=1) != probability.argmax(axis=1)).astype(np.float64)
    return ((probability >= 0.5) != positive).mean(axis=1)


def risk_coverage(loss: npt.ArrayLike, uncertainty: npt.ArrayLike) -> RiskCoverage:
    """Compute the risk-coverage curve. The records are added in the order of their certainty.

    Records with equal uncertainty are added together, as one point of the curve. In the area, each of them has the mean
    loss of all of them, as for a random order.

    Parameters
    ----------
    loss, uncertainty : array-like, shape (n,)
        Loss and uncertainty of each record.

    Raises
    ------
    UserError
        If they have different lengths, or are empty or not finite.

    References
    ----------
    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR 2010. The area: Geifman,
    Uziel, El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019.
    """
    losses = np.asarray(loss, dtype=np.float64)
    uncertainties = np.asarray(uncertainty, dtype=np.float64)
    if losses.ndim != 1 or losses.shape != uncertainties.shape or not len(losses):
        raise UserError(
            f"A loss and an uncertainty per record are needed, found {losses.shape} and {uncertainties.shape}."
        )
    if not (np.isfinite(losses).all() and np.isfinite(uncertainties).all()):
        raise UserError("Finite losses and uncertainties are needed.")
    n = len(losses)

    # Replace the loss of each record by the mean loss of the records with the same uncertainty.
    _, tie, tie_size = np.unique(uncertainties, return_inverse=True, return_counts=True)
    tie = tie.reshape(-1)
    mean_loss = np.bincount(tie, weights=losses) / tie_size
    order = np.argsort(uncertainties, kind="stable")
    total = np.cumsum(mean_loss[tie][order])

    count = np.cumsum(tie_size)
    area = float((total / np.arange(1, n + 1)).mean())
    return RiskCoverage(count / n, total[count - 1] / count, area)


def abstention(y: npt.ArrayLike, p: npt.ArrayLike, single_label: bool) -> RiskCoverage:
    """Return the share of wrong decisions for each share of records, if those with the largest entropy are withheld.

    Parameters
    ----------
    y, p : array-like, shape (n, K)
        Labels and calibrated probabilities.
    single_label : bool

    References
    ----------
    Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017.
    """
    return risk_coverage(wrong_decisions(y, p, single_label), entropy(p, single_label))


def selective_metrics(
    fit_y: FloatArray, fit_p: FloatArray, y: FloatArray, p: FloatArray, single_label: bool, classes: Sequence[str]
) -> dict[str, float]:
    """Return ``abstention/…`` and ``conformal/…`` metrics of the reported records.

    ``conformal/missed_ALPHA`` should be at most ALPHA percent, as a mean over many such splits. The coverage of a class
    is the share of its positive records whose set contains it: ``conformal/coverage/CLASS`` with one threshold for all
    classes, which promises nothing for a single class, and ``conformal/coverage_own/CLASS`` with a threshold of its
    own, which promises 90 %.

    Parameters
    ----------
    fit_y, fit_p : array of float64, shape (m, K)
        Labels and calibrated probabilities of the records on which the thresholds of the sets are fitted.
    y, p : array of float64, shape (n, K)
        The same of the reported records.
    single_label : bool
    classes : sequence of K str
    """
    curve = abstention(y, p, single_label)
    metrics = {"abstention/area": curve.area}
    for coverage in COVERAGES:
        metrics[f"abstention/risk_{coverage * 100:.0f}"] = curve.risk_at(coverage)
    # Without a true label, nothing can be missed.
    if not (y.any() and fit_y.any()):
        return metrics
    for alpha in ALPHAS:
        threshold = risk_control_threshold(fit_y, fit_p, alpha)
        metrics[f"conformal/missed_{alpha * 100:.0f}"] = float(missed_share(y, p, threshold).mean())
        metrics[f"conformal/size_{alpha * 100:.0f}"] = float((p >= threshold).sum(axis=1).mean())

    # Coverage of each class.
    one_threshold = np.full(len(classes), risk_control_threshold(fit_y, fit_p, ALPHA_OF_CLASSES))
    own_thresholds = class_thresholds(fit_y, fit_p, ALPHA_OF_CLASSES)
    metrics["conformal/size_own"] = float((p >= own_thresholds).sum(axis=1).mean())
    metric_names = parts(classes)
    for kind, thresholds in (("coverage", one_threshold), ("coverage_own", own_thresholds)):
        coverage_of_class = coverage_per_class(y, p, thresholds)
        for name, value in zip(classes, coverage_of_class, strict=True):
            if not np.isnan(value):
                metrics[f"conformal/{kind}/{metric_names[name]}"] = float(value)
        metrics[f"conformal/least_{kind}"] = float(np.nanmin(coverage_of_class))
    return metrics
