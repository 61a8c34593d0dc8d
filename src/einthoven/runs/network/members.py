"""Trained models that answer together: the teachers of a distillation, or the members of a mean that is evaluated.

A member is a network, which reads signals, or a model that was fitted to ECG features, which reads a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.data.ancestry import Ancestry
from einthoven.data.store.batches import evaluation_batches
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.functional.features import Features
from einthoven.functional.weight_hash import hash_weights
from einthoven.models import features as feature_models
from einthoven.models.ensemble import Ensemble
from einthoven.models.features import MOST_BYTES, FeatureModel
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.groups import answer_first_group
from einthoven.predict.model_folder import CHECKPOINTS, find_bundle, is_fitted_to_features, named_folder
from einthoven.runs.data.feature_table import build_feature_model, measure_features, select_features
from einthoven.runs.folder.trained_data import read_trained_data
from einthoven.runs.folder.trained_run import check_safe
from einthoven.training.evaluate import evaluate
from einthoven.training.precision import choose_autocast

if TYPE_CHECKING:
    from einthoven.runs.network.network_parts import NetworkParts

HASH_DIGITS = 12

PARTS = 5
"""The training records of a feature model are divided into this many parts, to predict each by a fit to the others."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class NetworkMember:
    """A network, from the bundle of its run."""

    source: str
    """The option that named it, for messages: ``task.teacher=outputs/…``."""
    bundle: Bundle

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes."""
        return self.bundle.classes

    @property
    def single_label(self) -> bool:
        """Whether its probabilities are a softmax over the classes."""
        return self.bundle.single_label

    @property
    def leads(self) -> tuple[str, ...]:
        """Leads that it reads."""
        return self.bundle.input_format.leads

    @property
    def fs(self) -> float:
        """Sampling frequency that it reads, in Hz."""
        return self.bundle.input_format.fs

    @property
    def ancestry(self) -> Ancestry | None:
        """Records that it has seen; None if it does not list them."""
        return self.bundle.ancestry

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of its training by their dotted names; none if they are not known."""
        stated = self.bundle.provenance.get("config")
        return stated if isinstance(stated, dict) else {}

    @cached_property
    def sha256(self) -> str:
        """Twelve hex digits of the hash of what it answers with: weights, classes and outputs.

        The hash of the bundle is another one: it changes when the bundle is calibrated, and the logits do not.
        """
        bundle = self.bundle
        outputs = repr((bundle.classes, bundle.single_label, bundle.temperature))
        readout = bundle.model.readout
        if readout is not None:
            outputs += repr(readout.options())
        return hash_weights(bundle.model.state_dict(), outputs.encode())[:HASH_DIGITS]

    def columns(self, classes: Sequence[str]) -> torch.Tensor:
        """Return the output of each class, (K,): members may list the classes in another order."""
        return torch.tensor([self.classes.index(name) for name in classes])

    def predict(self, run: NetworkParts, split: str, aggregate: str | None = None) -> Float:
        """Return its probabilities (n, K) of the rows of a split, in the order of the classes of the run.

        The record is cut into windows as in the own run of the network. `aggregate` is ``mean`` or ``max`` over them,
        by default as in that run.
        """
        bundle = self.bundle
        columns = [self.columns(run.data.labels.classes)]
        model = Ensemble([bundle.model], columns, [bundle.temperature], self.single_label).to(run.device)
        # The logits are of the classes, and are divided by the temperature of the network already.
        task = replace(run.task, temperature=1.0, reader=None)
        batches = evaluation_batches(run.data.splits[split], size=run.evaluation_size)
        reads = bundle.input_format
        predictions = evaluate(
            model,
            task,
            batches,
            window=reads.window,
            stride=reads.stride,
            aggregate=aggregate or reads.aggregate,
            autocast=choose_autocast("fp32", run.device)[1],
        )
        return predictions.p


