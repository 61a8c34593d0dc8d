"""The real records behind the generator: which models list them, and which records they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.fitted_on import GENERATED, VERSIONS, fitted_records, records_of_generator
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.synthetic import GENERATOR_VERSION
from einthoven.data.synthetic.fitted import fitted_folds
from einthoven.predict import SYNTHETIC_BUNDLE
from einthoven.predict.bundle import read_bundle

REAL = os.environ.get("EINTHOVEN_REAL_DATA")


def test_only_a_fitted_generator_has_records_behind_it() -> None:
    generated = {"data._target_": GENERATED, "data.version": 2}
    assert len(fitted_records(generated)) == 1490
    joined = {"data.sources.a._target_": "x.PTBXL", "data.sources.b._target_": GENERATED, "data.sources.b.version": 2}
    assert len(fitted_records(joined)) == 1490
    for other in ({**generated, "data.version": 1}, {"data._target_": GENERATED}, {"data._target_": "x.PTBXL"}, {}):
        assert not len(fitted_records(other))
    # A new version is fitted to these records, or has another list.
    assert GENERATOR_VERSION in VERSIONS


def test_the_bundle_of_the_package_lists_them() -> None:
    ancestry = read_bundle(SYNTHETIC_BUNDLE).ancestry
    assert ancestry is not None
    assert ancestry.generator.tolist() == sorted(records_of_generator().tolist())
    assert fitted_folds() == list(range(1, 9))


@pytest.mark.skipif(REAL is None, reason="EINTHOVEN_REAL_DATA names no folder with PTB-XL")
def test_they_are_the_records_of_the_training_folds(tmp_path: Path) -> None:
    store = PTBXL(Path(str(REAL)) / "ptbxl", 100, tmp_path).open()
    listed = fitted_records({"data._target_": GENERATED, "data.version": 2})
    is_listed = np.isin(store.first_seconds, listed)
    is_below = store.table["ecg_id"].to_numpy() < 2000
    assert is_listed.tolist() == (store.table["strat_fold"].isin(fitted_folds()).to_numpy() & is_below).tolist()
