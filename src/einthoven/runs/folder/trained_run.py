"""Open a run from its folder. The folder can come from a stranger, so nothing is built from it unchecked.

`evaluate`, `probe`, `embed` and ``init_from`` open a trained run with `open_trained`. ``resume=`` opens one that has
begun with `open_started`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.errors import UserError
from einthoven.files import check_ordinary
from einthoven.predict.model_folder import is_fitted_to_features, refuse_cross_validation
from einthoven.runs.config.identity import refuse_other_options
from einthoven.runs.config.run_config import read_config
from einthoven.runs.config.settings import is_feature_model
from einthoven.runs.folder.checkpoint_checks import check_notes, checkpoint_errors
from einthoven.runs.folder.trained_data import TrainedData, read_trained_data
from einthoven.terminal.display import warn
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import require_run
from einthoven.tracking.foreign import check_entries
from einthoven.tracking.run_folder import FOLDERS
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from omegaconf import DictConfig

FREE_OPTIONS = ("trainer.device", "trainer.residency")
"""The user may change these options in the ``config.yaml`` of a trained run. They do not change the results."""


@dataclass(frozen=True)
class TrainedRun:
    """A trained run. Its files are safe to read, and its options are those that it was trained with."""

    folder: Path
    source: str
    """The option that named the folder, for messages: ``run=outputs/…``."""
    config: DictConfig
    trained: TrainedData
    """The data that it was trained on."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    def read_selected(self, max_bytes: int = checkpoint.MAX_BYTES) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the weights that the metrics of the run belong to: the best or the last ones, as it selects.

        The run need not have ended. Return the state of the model, and the notes of the last checkpoint.
        """
        state, notes = read_last(self.checkpoints, max_bytes)
        with checkpoint_errors(self.checkpoints):
            if self.config.trainer.get("select") == "best" and notes["position"]["best_epoch"]:
                state, _ = checkpoint.load(self.checkpoints / "best.safetensors", max_bytes)
            return dict(state["model"]), notes


def open_trained(
    folder: Path, option: str, *, takes_added: bool = True, free: Sequence[str] = FREE_OPTIONS
) -> TrainedRun:
    """Open the run of a network. `option` named its folder, for messages.

    Its configuration must not have been changed since the training, except for the options `free`. Records may have
    been added if `takes_added`.
    """
    check_trained(folder, option)
    config = read_config(folder, option)
    trained = read_trained_data(folder, option, takes_added=takes_added)
    refuse_other_options(config, trained.options, trained.run, free=free)
    return TrainedRun(folder, trained.run, config, trained)


def open_started(folder: Path) -> DictConfig:
    """Open the run of a network, or a cross-validation, that has begun and will be resumed, and return its options.

    It may have no checkpoint. The data that it is trained on are compared later, when the run is assembled
    (`resume.assemble_begun`): in a cross-validation, each fold has its own.
    """
    check_safe(folder)
    require_run(folder)
    if not (folder / "config.yaml").exists():
        raise UserError(
            f"resume={folder}: no config.yaml there; expected the folder of a run (outputs/…). A run that was stopped "
            "before it could write that file has lost nothing: start it again."
        )
    # Another process that writes this run is the first thing to say.
    with run_folder.writing(folder):
        config = read_config(folder, "resume")
    if is_feature_model(config) and not config.data.folds.get("cross_validate"):
        raise UserError(
            f"resume={folder}: the run of a feature model, which is fitted at once; expected the run of a network, or "
            "start it again."
        )
    return config


def check_safe(folder: Path) -> None:
    """Refuse a folder with files that are not safe to use."""
    check_ordinary(folder, FOLDERS)
    check_entries(folder)


def check_trained(folder: Path, option: str) -> None:
    """Refuse a folder without the checkpoint of a network, or with files that are not safe to use."""
    check_safe(folder)
    if is_fitted_to_features(folder):
        raise UserError(
            f"{option}={folder}: the run of a feature model, which cannot be resumed or evaluated again; expected the "
            "run of a network. The MLflow run has its metrics and their intervals."
        )
    if not checkpoint.exists(folder / "checkpoints"):
        refuse_cross_validation(folder, f"{option}={folder}")
        raise UserError(
            f"{option}={folder}: no checkpoints/last.safetensors there; expected the folder of a run (outputs/…)."
        )


def read_last(checkpoints: Path, max_bytes: int = checkpoint.MAX_BYTES) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state and the notes of the last checkpoint or, with a warning, of the one before it."""
    state, notes, warning = checkpoint.load_last(checkpoints, max_bytes)
    with checkpoint_errors(checkpoints):
        check_notes(notes)
    if warning:
        warn(warning)
    return state, notes
