"""Each loss trains from the command line, and what does not fit is refused before any data are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

Train = Callable[..., None]
FAST = ("model=logistic", "trainer.epochs=1", "trainer.batch_size=8", "pca=none", "tracking.artifacts=false")


@pytest.mark.parametrize(
    "options",
    [
        ("loss=focal",),
        ("loss=asymmetric",),
        ("loss.label_smoothing=0.1", "loss.class_weight=balanced"),
        ("loss=focal", "task.single_label=true"),
    ],
    ids=" ".join,
)
def test_a_loss_trains(options: tuple[str, ...], train: Train, workplace: Path) -> None:
    name = "-".join(options)[:40].replace("=", "-")
    train(*FAST, *options, f"tracking.experiment={name}")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    found = run.data.metrics
    assert run.info.status == "FINISHED" and np.isfinite(found["train/loss"])
    assert found["val/loss"] != found["val/nll"] > 0  # the loss that trains, and the likelihood


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("loss=asymmetric", "task.single_label=true"), "loss=asymmetric"),
        (("loss=focal", "loss.gamma=-1"), "loss.gamma=-1"),
        (("loss=focal", "loss.gama=1"), "gama"),
        (("loss=focall",), "loss=focall: unknown; did you mean focal"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_does_not_fit_is_refused_before_any_data_are_read(
    options: tuple[str, ...], expected: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train(*FAST, *options, "data.root=/nowhere")
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and expected in error and error.count("\n") == 1
