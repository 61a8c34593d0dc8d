"""`mean_with` of a training: what is fitted, evaluated, logged and resumed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.ensemble import HistGradientBoostingClassifier

from composing import composed
from einthoven.errors import UserError
from einthoven.predict import load_bundle
from einthoven.runs import mean_members
from einthoven.runs.config.identity import identity_tags
from einthoven.runs.feature_run import FeatureRun
from einthoven.runs.mean_members import with_members
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.members import FeatureMember, features_of, read_member
from einthoven.runs.results import conclude
from einthoven.terminal.composition import compose_options
from einthoven.tracking.concluded import is_concluded
from einthoven.tracking.recorder import Recorder
from einthoven.trust import find_target

Train = Callable[..., None]

NETWORK = (
    *("augment=none", "diagnostics=none", "pca.k=4", "model=mlp", "model.width=8", "model.depth=1", "init_from=null"),
    *("trainer.epochs=1", "trainer.batch_size=8"),
)


@pytest.fixture(scope="module")
def own_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user with two models: one changes options of another one, and one is whole."""
    folder = tmp_path_factory.mktemp("own") / "conf"
    (folder / "model").mkdir(parents=True)
    boosting = "defaults: [gradient_boosting]\nrounds: 8\ncomponents: 3\n"
    (folder / "model" / "small_boosting.yaml").write_text(boosting)
    forest = "_target_: einthoven.models.trees.RandomForest\ncomponents: 3\ntrees: 15\n"
    (folder / "model" / "small_forest.yaml").write_text(f"{forest}features_per_split: 0.15\nmin_leaf: 2\n")
    return folder


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are fitted, in this order. The usual leaves of 20 records allow no split of 33 records."""
    fit = FeatureRun.fit
    names: list[str] = []

    def fit_with_small_leaves(self: FeatureRun) -> None:
        small_leaves = partial(HistGradientBoostingClassifier, min_samples_leaf=3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", small_leaves)
            fit(self)
        names.append(self.folder.name)

    monkeypatch.setattr(FeatureRun, "fit", fit_with_small_leaves)
    # The intervals of an evaluation take longer than the training.
    evaluation = compose_options
    monkeypatch.setattr(
        mean_members, "compose_options", lambda folders, name, *options: _quick(evaluation(folders, name, *options))
    )
    return names


def _quick(config: Any) -> Any:
    if "resamples" in config:
        config.resamples = 40
    return config


def test_the_models_answer_together_with_the_network(
    train: Train,
    own_models: Path,
    fits: list[str],
    corpus: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conclude, "_log_program", lambda *_: None)
    pictures: list[str] = []
    monkeypatch.setattr(Recorder, "figure", lambda self, figure, name: pictures.append(name))
    own = ("--config-dir", str(own_models))
    train(*own, *NETWORK, "mean_with=[small_boosting]", "tracking.experiment=together", "hydra.run.dir=together/run")
    said = " ".join(capsys.readouterr().out.split())
    folder = workplace / "together" / "run"
    assert fits == ["small_boosting"] and is_concluded(folder)

    # The mean is that of the network of the run and of the model in the folder.
    run = read_finished(folder, "run", {"val": None, "test": None})[0]
    member = read_member(str(folder / "members" / "small_boosting"), "mean_with")
    assert isinstance(member, FeatureMember) and member.options["model.rounds"] == 8
    network_p = run.evaluate("test", "fp32").p
    boosting_p = member.predict(features_of(run, "test"), run.data.labels.classes)
    mean_p = (network_p + boosting_p) / 2
    table = pd.read_parquet(folder / "mean" / "predictions.parquet")
    np.testing.assert_allclose(table.filter(like="_probability").to_numpy(), mean_p, atol=1e-6)

    # Its metrics are beside those of the network and of the model, in MLflow and on the terminal.
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("together").experiment_id])  # type: ignore[union-attr]
    options = {name: value for name, value in found.data.params.items() if name.startswith("mean_with")}
    assert options == {"mean_with": "[small_boosting]"}
    note = found.data.tags["mlflow.note.content"]
    assert note.startswith(f"**Macro AUROC {found.data.metrics['test/mean_macro_auroc']:.3f} (")
    assert "for the mean of the network and small_boosting" in note.splitlines()[0]
    assert "small_boosting answers together" in note
    y = run.data.record_labels("test").astype(np.float64)
    for name, p in (("network", network_p), ("small_boosting", boosting_p), ("mean", mean_p)):
        expected = run.task.metrics(y, p, run.data.labels.classes)["macro_auroc"]
        prefix = "" if name == "network" else f"{name}_"
        assert found.data.metrics[f"test/{prefix}macro_auroc"] == pytest.approx(expected)
        assert f"│ {name} │ {expected:.3f} (" in said
    evaluation = json.loads((folder / "mean" / "evaluation.json").read_text())
    assert evaluation["folds"] == {"train": [1, 2, 3, 4, 5, 6, 7, 8], "fit": [9], "report": [10]}
    assert found.data.metrics["test/evaluate/mean/nll_after"] == pytest.approx(evaluation["metrics"]["nll/after"])
    places = {
        "evaluation/mean": "evaluation.json",
        "bundle/mean": "bundle.json",
        "members/small_boosting": "fitted.skops",
    }
    for place, file in places.items():
        assert f"{place}/{file}" in [artifact.path for artifact in client.list_artifacts(found.info.run_id, place)]
    assert {"reliability_mean", "importance_small_boosting"} <= set(pictures)

    # The bundle of the mean answers about a file.
    assert "predict together/run/mean " in said
    record = str(corpus / run.data.table("test")["filename_lr"].iloc[0])
    answer = load_bundle(folder / "mean").predict([record])
    np.testing.assert_allclose(answer.probabilities[0], table.filter(like="_calibrated").to_numpy()[0], atol=2e-6)


def test_a_run_that_was_stopped_does_not_fit_a_model_again(
    train: Train,
    own_models: Path,
    fits: list[str],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Statements are learned, and a forest is a member: the mean has no bundle."""
    options = ("--config-dir", str(own_models), *NETWORK, "tracking.artifacts=false", "task.targets=all")
    fit = FeatureRun.fit

    def stopped_at_the_second_model(self: FeatureRun) -> None:
        if fits:
            raise KeyboardInterrupt
        fit(self)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(FeatureRun, "fit", stopped_at_the_second_model)
        train(
            *options,
            "mean_with=[small_boosting,small_forest]",
            "tracking.experiment=stopped_members",
            "hydra.run.dir=together/stopped",
        )
    folder = workplace / "together" / "stopped"
    assert fits == ["small_boosting"] and not is_concluded(folder) and not (folder / "mean").exists()
    assert "This continues it: einthoven train" in " ".join(capsys.readouterr().out.split())

    train("resume=together/stopped")
    assert fits == ["small_boosting", "small_forest"] and is_concluded(folder)
    said = " ".join(capsys.readouterr().out.split())
    assert "its end is not complete" in said and "│ small_forest │" in said and "│ mean │" in said
    assert "small_forest: a bundle may hold a network and models of gradient boosting" in said
    assert not (folder / "mean" / "bundle").exists() and "predict together/stopped/mean" not in said
    evaluation = json.loads((folder / "mean" / "evaluation.json").read_text())
    assert [part["weight"] for part in evaluation["mean"]] == pytest.approx([1 / 3] * 3)
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("stopped_members").experiment_id])  # type: ignore[union-attr]
    assert "small_boosting and small_forest answer together" in found.data.tags["mlflow.note.content"]
    with pytest.raises(SystemExit):
        train("resume=together/stopped")
    assert "there is nothing to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("mean_with=[boosting]",), "mean_with=[boosting]: unknown; did you mean gradient_boosting"),
        (("mean_with=[gradient_boosting,mlp]",), "mean_with=[gradient_boosting,mlp]: mlp is a network; expected"),
        (("mean_with=[forest,forest]",), "mean_with=[forest,forest]: names a model twice"),
        (("mean_with=[mean]",), "mean_with=[mean]: mean is the name of the mean of all models in the results"),
        (("mean_with=forest",), "mean_with=forest: expected a list of models of ECG features"),
        (("mean_with=[forest]", "folds=cv"), "mean_with=[forest]: folds=cv has no fold for the calibration"),
        (("mean_with=[forest]", "data.folds.test=[]"), "the figures of the mean need data.folds.test, which is empty"),
        (("mean_with=[forest]", "data.folds.val=[]"), "the calibration of the mean need data.folds.val"),
        (("mean_with=[forest]", "task=heart_rate"), "models of ECG features are fitted to the labels of classes"),
        (("mean_with=[forest]", "task=contrastive"), "models of ECG features are fitted to the labels of classes"),
        (("experiment=ptbxl_best", "model=naive_bayes"), "is a model of ECG features itself; expected the model of"),
        (("mean_with=[forest]", "data.folds.test=[12]"), "data.folds.test: no labelled record there"),
    ],
)
def test_a_run_that_cannot_have_a_mean_is_refused_before_it_begins(
    train: Train,
    fits: list[str],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    words: str,
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train("hydra.run.dir=together/refused", *overrides)
    assert exit_.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.count("einthoven: error:") == 1 and "\n" not in error and words in error
    assert not (workplace / "together" / "refused" / "checkpoints").exists() and not fits


def test_the_identity_of_a_run_has_the_options_of_the_models(own_models: Path) -> None:
    searchpath = f"hydra.searchpath=[file://{own_models}]"
    hashes = []
    for option in ("mean_with=[]", "mean_with=[gradient_boosting]", "mean_with=[forest]"):
        config = with_members(composed("train", "data=ptbxl", option, searchpath))
        assert with_members(config) == config
        hashes.append(identity_tags(config)["config.hash"])
    config.mean_with.forest.trees += 1
    hashes.append(identity_tags(config)["config.hash"])
    assert len(set(hashes)) == 4


def test_a_folder_may_not_name_other_code_as_a_member() -> None:
    for target in ("os.system", "einthoven.models.mlp.MLP", "torch.nn.Linear"):
        with pytest.raises(UserError):
            find_target(target, "mean_with.forest")
