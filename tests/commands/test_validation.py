"""What a run measures at the end of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.special

from einthoven.evaluation.scores import calibration_error_per_class
from two_steps import Bench, Notes, composed


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("validation"), patch)


FULL = ("diagnostics=full", "trainer.stride=2.5", "trainer.epochs=3")


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)


def test_predictions_are_measured_once_an_epoch(bench: Bench) -> None:
    run, notes = bench.assembled(composed(*FULL)), Notes()
    run.train(notes)  # type: ignore[arg-type]
    found, told = run.predict("val"), notes.latest
    gaps = calibration_error_per_class(found.y, found.p)
    for name, gap in zip(run.data.labels.classes, gaps, strict=True):
        assert told[f"val/calibration_gap/{name}"] == pytest.approx(gap)
    assert told["diag/calibration_gap"] == pytest.approx(gaps.mean())
    assert told["diag/confident_wrong"] == pytest.approx((np.abs(found.y - found.p) > 0.9).mean())
    assert found.windows is not None and found.windows.shape[1] == 4
    apart = bernoulli_kl(found.windows, found.windows.mean(1, keepdims=True)).sum(-1).mean()
    assert told["diag/kl_windows"] == pytest.approx(apart)
    assert "diag/kl_drift" in told
    kept = run.validation.arrays()
    assert kept["entropy/epoch"].tolist() == [1, 2, 3]
    assert (kept["entropy/counts"].sum(axis=1) == len(found.p)).all()


def test_nothing_is_measured_where_nothing_is_asked_for(bench: Bench) -> None:
    told = bench.train(composed("diagnostics=none"))
    assert not [name for name in told if name.startswith(("diag/", "act/", "update/", "weight/", "val/calibration"))]
    assert {name for name in told if name.startswith(("grad/", "optim/"))} == {"grad/norm", "optim/lr"}


def test_a_single_label_is_measured_too(bench: Bench) -> None:
    told = bench.train(composed("diagnostics=full", "task.single_label=true"))
    assert {"diag/calibration_gap", "diag/kl_labels", "diag/kl_drift"} <= told.keys()


def test_what_was_kept_survives_a_checkpoint(bench: Bench, tmp_path: Path) -> None:
    config = composed(*FULL)
    run = bench.assembled(config)
    run.folder = tmp_path
    run.train(Notes())  # type: ignore[arg-type]
    again = bench.assembled(config)
    again.folder = tmp_path
    again.load("last")
    before, after = run.validation.arrays(), again.validation.arrays()
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
