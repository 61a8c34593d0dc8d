"""Assemble a finished run from its folder, to evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from einthoven.contracts import Position
from einthoven.errors import UserError
from einthoven.runs.network_parts import NetworkParts
from einthoven.runs.trained_run import open_trained


def read_finished(
    folder: Path, option: str, folds: Mapping[str, list[int] | None]
) -> tuple[NetworkParts, dict[str, Any]]:
    """Read a finished run, load the weights that its metrics belong to, and return it with its checkpoint notes.

    Parameters
    ----------
    folder : Path
        Folder of the run, with ``config.yaml`` and ``checkpoints/last.safetensors``.
    option : str
        The option that named the folder, for error messages.
    folds : mapping of "val" and "test" to lists of folds, or None
        Folds to use instead of the run's own folds. None keeps the run's folds. The training folds cannot be replaced.

    Raises
    ------
    UserError
        If there is no such run. If its configuration, records, labels or folds have changed since the training. If a
        chosen fold was used for the training.
    """
    opened = open_trained(folder, option)
    for split, chosen_folds in folds.items():
        if chosen_folds is not None:
            opened.config.data.folds[split] = chosen_folds
    run = NetworkParts(opened.config, folder, opened.trained)
    weights, notes = opened.read_selected(run.max_checkpoint_bytes())
    if tuple(notes["classes"]) != run.data.labels.classes:
        raise UserError(
            f"{opened.source}: trained on the classes {' '.join(notes['classes'])}, but its data now have "
            f"{' '.join(run.data.labels.classes)}."
        )
    run.position = Position(**notes["position"])
    run.set_weights(weights, run.checkpoints)
    return run, notes
