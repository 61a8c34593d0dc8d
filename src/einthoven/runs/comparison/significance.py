"""`einthoven report --significance`: compare many models on many tasks, with corrected tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.evaluation.comparison import difference_of_means
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.significance import Comparison, TrainingTest, corrected_t_test
from einthoven.report.reported import differing
from einthoven.runs.comparison.paired import LoggedPredictions, logged_predictions, shared_patients
from einthoven.runs.comparison.run_report import record_count
from einthoven.tracking.sweep import differing_options

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

SPLITS = ("test", "val")
"""The splits that are compared, in the order in which they are tried."""

_NO_MODEL_OPTIONS = ("task", "folds")
"""Options that do not distinguish models. The options of a group, such as ``task.min_likelihood``, do."""

_NO_MODEL_GROUPS = ("tracking.", "hydra.")
"""Groups of options that do not distinguish models."""


@dataclass(frozen=True)
class Training:
    """One run: a training, or a cross-validation with one training for each fold."""

    name: str
    seed: str
    task: str
    options: Mapping[str, str]
    """Options in which the run differs from the other runs."""
    training_records: int
    """0 if it is not known. A cross-validation does not need it."""
    predictions: LoggedPredictions


@dataclass(frozen=True)
class Model:
    """The trainings that differ only in their seed."""

    label: str
    """Options in which this model differs from the others."""
    trainings: tuple[Training, ...]

    @property
    def by_seed(self) -> dict[str, LoggedPredictions]:
        """The predictions of the last training of each seed."""
        return {training.seed: training.predictions for training in self.trainings}

    @property
    def aurocs(self) -> list[float]:
        """Macro AUROC of each training."""
        return [macro_auroc(of_seed.y, of_seed.p) for of_seed in self.by_seed.values()]


@dataclass(frozen=True)
class Block:
    """The models of one task that were evaluated on the same records. The first one is the reference."""

    task: str
    models: tuple[Model, ...]


def read_trainings(tracking: MlflowClient, runs: Sequence[MlflowRun]) -> tuple[list[Training], list[str]]:
    """Read the predictions of runs: those of the test records, or of the validation records if there are no others.

    Return also a sentence for each run that cannot be compared.
    """
    trainings = []
    remarks = []
    for run, options in zip(runs, differing_options(runs), strict=True):
        predictions: LoggedPredictions | str = ""
        for split in SPLITS:
            predictions = logged_predictions(tracking, run, split)
            if not isinstance(predictions, str):
                break
        if isinstance(predictions, str):
            remarks.append(f"Not compared: {run.info.run_name}: {predictions}")
            continue
        if np.isnan(predictions.p).any():
            remarks.append(f"Not compared: {run.info.run_name}: some of its predictions are not numbers.")
            continue
        training = Training(
            name=str(run.info.run_name),
            seed=run.data.params.get("seed", ""),
            task=run.data.tags.get("task", ""),
            options=_options_of_model(options),
            training_records=record_count(run, "train"),
            predictions=predictions,
        )
        trainings.append(training)
    return trainings, remarks


def _options_of_model(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options of a run that can distinguish models."""
    names = [name for name in options if name not in _NO_MODEL_OPTIONS and not name.startswith(_NO_MODEL_GROUPS)]
    return {name: options[name] for name in names}


def group(trainings: Sequence[Training]) -> tuple[list[Block], list[str]]:
    """Group trainings by task and records, and within these by model. A group has two models or more.

    Return also a sentence for each model that has no other to be compared with, or several runs with one seed.
    """
    by_records: dict[tuple[object, ...], list[Training]] = {}
    for training in trainings:
        held = training.predictions
        key = (training.task, held.classes, held.records.tobytes(), held.y.tobytes())
        by_records.setdefault(key, []).append(training)

    blocks = []
    remarks = []
    for members in by_records.values():
        by_label: dict[str, list[Training]] = {}
        for training, label in zip(members, _labels(members), strict=True):
            by_label.setdefault(label, []).append(training)
        if len(by_label) > 1:
            models = [Model(label, tuple(of_model)) for label, of_model in by_label.items()]
            blocks.append(Block(members[0].task, tuple(models)))
            repeated = [model.label for model in models if len(model.by_seed) < len(model.trainings)]
            remarks += [
                f"{label}: several runs have one seed; the last one that is named counts." for label in repeated
            ]
            continue
        names = ", ".join(training.name for training in members)
        remarks.append(f"Not compared: {names}: no other model of the task {members[0].task} has the same records.")
    return blocks, remarks


