"""A run of a model that is fitted to features at once: no gradient, no steps, the same evaluation and record of it."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import einthoven
from einthoven import trust
from einthoven.build import build
from einthoven.contracts import Predictions
from einthoven.data.store.batches import evaluation_batches
from einthoven.errors import UserError
from einthoven.evaluation.importance import permutation_importance
from einthoven.evaluation.metrics import macro_auroc
from einthoven.functional.features import Features, ecg_features
from einthoven.models import features as feature_models
from einthoven.models.features import FeatureModel
from einthoven.report.importance import importance_figure
from einthoven.runs import assemble
from einthoven.runs.conclude import by_record, final_metrics, predictions, record_final
from einthoven.runs.figures import examples, outcome
from einthoven.terminal.display import console

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from omegaconf import DictConfig

    from einthoven.tracking.recorder import Recorder

USED = ("data", "task", "model", "tracking", "advice", "seed")
"""Groups that such a run depends on; it is recorded without the others."""

_NOT_REFUSED = (*USED, "folds", "figure", "experiment", "sweep", "again", "resume", "hydra")
_RECORDS_AT_ONCE = 128  # the arrays of more no longer fit the cache
_JUDGED_ON = 1000  # records that feature importance is measured on, at most


def is_fitted(config: DictConfig) -> bool:
    """Whether the model of a configuration is fitted to features instead of trained by gradients."""
    target = trust.accepted(config.model._target_, "model")
    return isinstance(target, type) and issubclass(target, FeatureModel)


def refuse_unused(overrides: list[str]) -> None:
    """Refuse options of the command line that a fitted model has no use for.

    Raises
    ------
    UserError
        Names the first.
    """
    for override in overrides:
        group = override.lstrip("+~").partition("=")[0].split(".")[0].split("@")[0]
        if group not in _NOT_REFUSED:
            raise UserError(
                f"{override}: this model is fitted to features at once, and only {', '.join(USED)} and folds change "
                "it; leave that out, or choose a network."
            )


def renamed(config: DictConfig) -> DictConfig:
    """The configuration with a name of the run that does not tell of an optimizer and a schedule."""
    from omegaconf import DictConfig, OmegaConf

    tracking = OmegaConf.to_container(config.tracking, resolve=False)
    assert isinstance(tracking, dict)
    name = re.sub(r"-\$\{hydra:runtime\.choices\.(optimizer|schedule)\}", "", str(tracking["run_name"]))
    named = OmegaConf.merge(config, {"tracking": {"run_name": name}})
    assert isinstance(named, DictConfig)
    return named


class FittedRun:
    """One run of a feature model: its parts, and what is done with them.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/train.yaml``.
    folder : Path
        Where the fitted model is kept.
    """

    def __init__(self, config: DictConfig, folder: Path) -> None:
        from omegaconf import OmegaConf

        self.folder = folder
        self.settings = assemble.settings(config)
        self.config = OmegaConf.masked_copy(config, list(USED))
        self.device, self.precision = torch.device("cpu"), "float64"
        self.task = assemble.build_task(config)
        if self.task.output == "identity":
            raise UserError(
                f"task.target={self.task.target}: this model is fitted to classes, and the task asks for a quantity; "
                "expected a network, or a task of classes."
            )
        if self.task.temperature != 1.0:
            raise UserError(
                f"task.temperature={self.task.temperature}: this model is fitted to features at once and gives "
                "probabilities, so that there are no logits to divide; expected 1, or a network."
            )
        self.data = assemble.load_data(config, asdict(self.settings.folds), self.task, self.device, self.settings.seed)
        self.task = self.task.fit(self.data.splits["train"].labels)
        self.model: FeatureModel = build(config.model)
        self._tables: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def fit(self) -> None:
        """Measure the features of the training records, and fit the model to them."""
        features, y = self._measured("train")
        x = self.model.table.fit(features, self.settings.seed).transform(features)
        if np.array_equal(x, np.broadcast_to(x[:1], x.shape), equal_nan=True):
            raise UserError(
                f"nothing can be learned: the {len(x)} training records have the same features; expected signals that "
                "differ."
            )
        try:
            self.model.fit(x, y, single_label=self.task.single_label, seed=self.settings.seed)
        except (ValueError, OverflowError) as error:  # as scikit-learn refuses options
            raise UserError(f"model: cannot be fitted ({str(error).splitlines()[0]})") from error

    def evaluate(self, split: str) -> Predictions:
        """Labels and probabilities of the records of a split: those of a long one from all of its windows."""
        return self.data.by_record(split, self.predict(split), self.settings.trainer.aggregate)

    def predict(self, split: str) -> Predictions:
        """Labels and probabilities of the rows of a split."""
        x, y = self.table(split)
        return Predictions(y, self.model.predict(x))

    def table(self, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features (n, F) and labels (n, K) of a split; measured once."""
        if split not in self._tables:
            features, y = self._measured(split)
            self._tables[split] = self.model.table.transform(features), y
        return self._tables[split]

    def write_config(self) -> None:
        """Write the resolved configuration, of the groups that the run depends on."""
        assemble.write_config(self.config, self.folder)

    def save(self) -> Path:
        """Write the fitted model, and what its numbers stand for, to ``checkpoints/fitted.skops``."""
        path = self.folder / "checkpoints" / "fitted.skops"
        path.parent.mkdir(parents=True, exist_ok=True)
        notes = {
            "classes": list(self.data.labels.classes),
            "leads": list(self.data.store.leads),
            "fs": self.data.store.fs,
            "data": self.data.store.fingerprint,
            "config": assemble.shown(assemble.plain(self.config)),
            "einthoven": einthoven.__version__,
        }
        feature_models.save(self.model, notes, path)
        return path

    def _measured(self, split: str) -> tuple[Features, NDArray[np.float64]]:
        pieces, labels = [], []
        for batch in evaluation_batches(self.data.splits[split], size=_RECORDS_AT_ONCE):
            x, y = batch.x[batch.valid].numpy(), batch.y[batch.valid].numpy()
            pieces.append(ecg_features(x, self.data.store.fs, self.data.store.leads))
            labels.append(y.astype(np.float64))
        values, beats = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("values", "beat"))
        return Features(pieces[0].names, values, beats), np.concatenate(labels)


