"""Write the bundle of a run: at the end of its training, and again with a calibration when it is evaluated."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import einthoven
from einthoven.build import build
from einthoven.contracts import TaskKind
from einthoven.data.synthetic.statements import SUPERCLASSES
from einthoven.errors import UserError
from einthoven.evaluation.band import calibration_covariance
from einthoven.evaluation.calibration import Calibration, Uncalibrated
from einthoven.evaluation.calibration_state import METHODS
from einthoven.evaluation.conformal import risk_control_threshold
from einthoven.evaluation.familiarity import MAX_FEATURES, Familiarity
from einthoven.evaluation.selective import ALPHAS
from einthoven.files import seen_from_here
from einthoven.functional.class_names import MAX_CHARACTERS, is_name
from einthoven.models.boosted_trees import BoostedTrees
from einthoven.models.trees import GradientBoosting
from einthoven.predict.bundle import Bundle
from einthoven.predict.delineator import FOLDER as DELINEATOR
from einthoven.predict.delineator import Delineator
from einthoven.predict.forward import compute_features
from einthoven.predict.model_folder import BUNDLE
from einthoven.predict.network import last_layer
from einthoven.predict.signal import Cut, InputFormat
from einthoven.predict.tree_member import TreeMember
from einthoven.report.metric_text import SPLIT_WORDS
from einthoven.runs.config.options import logged_options, plain_options
from einthoven.runs.config.settings import pads_records, source_options
from einthoven.runs.network.build_model import describe_network
from einthoven.runs.network.members import FeatureMember
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results.mean_evaluation import MeanOfModels
from einthoven.tasks.distillation import Distillation

_STATEMENTS = ("diagnostic", "form", "rhythm", "all")
"""Label sets whose classes are SCP-ECG statements."""

FAMILIARITY_RECORDS = 4000
"""Largest number of rows of a split that the familiarity is fitted on."""


@dataclass(frozen=True)
class Fitted:
    """What an evaluation has fitted on the records of a split that was not trained on."""

    calibration: Calibration
    split: str
    y: NDArray[np.float64]
    p: NDArray[np.float64]
    """Labels and calibrated probabilities of the split, (n, K)."""
    points: dict[str, dict[str, dict[str, float | None]]]
    """Class -> rule -> threshold and rates."""
    metrics: dict[str, float]
    mean: MeanOfModels | None = None
    """The mean that was evaluated, if it is not the run alone."""


def write_bundle(run: NetworkParts, fitted: Fitted | None = None, place: Path | None = None) -> str:
    """Write the bundle into a folder, and return a sentence that says so, or why there is no bundle.

    The folder is by default that of the run.
    """
    place = place or run.folder
    if run.task.kind is TaskKind.PRETEXT:
        return (
            "There is no bundle: a pretraining has no classes to predict. A training that starts from its weights has "
            "one."
        )
    if run.task.kind is TaskKind.MASKS:
        return _write_delineator(run)
    if run.task.kind is TaskKind.QUANTITY:
        return "There is no bundle: a bundle answers with probabilities of classes, and this task predicts a quantity."
    folder = seen_from_here(place / BUNDLE)
    try:
        _make_bundle(run, fitted).save(place / BUNDLE)
    except UserError as error:
        state = "The bundle stays as it was before" if folder.exists() else "There is no bundle"
        return f"{state}: {error}"
    return f"The model is ready to predict: {folder}. {_describe_calibration(fitted)}"


def _describe_calibration(fitted: Fitted | None) -> str:
    """Return a sentence about the probabilities of a bundle."""
    if fitted is None:
        return "Its probabilities are not calibrated, because that needs validation and test records."
    if isinstance(fitted.calibration, Uncalibrated):
        return "Its probabilities are those of the model: no calibration is used."
    return f"Its probabilities are calibrated on {len(fitted.y):,} {SPLIT_WORDS[fitted.split]} records."


def _write_delineator(run: NetworkParts) -> str:
    """Write the delineator of a task of masks into the run's folder, and return a sentence that says so."""
    folder = run.folder / DELINEATOR
    Delineator(run.model, _parts(run), _input_format(run), _provenance(run, run.task.name, None)).save(folder)
    place = str(seen_from_here(run.folder))
    return (
        f"The delineator is in {seen_from_here(folder)}. In Python, this reads it: "
        f"einthoven.predict.delineator.load_delineator({place!r})"
    )


