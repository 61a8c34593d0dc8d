"""What a run was trained on: written into its folder when it begins, compared whenever its records are read again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.data.ancestry import Ancestry
from einthoven.data.identity import DataIdentity, compare
from einthoven.errors import UserError
from einthoven.functional.class_names import parts
from einthoven.runs import assemble
from einthoven.runs.identity import identity
from einthoven.runs.run_config import with_current_targets
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from einthoven.data.store.packed_store import Store
    from einthoven.runs.feature_run import FittedRun
    from einthoven.runs.network_run import Run

IDENTITY = "identity.safetensors"
"""Number, signal, labels, fold and patient of each record; hashes of configuration and source; seed and versions."""

ANCESTRY = "ancestry.safetensors"
"""Content digests of the records that were trained on, and of those that a calibration was fitted on."""

FORMAT = 1
MOST_BYTES = 1 << 32
"""Of one of these files: some sixty for each window."""

_PACKAGES = ("einthoven", "numpy", "pandas", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class TrainedData:
    """What the folder of a run says about the records that it was trained on.

    Attributes
    ----------
    run : str
        The option that named the folder, for sentences: ``run=outputs/…``.
    options : mapping
        Of its configuration, as `assemble.shown` has them.
    fingerprint : str
        Of the store.
    data : DataIdentity or None
        None for a run of einthoven 0.1, which noted the fingerprint alone.
    code : str or None
        Hash of the source that it was trained with, if that is known.
    ancestry : Ancestry
    takes_added : bool
        Whether there may be more records now.
    """

    run: str
    options: Mapping[str, Any]
    fingerprint: str
    data: DataIdentity | None
    code: str | None
    ancestry: Ancestry
    takes_added: bool

    def added(self, store: Store, now: DataIdentity) -> NDArray[np.bool_]:
        """Which windows were added since.

        Raises
        ------
        UserError
            If anything else has changed, in one sentence that says what.
        """
        if self.data is None:
            if store.fingerprint != self.fingerprint:
                raise UserError(
                    f"{self.run}: the records, labels or folds have changed since this run was trained (their "
                    f"fingerprint was {self.fingerprint[:12]} and is {store.fingerprint[:12]}); expected the data that "
                    "it was trained on."
                )
            return np.zeros(len(now.ecg_ids), bool)
        difference = compare(self.data, now)
        is_refused = bool(difference.changes) if self.takes_added else difference.any
        if is_refused:
            raise UserError(
                f"{self.run}: the data have changed since this run was trained: {difference}; expected the records, "
                "labels and folds that it was trained on."
            )
        return difference.added


def write_trained_data(run: Run | FittedRun) -> None:
    """Note in the folder of a run what it will be trained on; its checkpoints come later."""
    data = run.data
    meta = {
        "format": FORMAT,
        "classes": list(data.labels.classes),
        "metric_names": parts(data.labels.classes),
        "task": run.task.name,
        "seed": run.settings.seed,
        "config": assemble.shown(assemble.plain(run.config)),
        "data": data.store.fingerprint,
        **identity(run.config),
        "versions": _versions(),
    }
    _save(run.folder / IDENTITY, data.identity.arrays(), meta)
    write_ancestry(run.folder, Ancestry.of(data.digests("train")))


def write_ancestry(folder: Path, ancestry: Ancestry) -> None:
    """Write what the model of a run has seen."""
    _save(folder / ANCESTRY, ancestry.arrays(), {"format": FORMAT})


def read_trained_data(folder: Path, option: str, *, takes_added: bool) -> TrainedData:
    """What a run was trained on.

    Parameters
    ----------
    folder : Path
    option : str
        That named the folder.
    takes_added : bool
        As in `TrainedData`.

    Raises
    ------
    UserError
        If a file is damaged, or of a later version.
    """
    data, code = None, None
    file = folder / IDENTITY
    if file.exists():
        arrays, meta = _load(file)
    else:  # einthoven 0.1 noted some of it in each checkpoint
        file, arrays = folder / "checkpoints" / checkpoint.LAST, {}
        meta = checkpoint.load_notes(file.parent)
    try:
        options, fingerprint = with_current_targets(dict(meta["config"])), str(meta["data"])
        if arrays:
            data, code = DataIdentity.from_arrays(arrays, meta["classes"]), str(meta["code.hash"])
            if not (folder / ANCESTRY).exists():
                raise UserError(f"{folder / ANCESTRY}: missing; expected the list of what this run was trained on.")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}: {error}).") from None
    return TrainedData(f"{option}={folder}", options, fingerprint, data, code, read_ancestry(folder), takes_added)


def read_ancestry(folder: Path) -> Ancestry:
    """What the model of a run has seen; nothing, for a run of einthoven 0.1, which did not note it.

    Raises
    ------
    UserError
        If the file is damaged, or of a later version.
    """
    if not (folder / ANCESTRY).exists():
        return Ancestry()
    arrays, _ = _load(folder / ANCESTRY)
    try:
        return Ancestry.from_arrays(arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{folder / ANCESTRY}: damaged ({type(error).__name__}: {error}).") from None


def _save(path: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    checkpoint.save(path, tensors, meta)


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    tensors, meta = checkpoint.load(path, MOST_BYTES)
    if meta.get("format") != FORMAT:
        raise UserError(f"{path}: of format {meta.get('format')}; this version reads format {FORMAT}.")
    return {name: value.numpy() for name, value in tensors.items() if isinstance(value, torch.Tensor)}, meta


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from a folder that is not installed
            continue
    return versions
