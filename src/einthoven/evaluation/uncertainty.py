"""How unsure a prediction is, what of it the model does not know, and what is gained by leaving the unsure out."""

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
    """Predictive entropy of each record (n,), in nats: total = aleatoric + epistemic.

    Of several labels it is the mean over the classes, as the loss is.
    """

    total: FloatArray
    aleatoric: FloatArray
    """Mean entropy of the members: what stays open though the model were known."""
    epistemic: FloatArray
    """Mutual information of answer and member: how much the members disagree; 0 for one member."""


def entropy(p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """Entropy of probabilities (..., K) in nats, shape (...): categorical, or the mean of the Bernoulli ones."""
    probabilities = np.asarray(p, dtype=np.float64).clip(0.0, 1.0)
    values: FloatArray = information.entropy(torch.from_numpy(probabilities), single_label).numpy()
    return values


def entropy_parts(members: npt.ArrayLike, single_label: bool) -> EntropyParts:
    """Split the predictive entropy of an ensemble, or of draws of dropout masks.

    Parameters
    ----------
    members : array-like, shape (M, n, K)
        Probabilities of each member.
    single_label : bool
        Whether the probabilities of a record sum to 1.

    Raises
    ------
    UserError
        If the array has no such shape, or no member.

    References
    ----------
    Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft, "Decomposition of uncertainty in Bayesian deep learning", ICML 2018,
    equation 2; ensembles: Lakshminarayanan et al., NeurIPS 2017; dropout: Gal and Ghahramani, ICML 2016.
    """
    p = np.asarray(members, dtype=np.float64)
    if p.ndim != 3 or not len(p):
        raise UserError(f"Probabilities of shape (members, n, K) are needed, found {p.shape}.")
    total, aleatoric = entropy(p.mean(axis=0), single_label), entropy(p, single_label).mean(axis=0)
    return EntropyParts(total, aleatoric, np.maximum(total - aleatoric, 0.0))  # concavity, up to a rounding


@dataclass(frozen=True)
class RiskCoverage:
    """What the answers are worth if the most unsure ones are withheld.

    Attributes
    ----------
    coverage : array of float64, shape (m,)
        Share of records that are answered, ascending to 1.
    risk : array of float64, shape (m,)
        Mean loss of those.
    area : float
        Mean of the risk over all coverages k/n: where uncertainty tells nothing, it is the risk at full coverage.
    """

    coverage: FloatArray
    risk: FloatArray
    area: float


def wrong_decisions(y_true: npt.ArrayLike, p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """Loss of each record (n,): the share of classes decided wrongly at p >= 0.5; single label: 1 for a wrong class."""
    positive, probability = check_probabilities(y_true, p)
    if single_label:
        wrong: FloatArray = (positive.argmax(axis=1) != probability.argmax(axis=1)).astype(np.float64)
        return wrong
    share: FloatArray = ((probability >= 0.5) != positive).mean(axis=1)
    return share


def risk_coverage(loss: npt.ArrayLike, uncertainty: npt.ArrayLike) -> RiskCoverage:
    """The risk-coverage curve: records are answered in the order of their certainty.

    Records that are equally unsure are answered together, or, within the area, in random order.

    Parameters
    ----------
    loss, uncertainty : array-like, shape (n,)

    Raises
    ------
    UserError
        If they are not of one length, or empty, or not finite.

    References
    ----------
    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR 2010; the area: Geifman,
    Uziel, El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019.
    """
    values, unsure = np.asarray(loss, dtype=np.float64), np.asarray(uncertainty, dtype=np.float64)
    if values.ndim != 1 or values.shape != unsure.shape or not len(values):
        raise UserError(f"A loss and an uncertainty per record are needed, found {values.shape} and {unsure.shape}.")
    if not (np.isfinite(values).all() and np.isfinite(unsure).all()):
        raise UserError("Finite losses and uncertainties are needed.")
    n = len(values)
    _, group, size = np.unique(unsure, return_inverse=True, return_counts=True)
    of_group = np.bincount(group.reshape(-1), weights=values)
    total = np.cumsum((of_group / size)[group.reshape(-1)][np.argsort(unsure, kind="stable")])
    ends = np.cumsum(size)
    return RiskCoverage(ends / n, total[ends - 1] / ends, float((total / np.arange(1, n + 1)).mean()))
