"""Information measures of predictions, in nats: entropy, divergence from the labels, change between evaluations.

All measures use the same reduction as the loss. In a single-label task, a record is one categorical distribution.
Otherwise the measure is the mean over the classes of the record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.functional.information import bernoulli_kl, entropy, kl


@torch.no_grad()
def predictive_entropy(logits: Tensor, single_label: bool = False, valid: Tensor | None = None) -> Tensor:
    """Return the mean entropy of the predictions in nats, as a device tensor.

    Parameters
    ----------
    logits
        ``[B, K]``.
    single_label
        True if each row is one categorical distribution. Otherwise a row is K Bernoulli distributions, and its entropy
        is the mean over the classes.
    valid
        ``[B]``, false for records that are padding; None if all records are valid.
    """
    # Half precision cannot represent probabilities very close to 0 and 1.
    logits = logits.float()
    return _mean_over_records(entropy(logits, single_label, logits=True), valid)


@torch.no_grad()
def label_information(
    labels: Tensor, logits: Tensor, single_label: bool = False, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Split the cross-entropy into a part of the labels and a part of the model, as device tensors.

    ``cross-entropy = watch/diag/entropy_labels + watch/diag/kl_labels``. The first part is the entropy of the labels.
    It is 0 for hard labels. For smoothed or mixed labels, it is the part of the loss that no model can remove. The
    second part is KL(labels ‖ predictions). If the loss is the unweighted cross-entropy with the same labels, the sum
    equals the loss.

    Parameters
    ----------
    labels, logits
        ``[B, K]``.
    single_label, valid
        Same as in `predictive_entropy`.
    """
    labels = labels.float()
    logits = logits.float()
    return {
        "watch/diag/entropy_labels": _mean_over_records(entropy(labels, single_label), valid),
        "watch/diag/kl_labels": _mean_over_records(kl(labels, logits, single_label, logits=True), valid),
    }


