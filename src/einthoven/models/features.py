"""Base class and files of models that are fitted to a table of features, without gradient descent."""

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
from einthoven.functional.features import VERSION, Features
from einthoven.functional.pca import PCA, randomized_pca

Float = NDArray[np.float64]

MOST_BYTES = 1 << 30
"""Largest size of the file of a fitted model, packed and unpacked."""

_SEAL = b"sha256:"


def check_count(option: str, value: int, largest: int | None = None, *, smallest: int = 1) -> None:
    """Refuse a count below `smallest` or above `largest`.

    Raises
    ------
    UserError
        Names the option of the model.
    """
    if value < smallest or (largest is not None and value > largest):
        most = "or more" if largest is None else f"to {largest:,}"
        raise UserError(f"model.{option}={value}: expected a whole number, {smallest:,} {most}.")


class FeatureTable:
    """A table of ECG features and of the scores of the representative beat on its principal components.

    The components are fitted on the training records only. They are beats of all leads: averages and differences of
    normal and abnormal beats (Karhunen-Loève functions of whole beats; Moody and Mark 1989). The scores of a record
    without a representative beat are NaN.

    Parameters
    ----------
    components : int
        Principal components of the beat, 0 or more. There are at most as many as training records and as numbers in a
        beat.
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
        self.pca = None
        names = list(features.names)
        if k and len(beats) > 1:
            self.pca = randomized_pca(lambda: [beats], k, seed=seed)
            names += [f"beat_pc{i + 1}" for i in range(len(self.pca.components_))]
        self.names = tuple(names)
        return self

    def transform(self, features: Features) -> Float:
        """Return the table (n, F) of records. Its columns have the order of `names`."""
        if self.pca is None:
            return features.values
        scores = self.pca.transform(_flat(features.beat))
        return np.concatenate([features.values, scores], axis=1)


class FeatureModel(ABC):
    """A classifier of feature tables.

    The options of a subclass are the parameters of its constructor. One of them is `components`. A run builds the
    model, calls `fit` once and `predict` on each split. The docstring of a subclass says how it treats NaN.

    Parameters
    ----------
    components : int
        See `FeatureTable`.
    """

    trusted: ClassVar[tuple[str, ...]] = ()
    """Types in the file of the model, in addition to numbers, texts and arrays. `load` accepts no others."""

    fitted_names: ClassVar[tuple[str, ...]]
    """Keys of `fitted`. `load` refuses a file with other keys."""

    fitted: dict[str, Any]
    """The result of `fit`, of types that can be written without pickle."""

    def __init__(self, components: int) -> None:
        self.table = FeatureTable(components)

    @abstractmethod
    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Set `fitted` from a table (n, F) and labels (n, K) of 0 and 1. With `single_label`, a row has one label."""

    @abstractmethod
    def predict(self, x: Float) -> Float:
        """Return the probabilities (n, K) for a table (n, F)."""


def save(model: FeatureModel, notes: dict[str, Any], path: Path) -> None:
    """Write a fitted model and notes about its numbers, without pickle (in the skops format).

    The file is an archive. Its comment is the SHA-256 of all bytes before the comment. Loading it runs no code that the
    file chooses: the reader names the accepted types, apart from numbers, texts and arrays.
    """
    import skops.io

    pca = model.table.pca
    table = {
        "names": list(model.table.names),
        "mean": None if pca is None else pca.mean_,
        "components": None if pca is None else pca.components_,
    }
    content = {"features": VERSION, "notes": notes, "table": table, "model": model.fitted}
    file = BytesIO(skops.io.dumps(content, compression=ZIP_DEFLATED))

    # Write the archive with a blank comment, then replace the blank by the hash of the bytes before it.
    with ZipFile(file, "a") as archive:
        archive.comment = _SEAL + BLANK
    position = len(file.getvalue()) - len(BLANK)
    digest = sealed_digest(file, position)
    with atomic(path) as partial:
        partial.write_bytes(file.getvalue()[:position] + digest.encode())


def load(model: FeatureModel, path: Path) -> dict[str, Any]:
    """Restore a model from a file of `save`, and return the notes.

    Parameters
    ----------
    model
        Built with the same options as the saved model.
    path
        The file.

    Raises
    ------
    UserError
        If the file is damaged, contains a type that this model does not need, contains another model, or if the model
        was fitted to features of another version.
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
    """Restore a model from the bytes of a file, and return the notes."""
    import skops.io

    with ZipFile(BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if archive.comment and not archive.comment.startswith(_SEAL):
            raise ValueError(f"the comment {archive.comment[:80]!r}")
    if unpacked > MOST_BYTES:
        raise UserError(f"{name}: {unpacked:,} bytes unpacked; expected {MOST_BYTES:,} at most.")
    unexpected = set(skops.io.get_untrusted_types(data=data)) - set(model.trusted)
    if unexpected:
        raise UserError(f"{name}: needs {', '.join(sorted(unexpected))}, which {type(model).__name__} does not.")

    content: dict[str, Any] = skops.io.loads(data, trusted=list(model.trusted))
    # Files of the first version do not name it.
    version = content.get("features", 1)
    if version != VERSION:
        raise UserError(
            f"{name}: the model was fitted to features of version {version}, and this einthoven measures version "
            f"{VERSION}; expected a model that is trained with this version of einthoven: train it again."
        )
    table = content["table"]
    model.table.names = tuple(table["names"])
    model.table.pca = None
    if table["mean"] is not None:
        model.table.pca = PCA(len(table["components"]))
        model.table.pca.mean_ = table["mean"]
        model.table.pca.components_ = table["components"]
    if set(content["model"]) != set(model.fitted_names):
        raise ValueError(f"it holds {', '.join(content['model'])}; expected {', '.join(model.fitted_names)}")
    model.fitted = content["model"]
    return content["notes"]


def _flat(beat: Float) -> Float:
    """Return beats (n, leads, T) as rows (n, leads * T)."""
    return beat.reshape(len(beat), beat.shape[1] * beat.shape[2])