def _make_bundle(run: NetworkParts, fitted: Fitted | None) -> Bundle:
    """Return the bundle of a run with its current weights.

    Raises a `UserError` if the calibration is not one of this package, or a member of the mean is neither the network
    nor gradient boosting: a bundle holds fitted numbers, no code.
    """
    task = run.task
    classes = run.data.labels.classes
    ancestry = run.ancestry
    if fitted is not None:
        mean = fitted.mean
        if mean is not None:
            known = [member.ancestry for member in mean.members if member.ancestry is not None]
            ancestry = ancestry.merged(*known)
        ancestry = ancestry.fitted_on(run.data.digests(fitted.split))
    common: dict[str, Any] = {
        "model": run.classifier,
        "parts": _parts(run),
        "input_format": _input_format(run),
        "classes": classes,
        "groups": _groups(run),
        "single_label": task.single_label,
        "temperature": task.temperature,
        "provenance": _provenance(run, _describe_labels(run), fitted),
        "ancestry": ancestry,
        "cuts": _cuts(run.config.data),
    }
    if fitted is None:
        return Bundle(calibration=Uncalibrated(classes, task.single_label), calibration_method="none", **common)

    methods = [name for name, (method, _) in METHODS.items() if type(fitted.calibration) is method]
    if not methods:
        name = type(fitted.calibration).__name__
        raise UserError(f"calibration {name}: a bundle may hold {', '.join(METHODS)}.")
    bundle = Bundle(
        calibration=fitted.calibration,
        calibration_method=methods[0],
        band=calibration_covariance(fitted.y, fitted.p),
        conformal={alpha: risk_control_threshold(fitted.y, fitted.p, alpha) for alpha in ALPHAS},
        points=fitted.points,
        members=() if fitted.mean is None else _tree_members(fitted.mean),
        **common,
    )

    # The familiarity of a record needs the inputs of the last layer.
    layer = last_layer(run.classifier, len(classes))
    if layer is None or layer.in_features > MAX_FEATURES:
        return bundle
    train_features = compute_features(bundle, _some_signals(run, "train"))
    other_features = compute_features(bundle, _some_signals(run, fitted.split))
    return replace(bundle, familiarity=Familiarity.fit(train_features, other_features))


def _groups(run: NetworkParts) -> dict[str, dict[str, str]]:
    """Return the classes of a run with their meanings, as one group; an empty dict if a meaning is not known."""
    texts: dict[str, str] = {}
    if run.task.labels == "superdiagnostic":
        texts = SUPERCLASSES
    elif run.task.labels in _STATEMENTS:
        source = build(source_options(run.config), "data")
        texts = source.statement_texts() if hasattr(source, "statement_texts") else {}
    meanings = {name: texts.get(name, "") for name in run.data.labels.classes}
    # The table of statements can come from a stranger, and a bundle has only names that can be printed.
    return {"classes": meanings} if all(map(is_name, meanings.values())) else {}


def _tree_members(mean: MeanOfModels) -> tuple[TreeMember, ...]:
    """Return the members of a mean beside its run, as a bundle holds them.

    Raises a `UserError` if one of them is not gradient boosting.
    """
    classes = mean.run.data.labels.classes
    members = []
    for member, weight in zip(mean.members, mean.weights[1:].tolist(), strict=True):
        if not (isinstance(member, FeatureMember) and isinstance(member.model, GradientBoosting)):
            raise UserError(
                f"{member.source}: a bundle may hold a network and models of gradient boosting "
                "(model=gradient_boosting); expected a mean of these."
            )
        order = [member.classes.index(name) for name in classes]
        members.append(TreeMember(BoostedTrees.from_model(member.model, order), weight))
    return tuple(members)


