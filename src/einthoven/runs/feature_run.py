"""A run of a model that is fitted to features at once: it has no gradients and no steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

import einthoven
from einthoven.build import build
from einthoven.contracts import Predictions, TaskKind
from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.evaluation.importance import permutation_importance
from einthoven.evaluation.metrics import macro_auroc
from einthoven.functional.features import Features
from einthoven.models import features as feature_models
from einthoven.models.features import FeatureModel
from einthoven.models.trees import Trees
from einthoven.report.importance import importance_figure
from einthoven.runs.config.next_commands import without
from einthoven.runs.config.options import logged_options, plain_options
from einthoven.runs.config.settings import FEATURE_GROUPS, build_task, check_settings
from einthoven.runs.data import data_loading
from einthoven.runs.data.feature_table import measure_features
from einthoven.runs.folder.base_model import BaseModel
from einthoven.runs.results.conclude import by_record, final_metrics, log_final, prediction_table
from einthoven.runs.results.figures import example_figures, result_figure
from einthoven.runs.results.plain_files import write_predictions
from einthoven.terminal.display import say
from einthoven.tracking.recorder import Recorder

if TYPE_CHECKING:
    from omegaconf import DictConfig

_ALLOWED_OVERRIDES = (*FEATURE_GROUPS, "folds", "figure", "experiment", "sweep", "again", "resume", "hydra")

_IMPORTANCE_RECORDS = 1000
"""Largest number of records that the importance of features is measured on."""


def refuse_unused(overrides: list[str]) -> None:
    """Refuse options of the command line that a feature model does not use."""
    unused = without(overrides, *_ALLOWED_OVERRIDES)
    if unused:
        raise UserError(
            f"{unused[0]}: this model is fitted to features at once, and only {', '.join(FEATURE_GROUPS)} and folds "
            "change it; leave that out, or choose a network."
        )


class FeatureRun:
    """One run of a feature model. It implements the protocol `Run`.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/train.yaml``. Only the groups that the run depends on are kept.
    folder : Path
        Folder of the fitted model.

    Raises
    ------
    UserError
        If the task does not suit a feature model.
    """

    other_options = ("model", "decision_tree", "forest,naive_bayes")
    total_steps = 0
    ancestors: tuple[Ancestry, ...] = ()
    base: BaseModel | None = None

    def __init__(self, config: DictConfig, folder: Path) -> None:
        from omegaconf import OmegaConf

        self.folder = folder
        self.settings = check_settings(config)
        self.config = OmegaConf.masked_copy(config, list(FEATURE_GROUPS))
        self.device = torch.device("cpu")
        self.precision = "float64"
        self.task = build_task(config)
        if self.task.kind is TaskKind.PRETEXT:
            raise UserError(
                f"task={self.task.name}: this model is fitted to classes, and the task reads no labels; expected a "
                "network, or a task of classes."
            )
        if self.task.kind is TaskKind.QUANTITY:
            raise UserError(
                f"task.target={self.task.target}: this model is fitted to classes, and the task asks for a quantity; "
                "expected a network, or a task of classes."
            )
        if self.task.targets is not None:
            raise UserError(
                f"task.targets={self.task.targets}: this model is fitted to the classes themselves; expected null, or "
                "a network."
            )
        if self.task.temperature != 1.0:
            raise UserError(
                f"task.temperature={self.task.temperature}: this model is fitted to features at once and gives "
                "probabilities, so that there are no logits to divide; expected 1, or a network."
            )
        folds = asdict(self.settings.folds)
        self.data = data_loading.load_data(config, folds, self.task, self.device, self.settings.seed)
        self.task = self.task.fit(self.data.splits["train"].labels)
        self.model: FeatureModel = build(config.model)
        self.model_description = type(self.model).__name__
        # A feature model has no number of parameters.
        self.model_sizes: dict[str, int] = {}
        self._tables: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    @property
    def file(self) -> Path:
        """The file of the fitted model."""
        return self.folder / "checkpoints" / "fitted.skops"

    def headline(self) -> str:
        """Return the model, which has no optimizer."""
        return f"Fitting {self.model_description} to ECG features"

    @contextmanager
    def training(self, recorder: Recorder) -> Iterator[Callable[[], None]]:
        """Yield the function that fits the model. It takes seconds, so that no progress is shown."""
        yield self.fit

    def fit(self) -> None:
        """Measure the features of the training records, and fit the model to them."""
        features, y = self._measure("train")
        x = self.model.table.fit(features, self.settings.seed).transform(features)
        if np.array_equal(x, np.broadcast_to(x[:1], x.shape), equal_nan=True):
            raise UserError(
                f"nothing can be learned: the {len(x)} training records have the same features; expected signals that "
                "differ."
            )
        try:
            self.model.fit(x, y, single_label=self.task.single_label, seed=self.settings.seed)
        except (ValueError, OverflowError) as error:
            # scikit-learn refuses wrong options by these errors.
            raise UserError(f"model: cannot be fitted ({str(error).splitlines()[0]})") from error
        self._tables["train"] = x, y
        names = self.model.table.names
        say(
            f"The model is fitted to {len(names)} features of each record. Of the options, only "
            f"{', '.join(FEATURE_GROUPS)} and folds change it."
        )

    def conclude(self, recorder: Recorder, *, is_fold: bool = False) -> tuple[dict[str, float], dict[str, Predictions]]:
        """Evaluate the fitted model, and log what belongs on the run page."""
        row_predictions = {split: self._predict(split) for split in ("val", "test") if split in self.data.splits}
        predictions = by_record(self, row_predictions)
        metrics = final_metrics(self, predictions)
        log_final(recorder, 0, metrics)
        recorder.flush()
        file = self.save()
        tables = {split: prediction_table(self, split, of_rows) for split, of_rows in row_predictions.items()}
        write_predictions(self.folder, tables)
        if not self.settings.tracking.artifacts:
            return metrics, predictions
        for split, of_records in predictions.items():
            recorder.table(tables[split], f"predictions/{split}.parquet")
            for name, draw in result_figure(self, split, of_records).items():
                recorder.figure(draw(), name)
        if predictions:
            last_split = list(row_predictions)[-1]
            for name, draw in example_figures(self, last_split, row_predictions[last_split]).items():
                recorder.figure(draw(), name)
        self.log_features(recorder, next(iter(predictions), None))
        recorder.file(file, "checkpoints")
        return metrics, predictions

    def evaluate(self, split: str) -> Predictions:
        """Predict the records of a split. A record that is cut into rows gets one prediction."""
        return self.data.by_record(split, self._predict(split), self.settings.trainer.aggregate)

    def _predict(self, split: str) -> Predictions:
        """Predict the rows of a split."""
        x, y = self._table(split)
        return Predictions(y, self.model.predict(x))

    def _table(self, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return features (n, F) and labels (n, K) of a split. They are measured once."""
        if split not in self._tables:
            features, y = self._measure(split)
            self._tables[split] = self.model.table.transform(features), y
        return self._tables[split]

    def save(self) -> Path:
        """Write the fitted model, and what its numbers stand for, to ``checkpoints/fitted.skops``."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        notes = {
            "classes": list(self.data.labels.classes),
            "leads": list(self.data.store.leads),
            "fs": self.data.store.fs,
            "data": self.data.store.fingerprint,
            "config": logged_options(plain_options(self.config)),
            "einthoven": einthoven.__version__,
        }
        feature_models.save(self.model, notes, self.file)
        return self.file

    def refuse_seen(self, names: Mapping[str, str]) -> None:
        """Do nothing: a feature model is made from no other model."""

    def describe_training(self) -> str:
        """Return the name of the model and the seed."""
        return f"{self.model_description}, fitted to ECG features; seed {self.settings.seed}."

    def training_facts(self) -> dict[str, Any]:
        """Return nothing: there are no steps to give advice about."""
        return {}

    def _measure(self, split: str) -> tuple[Features, NDArray[np.float64]]:
        """Measure the features of the rows of a split."""
        return measure_features(self.data.splits[split], self.data.store.fs, self.data.store.leads)

    def log_features(self, recorder: Recorder, split: str | None, suffix: str = "") -> None:
        """Log what each feature is worth to the fitted model.

        The importance is measured on a split that the model was not fitted to, if there is one. The names of pictures
        and tables end in `suffix`, if several models are logged to one run.
        """
        if split is not None:
            self._log_importance(recorder, split, suffix)
        if isinstance(self.model, Trees):
            self._log_information_gain(recorder, self.model, suffix)

    def _log_information_gain(self, recorder: Recorder, model: Trees, suffix: str) -> None:
        """Log a table and a picture of the information gain of each feature, on the training records."""
        x, y = self._table("train")
        names = model.table.names
        gain = model.information_gain(x, y)
        order = np.argsort(-gain, kind="stable")
        columns = {"feature": [names[k] for k in order], "information_gain_nats": gain[order].tolist()}
        recorder.table(columns, f"features/information_gain{suffix}.json")
        title = f"Information gain of the splits: {gain.sum():.3f} nats in a tree (train)"
        figure = importance_figure(names, gain, title=title, label="information gain in nats, mean over the trees")
        recorder.figure(figure, f"information_gain{suffix}")

    def _log_importance(self, recorder: Recorder, split: str, suffix: str) -> None:
        """Log a table and a picture of the importance of each feature, on records that the model was not fitted to."""
        x, y = self._table(split)
        x = x[:_IMPORTANCE_RECORDS]
        y = y[:_IMPORTANCE_RECORDS]
        names = self.model.table.names
        loss = permutation_importance(self.model.predict, x, y, macro_auroc, self.settings.seed)
        order = np.argsort(-loss, kind="stable")
        columns = {"feature": [names[k] for k in order], "macro_auroc_lost": loss[order].tolist()}
        recorder.table(columns, f"features/importance{suffix}.json")
        figure = importance_figure(names, loss, title=f"Importance of the features ({split})")
        recorder.figure(figure, f"importance{suffix}")
