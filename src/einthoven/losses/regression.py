"""Regression losses, one value per record."""

from __future__ import annotations

from torch import Tensor

from einthoven.errors import UserError


def mse(outputs: Tensor, y: Tensor, *, output: str = "identity", prior: Tensor | None = None) -> Tensor:
    """Mean over all but the first dimension of ``(outputs - y)²``.

    For a Gaussian around the outputs with any constant variance σ² the negative log-likelihood is
    ``mse / (2 σ²) + log(2 π σ²) / 2`` per dimension: both have their minimum in the same place.

    Parameters
    ----------
    outputs, y : Tensor (B, ...)
    output : str
        ``identity``.
    prior : Tensor, optional
        Not used.

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If the outputs are those of a classifier.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, equations 5.12 to 5.14.
    """
    if output != "identity":
        raise UserError("loss=mse: is of a quantity, and this task asks for classes; expected cross_entropy or focal.")
    return (outputs - y).square().flatten(1).mean(dim=1)
