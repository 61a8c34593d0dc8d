"""Curvature of the loss at the current weights: the largest eigenvalue and the trace of its Hessian."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Hessian:
    """Hessian of a loss, available as products with vectors.

    The graph of the gradient is built once. Each product is a backward pass through this graph and takes about twice
    the time of a forward and a backward pass (Pearlmutter 1994, "Fast exact multiplication by the Hessian").

    Parameters
    ----------
    loss : Tensor
        Scalar loss with its graph. All operations must have second derivatives; fused attention kernels have none.
    parameters : sequence of Tensor
        The loss is differentiated by these parameters, n numbers in total.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._gradients = torch.autograd.grad(
            loss, self._parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        self.size = sum(p.numel() for p in self._parameters)

    def product(self, vector: Tensor) -> Tensor:
        """Return H v for a vector v ``(n,)``."""
        parts = torch.split(vector, [p.numel() for p in self._parameters])
        gradients = []
        directions = []
        for gradient, part in zip(self._gradients, parts, strict=True):
            if gradient.requires_grad:
                gradients.append(gradient)
                directions.append(part.view_as(gradient))

        # A constant gradient has no graph: the loss has no curvature.
        if not gradients:
            return torch.zeros_like(vector)
        products = torch.autograd.grad(
            gradients,
            self._parameters,
            directions,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([product.flatten() for product in products])

    def random_signs(self, generator: torch.Generator) -> Tensor:
        """Return a random vector ``(n,)`` of -1 and 1, drawn on the CPU."""
        signs = torch.randint(2, (self.size,), generator=generator) * 2 - 1
        return signs.to(self._parameters[0])


def sharpness(hessian: Hessian, generator: torch.Generator, *, iterations: int = 30, tolerance: float = 1e-3) -> float:
    """Return the largest eigenvalue of a Hessian, by the Lanczos method with full reorthogonalization.

    Golub & Van Loan, "Matrix computations", section 10.1. Gradient descent with learning rate η is stable if this
    eigenvalue is below 2/η (Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of
    stability").

    Parameters
    ----------
    hessian
        n by n.
    generator
        Draws the first vector.
    iterations
        Largest number of products with the Hessian. The method keeps as many vectors ``(n,)``.
    tolerance
        Stop if the residual ‖Hv - λv‖ is below this share of λ. The residual is a bound of the error.

    Returns
    -------
    float
        Not a number if the second derivatives are not finite.
    """
    start = hessian.random_signs(generator)
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    for _ in range(min(iterations, hessian.size)):
        product = hessian.product(basis[-1])
        diagonal.append(product @ basis[-1])

        # Make the product orthogonal to the basis. In float32, one pass is not enough (Golub & Van Loan, section 10.3).
        for _ in range(2):
            for vector in basis:
                product = product - (product @ vector) * vector
        off_diagonal.append(torch.linalg.vector_norm(product))
        if not bool(off_diagonal[-1].isfinite()):  # sync: once per iteration
            return math.nan

        # The eigenvalues of the small _tridiagonal matrix approximate those of the Hessian.
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, off_diagonal[:-1]))  # sync: once per iteration
        largest = float(values[-1])
        residual = float(off_diagonal[-1] * vectors[-1, -1].abs())
        if residual <= tolerance * abs(largest):
            break
        basis.append(product / off_diagonal[-1])
    return largest


def trace(hessian: Hessian, generator: torch.Generator, *, probes: int = 10) -> float:
    """Estimate the trace of a Hessian (the sum of its eigenvalues): the mean of vᵀHv over random vectors of -1 and 1.

    The estimate is unbiased (Hutchinson 1990, "A stochastic estimator of the trace of the influence matrix"). Its
    standard deviation is √(2/probes) times the Frobenius norm of the Hessian without its diagonal.

    Parameters
    ----------
    hessian
    generator
        Draws the vectors.
    probes
        Number of products with the Hessian.
    """
    estimates = []
    for _ in range(probes):
        vector = hessian.random_signs(generator)
        estimates.append(vector @ hessian.product(vector))
    return float(torch.stack(estimates).mean())  # sync: once per call


def _tridiagonal(diagonal: Sequence[Tensor], off_diagonal: Sequence[Tensor]) -> Tensor:
    """Return the symmetric _tridiagonal matrix with these entries, in float64 on the CPU."""
    matrix = torch.diag(torch.stack(list(diagonal)).double().cpu())
    if off_diagonal:
        upper = torch.diag(torch.stack(list(off_diagonal)).double().cpu(), 1)
        matrix = matrix + upper + upper.mT
    return matrix
