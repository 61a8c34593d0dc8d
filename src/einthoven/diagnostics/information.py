"""What the predictions say, in nats: how unsure they are, is their prior right, how far did they move.

All measures have the reduction of the loss: with a single label a record is one categorical distribution, otherwise the
measure is the mean over its classes.
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
    """Mean entropy of the predictions, in nats, as a device tensor.

    Parameters
    ----------
    logits
        ``[B, K]``.
    single_label
        Whether each row is one categorical distribution; otherwise it is K Bernoulli distributions, and its entropy
        is the mean over its classes.
    valid
        ``[B]``, false for records that only fill up the batch; None: all are valid.
    """
    logits = logits.float()  # half precision loses the tails
    return _mean_over_records(entropy(logits, single_label, logits=True), valid)


@torch.no_grad()
def label_information(
    labels: Tensor, logits: Tensor, single_label: bool = False, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Split the cross-entropy into the part of the labels and the part of the model: device tensors.

    ``cross-entropy = watch/diag/entropy_labels + watch/diag/kl_labels``. The first part is the entropy of the labels: 0
    where they are hard, and what no model can remove where they are smoothed or mixed. The second is
    KL(labels ‖ predictions). With the labels that the loss compares with, the sum is the loss, if that is the
    unweighted cross-entropy.

    Parameters
    ----------
    labels, logits
        ``[B, K]``.
    single_label, valid
        As in `predictive_entropy`.
    """
    labels, logits = labels.float(), logits.float()
    return {
        "watch/diag/entropy_labels": _mean_over_records(entropy(labels, single_label), valid),
        "watch/diag/kl_labels": _mean_over_records(kl(labels, logits, single_label, logits=True), valid),
    }


def _mean_over_records(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of (B, ...) over the valid records, without waiting for the device."""
    if valid is None:
        return values.mean(dim=0)
    weights = valid.to(values.dtype) / valid.sum()
    mean: Tensor = torch.tensordot(weights, values, dims=1)
    return mean


class PriorKL:
    """Divergence of the mean predictions from the frequencies of the labels.

    Is the head's prior right? Mean over classes of the Bernoulli KL(label marginal || mean predicted marginal), also
    where each record has a single label. Both marginals are exponential running means over the same batches, so chance
    fluctuations of the labels in a batch appear in both. They start from nothing and are corrected for it as the
    moments of Adam are (Kingma & Ba, 2015, section 3), so the first value is that of the first batch.

    Parameters
    ----------
    horizon
        Batches over which the running mean forgets: a batch's weight falls by 1/e in about `horizon` updates.
    """

    def __init__(self, horizon: float = 100.0) -> None:
        if not horizon >= 1.0:
            raise ValueError(f"the horizon of a running mean is at least 1 batch, found {horizon}")
        self.horizon = horizon
        self._sums: Tensor | None = None  # (2, K): labels, predictions
        self._weight = torch.zeros(())  # of all batches in the sums, 1 in the end

    @torch.no_grad()
    def update(self, labels: Tensor, probabilities: Tensor, valid: Tensor | None = None) -> Tensor:
        """Take in a batch; return ``watch/diag/kl_prior``, as a device tensor.

        Parameters
        ----------
        labels
            ``[B, K]``, hard or soft.
        probabilities
            ``[B, K]``, of the model.
        valid
            As in `predictive_entropy`.
        """
        batch = torch.stack([_mean_over_records(rows.float(), valid) for rows in (labels, probabilities)])
        sums = torch.zeros_like(batch) if self._sums is None else self._sums.to(batch.device)
        weight = self._weight.to(batch.device)
        keep = 1.0 - 1.0 / self.horizon
        # A batch without finite predictions, whose step is skipped, leaves the running means as they are.
        is_finite = batch.isfinite().all()
        self._sums = torch.where(is_finite, keep * sums + (1.0 - keep) * batch, sums)
        self._weight = torch.where(is_finite, keep * weight + (1.0 - keep), weight)
        marginals = self._sums / self._weight
        reference, predicted = marginals.clamp(0.0, 1.0)  # the division may round to just above 1
        return bernoulli_kl(reference, predicted).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"weight": self._weight.clone(), "sums": None if self._sums is None else self._sums.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        if "count" in state:  # of einthoven 0.1: batches
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
    """Mean KL(p_previous || p_now) over records, in nats: how far the function moved between two evaluations.

    Parameters
    ----------
    p_previous, p_now
        Probabilities ``(n, K)`` on the same records. Those of now are kept one float32 rounding step away
        from 0 and 1, so that one saturated output does not make the mean infinite.
    single_label
        Whether each row is one categorical distribution; otherwise the divergence of a record is the mean over its
        classes.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    previous, now = (torch.as_tensor(p).detach().double() for p in (p_previous, p_now))
    if previous.shape != now.shape:
        raise ValueError(f"predictions on different records: {tuple(previous.shape)} and {tuple(now.shape)}")
    eps = torch.finfo(torch.float32).eps
    now = now.clamp(eps, 1.0 - eps)
    return float(kl(previous, now, single_label).mean())  # sync: once per evaluation


def kl_windows(p: NDArray[np.floating[Any]], record: NDArray[np.int64], *, single_label: bool = False) -> float | None:
    """How far the predictions for the windows of one record lie apart, in nats.

    Mean over records of the mean over their windows of KL(p of the window ‖ mean p of the record): the Jensen-Shannon
    divergence of the windows (Lin 1991, "Divergence measures based on the Shannon entropy", equation 5.1).

    Parameters
    ----------
    p
        Probabilities of windows, ``(m, K)``.
    record
        Record of each window, ``(m,)``.
    single_label
        As in `kl_drift`.

    Returns
    -------
    float or None
        None if no record has two windows: records with one are left out.
    """
    _, of, count = np.unique(record, return_inverse=True, return_counts=True)
    several = count[of] > 1
    if not several.any():
        return None
    mean = np.stack([np.bincount(of, column) for column in p.T], axis=1) / count[:, None]
    window, centre = torch.as_tensor(p[several]).double(), torch.from_numpy(mean[of[several]])
    return float(np.average(kl(window, centre, single_label).numpy(), weights=1 / count[of[several]]))


def confident_wrong(y: NDArray[np.floating[Any]], p: NDArray[np.floating[Any]], confidence: float = 0.9) -> float:
    """Share of the decisions, one for each record and class, that are made with confidence and are wrong.

    Parameters
    ----------
    y, p
        Labels of 0 and 1, and probabilities, ``(n, K)``.
    confidence
        A decision is one of confidence where the class, or its absence, has more than this probability. Calibrated
        probabilities are wrong in fewer than ``1 - confidence`` of those.
    """
    return float((np.abs(y - p) > confidence).mean())


def entropy_histogram(
    p: NDArray[np.floating[Any]], *, single_label: bool = False, bins: int = 30
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many records have which predictive entropy.

    Parameters
    ----------
    p
        Probabilities, ``(n, K)``.
    single_label
        As in `kl_drift`.
    bins
        Of equal width from 0 to the largest entropy there is: log K for a single label, log 2 otherwise.

    Returns
    -------
    counts : array of int64, shape (bins,)
    edges : array of float64, shape (bins + 1,)
        In nats.
    """
    outcomes = p.shape[1] if single_label else 2
    largest = np.log(outcomes)
    values = entropy(torch.as_tensor(p).double(), single_label)
    return np.histogram(values.clamp(0, largest).numpy(), bins, (0.0, largest))
