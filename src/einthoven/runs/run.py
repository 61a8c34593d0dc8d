"""The protocol of a training run. `NetworkRun` and `FeatureRun` implement it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from einthoven.contracts import Predictions
from einthoven.data.ancestry import Ancestry
from einthoven.runs.config.settings import Settings
from einthoven.runs.data.run_data import Data
from einthoven.runs.folder.base_model import BaseModel
from einthoven.tracking.recorder import Recorder

if TYPE_CHECKING:
    from omegaconf import DictConfig


class RunParts(Protocol):
    """The parts of a run that its evaluation needs. `Run` and `NetworkParts` have them.

    Attributes
    ----------
    folder : Path
        Folder of the configuration and the checkpoints.
    precision : str
        Number format of forward passes.
    base : BaseModel or None
        The model that the run starts from.
    """

    config: DictConfig
    folder: Path
    settings: Settings
    device: torch.device
    precision: str
    task: Any
    data: Data
    base: BaseModel | None


class Run(RunParts, Protocol):
    """One training run: its parts, and how it is trained and concluded.

    Attributes
    ----------
    other_options : tuple of str
        A group of options, an option of it, and two options of it, for the commands that are suggested at the end.
    total_steps : int
        Optimizer steps of the whole training; 0 if the model is fitted at once.
    model_sizes : dict of str to int
        Sizes of the model that are logged as parameters of the run.
    model_description : str
        A few words about the model, for the terminal.
    ancestors : tuple of Ancestry
        The records that other models have seen, if this one is made from them.
    """

    other_options: tuple[str, str, str]
    total_steps: int
    model_sizes: dict[str, int]
    model_description: str
    ancestors: tuple[Ancestry, ...]

    def headline(self) -> str:
        """Return words about the model, its size and its optimizer, for the first line of the terminal."""

    def training(self, recorder: Recorder) -> AbstractContextManager[Callable[[], object]]:
        """Return a context that shows the progress. Its value is a function without arguments that trains."""

    def conclude(self, recorder: Recorder, *, is_fold: bool = False) -> tuple[dict[str, float], dict[str, Predictions]]:
        """Evaluate the trained model, and log what belongs on the run page.

        Return the final metrics, ``val/…`` and ``test/…``, and the predictions of the records of each split. A
        cross-validation describes the bundles of all its folds itself (`is_fold`).
        """

    def evaluate(self, split: str) -> Predictions:
        """Predict the records of a split. A record that is cut into rows gets one prediction."""

    def refuse_seen(self, names: Mapping[str, str]) -> None:
        """Refuse a base or a teacher that was trained on records of some splits. See `Data.refuse_seen`."""

    def describe_training(self) -> str:
        """Return a sentence about the model and its training, for the note of the run."""

    def training_facts(self) -> Mapping[str, Any]:
        """Return facts about the training that advice is based on and that no metric shows."""