def _labels(trainings: Sequence[Training]) -> list[str]:
    """Return the options in which each training differs from the others of its task."""
    names = differing([training.options for training in trainings])
    labels = []
    for training in trainings:
        parts = [f"{name}={training.options[name]}" for name in names if name in training.options]
        labels.append(" ".join(parts) or "default options")
    return labels


def compare_block(block: Block) -> tuple[list[Comparison], list[str]]:
    """Compare each model of a block with the first one.

    Return also a sentence for each comparison that cannot be made, and for each test over trainings that cannot.
    """
    reference = block.models[0]
    comparisons = []
    remarks = []
    for model in block.models[1:]:
        try:
            patients = _shared_patients(reference, model)
        except UserError as error:
            remarks.append(f"Not compared, {block.task}: {model.label} and {reference.label}: {error}")
            continue
        by_records = difference_of_means(
            reference.trainings[0].predictions.y,
            [of_seed.p for of_seed in reference.by_seed.values()],
            [of_seed.p for of_seed in model.by_seed.values()],
            groups=patients,
        )
        tested = compare_trainings(reference, model)
        by_trainings = tested if isinstance(tested, TrainingTest) else None
        if isinstance(tested, str):
            remarks.append(f"{block.task}, {model.label}: no test over trainings, because {tested}.")
        comparisons.append(Comparison(block.task, model.label, reference.label, by_records, by_trainings))
    return comparisons, remarks


def _shared_patients(reference: Model, model: Model) -> NDArray[np.int64] | None:
    """Return the patients of the records, after a check that all trainings have the same; None to use the records."""
    first = reference.trainings[0].predictions
    patients = first.patients
    for training in (*reference.trainings, *model.trainings):
        if shared_patients(first, training.predictions) is None:
            patients = None
    return patients


def compare_trainings(reference: Model, model: Model) -> TrainingTest | str:
    """Test the difference of two models over folds, or else over seeds. Return the reason if there is no test."""
    of_reference = list(reference.by_seed.values())
    of_model = list(model.by_seed.values())
    folds = of_reference[0].folds
    if folds is not None:
        for other in (*of_reference, *of_model):
            if other.folds is None or not np.array_equal(folds, other.folds):
                return "their folds differ"
        return _compare_folds(folds, of_reference, of_model)

    shared_seeds = [seed for seed in reference.by_seed if seed in model.by_seed]
    if len(shared_seeds) < 2:
        return "they have fewer than two seeds in common"
    training_records = reference.trainings[0].training_records
    if not training_records:
        return "the number of training records is not known"
    differences = []
    for seed in shared_seeds:
        first = reference.by_seed[seed]
        other = model.by_seed[seed]
        differences.append(macro_auroc(other.y, other.p) - macro_auroc(first.y, first.p))
    return corrected_t_test(differences, len(of_reference[0].records) / training_records)


def _compare_folds(
    folds: NDArray[np.int64], of_reference: Sequence[LoggedPredictions], of_model: Sequence[LoggedPredictions]
) -> TrainingTest | str:
    """Test the differences of the folds. A difference is the mean over the seeds."""
    differences = []
    test_to_train = []
    for fold in np.unique(folds):
        is_held_out = folds == fold
        try:
            reference_auroc = _mean_auroc(of_reference, is_held_out)
            model_auroc = _mean_auroc(of_model, is_held_out)
        except UserError:
            return f"no class has both labels in fold {fold}"
        differences.append(model_auroc - reference_auroc)
        test_to_train.append(is_held_out.sum() / (~is_held_out).sum())
    if len(differences) < 2:
        return "there is only one fold"
    return corrected_t_test(differences, float(np.mean(test_to_train)))


def _mean_auroc(predictions: Sequence[LoggedPredictions], chosen: NDArray[np.bool_]) -> float:
    """Return the mean macro AUROC of several trainings on some records."""
    return float(np.mean([macro_auroc(of_seed.y[chosen], of_seed.p[chosen]) for of_seed in predictions]))
