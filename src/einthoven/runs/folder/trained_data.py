"""The data that a run was trained on: written when the run begins, compared whenever its records are read again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.data.ancestry import NONE, Ancestry
from einthoven.data.fitted_on import fitted_records
from einthoven.data.identity import DataIdentity, compare
from einthoven.data.record_names import names_in
from einthoven.data.store.packed_store import Store
from einthoven.errors import UserError
from einthoven.runs.config.run_config import with_current_names
from einthoven.training import checkpoint

IDENTITY = "identity.safetensors"
"""Number, signal, labels, fold and patient of each record; hashes of configuration and source; seed and versions."""

ANCESTRY = "ancestry.safetensors"
"""Content digests of the records that the run was trained on, and of those that a calibration was fitted on."""

FORMAT = 1
MAX_BYTES = 1 << 32
"""Largest size of one of these files. They hold about sixty bytes for each row of the store."""

_PACKAGES = ("einthoven", "numpy", "pandas", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class TrainedData:
    """The data that a run was trained on, as its folder describes them."""

    run: str
    """The option that named the folder, for error messages: ``run=outputs/…``."""
    options: Mapping[str, Any]
    """Options of its configuration, as `options.logged_options` returns them."""
    fingerprint: str
    """Fingerprint of the store."""
    data: DataIdentity | None
    """None for a run of einthoven 0.1, which wrote only the fingerprint."""
    code: str | None
    """Hash of the source that the run was trained with; None if it is not known."""
    ancestry: Ancestry
    """Records that the model has seen."""
    takes_added: bool
    """Whether records may have been added since the training."""
    overrides: tuple[str, ...] = ()
    """Options of the command line that started the run."""

    def added(self, store: Store, now: DataIdentity) -> NDArray[np.bool_]:
        """Return which rows of the store were added since the training.

        Raises a `UserError` if anything else has changed. The message says what.
        """
        if self.data is None:
            if store.fingerprint != self.fingerprint:
                raise UserError(
                    f"{self.run}: the records, labels or folds have changed since this run was trained (their "
                    f"fingerprint was {self.fingerprint[:12]} and is {store.fingerprint[:12]}); expected the data that "
                    "it was trained on."
                )
            return np.zeros(len(now.ecg_ids), bool)
        difference = compare(self.data, now, names_in(store.table))
        is_refused = bool(difference.changes) if self.takes_added else difference.is_different
        if is_refused:
            raise UserError(
                f"{self.run}: the data have changed since this run was trained: {difference}; expected the records, "
                "labels and folds that it was trained on."
            )
        return difference.added


def write_trained_data(folder: Path, data: DataIdentity, ancestry: Ancestry, notes: Mapping[str, Any]) -> None:
    """Write the data that a run will be trained on into its folder, before its first checkpoint.

    `data` identifies all rows of the store, and `ancestry` lists the training records. The notes are further values,
    such as the hashes of configuration and source.
    """
    _save(folder / IDENTITY, data.to_arrays(), {"format": FORMAT, **notes, "versions": installed_versions()})
    write_ancestry(folder, ancestry)


def is_started(folder: Path) -> bool:
    """Return whether a run has written the data that it will be trained on. The ancestry is the last file of them."""
    return (folder / IDENTITY).exists() and (folder / ANCESTRY).exists()


def write_ancestry(folder: Path, ancestry: Ancestry) -> None:
    """Write which records the model of a run has seen."""
    _save(folder / ANCESTRY, ancestry.to_arrays(), {"format": FORMAT})


def read_trained_data(folder: Path, option: str, *, takes_added: bool) -> TrainedData:
    """Read the data that a run was trained on. `option` named the folder; `takes_added` is as in `TrainedData`."""
    data = None
    code = None
    file = folder / IDENTITY
    if file.exists():
        arrays, notes = _load(file)
    else:
        # einthoven 0.1 wrote a part of it into each checkpoint.
        file = folder / "checkpoints" / checkpoint.LAST
        arrays = {}
        notes = checkpoint.load_notes(file.parent)
    try:
        options = with_current_names(dict(notes["config"]))
        fingerprint = str(notes["data"])
        overrides = tuple(str(override) for override in notes.get("overrides", ()))
        if arrays:
            data = DataIdentity.from_arrays(arrays, notes["classes"])
            code = str(notes["code.hash"])
            if not (folder / ANCESTRY).exists():
                raise UserError(f"{folder / ANCESTRY}: missing; expected the list of what this run was trained on.")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}: {error}).") from None
    ancestry = _read_ancestry(folder, options)
    return TrainedData(f"{option}={folder}", options, fingerprint, data, code, ancestry, takes_added, overrides)


def _read_ancestry(folder: Path, options: Mapping[str, Any]) -> Ancestry:
    """Read which records the model of a run has seen. A run of einthoven 0.1 did not write it: none are known.

    Raises a `UserError` if the file is damaged, or of a later version.
    """
    if not (folder / ANCESTRY).exists():
        return Ancestry()
    arrays, _ = _load(folder / ANCESTRY)
    try:
        ancestry = Ancestry.from_arrays(arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{folder / ANCESTRY}: damaged ({type(error).__name__}: {error}).") from None
    if "generator" in arrays:
        return ancestry
    # An earlier version did not list the records behind the generator, but its options name the generator.
    return ancestry.merged(Ancestry.trained_on(NONE, generator=fitted_records(options)))


def _save(path: Path, arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, Any]) -> None:
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    checkpoint.save(path, tensors, notes)


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    tensors, notes = checkpoint.load(path, MAX_BYTES)
    if notes.get("format") != FORMAT:
        raise UserError(f"{path}: of format {notes.get('format')}; this version reads format {FORMAT}.")
    return {name: value.numpy() for name, value in tensors.items() if isinstance(value, torch.Tensor)}, notes


def installed_versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of the packages that the results of a run depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            # This package runs from a folder that is not installed.
            continue
    return versions
