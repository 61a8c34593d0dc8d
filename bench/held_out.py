"""The folds of a finished cross-validation: the records of each fold, and the network that has not seen them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.evaluation.familiarity import Familiarity
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.forward import compute_features, predict_windows
from einthoven.predict.model_folder import BUNDLE, FOLD
from einthoven.predict.network import last_layer
from einthoven.runs.data.run_data import Data
from einthoven.runs.network.finished import read_finished

if TYPE_CHECKING:
    from pandas import DataFrame

Float = NDArray[np.float64]
Signals = NDArray[np.int16]


@dataclass(frozen=True)
class HeldOutFold:
    """One fold of a cross-validation.

    Attributes
    ----------
    fold : int
    bundle : Bundle
        The network that was trained on the other folds, with parameters in half precision, without a calibration.
    unrounded : Bundle
        The same network with its own parameters.
    signals, train_signals : ndarray of int16, shape (n, L, T) and (m, L, T)
        Records of this fold, and of the other folds, in µV.
    y : ndarray of float64, shape (n, K)
    statements : dict of str to ndarray of float64, shape (n,)
        Labels of each statement that the network learns. Empty if it learns the classes.
    patients : ndarray of int64, shape (n,)
    in_generator : ndarray of bool, shape (n,)
        Whether a generator of training records was fitted to the record (`Ancestry.in_generator`).
    table : DataFrame
        Rows of the table of the source.
    """

    fold: int
    bundle: Bundle
    unrounded: Bundle
    signals: Signals
    train_signals: Signals
    y: Float
    statements: Mapping[str, Float]
    patients: NDArray[np.int64]
    in_generator: NDArray[np.bool_]
    table: DataFrame

    def predict(self, signals: Signals) -> tuple[Float, Float]:
        """Return the probabilities (n, K) of records of this fold before calibration, and their distances (n,).

        The distances are those from the training records of the other folds.
        """
        p, distance = predict_windows(self.bundle, signals)
        assert distance is not None
        return p, distance


def read_held_out(folder: Path) -> list[HeldOutFold]:
    """Read all folds of a cross-validation.

    Parameters
    ----------
    folder : Path
        Folder of ``einthoven train folds=cv``.

    Raises
    ------
    UserError
        If there are fewer than two folds, a run is damaged, or its records have changed.
    """
    names = sorted(place.parent.name for place in folder.glob(f"{FOLD}*/{BUNDLE}"))
    if len(names) < 2:
        raise UserError(f"{folder}: {len(names)} folds with a bundle found; expected a finished cross-validation.")
    folds = [_read_fold(folder / name, int(name.removeprefix(FOLD))) for name in names]
    classes = {fold.bundle.classes for fold in folds}
    if len(classes) > 1:
        raise UserError(f"{folder}: the folds have different classes.")
    return folds


def _read_fold(folder: Path, fold: int) -> HeldOutFold:
    """Read one fold. Its records must have the length that the network reads, one row each."""
    run, _ = read_finished(folder, "run", {})
    data = run.data
    train_signals = stored_signals(data, "train")
    unrounded = read_bundle(folder / BUNDLE)
    bundle = with_familiarity(half_precision(unrounded), train_signals)
    signals = stored_signals(data, "val")
    patients = data.patients("val")
    if len(patients) != len(signals):
        raise UserError(f"{folder}: {len(signals)} rows of {len(patients)} records; expected one row for each record.")
    y = data.record_labels("val").astype(np.float64)
    # Each record has one row, so that the rows are in the order of the records.
    statements = {}
    if data.targets is not None:
        columns = data.targets.matrix[data.rows["val"]].astype(np.float64).T
        statements = dict(zip(data.targets.names, columns, strict=True))
    ancestry = unrounded.ancestry or Ancestry()
    in_generator = ancestry.in_generator(data.first_seconds("val"))
    table = data.table("val").reset_index(drop=True)
    return HeldOutFold(fold, bundle, unrounded, signals, train_signals, y, statements, patients, in_generator, table)


def stored_signals(data: Data, split: str) -> Signals:
    """Return the signals of a split in µV, in the order of its rows."""
    signals: Signals = data.store.signals[data.store_rows[data.rows[split]]]
    return signals


def half_precision(bundle: Bundle) -> Bundle:
    """Return a bundle whose parameters are rounded to half precision. They are used in single precision."""
    model = deepcopy(bundle.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return replace(bundle, model=model)


def with_familiarity(bundle: Bundle, train_signals: Signals, distances: Float | None = None) -> Bundle:
    """Return a bundle that knows how far a record is from its training records.

    Parameters
    ----------
    bundle : Bundle
    train_signals : ndarray of int16, shape (m, L, T)
        Training records in µV.
    distances : ndarray of float64, shape (n,), optional
        Distances of records that were not used in training. By default a single infinite distance, with which nothing
        is unfamiliar.

    Raises
    ------
    UserError
        If the network has no linear last layer, or one with too many inputs.
    """
    if last_layer(bundle.model, len(bundle.classes)) is None:
        raise UserError("the network has no linear last layer, so that no record is familiar or unfamiliar to it.")
    features = compute_features(bundle, train_signals)
    familiarity = Familiarity.fit(features, features[:1])
    held = np.array([np.inf]) if distances is None else np.sort(distances)
    return replace(bundle, familiarity=replace(familiarity, held=held))