def execute(run: FittedRun, recorder: Recorder) -> tuple[dict[str, float], dict[str, Predictions]]:
    """Fit, evaluate, and log what a reader of the run wants to see; final metrics, and what was found in each split."""
    run.fit()
    names = run.model.table.names
    console.print(f"fitted to {len(names)} features; of the options, only {', '.join(USED)} and folds apply")
    by_window = {split: run.predict(split) for split in ("val", "test") if split in run.data.splits}
    found = by_record(run, by_window)
    metrics = final_metrics(run, found)
    record_final(recorder, 0, metrics)
    recorder.flush()
    saved = run.save()
    if not run.settings.tracking.artifacts:
        return metrics, found
    for split, evaluation in found.items():
        recorder.table(predictions(run, split, by_window[split]), f"predictions/{split}.json")
        for name, draw in outcome(run, split, evaluation).items():
            recorder.figure(draw(), name)
    if found:
        for name, draw in examples(run, *list(by_window.items())[-1]).items():
            recorder.figure(draw(), name)
        _importance(run, recorder, next(iter(found)))
    recorder.file(saved, "checkpoints")
    return metrics, found


def _importance(run: FittedRun, recorder: Recorder, split: str) -> None:
    """Log a table and a picture of what each feature is worth on records that the model was not fitted to."""
    x, y = (part[:_JUDGED_ON] for part in run.table(split))
    names = run.model.table.names
    lost = permutation_importance(run.model.predict, x, y, macro_auroc, run.settings.seed)
    order = np.argsort(-lost, kind="stable")
    recorder.table(
        {"feature": [names[k] for k in order], "macro_auroc_lost": lost[order].tolist()}, "features/importance.json"
    )
    recorder.figure(importance_figure(names, lost, title=f"What the features are worth ({split})"), "importance")