@dataclass(frozen=True)
class FeatureMember:
    """A model that was fitted to ECG features."""

    source: str
    """The option that named it, for messages."""
    model: FeatureModel
    """Fitted."""
    classes: tuple[str, ...]
    single_label: bool
    leads: tuple[str, ...]
    fs: float
    """Sampling frequency of its records in Hz."""
    ancestry: Ancestry
    """The records that it was fitted to."""
    options: Mapping[str, Any]
    """Options of its run by their dotted names."""
    sha256: str
    """Twelve hex digits of the hash of its file."""

    def predict(self, features: Features, classes: Sequence[str]) -> Float:
        """Return its probabilities (n, K) of a table of features, in this order of the classes."""
        p = self.model.predict(self.model.table.transform(features))
        if p.shape[1] != len(self.classes):
            raise UserError(f"{self.source}: damaged: {p.shape[1]} probabilities for {len(self.classes)} classes.")
        return p[:, [self.classes.index(name) for name in classes]]

    def predict_unseen(self, run: NetworkParts, features: Features) -> Float:
        """Return probabilities (n, K) of the training rows of a run, none of them from a fit that has seen the row.

        A model that is fitted at once reproduces the labels that it was fitted to. So its training records are divided
        into parts of patients. Each part is predicted by the same model, fitted to the other parts, with all rows of
        its patients. Rows of other patients have the probabilities of the model itself. Raises a `UserError` if the run
        lacks some of its training records, they are of one patient, or their labels were shuffled.
        """
        data = run.data
        classes = data.labels.classes
        digests = data.digests("train")
        missing = np.setdiff1d(self.ancestry.trained, digests)
        if len(missing):
            raise UserError(
                f"{self.source}: was fitted to {len(missing)} records that are no training records here; expected all "
                "of its records among them, because it is fitted again to parts of them."
            )
        if self.options.get("task.shuffle_labels"):
            raise UserError(
                f"{self.source}: was fitted with task.shuffle_labels=true, and would be fitted again to the true "
                "labels; expected a model of the true labels."
            )
        p = self.predict(features, classes)
        is_trained = self.ancestry.in_training(digests)
        part_of_row = self._divide(data.labels.patients[data.rows["train"]], is_trained)
        y = data.labels.matrix[data.rows["train"]].astype(np.float64)
        for part in np.unique(part_of_row[is_trained]):
            is_held_out = part_of_row == part
            p[is_held_out] = self._fit_again(features, y, is_trained & ~is_held_out, is_held_out)
        return p

    def _divide(self, patients: NDArray[np.int64], is_trained: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the part of each row, (n,): all rows of a patient are in one part.

        It is -1 for patients of whom the model was fitted to no record.
        """
        names = np.unique(patients[is_trained])
        if len(names) < 2:
            raise UserError(f"{self.source}: was fitted to the records of one patient; expected two patients or more.")
        parts = np.random.default_rng(self.seed).permutation(len(names)) % PARTS
        part_of_row = np.full(len(patients), -1)
        is_known = np.isin(patients, names)
        part_of_row[is_known] = parts[np.searchsorted(names, patients[is_known])]
        return part_of_row

    def _fit_again(
        self, features: Features, y: Float, is_fitted: NDArray[np.bool_], is_held_out: NDArray[np.bool_]
    ) -> Float:
        """Fit a new model with the same options to some rows, and return its probabilities of others."""
        model = build_feature_model(self.options, self.source)
        fitted_features = select_features(features, is_fitted)
        x = model.table.fit(fitted_features, self.seed).transform(fitted_features)
        model.fit(x, y[is_fitted], single_label=self.single_label, seed=self.seed)
        return model.predict(model.table.transform(select_features(features, is_held_out)))

    @property
    def seed(self) -> int:
        """Seed of its run."""
        return int(self.options["seed"])


Member = NetworkMember | FeatureMember


def read_member(name: str, option: str) -> Member:
    """Read the model in the folder of a run or of a bundle, or a bundle of the package. `option` is for messages."""
    source = f"{option}={name}"
    if "://" in name or name.startswith(("runs:/", "models:/")):
        raise UserError(f"{source}: expected the folder of a run or of a bundle on this machine.")
    folder = named_folder(name)
    try:
        if is_fitted_to_features(folder):
            return _read_fitted(folder, option, source)
        # A bundle may answer further groups of classes beside those that it was trained for.
        return NetworkMember(source, answer_first_group(read_bundle(find_bundle(name, source))))
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error}).") from None
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None


def _read_fitted(folder: Path, option: str, source: str) -> FeatureMember:
    """Read a model that was fitted to features from the folder of its run."""
    check_safe(folder)
    file = folder / CHECKPOINTS / "fitted.skops"
    if not file.is_file():
        raise UserError(f"{source}: its model is fitted to features, and {file} is missing; expected a finished run.")
    trained = read_trained_data(folder, option, takes_added=True)
    model = build_feature_model(trained.options, source)
    notes = feature_models.load(model, file)
    try:
        return FeatureMember(
            source=source,
            model=model,
            classes=tuple(map(str, notes["classes"])),
            single_label=bool(trained.options["task.single_label"]),
            leads=tuple(map(str, notes["leads"])),
            fs=float(notes["fs"]),
            ancestry=trained.ancestry,
            options=trained.options,
            sha256=hashlib.sha256(read_file(file, MOST_BYTES)).hexdigest()[:HASH_DIGITS],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}: {error}).") from None


def predict_members(run: NetworkParts, members: Sequence[Member], split: str, aggregate: str | None = None) -> Float:
    """Return the probabilities (M, n, K) of the rows of a split by each member, in the classes of the run.

    `aggregate` is ``mean`` or ``max`` over the windows of a row. By default, each network has a rule of its own.
    """
    features = None
    answers = []
    for member in members:
        if isinstance(member, NetworkMember):
            answers.append(member.predict(run, split, aggregate))
            continue
        # The features are the same for all members.
        features = features or features_of(run, split)
        answers.append(member.predict(features, run.data.labels.classes))
    return np.stack(answers)


def features_of(run: NetworkParts, split: str) -> Features:
    """Measure the ECG features of the rows of a split of a run."""
    features, _ = measure_features(run.data.splits[split], run.data.store.fs, run.data.store.leads)
    return features


def refuse_other_outputs(member: Member, classes: Sequence[str], single_label: bool) -> None:
    """Refuse a model with other classes, or with another kind of probabilities."""
    missing = [name for name in classes if name not in member.classes]
    others = [name for name in member.classes if name not in classes]
    differences = []
    if missing:
        differences.append(f"does not predict {' '.join(missing)}")
    if others:
        differences.append(f"predicts {' '.join(others)}, which are no classes here")
    if differences:
        raise UserError(
            f"{member.source}: {' and '.join(differences)}; expected a model of the classes {' '.join(classes)}."
        )
    if member.single_label != single_label:
        kinds = {True: "one class for each record (softmax)", False: "each class by itself (sigmoid)"}
        raise UserError(
            f"{member.source}: predicts {kinds[member.single_label]}; expected a model that predicts "
            f"{kinds[single_label]}, or another task.single_label."
        )
