"""Metrics of earlier versions are read under the names of today."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

from einthoven.tracking.names import LONGEST, accepted, classes_summed, current
from einthoven.tracking.sweep import history, last_metrics


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("grad/norm", "watch/grad/norm"),
        ("grad/norm/stem", "watch/grad/norm/stem"),
        ("act/attention_entropy/block1/2", "watch/act/attention_entropy/block1/2"),
        ("diag/kl_prior", "watch/diag/kl_prior"),
        ("optim/lr", "watch/optim/lr"),
        ("update/ratio/head", "watch/update/ratio/head"),
        ("weight/zeros", "watch/weight/zeros"),
        ("pca/explained", "watch/pca/explained"),
        ("train/loss", "train/loss"),
        ("val/auroc/act/x", "val/auroc/act/x"),
        ("watch/grad/norm", "watch/grad/norm"),
        ("system/cpu", "system/cpu"),
        ("grad", "grad"),
    ],
)
def test_a_stored_name_of_any_version_is_read_under_the_name_of_today(stored: str, name: str) -> None:
    assert current(stored) == name and current(current(stored)) == name


@pytest.fixture
def store(tmp_path: Path, mlflow_db: Path) -> MlflowClient:
    """An empty store."""
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_the_history_of_an_old_run_is_found_by_old_and_by_new_names(store: MlflowClient) -> None:
    run_id = store.create_run("0").info.run_id
    for step, value in ((1, 0.5), (2, 0.25)):
        store.log_metric(run_id, "grad/norm", value, step=step)
        store.log_metric(run_id, "train/loss", 2 * value, step=step)
    run = store.get_run(run_id)
    everything = history(store, run)
    assert set(everything) == {"watch/grad/norm", "train/loss"}
    for asked in ("grad/norm", "watch/grad/norm"):
        ((name, (steps, values)),) = history(store, run, [asked]).items()
        assert name == "watch/grad/norm"
        np.testing.assert_array_equal(steps, [1, 2])
        np.testing.assert_array_equal(values, [0.5, 0.25])


@pytest.mark.parametrize(
    ("stored", "single_label", "classes"),
    [
        ("diag/entropy", "False", 5),
        ("diag/kl_labels", "False", 5),
        ("diag/kl_drift", "False", 5),
        ("diag/kl_prior", "False", 5),
        ("diag/kl_prior", "True", 5),  # was a sum there, too
        ("diag/entropy", "True", 1),
        ("diag/calibration_gap", "False", 1),
        ("watch/diag/entropy", "False", 1),
        ("train/loss", "False", 1),
    ],
)
def test_what_was_summed_over_classes_is_known(stored: str, single_label: str, classes: int) -> None:
    assert classes_summed(stored, {"data.classes": "5", "task.single_label": single_label}) == classes


def test_sums_over_classes_of_an_old_run_are_read_as_means(store: MlflowClient) -> None:
    run_id = store.create_run("0").info.run_id
    store.log_param(run_id, "data.classes", "4")
    for name in ("diag/entropy", "diag/confident_wrong"):
        store.log_metric(run_id, name, 2.0, step=3)
    found = history(store, store.get_run(run_id))
    assert found["watch/diag/entropy"][1].tolist() == [0.5]
    assert found["watch/diag/confident_wrong"][1].tolist() == [2.0]


def test_last_values_of_an_old_run_have_the_names_and_scales_of_today(store: MlflowClient) -> None:
    for single_label, entropy in (("False", 0.5), ("True", 2.0)):
        run_id = store.create_run("0").info.run_id
        store.log_param(run_id, "data.classes", "4")
        store.log_param(run_id, "task.single_label", single_label)
        for name in ("diag/entropy", "diag/sharpness", "train/loss", "watch/diag/kl_drift"):
            store.log_metric(run_id, name, 2.0)
        assert last_metrics(store.get_run(run_id)) == {
            "watch/diag/entropy": entropy,
            "watch/diag/sharpness": 2.0,
            "train/loss": 2.0,
            "watch/diag/kl_drift": 2.0,
        }


@pytest.mark.parametrize(
    "name", ["val/loss", "val/auroc/ST.gt.1", "augment.transforms.x", "mine/a b:c", "watch/grad/norm"]
)
def test_a_name_that_mlflow_takes_stays(name: str) -> None:
    assert accepted(name) == name


names = st.one_of(
    st.text(alphabet=st.characters(codec=None), max_size=30),
    st.text("ab/. \n>_", max_size=10),
    st.sampled_from(
        ["", ".", "..", "a//b", "b/", "/a", "../a", "a/../b", "x" * 251, "x/" * 200, "val/loss\n", "ST>1", "ST<1"]
    ),
)


@given(names, names)
def test_mlflow_takes_every_name_and_no_two_become_one(one: str, other: str) -> None:
    for name in (one, other):
        written = accepted(name)
        assert 0 < len(written) <= LONGEST and accepted(written) == written
        _validate_metric(written, 0.5, 0, 0)
        _validate_param(written, "x")
        _validate_tag(written, "x")
    assert (accepted(one) == accepted(other)) == (one == other)
