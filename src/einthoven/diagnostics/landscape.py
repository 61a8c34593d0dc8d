"""Slices of the loss landscape: the loss around a point, between two points and along a path of weights."""

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
    """Draw a random direction in which each filter has the norm of the filter of the weights.

    Li et al. 2018, "Visualizing the loss landscape of neural nets", section 4. Each filter (the weights of one output)
    of a Gaussian direction is scaled to the norm of the same filter of the weights. A step along the direction is then
    comparable between networks that differ only in the scale of their weights. Parameters with one dimension (biases,
    weights of norm layers) do not move.
    """
    direction = []
    for p in parameters:
        # Every parameter draws numbers, so that the directions of the others do not depend on it.
        gaussian = torch.randn(p.shape, generator=generator).to(p)
        if p.ndim < 2:
            direction.append(torch.zeros_like(p))
            continue
        filters = gaussian.flatten(1)
        filter_norms = torch.linalg.vector_norm(filters, dim=1, keepdim=True)
        weight_norms = torch.linalg.vector_norm(p.flatten(1), dim=1, keepdim=True)
        tiny = torch.finfo(filters.dtype).tiny
        scaled = filters / filter_norms.clamp_min(tiny) * weight_norms
        direction.append(scaled.view_as(p))
    return direction


def loss_slice(
    loss: LossOf, parameters: Sequence[Tensor], directions: Sequence[Direction], axes: Sequence[Floats]
) -> Floats:
    """Return the losses at w + Σ a_k d_k for all combinations of steps a_k. Afterwards the weights are w again.

    Parameters
    ----------
    loss : callable
        Returns the scalar loss at the current weights.
    parameters
        The weights w. They are changed in place during the call.
    directions
        One or two directions d_k, each with one tensor per parameter.
    axes
        The steps a_k along each direction.

    Returns
    -------
    array of float64, with one dimension per direction
    """
    grids = np.meshgrid(*axes, indexing="ij")
    columns = [grid.ravel().tolist() for grid in grids]
    losses = []
    with torch.no_grad(), restore_afterwards(parameters) as centre:
        for steps in zip(*columns, strict=True):
            # Each point starts from w itself, so that rounding errors do not add up.
            torch._foreach_copy_(list(parameters), centre)
            for step, direction in zip(steps, directions, strict=True):
                torch._foreach_add_(list(parameters), list(direction), alpha=step)
            losses.append(loss())
    return torch.stack(losses).double().cpu().numpy().reshape(grids[0].shape)  # sync: once per slice


@contextmanager
def restore_afterwards(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield copies of tensors, and write them back at the end of the block. The result is bit-identical."""
    copies = [t.detach().clone() for t in tensors]
    try:
        yield copies
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)


@dataclass(frozen=True)
class Plane:
    """The plane that contains most of a path of weights.

    Attributes
    ----------
    directions : array, shape (2, n)
        Orthonormal directions, in the precision of the weights.
    path : array of float64, shape (E, 2)
        Coordinates of the path in the plane. The last point of the path is the origin.
    explained : array of float64, shape (2,)
        Share of the squared distances from the last point that lies along each direction.
    """

    directions: NDArray[np.floating]
    path: Floats
    explained: Floats


def trajectory_plane(snapshots: Sequence[NDArray[np.floating]]) -> Plane:
    """Return the plane of the first two principal components of a path of weights, relative to its end.

    Li et al. 2018, section 7.2: PCA of the matrix of the differences w_i - w_E, without centring, so that the plane
    contains the last weights.

    Parameters
    ----------
    snapshots
        E ≥ 3 arrays of shape (n,) along the path. The last one is its end.

    Raises
    ------
    ValueError
        If there are fewer than three snapshots: a plane needs two differences.
    """
    if len(snapshots) < 3:
        raise ValueError(f"a plane needs at least three points of a path, found {len(snapshots)}")
    end = snapshots[-1]
    differences = np.stack([weights - end for weights in snapshots[:-1]])

    # There are few snapshots and many weights, so the eigenvectors of the small Gram matrix are cheaper.
    gram = (differences @ differences.T).astype(np.float64)
    eigenvalues, vectors = np.linalg.eigh(gram)
    largest_two = np.argsort(eigenvalues)[::-1][:2]
    directions = vectors[:, largest_two].T.astype(differences.dtype) @ differences
    tiny = np.finfo(np.float64).tiny
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.maximum(lengths, tiny)

    path = np.vstack([(differences @ directions.T).astype(np.float64), np.zeros(2)])
    total = max(float(eigenvalues.sum()), tiny)
    return Plane(directions, path, eigenvalues[largest_two].clip(0) / total)


def flatten(parameters: Sequence[Tensor]) -> NDArray[np.float32]:
    """Return all numbers of some tensors as one array on the host."""
    parts = [p.detach().flatten().float() for p in parameters]
    return torch.cat(parts).cpu().numpy()  # sync: once per call


def unflatten(vector: NDArray[np.floating], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Split an array made by `flatten` into tensors with the shapes of the parameters."""
    parts = np.split(vector, np.cumsum([p.numel() for p in parameters])[:-1])
    return [torch.from_numpy(part.copy()).to(p).view_as(p) for part, p in zip(parts, parameters, strict=True)]


def interpolation(loss: LossOf, model: nn.Module, other: dict[str, Tensor], shares: Floats) -> Floats:
    """Return the losses on the line from the weights of another run to the weights of this model.

    Goodfellow et al. 2015, "Qualitatively characterizing neural network optimization problems", section 3; Frankle et
    al. 2020, "Linear mode connectivity". Running statistics are interpolated, too. Afterwards the model is unchanged.

    Parameters
    ----------
    loss : callable
        Returns the scalar loss of the model in its current state.
    model
        The model at the end of the line.
    other
        State of the other run, with the same names and shapes as the state of the model.
    shares
        Positions on the line: 0 is the other run, 1 is this model.
    """
    state = model.state_dict()
    names = [name for name, value in state.items() if value.is_floating_point()]
    current = [state[name] for name in names]
    start = [other[name].to(state[name]) for name in names]
    losses = []
    with torch.no_grad(), restore_afterwards(current) as end:
        for share in shares.tolist():
            torch._foreach_copy_(current, torch._foreach_lerp(start, end, share))
            losses.append(loss())
    return torch.stack(losses).double().cpu().numpy()  # sync: once per line
