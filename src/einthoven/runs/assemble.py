"""Configuration -> the parts of a run: settings, data on the device, model, optimizer."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven import schema
from einthoven.atomic import write_text
from einthoven.augment.compose import Compose
from einthoven.build import build, check
from einthoven.contracts import Predictions
from einthoven.data.ancestry import Ancestry, apart
from einthoven.data.identity import DataIdentity
from einthoven.data.sources.labels import Labels
from einthoven.data.sources.source_state import ago
from einthoven.data.sources.splits import SPLITS, split_rows
from einthoven.data.sources.targets import targets
from einthoven.data.store.batches import DeviceSplit, Split
from einthoven.data.store.digests import Digests
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT, Store
from einthoven.data.store.streaming import StreamedSplit, fits, free_memory
from einthoven.errors import UserError
from einthoven.functional.pca import LeadMoments, lead_moments
from einthoven.functional.statements import changed_classes
from einthoven.models.frontend import Classifier
from einthoven.terminal.display import bar, console
from einthoven.tracking.privacy import without_folders

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pandas import DataFrame

    from einthoven.models.frontend import Frontend
    from einthoven.models.time_frontend import TimeFrontend
    from einthoven.runs.trained_data import TrainedData

_PARTS = ("data", "task", "loss", "pca", "augment", "model", "init", "optimizer", "schedule", "penalty", "advice")
_OPTIONAL = ("probe", "figure", "explanation")  # the last is not in the configuration of earlier runs
AUGMENTED = 4  # training records that an augmentation is tried on
COPIES = 4  # of the weights in a training: themselves, the gradient, two moments
PROBE = 64  # training records that an initialization may look at


@dataclass(frozen=True)
class Settings:
    """The fixed groups of a configuration, checked."""

    folds: schema.Folds
    trainer: schema.Trainer
    diagnostics: schema.Diagnostics
    tracking: schema.Tracking
    seed: int


@dataclass(frozen=True)
class Data:
    """A corpus, labelled, split, and on the device."""

    store: Store
    labels: Labels
    rows: Mapping[str, NDArray[np.int64]]  # of `labels`, for each split
    stored: NDArray[np.int64]  # row of the store for each of `labels`
    splits: Mapping[str, Split]
    identity: DataIdentity  # of the store, row by row
    notes: tuple[str, ...] = ()  # what was left out of the splits, one sentence each

    def digests(self, split: str) -> Digests:
        """Content digest of each window of a split."""
        return self.identity.digests[self.stored[self.rows[split]]]

    def windows(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Record of each window of a split, and where in the record it begins, in seconds."""
        table = self.store.table.iloc[self.stored[self.rows[split]]]
        return table["record_id"].to_numpy(np.int64), table["start_s"].to_numpy(np.float64)

    def patients(self, split: str) -> NDArray[np.int64]:
        """Patient of each record of a split, in the order of `records`."""
        return self.labels.patients[self.rows[split]][records(self.windows(split)[0])[0]]

    def record_labels(self, split: str) -> NDArray[Any]:
        """Labels of each record of a split, in the order of `records`."""
        return self.labels.matrix[self.rows[split]][records(self.windows(split)[0])[0]]

    def table(self, split: str) -> DataFrame:
        """What the source's table says of each record of a split, in the order of `records`."""
        return self.store.table.iloc[self.stored[self.rows[split]][records(self.windows(split)[0])[0]]]

    def by_record(self, split: str, found: Predictions, aggregate: str) -> Predictions:
        """Aggregate what was found in the windows of each record of a split: the mean or the max of predictions."""
        first, of = records(self.windows(split)[0])
        if len(first) == len(of):
            return found
        # labels of a record are the same in its windows, quantities may not be
        return Predictions(aggregated(found.y, of, "mean"), aggregated(found.p, of, aggregate))


