"""A finished run, taken up again from its folder to be evaluated."""

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

FREE = ("trainer.device", "trainer.residency")
"""Options that may be changed in the folder of a run before it is evaluated: where that is done, and how fast."""


def finished(folder: Path, option: str, folds: Mapping[str, list[int] | None]) -> tuple[NetworkParts, dict[str, Any]]:
    """The run of a folder with the weights that it reports, and the notes of its checkpoint.

    Parameters
    ----------
    folder : Path
        Holds ``config.yaml`` and ``checkpoints/last.safetensors``.
    option : str
        What named the folder, for sentences.
    folds : mapping of "val" and "test" to lists of folds, or None
        Other folds than those of the run, whose training folds stay what they were.

    Raises
    ------
    UserError
        If there is no such run, its configuration, records, labels or folds have changed, or a fold was trained on.
    """
    check_trained(folder, option)
    config = read_config(folder, option)
    trained = read_trained_data(folder, option, takes_added=True)
    refuse_other_options(config, trained.options, trained.run, free=FREE)
    for split, chosen in folds.items():
        if chosen is not None:
            config.data.folds[split] = chosen
    run = NetworkParts(config, folder, trained)
    state, meta = run.read_last()
    if tuple(meta["classes"]) != run.data.labels.classes:
        raise UserError(
            f"{option}={folder}: trained on the classes {' '.join(meta['classes'])}, but its data now have "
            f"{' '.join(run.data.labels.classes)}."
        )
    run.position = Position(**meta["position"])
    best = run.settings.trainer.select == "best" and run.position.best_epoch
    if best:
        run.load_weights("best")
    else:
        run.set_weights(state, run.checkpoints)
    return run, meta


def check_trained(folder: Path, option: str) -> None:
    """Refuse a folder without a checkpoint, or with what a run never leaves there.

    Raises
    ------
    UserError
        Names the option and the folder.
    """
    check_ordinary(folder, FOLDERS)
    check_entries(folder)
    if is_fitted_to_features(folder):
        raise UserError(
            f"{option}={folder}: its model is fitted to features at once, and there are no steps to continue and no "
            "network to evaluate; its metrics and their intervals are in the run itself."
        )
    if not checkpoint.exists(folder / "checkpoints"):
        raise UserError(
            f"{option}={folder}: no checkpoints/last.safetensors there; expected the folder of a run (outputs/…)."
        )
