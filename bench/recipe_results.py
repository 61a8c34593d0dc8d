"""The predictions of recipes, as files of `bench_recipes.py`, and the records that they are compared on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.data.sources.labels import ptbxl_labels
from einthoven.errors import UserError
from einthoven.runs.config.identity import code_hash

FOLDS = tuple(range(1, 10))
HELD_OUT = {"groups": ((1, 2, 3), (4, 5, 6), (7, 8, 9)), "folds": tuple((fold,) for fold in FOLDS)}
"""The folds that are held out together, by mode."""

MOST_SEEDS = 10
"""Seeds are looked for from 0 to this number."""

SCALE = 10_000
"""Probabilities are rounded to four digits, and stored as whole numbers."""


@dataclass(frozen=True)
class Held:
    """Folds that a model is not trained on.

    Attributes
    ----------
    mode : str
        ``groups`` or ``folds``.
    folds : tuple of int
    """

    mode: str
    folds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The folds as a text, such as 1-2-3."""
        return "-".join(map(str, self.folds))

    def file(self, results: Path, recipe: str, seed: int) -> Path:
        """Return the file with the predictions of these folds."""
        return results / recipe / f"{self.mode}_{self.name}_seed{seed}.npz"


@dataclass(frozen=True)
class Prediction:
    """The predictions of records by a model that was not trained on them.

    Attributes
    ----------
    ecg_id, fold : array of int, shape (n,)
    p : array of float, shape (n, K)
        Probabilities.
    classes : tuple of str
        Names of the K classes.
    notes : mapping
        How the model was trained: ``overrides``, ``options``, ``code``, ``commit``, ``parameters`` and ``minutes``.
    """

    ecg_id: NDArray[np.int64]
    fold: NDArray[np.int64]
    p: NDArray[np.float64]
    classes: tuple[str, ...]
    notes: Mapping[str, Any]


def write(file: Path, prediction: Prediction) -> None:
    """Write predictions to a file. The file is complete, or it does not exist."""
    file.parent.mkdir(parents=True, exist_ok=True)
    notes = json.dumps({**prediction.notes, "classes": prediction.classes}, sort_keys=True, default=str)
    with atomic(file) as partial:
        np.savez_compressed(
            partial,
            ecg_id=prediction.ecg_id.astype(np.uint32),
            fold=prediction.fold.astype(np.uint8),
            p=np.round(prediction.p * SCALE).astype(np.uint16),
            notes=np.frombuffer(notes.encode(), np.uint8),
        )


def read(file: Path) -> Prediction:
    """Read predictions from a file of `write`."""
    with np.load(file) as arrays:
        notes = json.loads(arrays["notes"].tobytes())
        return Prediction(
            ecg_id=arrays["ecg_id"].astype(np.int64),
            fold=arrays["fold"].astype(np.int64),
            p=arrays["p"] / SCALE,
            classes=tuple(notes["classes"]),
            notes=notes,
        )


