"""Regression losses, one value per record."""

from __future__ import annotations

from torch import Tensor

from einthoven.errors import UserError


def mse(outputs: Tensor, y: Tensor, *, output: str = "identity", prior: Tensor | None = None) -> Tensor:
    """Return the mean of ``(outputs - y)²`` over all dimensions except the first.

    For a Gaussian around the outputs with a constant variance σ², the negative log-likelihood is
    ``mse / (2 σ²) + log(2 π σ²) / 2`` per dimension. Both have the same minimum.

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
        If the output is not ``identity``.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, equations 5.12 to 5.14.
    """
    if output in ("sigmoid", "softmax"):
        raise UserError(
            "loss=mse: it is a loss of a quantity, and this task predicts classes; expected cross_entropy or focal."
        )
    if output != "identity":
        raise UserError("loss=mse: it compares signals or quantities, and this task compares embeddings.")
    return (outputs - y).square().flatten(1).mean(dim=1)
