"""Models that are fitted to a table of features at once, instead of descending a loss: what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Self
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.errors import UserError
from einthoven.files import BLANK, read_file, sealed_digest
from einthoven.functional.features import Features
from einthoven.functional.pca import PCA, randomized_pca

Float = NDArray[np.float64]

MOST_BYTES = 1 << 30
"""Of the file of a fitted model, packed and unpacked."""

_SEAL = b"sha256:"


def check_count(option: str, value: int, largest: int | None = None, *, smallest: int = 1) -> None:
    """Refuse a number of things that is too small, or larger than any machine has memory for.

    Raises
    ------
    UserError
        Names the option of the model.
    """
    if value < smallest or (largest is not None and value > largest):
        most = "or more" if largest is None else f"to {largest:,}"
        raise UserError(f"model.{option}={value}: expected a whole number, {smallest:,} {most}.")


class FeatureTable:
    """ECG features, and the scores of the representative beat along its principal components.

    The components, fitted on training records alone, are beats of all leads: averages and differences of normal and
    abnormal ones (Karhunen-Loève functions of whole beats; Moody and Mark 1989). A record without a representative
    beat has no scores: NaN.

    Parameters
    ----------
    components : int
        Principal components of the beat; 0 for none. Never more than there are training records or numbers in a beat.
    """

    pca: PCA | None

    def __init__(self, components: int) -> None:
        if components < 0:
            raise UserError(f"model.components={components}: expected a number of principal components, 0 or more.")
        self.components = components

    def fit(self, features: Features, seed: int) -> Self:
        """Fit the principal components on training records."""
        beats = _flat(features.beat)
        beats = beats[np.isfinite(beats).all(axis=1)]
        k = min(self.components, *beats.shape)
        self.pca = randomized_pca(lambda: [beats], k, seed=seed) if k and len(beats) > 1 else None
        found = 0 if self.pca is None else len(self.pca.components_)
        self.names = (*features.names, *(f"beat_pc{i + 1}" for i in range(found)))
        return self

    def transform(self, features: Features) -> Float:
        """Table (n, F) in the order of `names`."""
        if self.pca is None:
            return features.values
        return np.concatenate([features.values, self.pca.transform(_flat(features.beat))], axis=1)


class FeatureModel(ABC):
    """A classifier of feature tables.

    A subclass takes its options in its constructor, and `components` as one of them; a run builds it, calls `fit`
    once and `predict` on each split. It states what it does with NaN.

    Parameters
    ----------
    components : int
        See `FeatureTable`.
    """

    trusted: ClassVar[tuple[str, ...]] = ()
    """Types, beyond plain numbers and arrays, that loading its file has to allow."""

    def __init__(self, components: int) -> None:
        self.table = FeatureTable(components)

    @abstractmethod
    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Fit a table (n, F) to labels (n, K), which are 0 or 1: several a row, or with `single_label` one."""

    @abstractmethod
    def predict(self, x: Float) -> Float:
        """Probabilities (n, K) of a table (n, F)."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was fitted, fit to be written without pickle."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""


def save(model: FeatureModel, notes: dict[str, Any], path: Path) -> None:
    """Write a fitted model and notes of what its numbers stand for, without pickle (the skops format).

    The file is an archive whose comment is the SHA-256 of all that stands before it. Loading it calls no code of the
    file's choosing: types beyond numbers, texts and arrays must be named by the reader.
    """
    import skops.io

    pca = model.table.pca
    table = {
        "names": list(model.table.names),
        "mean": None if pca is None else pca.mean_,
        "components": None if pca is None else pca.components_,
    }
    content = {"notes": notes, "table": table, "model": model.state()}
    file = BytesIO(skops.io.dumps(content, compression=ZIP_DEFLATED))
    with ZipFile(file, "a") as archive:
        archive.comment = _SEAL + BLANK
    position = len(file.getvalue()) - len(BLANK)
    digest = sealed_digest(file, position)
    with atomic(path) as partial:
        partial.write_bytes(file.getvalue()[:position] + digest.encode())


def load(model: FeatureModel, path: Path) -> dict[str, Any]:
    """Fill a model, built with the options that the file's was, from a file of `save`; returns the notes.

    Raises
    ------
    UserError
        If the file is damaged, needs a type that this model does not, or holds no such model.
    """
    data = read_file(path, MOST_BYTES)
    seal = len(data) - len(BLANK)
    # Files of version 0.1 have no hash.
    if data[:seal].endswith(_SEAL) and sealed_digest(BytesIO(data), seal) != data[seal:].decode("latin-1"):
        raise UserError(f"{path}: damaged or changed: its content does not have the SHA-256 that it states.")
    try:
        return _fill(model, data, path.name)
    except (ArithmeticError, AttributeError, BadZipFile, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a fitted {type(model).__name__} ({type(error).__name__}: {reason}).") from None


def _fill(model: FeatureModel, data: bytes, name: str) -> dict[str, Any]:
    import skops.io

    with ZipFile(BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if archive.comment and not archive.comment.startswith(_SEAL):
            raise ValueError(f"the comment {archive.comment[:80]!r}")
    if unpacked > MOST_BYTES:
        raise UserError(f"{name}: {unpacked:,} bytes unpacked; expected {MOST_BYTES:,} at most.")
    unknown = set(skops.io.get_untrusted_types(data=data)) - set(model.trusted)
    if unknown:
        raise UserError(f"{name}: needs {', '.join(sorted(unknown))}, which {type(model).__name__} does not.")
    content: dict[str, Any] = skops.io.loads(data, trusted=list(model.trusted))
    table = content["table"]
    model.table.names = tuple(table["names"])
    model.table.pca = None
    if table["mean"] is not None:
        model.table.pca = PCA(len(table["components"]))
        model.table.pca.mean_, model.table.pca.components_ = table["mean"], table["components"]
    model.load_state(content["model"])
    notes: dict[str, Any] = content["notes"]
    return notes


def _flat(beat: Float) -> Float:
    return beat.reshape(len(beat), -1)
