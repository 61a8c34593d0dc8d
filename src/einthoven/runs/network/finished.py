"""Assemble a finished run from its folder, to evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.contracts import Position
from einthoven.errors import UserError
from einthoven.runs.folder.checkpoint_checks import outputs_of
from einthoven.runs.folder.trained_run import open_trained
from einthoven.runs.network.network_parts import NetworkParts

if TYPE_CHECKING:
    from omegaconf import DictConfig


def read_finished(
    folder: Path, option: str, folds: Mapping[str, list[int] | None], labels: str | None = None
) -> tuple[NetworkParts, dict[str, Any]]:
    """Read a finished run, load the weights that its metrics belong to, and return it with its checkpoint notes.

    `folds` replaces the folds of val and test; None keeps those of the run. `labels` is a label set that is read from
    the statements that the run has learned. The run is refused if its configuration, records, labels or folds have
    changed since the training, or if a chosen fold was used for the training.
    """
    opened = open_trained(folder, option)
    if labels is not None:
        _read_as(opened.config, labels, opened.source)
    for split, chosen_folds in folds.items():
        if chosen_folds is not None:
            opened.config.data.folds[split] = chosen_folds
    run = NetworkParts(opened.config, folder, opened.trained)
    weights, notes = opened.read_selected(run.max_checkpoint_bytes())
    outputs = outputs_of(notes)
    if outputs != run.data.output_names:
        raise UserError(
            f"{opened.source}: trained on the classes {' '.join(outputs)}, but its data now have "
            f"{' '.join(run.data.output_names)}."
        )
    run.position = Position(**notes["position"])
    run.set_weights(weights, run.checkpoints)
    return run, notes


def _read_as(config: DictConfig, labels: str, source: str) -> None:
    """Change the task of a configuration so that it reports another label set. Its network keeps its outputs."""
    from omegaconf import open_dict

    if "labels" not in config.task:
        raise UserError(f"{source}: its task has no classes, so that labels={labels} cannot be read from them.")
    if labels == config.task.labels:
        return
    with open_dict(config):
        # By default, a run learns what it reports.
        if config.task.get("targets") is None:
            config.task.targets = config.task.labels
        config.task.labels = labels