def records(record_ids: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First window of each record, in order, and the record (by its place in that order) of each window."""
    _, first, of = np.unique(record_ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[of]


def aggregated(values: NDArray[np.float64], of: NDArray[np.intp], aggregate: str) -> NDArray[np.float64]:
    """The mean or the max (of probabilities) over the windows of each record: (windows, K) -> (records, K)."""
    if aggregate == "max":
        largest = np.zeros((of.max(initial=-1) + 1, values.shape[1]))
        np.maximum.at(largest, of, values)
        return largest
    return np.stack([np.bincount(of, column) for column in values.T], axis=1) / np.bincount(of)[:, None]


def settings(config: DictConfig) -> Settings:
    """Check the whole configuration, signatures included, before any data are read."""
    from omegaconf import OmegaConf

    checked = Settings(
        folds=schema.typed(config.data.folds, schema.Folds, "data.folds"),
        trainer=schema.typed(config.trainer, schema.Trainer, "trainer"),
        diagnostics=schema.typed(config.diagnostics, schema.Diagnostics, "diagnostics"),
        tracking=schema.typed(config.tracking, schema.Tracking, "tracking"),
        seed=schema.typed(OmegaConf.create({"seed": config.seed}), schema.Seed, "").seed,
    )
    for part in (*_PARTS, *(name for name in _OPTIONAL if name in config)):
        check(_part(config, part), part)
    build_task(config)
    build(config.schedule)(0, 1)
    build(config.penalty)
    if "probe" in config:
        build(config.probe)
    return checked


def build_task(config: DictConfig) -> Any:
    """The task, with its loss."""
    from omegaconf import OmegaConf

    task, loss = (OmegaConf.to_container(part, resolve=True) for part in (config.task, config.loss))
    assert isinstance(task, dict)
    return build(OmegaConf.create({**task, "objective": loss}), "task")


def load_data(
    config: DictConfig,
    folds: Mapping[str, list[int]],
    task: Any,
    device: torch.device,
    seed: int,
    trained: TrainedData | None = None,
) -> Data:
    """Open the store (building it on first use), label and split its records, move each split to the device.

    Of a run that was trained before (`trained`), the records have to be those that it was trained on, and more of them
    only where that is allowed. No record of validation or test has the signal of one that is used before it.

    Raises
    ------
    UserError
        If the records cannot be read or split, nothing can be learned from their labels, or they are no longer those
        of the run.
    """
    # A run that is evaluated or continued has to have the records that it was trained on: they are looked at again.
    store, labels = _read(build(_part(config, "data"), "data"), task, check=trained is not None)
    position = {ecg_id: row for row, ecg_id in enumerate(store.table["ecg_id"])}
    stored = np.array([position[ecg_id] for ecg_id in labels.ecg_ids])
    identity = DataIdentity.of(store, labels, stored)
    added = None if trained is None else trained.added(store, identity)[stored]
    rows = split_rows(labels, folds, added)
    ancestry = Ancestry() if trained is None else trained.ancestry
    record_ids = identity.record_ids[stored]
    rows, left_out = apart(rows, identity.digests[stored], record_ids, ancestry)
    notes = _notes_on_rows(rows, left_out, record_ids, added)
    for note in notes:
        console.print(note, soft_wrap=True)
    learned = labels.matrix[rows["train"]]
    for note in task.notes(learned, labels.classes):
        console.print(note, soft_wrap=True)
    if len(np.unique(labels.patients[rows["train"]])) == 1:
        console.print("training: all records are of one patient, and what is learned is of that patient")
    for split in ("val", "test"):
        found = labels.matrix[rows[split]]
        judged = bool(len(found)) if _measures(task) else (_with_both(found) & _with_both(learned)).any()
        if folds[split] and not judged:
            lack = "no class with both labels" if len(found) else "no records"
            console.print(f"fold{'s' * (len(folds[split]) > 1)} {_listed(folds[split])}: {lack}: no {split} metrics")
            rows[split] = rows[split][:0]
    matrices = {split: task.encode(labels.matrix[rows[split]]) for split in SPLITS}
    matrices["train"] = task.shuffled(matrices["train"], seed)
    kept = sum(rows[split].size for split in SPLITS) * (store.signals.nbytes // len(store.signals))
    residency = config.trainer.residency
    streamed = residency == "stream" or (residency == "auto" and not fits(kept, device))
    make: Callable[..., Split] = StreamedSplit.open if streamed else DeviceSplit.load
    splits: dict[str, Split] = {
        split: make(store.signals, stored[rows[split]], matrices[split], device) for split in SPLITS if rows[split].size
    }
    return Data(store, labels, rows, stored, splits, identity, notes)


def _with_both(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which classes of labels (n, K) hold for some records and not for others."""
    positive = labels.astype(bool)
    return np.asarray(positive.any(axis=0) & ~positive.all(axis=0))


def _notes_on_rows(
    rows: Mapping[str, NDArray[np.int64]],
    left_out: Mapping[str, NDArray[np.int64]],
    record_ids: NDArray[np.int64],
    added: NDArray[np.bool_] | None,
) -> tuple[str, ...]:
    """What was left out of the splits, and what was added since the training, one sentence each."""
    notes = []
    for split, records in left_out.items():
        if len(records):
            counted = f"{len(records)} record{'s' * (len(records) > 1)}"
            notes.append(
                f"{split}: {counted} left out, as a record of another split has the same signal (such as ecg_id "
                f"{records[0]})"
            )
    if added is not None and added.any():
        total = len(np.unique(record_ids[added]))
        used = {split: len(np.unique(record_ids[rows[split][added[rows[split]]]])) for split in ("val", "test")}
        counted = f"{total} record{'s were' if total > 1 else ' was'}"
        rest = total - sum(used.values())
        unused = f", {rest} left out (other folds, or known patients or signals)" if rest else ""
        notes.append(
            f"{counted} added since this run was trained: {used['val']} in val and {used['test']} in test are used"
            f"{unused}"
        )
    return tuple(notes)


def fingerprint(config: DictConfig) -> str:
    """Fingerprint of the records of a configuration; their store is built on first use."""
    with bar("preparing records") as progress:
        return str(build(_part(config, "data"), "data").open(progress, check=False).fingerprint)


def _read(source: Any, task: Any, *, check: bool) -> tuple[Store, Labels]:
    """Open the store of a source, and read or measure what the task asks of its records.

    Without `check`, files of records are not looked at where their store is known, and the terminal says so.
    """
    if not _measures(task) and task.labels not in source.label_sets:
        raise UserError(f"task.labels={task.labels}: these data have {', '.join(source.label_sets)}.")
    with bar("preparing records") as progress:
        store: Store = source.open(progress, check=check)
    if store.checked is not None:
        when = ago(time.time() - store.checked)
        sentence = f"records: {store.path.name}, sources checked {when}; einthoven prepare checks them again"
        console.print(sentence, soft_wrap=True)
    for note in store.notes:
        console.print(note, soft_wrap=True)
    if _measures(task):
        with bar(f"measuring {task.target}") as progress:
            labels = targets(store, task.target, progress)
        console.print(f"{task.target}: {len(labels.ecg_ids)} records kept, {labels.dropped} without it dropped")
        return store, labels
    labels = source.labels(
        store.table,
        task.labels,
        single_label=task.single_label,
        keep_unlabelled=task.keep_unlabelled,
        min_likelihood=task.min_likelihood,
    )
    for note in labels.notes:
        console.print(note)
    if task.single_label:
        console.print(f"single label: {len(labels.ecg_ids)} records kept, {labels.dropped} dropped")
    return store, labels


def _measures(task: Any) -> bool:
    """Whether a task asks for a quantity, not for classes."""
    return bool(task.output == "identity")


def build_model(
    config: DictConfig, train: Split, outputs: int, window: int, device: torch.device, seed: int
) -> tuple[Classifier, LeadMoments]:
    """The classifier: a frontend fitted on the training records, and a network with weights drawn from the seed.

    Raises
    ------
    UserError
        If no network can be made with these options, or the one that is made cannot read the records.
    """
    moments = lead_moments(train.chunks(), scale=MILLIVOLT_PER_COUNT)
    fit = build(config.pca)
    records = {"records": (part * MILLIVOLT_PER_COUNT for part in train.chunks())}
    frontend = fit(moments, **(records if "records" in inspect.signature(fit).parameters else {}))
    options = network_options(config, frontend, outputs, window)
    given = ", ".join(f"{name}={value}" for name, value in config.model.items() if not str(name).startswith("_"))
    _check_fits(build(config.model).func, options, given, device)
    torch.manual_seed(seed)
    first = torch.arange(min(PROBE, len(train)), device=device)
    try:
        model = Classifier(frontend, build(config.model).func(**options)).to(device)
        _try_forward(model, train.take(first[:2], window))
        model.train()
    except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError) as error:  # as PyTorch refuses sizes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model: no network for {window} samples can be made of {given} ({reason}).") from error
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"model: {type(model.network).__name__} has no trainable parameter, so nothing can be trained.")
    build(config.init)(model.network, model.frontend(train.take(first, window)))
    return model, moments


