"""Metrics of earlier versions are read under the names of today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from einthoven.tracking.names import current
from einthoven.tracking.sweep import history


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


def test_the_history_of_an_old_run_is_found_by_old_and_by_new_names(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    for step, value in ((1, 0.5), (2, 0.25)):
        client.log_metric(run_id, "grad/norm", value, step=step)
        client.log_metric(run_id, "train/loss", 2 * value, step=step)
    run = client.get_run(run_id)
    everything = history(client, run)
    assert set(everything) == {"watch/grad/norm", "train/loss"}
    for asked in ("grad/norm", "watch/grad/norm"):
        ((name, (steps, values)),) = history(client, run, [asked]).items()
        assert name == "watch/grad/norm"
        np.testing.assert_array_equal(steps, [1, 2])
        np.testing.assert_array_equal(values, [0.5, 0.25])
