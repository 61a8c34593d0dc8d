"""Uncertainty of predictions: entropy, and its aleatoric and epistemic parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray
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
    return information.entropy(torch.from_numpy(probabilities), single_label).numpy()


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
