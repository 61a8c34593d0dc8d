"""Between two runs: the loss on the straight line from one's weights to the other's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from einthoven.diagnostics.landscape import interpolation
from einthoven.errors import UserError
from einthoven.terminal.display import warn
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from einthoven.diagnostics.probes import Trained


class Interpolation:
    """An analysis: losses on the line from the weights of another run to those of the model.

    Parameters
    ----------
    run : str
        Folder of the other run, of the same network.
    weights : str
        Which of its weights: ``last`` or ``best``.
    points : int
        Losses from a quarter before the other run to a quarter beyond the model.
    records : int
        Records of the split, evenly spread over it, whose mean loss it is.

    Raises
    ------
    UserError
        If there is no such checkpoint.
    """

    def __init__(self, *, run: str | None, weights: str, points: int, records: int) -> None:
        self._run, self._points, self._records = run, points, records
        self._file = Path(run or "") / "checkpoints" / f"{weights}.safetensors"
        last = weights == "last" and checkpoint.exists(self._file.parent)
        if run is None or not (last or self._file.exists()):
            raise UserError(
                f"analysis.run={run}: no checkpoints/{weights}.safetensors there; expected the folder of a run "
                "(outputs/…)."
            )

    def __call__(self, trained: Trained) -> dict[str, Tensor]:
        """Measure, on validation records, or without them on training records.

        Returns
        -------
        dict
            ``interpolation/share`` (points,), 0 the other run and 1 the model, and ``interpolation/loss`` (points,).

        Raises
        ------
        UserError
            If the checkpoint is of another network.
        """
        other, own = self._weights(), trained.model.state_dict()
        shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (other, own)]
        if shapes[0] != shapes[1]:
            name = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
            found, expected = (shape.get(name, "nothing") for shape in shapes)
            raise UserError(
                f"analysis.run={self._run}: {name} is {found} there and {expected} here; expected a run of the same "
                "model, data and pca."
            )
        split = "val" if "val" in trained.records else "train"
        count = trained.records[split]
        batch = trained.batch(split, torch.linspace(0, count - 1, min(self._records, count)).long())
        shares = np.linspace(-0.25, 1.25, self._points)
        losses = interpolation(lambda: trained.task.loss(trained.model, batch)[0], trained.model, other, shares)
        return {"interpolation/share": torch.from_numpy(shares), "interpolation/loss": torch.from_numpy(losses)}

    def _weights(self) -> dict[str, Tensor]:
        """Weights of the other run."""
        if self._file.name != checkpoint.LAST:
            state, _ = checkpoint.load(self._file)
        else:
            state, _, note = checkpoint.load_last(self._file.parent)
            if note:
                warn(note)
        weights: dict[str, Tensor] = state["model"]
        return weights
