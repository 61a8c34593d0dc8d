"""The loss around the weights of a run, and along the path of the training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

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
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.probing import probe_batch, probe_loss

LINE_POINTS = 41
"""Losses along one direction."""

GRID_POINTS = 21
"""Losses along each of two directions."""


def loss_landscape(run: NetworkParts, snapshots: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """Compute losses of the probe batch around the current weights.

    Parameters
    ----------
    snapshots : sequence of array
        Weights at several epochs. Three or more give the trajectory.

    Returns
    -------
    dict
        ``line/step`` and ``line/loss`` (41,): along a random direction with the same norm as the weights, filter by
        filter. ``plane/step`` (21,) and ``plane/loss`` (21, 21): along two such directions.

        With a trajectory also ``path/points`` (E, 2) and ``path/explained`` (2,): the snapshots in the plane of their
        two principal components, relative to the last one. ``path/x``, ``path/y`` and ``path/loss`` (21, 21): the
        losses in that plane.
    """
    parameters = run.trainable()
    batch = probe_batch(run)
    generator = torch.Generator().manual_seed(run.settings.seed)
    first = filter_normalized(parameters, generator)
    second = filter_normalized(parameters, generator)
    line = np.linspace(-1, 1, LINE_POINTS)
    grid = np.linspace(-1, 1, GRID_POINTS)
    loss = partial(probe_loss, run, batch)
    arrays: dict[str, NDArray[Any]] = {
        "line/step": line,
        "line/loss": loss_slice(loss, parameters, [first], [line]),
        "plane/step": grid,
        "plane/loss": loss_slice(loss, parameters, [first, second], [grid, grid]),
    }
    if len(snapshots) < 3:
        return arrays

    plane = trajectory_plane(snapshots)
    x = _axis_around(plane.path[:, 0])
    y = _axis_around(plane.path[:, 1])
    directions = [unflatten(direction, parameters) for direction in plane.directions]
    with restore_afterwards(parameters), torch.no_grad():
        # The current weights may be those of the best epoch. The path ends at the last one.
        torch._foreach_copy_(parameters, unflatten(snapshots[-1], parameters))
        losses = loss_slice(loss, parameters, directions, [x, y])
    return arrays | {
        "path/points": plane.path,
        "path/explained": plane.explained,
        "path/x": x,
        "path/y": y,
        "path/loss": losses,
    }


def _axis_around(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return steps from a quarter of the range below some points to a quarter above them."""
    margin = 0.25 * max(np.ptp(points), 1e-6)
    return np.linspace(points.min() - margin, points.max() + margin, GRID_POINTS)
