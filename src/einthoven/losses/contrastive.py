"""Contrastive losses in nats, one value per record: find the partner of a record among many candidates."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from einthoven.errors import UserError


def info_nce(
    outputs: Tensor, y: Tensor | None = None, *, output: str = "candidates", prior: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of finding the partner among candidates: ``-s_partner + log Σ_j exp(s_j)``.

    Parameters
    ----------
    outputs : Tensor (N, C)
        Score of the i-th row with the j-th of its candidates.
    y : Tensor (N, C), optional
        1 for the partner, 0 for the others. By default, the i-th candidate is the partner of the i-th row.
    output : str
        ``candidates``.
    prior : Tensor, optional
        Not used.

    Returns
    -------
    Tensor (N,)

    Raises
    ------
    UserError
        If the outputs are not scores of candidates.

    References
    ----------
    van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", 2018, equation 4.
    """
    if output != "candidates":
        raise UserError("loss=info_nce: it is a loss of scores of candidates; expected task=cpc.")
    partners = torch.arange(len(outputs), device=outputs.device) if y is None else y.argmax(dim=1)
    return F.cross_entropy(outputs, partners, reduction="none")


def mutual_information_bound(losses: Tensor, candidates: int) -> Tensor:
    """Return a lower bound of the mutual information of partners, in nats: ``log candidates`` minus the loss.

    The mean over many records is the bound. It is at most ``log candidates``. It is tight for many candidates if the
    scores behind `info_nce` are the log density ratio ``log p(y|x) / p(y)``.

    Parameters
    ----------
    losses : Tensor (N,)
        As `info_nce` or `nt_xent` returns them.
    candidates : int
        Number of candidates of a record, its partner included.

    Returns
    -------
    Tensor (N,)

    References
    ----------
    van den Oord, Li & Vinyals 2018, section 2.3; Poole et al., "On variational bounds of mutual information", ICML
    2019, equation 10.
    """
    return math.log(candidates) - losses


def nt_xent(
    outputs: Tensor,
    y: Tensor,
    *,
    output: str = "views",
    prior: Tensor | None = None,
    temperature: float = 0.1,
) -> Tensor:
    """Return the normalized, temperature-scaled cross-entropy of two views of each record.

    Each of the 2 N views of the batch has one partner and 2 N - 2 other candidates. A score is a cosine divided by the
    temperature.

    Parameters
    ----------
    outputs, y : Tensor (N, D)
        Embeddings of the first and of the second view of each record.
    output : str
        ``views``.
    prior : Tensor, optional
        Not used.
    temperature : float
        Above 0.

    Returns
    -------
    Tensor (N,)
        Mean over the two views of each record.

    Raises
    ------
    UserError
        If the temperature is not above 0, or the outputs are not embeddings of views.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, equation 1.
    """
    if output != "views":
        raise UserError("loss=nt_xent: it is a loss of two views of a record; expected task=contrastive.")
    _require_temperature(temperature)
    n = len(outputs)
    scores = view_scores(outputs, y) / temperature
    partners = torch.arange(2 * n, device=outputs.device).roll(n)
    return F.cross_entropy(scores, partners, reduction="none").view(2, n).mean(dim=0)


def view_scores(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of each pair of views, (2 N, 2 N), with -∞ for a view and itself.

    Parameters
    ----------
    a, b : Tensor (N, D)
        Embeddings of the first and of the second view of each record.
    """
    # In bfloat16, a cosine would be too coarse for the division by the temperature.
    with torch.autocast(a.device.type, enabled=False):
        views = F.normalize(torch.cat([a, b]), dim=1)
        # A view is no candidate for itself.
        is_itself = torch.eye(len(views), dtype=torch.bool, device=a.device)
        return (views @ views.T).masked_fill(is_itself, -math.inf)


def _require_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise UserError(f"loss.temperature={temperature}: expected a number above 0.")