def _check_fits(
    network: Callable[..., nn.Module], options: Mapping[str, Any], given: str, device: torch.device
) -> None:
    """Refuse a network whose training takes more memory than is free: it is made without its weights first.

    Raises
    ------
    UserError
        If weights, their gradients and what an optimizer keeps of them do not fit.
    """
    try:
        with torch.device("meta"):
            weights = sum(parameter.numel() for parameter in network(**options).parameters())
    except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError):  # `build_model` tells
        return
    needed = 4 * COPIES * weights
    if needed > free_memory(device):
        raise UserError(
            f"model: a network of {given} has {weights:,} weights, and a training needs {needed >> 20:,} MiB for them; "
            f"{free_memory(device) >> 20:,} MiB are free. Expected smaller numbers."
        )


def _try_forward(model: Classifier, x: Tensor) -> None:
    """Pass two records through a model as an evaluation does, and through a copy as a training does.

    Some networks read another length in training, and check their dropout there. The copy keeps the running statistics
    of the model as they are, and the random numbers are put back.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        model.eval()(x)
        if len(x) > 1:  # of a single record, `check_takes_one_record` tells
            deepcopy(model).train()(x)


def network_options(config: DictConfig, frontend: Frontend | TimeFrontend, outputs: int, window: int) -> dict[str, Any]:
    """All arguments of the network: those of the configuration, and those that follow from data and frontend."""
    network: partial[nn.Module] = build(config.model)
    options: dict[str, Any] = {**network.keywords, "in_channels": frontend.out_channels, "num_classes": outputs}
    if "samples" in inspect.signature(network.func).parameters:
        options["samples"] = frontend.steps(window)
    if frontend.stride > 1 and options.get("fs"):
        options["fs"] /= frontend.stride  # of what the network sees
    return options


def check_changes(augment: Any, labels: Labels) -> None:
    """Refuse a training that would teach labels which its own augmentation has made wrong.

    A warning would be read after the run, if at all, and the labels are wrong in every epoch; so it takes
    ``augment.allow_changes=true`` to train so, which stands among the run's parameters.

    Raises
    ------
    UserError
        If a transform changes a class of the task and that is not allowed.
    """
    parts: Mapping[str, Any] = getattr(augment, "transforms", {"augment": augment})
    for name, transform in parts.items():
        changed = changed_classes(getattr(transform, "changes", ()), labels.classes, labels.class_of)
        if not changed:
            continue
        listed = ", ".join(
            label if statements == (label,) else f"{label} ({' '.join(statements)})"
            for label, statements in changed.items()
        )
        if not getattr(augment, "allow_changes", False):
            raise UserError(
                f"augment: {name} can make labels of this task true or false: {listed}; leave it out "
                "(its probability=0), choose another task, or accept that with augment.allow_changes=true."
            )
        console.print(f"augment: {name} can make labels true or false: {listed}; allowed by augment.allow_changes")


def check_augment(augment: Any, model: nn.Module, train: Split, window: int, seed: int) -> None:
    """Refuse an augmentation that fails, or whose outcome is not finite or not what the model can read.

    Raises
    ------
    UserError
        Names the transform, its options, and what came of a few training records.
    """
    index = torch.arange(min(AUGMENTED, len(train)), device=train.labels.device)
    generator = torch.Generator(train.labels.device).manual_seed(seed)
    x, y = train.take(index, window), train.labels[index]
    transforms = augment.transforms if isinstance(augment, Compose) else {"": augment}
    for name, transform in transforms.items():
        key = f"augment.transforms.{name}" if name else "augment"
        options = ", ".join(f"{option}={value}" for option, value in vars(transform).items() if option != "transforms")
        given = f" ({options})" if options else ""
        had_signal = _varies(x)
        with _cannot_be_applied(f"{key}{given}"):
            x, y = transform(x, y, generator)
        if len(x) != len(index) or not (x.isfinite().all() and y.isfinite().all()):
            raise UserError(
                f"{key}{given}: what it makes of the first training records is not finite, or not as many records."
            )
        if had_signal and not _varies(x):
            raise UserError(f"{key}{given}: it leaves no signal in the first training records; expected less of it.")
    was_training = model.training
    try:
        with _cannot_be_applied("augment"), torch.no_grad():
            model.eval()(x)
    finally:
        model.train(was_training)


def _varies(x: Tensor) -> bool:
    """Whether a lead of a record has more than one value in signals ``[B, L, T]``."""
    return bool((x != x[:, :, :1]).any())


@contextmanager
def _cannot_be_applied(what: str) -> Iterator[None]:
    """Say in one sentence that an augmentation, or the model after it, has failed."""
    try:
        yield
    except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError) as error:  # as PyTorch refuses sizes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{what}: cannot be applied to these records, or not with this model ({reason}).") from error


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers, without what only Hydra needs."""
    from omegaconf import OmegaConf

    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key not in ("hydra", "resume", "again")}


