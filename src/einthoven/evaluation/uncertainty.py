"""Uncertainty of predictions: entropy, its aleatoric and epistemic parts, and the risk-coverage curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.scores import check_probabilities
from einthoven.functional import information


@dataclass(frozen=True)
class EntropyParts:
    """Predictive entropy of each record (n,) in nats: total = aleatoric + epistemic.

    In multi-label tasks it is the mean over the classes, like the loss.
    """

    total: FloatArray
    """Entropy of the mean probabilities of the members."""
    aleatoric: FloatArray
    """Mean entropy of the members: the uncertainty that remains if the right member is known."""
    epistemic: FloatArray
    """Mutual information of prediction and member: the disagreement of the members. It is 0 for a single member."""


def entropy(p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """Return the entropy (...) of probabilities (..., K) in nats.

    With `single_label` it is the categorical entropy, otherwise the mean of the Bernoulli entropies.
    """
    probabilities = np.asarray(p, dtype=np.float64).clip(0.0, 1.0)
    values: FloatArray = information.entropy(torch.from_numpy(probabilities), single_label).numpy()
    return values


def entropy_parts(members: npt.ArrayLike, single_label: bool) -> EntropyParts:
    """Split the predictive entropy of an ensemble. The members can also be draws of dropout masks.

    Parameters
    ----------
    members : array-like, shape (M, n, K)
        Probabilities of each member.
    single_label : bool
        Whether the probabilities of a record sum to 1.

    Raises
    ------
    UserError
        If the array has another shape, or if there is no member.

    References
    ----------
    Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft, "Decomposition of uncertainty in Bayesian deep learning", ICML 2018,
    equation 2. Ensembles: Lakshminarayanan et al., NeurIPS 2017. Dropout: Gal and Ghahramani, ICML 2016.
    """
    p = np.asarray(members, dtype=np.float64)
    if p.ndim != 3 or not len(p):
        raise UserError(f"Probabilities of shape (members, n, K) are needed, found {p.shape}.")
    total = entropy(p.mean(axis=0), single_label)
    aleatoric = entropy(p, single_label).mean(axis=0)
    # Entropy is concave, so the difference is at least 0. Only rounding can make it negative.
    epistemic = np.maximum(total - aleatoric, 0.0)
    return EntropyParts(total, aleatoric, epistemic)


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
        Mean of the risk over all coverages k/n. If the uncertainty is not related to the loss, it equals the risk at
        full coverage.
    """

    coverage: FloatArray
    risk: FloatArray
    area: float


def wrong_decisions(y_true: npt.ArrayLike, p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """Return the loss (n,) of each record: the share of classes with a wrong decision at the threshold 0.5.

    With `single_label`, the loss is 1 if the class with the highest probability is wrong, otherwise 0.
    """
    positive, probability = check_probabilities(y_true, p)
    if single_label:
        wrong: FloatArray = (positive.argmax(axis=1) != probability.argmax(axis=1)).astype(np.float64)
        return wrong
    share: FloatArray = ((probability >= 0.5) != positive).mean(axis=1)
    return share


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
