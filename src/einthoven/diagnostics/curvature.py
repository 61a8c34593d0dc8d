"""Curvature of the loss at the weights: the largest eigenvalue of its Hessian, and its trace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Hessian:
    """Second derivatives of a loss, by products with vectors.

    The graph of the gradient is built once; each product goes back through it, in about twice the time of a forward
    and a backward pass (Pearlmutter 1994, "Fast exact multiplication by the Hessian").

    Parameters
    ----------
    loss : Tensor
        A scalar with its graph, all of whose operations have second derivatives: the fused kernels of attention do
        not.
    parameters : sequence of Tensor
        What the derivatives are by: n numbers in all.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._gradients = torch.autograd.grad(
            loss, self._parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        self.size = sum(p.numel() for p in self._parameters)

    def product(self, vector: Tensor) -> Tensor:
        """H v of a vector ``(n,)``."""
        parts = torch.split(vector, [p.numel() for p in self._parameters])
        pairs = [(g, v.view_as(g)) for g, v in zip(self._gradients, parts, strict=True) if g.requires_grad]
        if not pairs:  # a loss without curvature
            return torch.zeros_like(vector)
        found = torch.autograd.grad(
            [g for g, _ in pairs],
            self._parameters,
            [v for _, v in pairs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([h.flatten() for h in found])

    def random(self, generator: torch.Generator) -> Tensor:
        """A vector ``(n,)`` of -1 and 1, drawn on the CPU."""
        signs = torch.randint(2, (self.size,), generator=generator) * 2 - 1
        return signs.to(self._parameters[0])


def sharpness(hessian: Hessian, generator: torch.Generator, *, iterations: int = 30, tolerance: float = 1e-3) -> float:
    """Largest eigenvalue of a Hessian, by the Lanczos method with full reorthogonalization.

    Golub & Van Loan, "Matrix computations", section 10.1. Gradient descent with learning rate η is stable where it is
    below 2/η (Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability").

    Parameters
    ----------
    hessian
        n by n.
    generator
        Of the first vector.
    iterations
        Products with the Hessian, at most; as many vectors ``(n,)`` are kept.
    tolerance
        Stop where the residual ‖Hv - λv‖, which bounds the error, is below this share of λ.

    Returns
    -------
    float
        Not a number if the derivatives are none.
    """
    start = hessian.random(generator)
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(min(iterations, hessian.size)):
        product = hessian.product(basis[-1])
        diagonal.append(product @ basis[-1])
        for _ in range(2):  # once is not enough in float32 (Golub & Van Loan, section 10.3)
            for vector in basis:
                product = product - (product @ vector) * vector
        beside.append(torch.linalg.vector_norm(product))
        if not bool(beside[-1].isfinite()):
            return math.nan
        values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside[:-1]))  # sync: once an iteration
        largest, residual = float(values[-1]), float(beside[-1] * vectors[-1, -1].abs())
        if residual <= tolerance * abs(largest):
            break
        basis.append(product / beside[-1])
    return largest


def trace(hessian: Hessian, generator: torch.Generator, *, probes: int = 10) -> float:
    """Trace of a Hessian, the sum of its eigenvalues: the mean of vᵀHv over random vectors of -1 and 1.

    Unbiased; Hutchinson 1990, "A stochastic estimator of the trace of the influence matrix". Its standard deviation is
    √(2/probes) times the Frobenius norm of the Hessian without its diagonal.

    Parameters
    ----------
    hessian
    generator
        Of the vectors.
    probes
        Products with the Hessian.
    """
    vectors = (hessian.random(generator) for _ in range(probes))
    return float(torch.stack([vector @ hessian.product(vector) for vector in vectors]).mean())


def tridiagonal(diagonal: Sequence[Tensor], beside: Sequence[Tensor]) -> Tensor:
    """The symmetric matrix with these numbers on its diagonal and beside it, in float64 on the CPU."""
    matrix = torch.diag(torch.stack(list(diagonal)).double().cpu())
    if beside:
        off = torch.diag(torch.stack(list(beside)).double().cpu(), 1)
        matrix = matrix + off + off.mT
    return matrix
