"""The loss around the weights of a run, and along the way that they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.diagnostics.landscape import (
    filter_normalized,
    loss_slice,
    restore_afterwards,
    trajectory_plane,
    unflatten,
)
from einthoven.runs.probing import probe_batch, probe_loss

if TYPE_CHECKING:
    from torch import Tensor

    from einthoven.runs.network_run import Run

LINE, GRID = 41, 21
"""Losses along one direction, and along each of two."""


def landscape(run: Run) -> dict[str, NDArray[Any]]:
    """Losses of the probe batch around the weights as they are.

    Returns
    -------
    dict
        ``line/step`` and ``line/loss`` (41,): along a random direction, filter by filter as long as the weights;
        ``plane/step`` (21,) and ``plane/loss`` (21, 21): along two of them. Where three snapshots of a trajectory were
        kept, ``path/points`` (E, 2) and ``path/explained`` (2,): the trajectory in the plane of its two principal
        components, seen from its end; ``path/x``, ``path/y`` and ``path/loss`` (21, 21): the losses there.
    """
    parameters, batch = run.trainable(), probe_batch(run)
    generator = torch.Generator().manual_seed(run.settings.seed)
    first, second = (filter_normalized(parameters, generator) for _ in range(2))
    line, grid = np.linspace(-1, 1, LINE), np.linspace(-1, 1, GRID)

    def loss() -> Tensor:
        return probe_loss(run, batch)

    found: dict[str, NDArray[Any]] = {
        "line/step": line,
        "line/loss": loss_slice(loss, parameters, [first], [line]),
        "plane/step": grid,
        "plane/loss": loss_slice(loss, parameters, [first, second], [grid, grid]),
    }
    snapshots = run.validation.snapshots
    if len(snapshots) < 3:
        return found
    plane = trajectory_plane(snapshots)
    axes = [_around(plane.path[:, k]) for k in (0, 1)]
    with restore_afterwards(parameters), torch.no_grad():
        torch._foreach_copy_(parameters, unflatten(snapshots[-1], parameters))  # not the best epoch, if that was taken
        losses = loss_slice(loss, parameters, [unflatten(d, parameters) for d in plane.directions], axes)
    path = {"points": plane.path, "explained": plane.explained, "x": axes[0], "y": axes[1], "loss": losses}
    return found | {f"path/{name}": value for name, value in path.items()}


def _around(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps from a quarter of their range below some points to a quarter above."""
    margin = 0.25 * max(np.ptp(points), 1e-6)
    return np.linspace(points.min() - margin, points.max() + margin, GRID)
