"""An analysis of two runs: the loss on the straight line between their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from einthoven.diagnostics.landscape import interpolation
from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError
from einthoven.terminal.display import warn
from einthoven.training import checkpoint


class Interpolation:
    """Computes losses on the line from the weights of another run to those of this run.

    Parameters
    ----------
    run : str or None
        Folder of the other run. It must have the same network.
    weights : str
        ``last`` or ``best`` weights of the other run.
    points : int
        Number of points on the line. The line continues beyond each run by a quarter of the distance between them.
    records : int
        Number of records in the mean loss of a point. They are evenly spread over the split.

    Raises
    ------
    UserError
        If there is no such checkpoint.
    """

    def __init__(self, *, run: str | None, weights: str, points: int, records: int) -> None:
        self._run = run
        self._points = points
        self._records = records
        self._file = Path(run or "") / "checkpoints" / f"{weights}.safetensors"
        # If the last checkpoint is damaged or missing, `_read_weights` reads the previous one.
        has_last = weights == "last" and checkpoint.exists(self._file.parent)
        if run is None or not (has_last or self._file.exists()):
            raise UserError(
                f"analysis.run={run}: no checkpoints/{weights}.safetensors there; expected the folder of a run "
                "(outputs/…)."
            )

    def __call__(self, trained: Trained) -> dict[str, Tensor]:
        """Compute the losses of validation records or, without them, of training records.

        Returns
        -------
        dict
            ``interpolation/share`` (points,): position on the line, 0 at the other run and 1 at this run.
            ``interpolation/loss`` (points,): mean loss at this position.

        Raises
        ------
        UserError
            If the checkpoint belongs to another network.
        """
        other_weights = self._read_weights()
        self._check_shapes(other_weights, trained.model.state_dict())
        split = "val" if "val" in trained.records else "train"
        count = trained.records[split]
        rows = torch.linspace(0, count - 1, min(self._records, count)).long()
        batch = trained.batch(split, rows)
        shares = np.linspace(-0.25, 1.25, self._points)

        def batch_loss() -> Tensor:
            loss, _ = trained.task.loss(trained.model, batch)
            return loss

        losses = interpolation(batch_loss, trained.model, other_weights, shares)
        return {"interpolation/share": torch.from_numpy(shares), "interpolation/loss": torch.from_numpy(losses)}

    def _check_shapes(self, other: dict[str, Tensor], own: dict[str, Tensor]) -> None:
        """Refuse weights of another network."""
        other_shapes = {name: tuple(value.shape) for name, value in other.items()}
        own_shapes = {name: tuple(value.shape) for name, value in own.items()}
        if other_shapes == own_shapes:
            return
        # Name one weight that has another shape, or that only one network has.
        different = other_shapes.items() ^ own_shapes.items()
        name = min(name for name, _ in different)
        raise UserError(
            f"analysis.run={self._run}: the shape of {name} is {other_shapes.get(name, 'missing')} in that run and "
            f"{own_shapes.get(name, 'missing')} in this run; expected a run of the same model, data and pca."
        )

    def _read_weights(self) -> dict[str, Tensor]:
        """Read the weights of the other run."""
        if self._file.name != checkpoint.LAST:
            state, _ = checkpoint.load(self._file)
        else:
            state, _, warning = checkpoint.load_last(self._file.parent)
            if warning:
                warn(warning)
        return state["model"]
