"""`einthoven evaluate laplace=true` on a finished run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from einthoven import cli
from einthoven.errors import UserError
from einthoven.evaluation.scores import log_loss_per_class
from einthoven.runs.evaluation.laplace import LaplaceRun
from einthoven.runs.network.finished import read_finished
from two_steps import Bench, a_model, composed

Train = Callable[..., None]
FOLDS = ("data.folds.train=[2,3,4]", "data.folds.val=[5,6,7]", "data.folds.test=[1,8,9,10]")
NAME = "negative log-likelihood: last layer integrated out less as trained"


@pytest.mark.usefixtures("no_pictures")
def test_probabilities_are_those_of_a_posterior_and_are_compared_with_the_trained_ones(
    train: Train, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, small = workplace / "laplace", ("model=mlp", "model.width=16", "model.depth=1", "model.dropout=0")
    quick = ("trainer.epochs=2", "trainer.window=5", "tracking.artifacts=false", "augment=none", "task.temperature=2")
    train(*FOLDS, *small, *quick, f"hydra.run.dir={folder}")
    monkeypatch.chdir(workplace)
    before = {path: path.read_bytes() for path in (*folder.glob("bundle/*"), folder / "ancestry.safetensors")}
    cli.main(["evaluate", f"run={folder}", "laplace=true", "calibration=none", "resamples=40"])
    place = folder / "readings" / "laplace"
    found = json.loads((place / "evaluation.json").read_text())
    assert found["laplace"]["prior_precision"] > 0
    # The folder of the run stays as it was: its bundle has no posterior.
    assert before == {path: path.read_bytes() for path in before} and not (folder / "model_card.md").exists()

    run, _ = read_finished(folder, "run", {})
    laplace, trained = LaplaceRun(run).evaluate("test"), run.evaluate("test", "fp32")
    np.testing.assert_array_equal(laplace.y, trained.y)
    difference = log_loss_per_class(laplace.y, laplace.p).mean() - log_loss_per_class(trained.y, trained.p).mean()
    assert found["differences"][NAME]["difference"] == pytest.approx(difference, abs=1e-6)
    assert found["metrics"]["nll/before"] == pytest.approx(log_loss_per_class(laplace.y, laplace.p).mean(), abs=1e-6)
    assert (
        "averaged over the weights of the last layer (Laplace approximation)" in (place / "model_card.md").read_text()
    )
    assert "macro AUROC: max less mean of windows" in found["differences"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("laplace"), patch)


@pytest.mark.parametrize("model", ["mlp", "conv_attention", "xresnet1d18", "lstm"])
def test_it_is_less_sure_than_the_trained_layer_and_without_uncertainty_the_same(bench: Bench, model: str) -> None:
    """Its weights are those of the last layer, wherever the model keeps it."""
    run = bench.assembled(composed(*a_model(model), "data.seconds=2.5", "trainer.window=null"))
    laplace, trained = LaplaceRun(run), run.evaluate("val", "fp32")
    integrated = laplace.evaluate("val").p
    assert (np.abs(integrated - 0.5) < np.abs(trained.p - 0.5)).all()
    laplace.posterior.covariance[:] = 0
    np.testing.assert_allclose(laplace.evaluate("val").p, trained.p, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("task.single_label=true",), "laplace=true: expected several labels"),
        (("model=logistic", "data.seconds=2.5", "trainer.window=null"), "or fewer, found one on 2000 features"),
    ],
    ids=["single label", "many features"],
)
def test_what_it_cannot_treat_is_one_sentence(
    options: tuple[str, ...], expected: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("einthoven.runs.evaluation.laplace._MAX_FEATURES", 1000)
    run = bench.assembled(composed(*options))
    with pytest.raises(UserError) as refusal:
        LaplaceRun(run)
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)
