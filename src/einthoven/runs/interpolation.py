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
        Number of losses, from a quarter before the other run to a quarter beyond this run.
    records : int
        Number of records, evenly spread over the split, whose mean loss is computed.

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
        # The checkpoint before the last one replaces a damaged one.
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
            ``interpolation/share`` (points,): 0 is the other run, 1 this one. ``interpolation/loss`` (points,).

        Raises
        ------
        UserError
            If the checkpoint belongs to another network.
        """
        other = self._read_weights()
        self._check_shapes(other, trained.model.state_dict())
        split = "val" if "val" in trained.records else "train"
        count = trained.records[split]
        rows = torch.linspace(0, count - 1, min(self._records, count)).long()
        batch = trained.batch(split, rows)
        shares = np.linspace(-0.25, 1.25, self._points)
        losses = interpolation(lambda: trained.task.loss(trained.model, batch)[0], trained.model, other, shares)
        return {"interpolation/share": torch.from_numpy(shares), "interpolation/loss": torch.from_numpy(losses)}

    def _check_shapes(self, other: dict[str, Tensor], own: dict[str, Tensor]) -> None:
        """Refuse weights of another network."""
        other_shapes = {name: tuple(value.shape) for name, value in other.items()}
        own_shapes = {name: tuple(value.shape) for name, value in own.items()}
        if other_shapes == own_shapes:
            return
        name = min(name for name, _ in other_shapes.items() ^ own_shapes.items())
        raise UserError(
            f"analysis.run={self._run}: {name} is {other_shapes.get(name, 'nothing')} there and "
            f"{own_shapes.get(name, 'nothing')} here; expected a run of the same model, data and pca."
        )

    def _read_weights(self) -> dict[str, Tensor]:
        """Read the weights of the other run."""
        if self._file.name != checkpoint.LAST:
            state, _ = checkpoint.load(self._file)
        else:
            state, _, warning = checkpoint.load_last(self._file.parent)
            if warning:
                warn(warning)
        weights: dict[str, Tensor] = state["model"]
        return weights