def _describe_labels(run: NetworkParts) -> str:
    """Return the label set of a run, and that of its targets if it is another one."""
    labels: str = run.task.labels
    return labels if run.data.targets is None else f"{labels} read from {run.task.targets}"


def _parts(run: NetworkParts) -> dict[str, Any]:
    """Describe frontend and network so that they can be built without a configuration."""
    parts = describe_network(run.config, run.model.frontend, len(run.data.output_names), run.window)
    readout = run.classifier.readout
    if readout is not None:
        parts["readout"] = readout.options()
    return parts


def _input_format(run: NetworkParts) -> InputFormat:
    """Return the leads, the sampling frequency and the lengths that the model reads."""
    store = run.data.store
    return InputFormat(
        leads=tuple(store.leads),
        fs=float(store.fs),
        seconds=run.data.splits["train"].samples / store.fs,
        pads=pads_records(run.config, store.origin.pads if store.origin else None),
        window=run.window,
        stride=run.stride,
        aggregate=run.settings.trainer.aggregate,
    )


def _cuts(data: Mapping[str, Any]) -> tuple[Cut, ...]:
    """Return how the sources of a run cut long records. A source without such an option keeps their beginning."""
    sources = data.get("sources") or {"": data}
    cuts = [(str(source.get("long", "crop")), source.get("stride")) for source in sources.values()]
    # Each way once, in the order of the sources.
    return tuple(dict.fromkeys(cuts))


def _provenance(run: NetworkParts, task: str, fitted: Fitted | None) -> dict[str, Any]:
    """Return where the bundle comes from: records, folds, versions and options."""
    folds = run.settings.folds
    table = run.data.table("train")
    taught = ""
    if isinstance(run.task, Distillation):
        count = len(run.task.teacher)
        taught = f", distilled from {count} model{'s' * (count > 1)}"
    trained_on = f"{_describe_records(len(table), sorted(set(table['source'])))}, task {task}{taught}"
    if run.base is not None:
        trained_on = f"{trained_on}, started from {run.base.description}"[:MAX_CHARACTERS]
    if fitted is not None and fitted.mean is not None:
        trained_on = f"{trained_on}, {_describe_mean(fitted.mean)}"[:MAX_CHARACTERS]
    provenance: dict[str, Any] = {
        "trained_on": trained_on,
        "folds": {"train": folds.train},
        "data": run.data.store.fingerprint,
        "epochs": run.position.epoch,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "einthoven": einthoven.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "config": logged_options(plain_options(run.config)),
    }
    if fitted is not None:
        provenance["folds"]["fit"] = getattr(folds, fitted.split)
        provenance["fitted_on"] = f"{len(fitted.y):,} records that were not trained on"
        provenance["metrics"] = fitted.metrics
        if fitted.mean is not None:
            provenance["mean"] = fitted.mean.describe()
    return provenance


def _describe_mean(mean: MeanOfModels) -> str:
    """Return the members of a mean beside its network, in words."""
    weights = ", ".join(f"{weight:.2g}" for weight in mean.weights[1:])
    return f"in a mean with gradient boosting on ECG measurements (weight {weights})"


def _describe_records(count: int, sources: list[str]) -> str:
    """Return the number of records and their sources in words."""
    if sources == ["synthetic"]:
        return f"{count:,} synthetic ECGs (generated, of no person)"
    return f"{count:,} records of {' and '.join(sources)}"


def _some_signals(run: NetworkParts, split: str) -> NDArray[np.int16]:
    """Return signals of a split in µV: at most `FAMILIARITY_RECORDS` rows, evenly spread."""
    rows = run.data.store_rows[run.data.rows[split]]
    count = min(len(rows), FAMILIARITY_RECORDS)
    selected = np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))
    # The store is read fastest in ascending order.
    return run.data.store.signals[np.sort(rows[selected])]