def changes(notes: Mapping[str, Any], overrides: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return what has changed in a recipe since its predictions were made; an empty text if nothing has.

    An option that only one of both versions of the package has is no change.
    """
    now = json.loads(json.dumps(options, default=str))
    before = notes["options"]
    changed = [
        f"{name} was {before[name]} and is {now[name]}"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]
    if not changed and list(overrides) != notes["overrides"]:
        changed = [f"the recipe was {notes['overrides']} and is {list(overrides)}"]
    return ", ".join(changed)


def is_same_code(notes: Mapping[str, Any]) -> bool:
    """Return whether predictions were made by the package as it is now."""
    return bool(notes["code"] == code_hash())


@dataclass(frozen=True)
class Records:
    """The records that recipes are compared on, sorted by ecg_id.

    Attributes
    ----------
    ecg_id, fold, patient : array of int, shape (n,)
    y : array of uint8, shape (n, K)
    classes : tuple of str
    """

    ecg_id: NDArray[np.int64]
    fold: NDArray[np.int64]
    patient: NDArray[np.int64]
    y: NDArray[np.uint8]
    classes: tuple[str, ...]


def read_records(root: Path) -> Records:
    """Read the records of folds 1-9 with a superclass, and their labels."""
    labels = ptbxl_labels(root / "ptbxl_database.csv", root / "scp_statements.csv", "superdiagnostic")
    rows = np.flatnonzero(np.isin(labels.folds, FOLDS))
    rows = rows[np.argsort(labels.ecg_ids[rows])]
    return Records(labels.ecg_ids[rows], labels.folds[rows], labels.patients[rows], labels.matrix[rows], labels.classes)


def with_predictions(records: Records, recipe: Path) -> Records:
    """Return the records that a recipe has predictions for. A corpus can have more than those that it was trained on.

    Parameters
    ----------
    records : Records
        All records of the corpus.
    recipe : Path
        Folder with the predictions of the recipe.
    """
    predicted = [read(file).ecg_id for file in sorted(recipe.glob("*.npz"))]
    if not predicted:
        return records
    rows = np.flatnonzero(np.isin(records.ecg_id, np.concatenate(predicted)))
    if len(rows) < len(records.ecg_id):
        print(f"{len(rows):,} of the {len(records.ecg_id):,} records of folds 1-9 have predictions.")
    return Records(records.ecg_id[rows], records.fold[rows], records.patient[rows], records.y[rows], records.classes)


@dataclass(frozen=True)
class Judged:
    """The out-of-fold predictions of a recipe, or of the mean of several.

    Attributes
    ----------
    name : str
    p : mapping of int to array, shape (n, K)
        Probabilities of all records, by seed.
    parts : array of int, shape (n,)
        Number of the model that has predicted a record: the folds that are held out together have one.
    parameters : int
        Of the network; 0 if the model is not a network. Of a mean, the sum.
    minutes : float
        Processor minutes of a training. Of a mean, the sum.
    commits : frozenset of str
        Commits of the package that has trained the models.
    """

    name: str
    p: Mapping[int, NDArray[np.float64]]
    parts: NDArray[np.int64]
    parameters: int
    minutes: float
    commits: frozenset[str]


def join(predictions: Sequence[Prediction], records: Records) -> NDArray[np.float64]:
    """Return the probabilities (n, K) of the records from several files; NaN for a record that is in none."""
    p = np.full(records.y.shape, np.nan)
    for prediction in predictions:
        columns = [prediction.classes.index(label) for label in records.classes]
        # A task with other labels also predicts records without a superclass.
        is_judged = np.isin(prediction.ecg_id, records.ecg_id)
        rows = np.searchsorted(records.ecg_id, prediction.ecg_id[is_judged])
        p[rows] = prediction.p[is_judged][:, columns]
    return p


def pool(
    results: Path,
    records: Records,
    name: str,
    mode: str,
    overrides: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
) -> Judged | None:
    """Read the predictions of a recipe, for each seed that is complete. None if no seed is.

    Predictions of a recipe that has changed since then do not count, and are named. `options` are those of each group
    of held-out folds, by its name.
    """
    pooled = {}
    notes = []
    parts = np.zeros(len(records.ecg_id), np.int64)
    held_out = [Held(mode, folds) for folds in HELD_OUT[mode]]
    for seed in range(MOST_SEEDS):
        files = [held.file(results, name, seed) for held in held_out]
        if not all(file.exists() for file in files):
            continue
        predictions = [read(file) for file in files]
        changed = []
        for held, prediction in zip(held_out, predictions, strict=True):
            changed.append(changes(prediction.notes, overrides, options[held.name]))
        reasons = [reason for reason in changed if reason]
        if reasons:
            print(f"{name}, seed {seed}: {reasons[0]}; left out of the table")
            continue
        p = join(predictions, records)
        for number, prediction in enumerate(predictions):
            parts[np.isin(records.ecg_id, prediction.ecg_id)] = number
            notes.append(prediction.notes)
        missing = records.ecg_id[np.isnan(p).any(axis=1)]
        if len(missing):
            raise UserError(
                f"{results / name}: {len(missing)} of {len(records.ecg_id)} records have no prediction (such as ecg_id "
                f"{missing[0]}); expected one of each."
            )
        pooled[seed] = p
    if not pooled:
        return None
    minutes = float(np.mean([note["minutes"] for note in notes]))
    return Judged(name, pooled, parts, notes[0]["parameters"], minutes, frozenset(note["commit"] for note in notes))


def mean_of(text: str, judged: Mapping[str, Judged]) -> Judged:
    """Return the mean probabilities of the recipes of a text.

    Parameters
    ----------
    text : str
        ``A+B`` is the mean of two recipes, for each seed that both have. ``A@0+A@1`` is that of two seeds of one.
    judged : mapping of str to Judged

    Raises
    ------
    UserError
        If there are no predictions of a recipe or a seed, or no seed that all recipes have.
    """
    members = []
    member_p = []
    for word in text.split("+"):
        name, _, seed = word.partition("@")
        if name not in judged or (seed and int(seed) not in judged[name].p):
            raise UserError(f"--mean {text}: no predictions of {word}; expected some of {', '.join(judged)}.")
        members.append(judged[name])
        # A named seed is a member of a mean that has no seed itself. It is shown as seed 0.
        member_p.append({0: judged[name].p[int(seed)]} if seed else judged[name].p)
    seeds = sorted(set.intersection(*(set(p) for p in member_p)))
    if not seeds:
        raise UserError(f"--mean {text}: the recipes have no seed in common; name them, as in A@0+B@1.")
    return Judged(
        name=text,
        p={seed: np.mean([p[seed] for p in member_p], axis=0) for seed in seeds},
        parts=members[0].parts,
        parameters=sum(member.parameters for member in members),
        minutes=sum(member.minutes for member in members),
        commits=frozenset.union(*(member.commits for member in members)),
    )
