"""The loss around, between and along weights: slices of a landscape of very many dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]
Direction = Sequence[Tensor]
LossOf = Callable[[], Tensor]


@torch.no_grad()
def filter_normalized(parameters: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """A random direction in which each filter is as long as that of the weights.

    Li et al. 2018, "Visualizing the loss landscape of neural nets", section 4: a Gaussian direction, each filter (the
    weights into one output) of which is scaled to the norm of the filter it would change. A step in it then means the
    same to networks that differ in the scale of their weights alone. Biases and the weights of norms, whose dimension
    is one, are not moved.
    """
    direction = []
    for p in parameters:
        drawn = torch.randn(p.shape, generator=generator).to(p)
        if p.ndim < 2:
            direction.append(torch.zeros_like(p))
            continue
        rows = drawn.flatten(1)
        lengths = torch.linalg.vector_norm(p.flatten(1), dim=1, keepdim=True)
        tiny = torch.finfo(rows.dtype).tiny
        scaled = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(tiny) * lengths
        direction.append(scaled.view_as(p))
    return direction


def loss_slice(
    loss: LossOf, parameters: Sequence[Tensor], directions: Sequence[Direction], axes: Sequence[Floats]
) -> Floats:
    """Losses at w + Σ a_k d_k for all combinations of steps; the weights are w again afterwards.

    Parameters
    ----------
    loss : callable
        Scalar loss at the weights as they are.
    parameters
        w, which is moved in place.
    directions
        One or two, each with a tensor for each parameter.
    axes
        The steps a_k along each.

    Returns
    -------
    array of float64, one dimension for each direction
    """
    steps = np.meshgrid(*axes, indexing="ij")
    losses = []
    with torch.no_grad(), kept(parameters) as centre:
        for combination in zip(*(grid.ravel().tolist() for grid in steps), strict=True):
            torch._foreach_copy_(list(parameters), centre)
            for step, direction in zip(combination, directions, strict=True):
                torch._foreach_add_(list(parameters), list(direction), alpha=step)
            losses.append(loss())
    return torch.stack(losses).double().cpu().numpy().reshape(steps[0].shape)  # sync: once a slice


@contextmanager
def kept(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Copies of tensors, which are what they were again after this block, to the bit."""
    copies = [t.detach().clone() for t in tensors]
    try:
        yield copies
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)


@dataclass(frozen=True)
class Plane:
    """The plane that holds most of a path of weights.

    Attributes
    ----------
    directions : array, shape (2, n)
        Orthonormal, in the precision of the weights.
    path : array of float64, shape (E, 2)
        The path in it, from the last point on.
    explained : array of float64, shape (2,)
        Share of the squared distances from the last point that lies along each direction.
    """

    directions: NDArray[np.floating]
    path: Floats
    explained: Floats


def trajectory_plane(snapshots: Sequence[NDArray[np.floating]]) -> Plane:
    """Principal components of a path of weights, as seen from its end.

    Li et al. 2018, section 7.2: PCA of the matrix of the differences w_i - w_E, without centring, so that the plane
    holds the last weights.

    Parameters
    ----------
    snapshots
        E ≥ 3 arrays of shape (n,), the last of which is the end.

    Raises
    ------
    ValueError
        If there are fewer than three: two differences span a plane.
    """
    if len(snapshots) < 3:
        raise ValueError(f"a plane needs three points of a path, found {len(snapshots)}")
    differences = np.stack([weights - snapshots[-1] for weights in snapshots[:-1]])
    # Of the small Gram matrix: there are few snapshots, and many weights.
    eigenvalues, vectors = np.linalg.eigh((differences @ differences.T).astype(np.float64))
    order = np.argsort(eigenvalues)[::-1][:2]
    directions = vectors[:, order].T.astype(differences.dtype) @ differences
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.maximum(lengths, np.finfo(np.float64).tiny)
    path = np.vstack([(differences @ directions.T).astype(np.float64), np.zeros(2)])
    total = max(float(eigenvalues.sum()), np.finfo(np.float64).tiny)
    return Plane(directions, path, eigenvalues[order].clip(0) / total)


def flat(parameters: Sequence[Tensor]) -> NDArray[np.float32]:
    """All numbers of some tensors as one array on the host."""
    vector: NDArray[np.float32] = torch.cat([p.detach().flatten().float() for p in parameters]).cpu().numpy()
    return vector


def unflat(vector: NDArray[np.floating], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut an array as `flat` joined it, as tensors like the parameters."""
    parts = np.split(vector, np.cumsum([p.numel() for p in parameters])[:-1])
    return [torch.from_numpy(part.copy()).to(p).view_as(p) for part, p in zip(parts, parameters, strict=True)]


def interpolation(loss: LossOf, model: nn.Module, other: dict[str, Tensor], shares: Floats) -> Floats:
    """Losses along the line from the weights of another run to those of this model, which is left as it was.

    Goodfellow et al. 2015, "Qualitatively characterizing neural network optimization problems", section 3; Frankle et
    al. 2020, "Linear mode connectivity". Running statistics lie on the line, too.

    Parameters
    ----------
    loss : callable
        Scalar loss of the model as it is.
    model
    other
        State of the other run, with the names and shapes of this model's.
    shares
        Of this model: 0 is the other run, 1 is this one.
    """
    state = model.state_dict()
    names = [name for name, value in state.items() if value.is_floating_point()]
    here, there = [state[name] for name in names], [other[name].to(state[name]) for name in names]
    losses = []
    with torch.no_grad(), kept(here) as end:
        for share in shares.tolist():
            torch._foreach_copy_(here, torch._foreach_lerp(there, end, share))
            losses.append(loss())
    return torch.stack(losses).double().cpu().numpy()  # sync: once a line
