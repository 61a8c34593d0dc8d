"""What the predictions say, in nats: how unsure they are, is their prior right, how far did they move."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.functional.information import (
    bernoulli_entropy,
    bernoulli_kl,
    categorical_entropy,
    categorical_kl,
)


@torch.no_grad()
def predictive_entropy(logits: Tensor, single_label: bool = False) -> Tensor:
    """Mean entropy of the predictions, in nats, as a device tensor.

    Parameters
    ----------
    logits
        ``[B, K]``.
    single_label
        Whether each row is one categorical distribution; otherwise it is K Bernoulli distributions, and the
        entropies of its classes are added.
    """
    logits = logits.float()  # half precision loses the tails
    if single_label:
        return categorical_entropy(logits, logits=True).mean()
    return bernoulli_entropy(logits, logits=True).sum(dim=-1).mean()


@torch.no_grad()
def label_information(labels: Tensor, logits: Tensor, single_label: bool = False) -> dict[str, Tensor]:
    """What of the cross-entropy lies in the labels, and what in the model: device tensors, means over records.

    ``cross-entropy = diag/entropy_labels + diag/kl_labels``: the entropy of the labels, which is 0 where they are hard
    and what no model can remove where they are smoothed or mixed, and KL(labels ‖ predictions). Summed over classes,
    as `predictive_entropy`. Of hard labels, smoothed in the loss, the entropy is 0 here.

    Parameters
    ----------
    labels, logits
        ``[B, K]``.
    single_label
        As in `predictive_entropy`.
    """
    labels, logits = labels.float(), logits.float()
    if single_label:
        entropy, kl = categorical_entropy(labels), categorical_kl(labels, logits, logits=True)
    else:
        entropy, kl = bernoulli_entropy(labels).sum(-1), bernoulli_kl(labels, logits, logits=True).sum(-1)
    return {"diag/entropy_labels": entropy.mean(), "diag/kl_labels": kl.mean()}


class PriorKL:
    """Divergence of the mean predictions from the frequencies of the labels.

    Is the head's prior right? Sum over classes of the Bernoulli KL(label marginal || mean predicted
    marginal). Both marginals are exponential running means over the same batches, so chance fluctuations of
    the labels in a batch appear in both. They start from nothing and are corrected for it as the moments of
    Adam are (Kingma & Ba, 2015, section 3), so the first value is that of the first batch.

    Parameters
    ----------
    horizon
        Batches over which the running mean forgets: a batch's weight falls by 1/e in about `horizon` updates.
    """

    def __init__(self, horizon: float = 100.0) -> None:
        if not horizon >= 1.0:
            raise ValueError(f"the horizon of a running mean is at least 1 batch, found {horizon}")
        self.horizon = horizon
        self._count = 0
        self._sums: Tensor | None = None  # (2, K): labels, predictions

    @torch.no_grad()
    def update(self, labels: Tensor, probabilities: Tensor) -> Tensor:
        """Take in a batch; return ``diag/kl_prior``, as a device tensor.

        Parameters
        ----------
        labels
            ``[B, K]``, hard or soft.
        probabilities
            ``[B, K]``, of the model.
        """
        batch = torch.stack([labels.float().mean(dim=0), probabilities.float().mean(dim=0)])
        previous = torch.zeros_like(batch) if self._sums is None else self._sums.to(batch.device)
        keep = 1.0 - 1.0 / self.horizon
        self._count += 1
        self._sums = keep * previous + (1.0 - keep) * batch
        marginals = self._sums / (1.0 - keep**self._count)
        reference, predicted = marginals.clamp(0.0, 1.0)  # the division may round to just above 1
        return bernoulli_kl(reference, predicted).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"count": self._count, "sums": None if self._sums is None else self._sums.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._count = int(state["count"])
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
        Whether each row is one categorical distribution; otherwise the Bernoulli divergences of the classes
        are added.

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
    kl = categorical_kl(previous, now) if single_label else bernoulli_kl(previous, now).sum(dim=-1)
    return float(kl.mean())  # sync: once per evaluation


def kl_windows(p: NDArray[np.floating[Any]], record: NDArray[np.int64], *, single_label: bool = False) -> float | None:
    """How far the predictions for the windows of one record lie apart, in nats.

    Mean over records of the mean over their windows of KL(p of the window ‖ mean p of the record): the Jensen-Shannon
    divergence of the windows (Lin 1991, "Divergence measures based on the Shannon entropy", equation 5.1), summed
    over classes.

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
    kl = categorical_kl(window, centre) if single_label else bernoulli_kl(window, centre).sum(dim=-1)
    return float(np.average(kl.numpy(), weights=1 / count[of[several]]))


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
        Of equal width from 0 to the largest entropy there is: log K, or K log 2.

    Returns
    -------
    counts : array of int64, shape (bins,)
    edges : array of float64, shape (bins + 1,)
        In nats.
    """
    probability, classes = torch.as_tensor(p).double(), p.shape[1]
    entropy = categorical_entropy(probability) if single_label else bernoulli_entropy(probability).sum(dim=-1)
    largest = np.log(classes) if single_label else classes * np.log(2)
    return np.histogram(entropy.clamp(0, largest).numpy(), bins, (0.0, largest))
