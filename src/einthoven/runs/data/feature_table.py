"""The ECG features of the records of a run, and the models that are fitted to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven import trust
from einthoven.build import build, check
from einthoven.data.store.batches import evaluation_batches
from einthoven.data.store.splits import Split
from einthoven.errors import UserError
from einthoven.functional.beats import SLOWEST_FS
from einthoven.functional.features import Features, ecg_features
from einthoven.models.features import FeatureModel

_BATCH = 128
"""Records whose features are measured at once. The arrays of more records do not fit the cache of the processor."""


def measure_features(split: Split, fs: float, leads: Sequence[str]) -> tuple[Features, NDArray[np.float64]]:
    """Measure the features of the rows of a split, and return them with the labels (n, K).

    A sampling frequency (Hz) that is too low for the features is refused.
    """
    if fs < SLOWEST_FS:
        raise UserError(f"data.fs={fs:g}: ECG features are measured at {SLOWEST_FS:g} Hz at least.")
    parts = []
    labels = []
    for batch in evaluation_batches(split, size=_BATCH):
        x = batch.x[batch.valid].cpu().numpy()
        parts.append(ecg_features(x, fs, leads))
        labels.append(batch.y[batch.valid].cpu().numpy().astype(np.float64))
    values = np.concatenate([part.values for part in parts])
    beats = np.concatenate([part.beat for part in parts])
    return Features(parts[0].names, values, beats), np.concatenate(labels)


def select_features(features: Features, rows: NDArray[np.bool_]) -> Features:
    """Return the features of some rows."""
    return Features(features.names, features.values[rows], features.beat[rows])


def build_feature_model(options: Mapping[str, Any], source: str) -> FeatureModel:
    """Build the feature model of a run from its options. They can come from a stranger."""
    from omegaconf import OmegaConf

    prefix = "model."
    of_model = {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}
    target = trust.find_target(str(of_model.get("_target_")), "model")
    if not (isinstance(target, type) and issubclass(target, FeatureModel)):
        raise UserError(f"{source}: model._target_={of_model.get('_target_')}: expected a model of ECG features.")
    config = OmegaConf.create(of_model)
    check(config, "model")
    return build(config, "model")
