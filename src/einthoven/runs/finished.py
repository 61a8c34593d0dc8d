"""Read a finished run from its folder, to evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from einthoven.contracts import Position
from einthoven.errors import UserError
from einthoven.files import check_ordinary
from einthoven.predict import is_fitted_to_features
from einthoven.runs.identity import refuse_other_options
from einthoven.runs.network_parts import NetworkParts
from einthoven.runs.run_config import read_config
from einthoven.runs.trained_data import read_trained_data
from einthoven.tracking.foreign import check_entries
from einthoven.tracking.run_folder import FOLDERS
from einthoven.training import checkpoint

FREE_OPTIONS = ("trainer.device", "trainer.residency")
"""The user may change these options in the ``config.yaml`` of a finished run. They do not change the results."""


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
    check_trained(folder, option)
    config = read_config(folder, option)
    trained = read_trained_data(folder, option, takes_added=True)
    refuse_other_options(config, trained.options, trained.run, free=FREE_OPTIONS)
    for split, chosen_folds in folds.items():
        if chosen_folds is not None:
            config.data.folds[split] = chosen_folds
    run = NetworkParts(config, folder, trained)
    state, notes = run.read_last()
    if tuple(notes["classes"]) != run.data.labels.classes:
        raise UserError(
            f"{option}={folder}: trained on the classes {' '.join(notes['classes'])}, but its data now have "
            f"{' '.join(run.data.labels.classes)}."
        )
    run.position = Position(**notes["position"])
    # The metrics of the run belong to the best weights if `trainer.select` says so, and to the last weights otherwise.
    if run.settings.trainer.select == "best" and run.position.best_epoch:
        run.load_weights("best")
    else:
        run.set_weights(state, run.checkpoints)
    return run, notes


def check_trained(folder: Path, option: str) -> None:
    """Refuse a folder without the checkpoint of a network, or with files that are not safe to use.

    Raises
    ------
    UserError
        The message names the option and the folder.
    """
    check_ordinary(folder, FOLDERS)
    check_entries(folder)
    if is_fitted_to_features(folder):
        raise UserError(
            f"{option}={folder}: the run of a feature model, which cannot be resumed or evaluated again; expected the "
            "run of a network. The MLflow run has its metrics and their intervals."
        )
    if not checkpoint.exists(folder / "checkpoints"):
        raise UserError(
            f"{option}={folder}: no checkpoints/last.safetensors there; expected the folder of a run (outputs/…)."
        )