def _mean_over_records(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of (B, ...) over the valid records, without waiting for the device."""
    if valid is None:
        return values.mean(dim=0)
    weights = valid.to(values.dtype) / valid.sum()
    return torch.tensordot(weights, values, dims=1)


class PriorKL:
    """Divergence of the mean prediction of each class from the share of its positive labels.

    It is the mean over classes of the Bernoulli KL(label marginal ‖ mean predicted marginal), also in single-label
    tasks. Both marginals are exponential running means over the same batches, so random differences between the labels
    of the batches appear in both. The running means start at zero. They are corrected for this start in the same way
    as the moments of Adam (Kingma & Ba, 2015, section 3), so the first value is that of the first batch.

    Parameters
    ----------
    horizon
        A batch loses about 1/e of its weight in the running means after this many further batches.
    """

    def __init__(self, horizon: float = 100.0) -> None:
        if not horizon >= 1.0:
            raise ValueError(f"the horizon of a running mean must be at least 1 batch, found {horizon}")
        self.horizon = horizon
        self._sums: Tensor | None = None  # (2, K): weighted sums of labels and of predictions
        self._weight = torch.zeros(())  # total weight of the batches in the sums; it approaches 1

    @torch.no_grad()
    def update(self, labels: Tensor, probabilities: Tensor, valid: Tensor | None = None) -> Tensor:
        """Add a batch and return ``watch/diag/kl_prior`` as a device tensor.

        Parameters
        ----------
        labels
            ``[B, K]``, hard or soft.
        probabilities
            ``[B, K]``, predictions of the model.
        valid
            Same as in `predictive_entropy`.
        """
        label_marginal = _mean_over_records(labels.float(), valid)
        predicted_marginal = _mean_over_records(probabilities.float(), valid)
        batch = torch.stack([label_marginal, predicted_marginal])
        sums = torch.zeros_like(batch) if self._sums is None else self._sums.to(batch.device)
        weight = self._weight.to(batch.device)
        decay = 1.0 - 1.0 / self.horizon

        # The step of a batch with predictions that are not finite is skipped. It must not change the running means.
        is_finite = batch.isfinite().all()
        self._sums = torch.where(is_finite, decay * sums + (1.0 - decay) * batch, sums)
        self._weight = torch.where(is_finite, decay * weight + (1.0 - decay), weight)

        # Rounding can make the quotient slightly larger than 1.
        marginals = self._sums / self._weight
        reference, predicted = marginals.clamp(0.0, 1.0)
        return bernoulli_kl(reference, predicted).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"weight": self._weight.clone(), "sums": None if self._sums is None else self._sums.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        # einthoven 0.1 stored the number of batches instead of their weight.
        if "count" in state:
            self._weight = torch.tensor(1.0 - (1.0 - 1.0 / self.horizon) ** int(state["count"]))
        else:
            self._weight = state["weight"].clone()
        self._sums = None if state["sums"] is None else state["sums"].clone()


def kl_drift(
    p_previous: Tensor | NDArray[np.floating[Any]],
    p_now: Tensor | NDArray[np.floating[Any]],
    *,
    single_label: bool = False,
) -> float:
    """Return the mean KL(p_previous ‖ p_now) over records, in nats: the change of the model between two evaluations.

    Parameters
    ----------
    p_previous, p_now
        Probabilities ``(n, K)`` of the same records. `p_now` is clipped to one float32 rounding step from 0 and 1, so
        that one saturated output does not make the mean infinite.
    single_label
        True if each row is one categorical distribution. Otherwise the divergence of a record is the mean over its
        classes.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    previous = torch.as_tensor(p_previous).detach().double()
    now = torch.as_tensor(p_now).detach().double()
    if previous.shape != now.shape:
        raise ValueError(
            f"the predictions are for different records: shapes {tuple(previous.shape)} and {tuple(now.shape)}"
        )
    eps = torch.finfo(torch.float32).eps
    now = now.clamp(eps, 1.0 - eps)
    return float(kl(previous, now, single_label).mean())  # sync: once per evaluation


def kl_windows(p: NDArray[np.floating[Any]], record: NDArray[np.int64], *, single_label: bool = False) -> float | None:
    """Return how much the predictions of the windows of one record differ, in nats.

    It is the mean over records of the mean over their windows of KL(p of the window ‖ mean p of the record): the
    Jensen-Shannon divergence of the windows (Lin 1991, "Divergence measures based on the Shannon entropy", equation
    5.1).

    Parameters
    ----------
    p
        Probabilities of the windows, ``(m, K)``.
    record
        Record number of each window, ``(m,)``.
    single_label
        Same as in `kl_drift`.

    Returns
    -------
    float or None
        None if no record has two windows. Records with one window are left out.
    """
    # row[i] is the record of window i, as a position in window_count.
    _, row, window_count = np.unique(record, return_inverse=True, return_counts=True)
    has_several = window_count[row] > 1
    if not has_several.any():
        return None

    sums = np.stack([np.bincount(row, column) for column in p.T], axis=1)
    mean = sums / window_count[:, None]
    rows = row[has_several]
    divergence = kl(torch.as_tensor(p[has_several]).double(), torch.from_numpy(mean[rows]), single_label)

    # Each record has the same weight, whatever its number of windows.
    return float(np.average(divergence.numpy(), weights=1 / window_count[rows]))


def agreement(p: NDArray[np.floating[Any]], q: NDArray[np.floating[Any]], *, single_label: bool = False) -> float:
    """Return the share of decisions that are equal in two predictions of the same records.

    A decision is the most probable class of a record in a single-label task. Otherwise it is whether a class has a
    probability of 0.5 or more, one decision per record and class.

    Parameters
    ----------
    p, q
        Probabilities, ``(n, K)``.
    single_label
        Same as in `kl_drift`.
    """
    if single_label:
        return float((p.argmax(axis=1) == q.argmax(axis=1)).mean())
    return float(((p >= 0.5) == (q >= 0.5)).mean())


def confident_wrong(y: NDArray[np.floating[Any]], p: NDArray[np.floating[Any]], confidence: float = 0.9) -> float:
    """Return the share of decisions (one per record and class) that are confident and wrong.

    Parameters
    ----------
    y, p
        Labels (0 or 1) and probabilities, ``(n, K)``.
    confidence
        A decision is confident if the class, or its absence, has more than this probability. With calibrated
        probabilities, fewer than ``1 - confidence`` of the confident decisions are wrong.
    """
    return float((np.abs(y - p) > confidence).mean())


def entropy_histogram(
    p: NDArray[np.floating[Any]], *, single_label: bool = False, bins: int = 30
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a histogram of the predictive entropy over records.

    Parameters
    ----------
    p
        Probabilities, ``(n, K)``.
    single_label
        Same as in `kl_drift`.
    bins
        Number of bins of equal width, from 0 to the largest possible entropy: log K in single-label tasks, otherwise
        log 2.

    Returns
    -------
    counts : array of int64, shape (bins,)
    edges : array of float64, shape (bins + 1,)
        Limits of the bins in nats.
    """
    outcomes = p.shape[1] if single_label else 2
    largest = np.log(outcomes)
    values = entropy(torch.as_tensor(p).double(), single_label)
    return np.histogram(values.clamp(0, largest).numpy(), bins, (0.0, largest))