def write_config(config: DictConfig, folder: Path) -> None:
    """Write the resolved configuration into the folder of a run."""
    from omegaconf import OmegaConf

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def shown(container: Mapping[str, Any]) -> dict[str, object]:
    """Flat ``group.option`` names and values, fit to be logged: without folders, and of what is trained alone."""
    return {
        name: without_folders(value) if isinstance(value, str) else value
        for name, value in _flat(container)
        if not name.startswith(("tracking.", "figure.", "advice.", "explanation."))
    }


def shown_yaml(container: Mapping[str, Any]) -> str:
    """The configuration as YAML, fit to be logged."""
    from omegaconf import OmegaConf

    tree = OmegaConf.create()
    for name, value in shown(container).items():
        OmegaConf.update(tree, name, value, force_add=True)
    return OmegaConf.to_yaml(tree)


def relevant(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `shown` options that results follow from: wherever data and runs are kept, they are the same."""
    return {name: value for name, value in options.items() if not name.endswith((".root", ".cache"))}


def config_hash(container: Mapping[str, Any]) -> str:
    """Twelve hex digits that are the same for the same configuration, wherever its data and runs are kept."""
    return hashlib.sha256(json.dumps(relevant(shown(container)), sort_keys=True, default=str).encode()).hexdigest()[:12]


def _flat(container: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in container.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _part(config: DictConfig, name: str) -> DictConfig:
    from omegaconf import OmegaConf

    part: DictConfig = config[name]
    return OmegaConf.masked_copy(part, [str(k) for k in part if k != "folds"]) if name == "data" else part


def _listed(folds: list[int]) -> str:
    return ", ".join(map(str, folds))
