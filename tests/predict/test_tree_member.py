"""A bundle with gradient boosting beside its network: what it answers, what it keeps, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from einthoven import cli
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.functional.features import ecg_features
from einthoven.models.boosted_trees import BoostedTrees
from einthoven.models.trees import GradientBoosting
from einthoven.predict import Predictor
from einthoven.predict.bundle import DESCRIPTION, Bundle, read_bundle
from einthoven.predict.export import export
from einthoven.predict.forward import mean_with, predict_windows, predict_with_members, predict_with_network
from einthoven.predict.groups import answer_first_group, answer_groups, network_alone
from einthoven.predict.sealed_folder import WEIGHTS, seal_description
from einthoven.predict.tree_member import TreeMember

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
Signals = NDArray[np.int16]


def ecgs(n: int, seed: int = 0) -> Signals:
    """Records of 10 s in µV: beats at a rate of their own, with noise. The last one is flat."""
    rng = np.random.default_rng(seed)
    signals = np.zeros((n, 12, 1000))
    shape = np.array([0.0, -60, 100, 900, 1000, -300, -100, 0, 0, 50, 100, 150, 200, 150, 50, 0])
    for signal in signals[:-1]:
        heights = rng.normal(1.0, 0.5, 12)
        for first in range(rng.integers(20, 60), 960, rng.integers(60, 110)):
            signal[:, first : first + len(shape)] += heights[:, None] * shape
        signal += rng.normal(0, 15, signal.shape)
    return np.rint(signals).astype(np.int16)


@pytest.fixture(scope="session")
def boosting() -> GradientBoosting:
    """A model that was fitted to 120 records, in the order of the classes NORM, CD, MI."""
    features = ecg_features(ecgs(120) * np.float32(1e-3), 100.0, LEADS)
    values = np.nan_to_num(features.values)
    y = (values[:, [0, 12, 20]] > np.median(values[:, [0, 12, 20]], axis=0)).astype(float)
    model = GradientBoosting(components=3, rounds=6, lr=0.3, leaves=5, l2=1.0)
    model.fit(model.table.fit(features, 0).transform(features), y, single_label=False, seed=0)
    return model


@pytest.fixture(scope="session")
def mean(make_bundle: Callable[..., Bundle], boosting: GradientBoosting) -> Bundle:
    """A bundle of a network (CD, MI, NORM) and gradient boosting with three quarters of the weight."""
    trees = BoostedTrees.from_model(boosting, [1, 2, 0])
    return make_bundle(members=(TreeMember(trees, 0.75),))


def expected_of(boosting: GradientBoosting, signals: Signals) -> NDArray[np.float64]:
    """The probabilities of scikit-learn, for the classes of the bundle."""
    features = ecg_features(signals.astype(np.float32) * np.float32(1e-3), 100.0, LEADS)
    return boosting.predict(boosting.table.transform(features))[:, [1, 2, 0]]


def test_the_answer_is_the_weighted_mean(mean: Bundle, boosting: GradientBoosting, tmp_path: Path) -> None:
    signals = ecgs(9, seed=1)
    network_p, _ = predict_with_network(mean, signals)
    of_trees = expected_of(boosting, signals)
    p, _ = predict_windows(mean, signals)
    np.testing.assert_allclose(p, 0.25 * network_p + 0.75 * of_trees, rtol=0, atol=1e-12)
    assert np.ptp(of_trees, axis=0).min() > 0.1

    # The folder keeps all of it, without a type of scikit-learn.
    mean.save(tmp_path / "b")
    read = read_bundle(tmp_path / "b")
    np.testing.assert_array_equal(predict_windows(read, signals)[0], p)
    assert json.loads((tmp_path / "b" / DESCRIPTION).read_text())["mean"]["network"] == 0.25
    # In single precision, it is that of the rounded trees.
    rounded = replace(mean, members=(TreeMember(mean.members[0].trees.in_single_precision(), 0.75),))
    rounded.save(tmp_path / "half", half=True)
    np.testing.assert_array_equal(
        predict_with_members(read_bundle(tmp_path / "half"), signals), predict_with_members(rounded, signals)
    )
    of_file = safetensors.numpy.load_file(tmp_path / "half" / WEIGHTS)
    assert (of_file["trees.0.number"].dtype, of_file["trees.0.feature"].dtype) == (np.float32, np.uint8)


def test_a_long_record_is_the_mean_of_its_windows(mean: Bundle, boosting: GradientBoosting) -> None:
    predictor = Predictor([replace(mean, calibration=network_alone(mean).calibration, calibration_method="none")])
    windows = ecgs(3, seed=2)[:2]
    record = Record(np.concatenate([*windows], axis=1) * np.float32(1e-3), 100.0, LEADS, "long")
    prediction = predictor.predict([record])
    network_p, _ = predict_with_network(mean, windows)
    of_windows = 0.25 * network_p + 0.75 * expected_of(boosting, windows)
    np.testing.assert_allclose(prediction.windows[0], of_windows, rtol=0, atol=1e-12)
    np.testing.assert_allclose(prediction.probabilities[0], of_windows.mean(axis=0), rtol=0, atol=1e-12)


def test_further_groups_keep_the_probabilities_of_the_network(mean: Bundle) -> None:
    signals = ecgs(5, seed=3)
    groups = {"superclasses": {"CD": "", "MI": ""}, "rhythms": {"NORM": ""}}
    trees = mean.members[0].trees
    two = replace(trees.sums, trees=trees.sums.trees[:2], baseline=trees.sums.baseline[:2])
    narrow = replace(mean, groups=groups, members=(TreeMember(replace(trees, sums=two), 0.75),))
    p, _ = predict_windows(narrow, signals)
    np.testing.assert_allclose(p[:, :2], predict_windows(mean, signals)[0][:, :2], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(p[:, 2], predict_with_network(mean, signals)[0][:, 2])
    # The mean is that of the first group.
    with pytest.raises(ValueError, match="expected"):
        answer_groups(mean, {"others": {"MI": "", "CD": ""}, "superclasses": {"NORM": ""}})
    assert answer_first_group(mean).members == mean.members


def test_dropout_changes_the_network_only(mean: Bundle, make_bundle: Callable[..., Bundle]) -> None:
    options = {**mean.parts["network"]["options"], "head_dropout": 0.5}
    bundle = make_bundle(network={**mean.parts["network"], "options": options}, members=mean.members)
    (record,) = ecgs(2, seed=4)[:1]
    millivolts = Record(record * np.float32(1e-3), 100.0, LEADS, "a")
    of_mean = Predictor([bundle], draws=5).predict([millivolts])
    alone = Predictor([replace(bundle, members=())], draws=5).predict([millivolts])
    assert 0 < of_mean.entropy.epistemic[0] < alone.entropy.epistemic[0]


def test_an_explanation_says_that_it_explains_the_network(mean: Bundle) -> None:
    (signal,) = ecgs(2, seed=5)[:1]
    record = Record(signal * np.float32(1e-3), 100.0, LEADS, "a")
    predictor = Predictor([mean])
    explanation = predictor.explain(record, "MI")
    answer = predictor.predict([record])
    assert explanation.probability == answer.probabilities[0, 1]
    assert explanation.cautions[0] == "explains the network, which has a share of 25% in this answer"
    assert explanation.cautions[1:] == answer.cautions[0]
    alone = Predictor([network_alone(mean)]).explain(record, "MI")
    assert not alone.cautions
    np.testing.assert_array_equal(alone.relevance, explanation.relevance)
    # Classes of further groups are answered by the network alone.
    rhythms = replace(mean, groups={"superclasses": {"CD": "", "MI": ""}, "rhythms": {"NORM": ""}})
    assert predictor._explained_share(2) and not Predictor([rhythms])._explained_share(2)


def test_an_export_holds_the_network_only_if_it_is_asked_for(
    mean: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="answers with the mean of a network and a model of ECG measurements"):
        export(mean, tmp_path / "a.pt2")
    mean.save(tmp_path / "b")
    network_alone(mean).save(tmp_path / "network")
    for words, expected in (
        (["b", "a.pt2"], "add --network to write it without its calibration"),
        (["network", "a.pt2", "--network"], "--network: this bundle answers with its network alone; leave it out."),
    ):
        with pytest.raises(SystemExit):
            cli.main(["export", *(str(tmp_path / word) if not word.startswith("-") else word for word in words)])
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "a.pt2").exists()
    cli.main(["export", str(tmp_path / "b"), str(tmp_path / "a.pt2"), "--network"])
    assert "the network alone; not calibrated" in " ".join(capsys.readouterr().out.split())


def test_it_answers_without_scikit_learn(mean: Bundle, tmp_path: Path) -> None:
    mean.save(tmp_path / "b")
    np.save(tmp_path / "signals.npy", ecgs(3, seed=6))
    code = (
        "import sys, numpy, torch; from einthoven.predict.bundle import read_bundle; "
        "from einthoven.predict.forward import predict_windows; "
        f"predict_windows(read_bundle(__import__('pathlib').Path({str(tmp_path / 'b')!r})), "
        f"numpy.load({str(tmp_path / 'signals.npy')!r})); "
        "print([n for n in ('sklearn', 'skops', 'pandas', 'mlflow', 'hydra') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def change_entry(**values: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def apply(description: dict[str, Any], tensors: dict[str, Any]) -> None:
        description["mean"]["boosted_trees"][0].update(values)

    return apply


def change_tensor(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def apply(description: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors[f"trees.0.{name}"] = change(tensors[f"trees.0.{name}"])

    return apply


HOSTILE: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "no members": (lambda d, t: d["mean"].update(boosted_trees=[]), "mean.boosted_trees is"),
    "another entry": (lambda d, t: d["mean"].update(colour=1), "expected network and boosted_trees"),
    "weights": (change_entry(weight=0.5), "expected weights that add up to 1"),
    "no weight": (lambda d, t: d["mean"].update(network=0), "mean.network is 0"),
    "a later version": (change_entry(features=99), "fitted to ECG features of version 99"),
    "a low frequency": (lambda d, t: d["reads"].update(fs=10, seconds=100), "reads ECG features at 10 Hz; expected 20"),
    "names": (change_entry(names=["a"]), "components is 3"),
    "other features": (change_entry(names=["a"], components=0), "reads other ECG features"),
    "many components": (change_entry(components=10**9), "components is 1000000000"),
    "fewer components": (change_entry(components=2), "reads other ECG features"),
    "records": (change_entry(records=0), "records is 0"),
    "no entry": (lambda d, t: d.update(mean=None), "beside those of the network"),
    "no tensor": (lambda d, t: t.pop("trees.0.skip"), "beside those of the network"),
    "a column": (change_tensor("feature", lambda a: a + np.uint8(120)), "not among the"),
    "a loop": (change_tensor("skip", lambda a: -a.astype(np.int16)), "one tree after the other"),
    "a sum": (change_tensor("trees", lambda a: np.array([18], np.int32)), "trees: 18 trees; expected those of 3 sums"),
    "a component": (change_tensor("pca_components", lambda a: a * np.nan), "expected finite numbers"),
    "a mean": (change_tensor("pca_mean", lambda a: a[:-1]), "pca_mean is float64 of the shape"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bundle_of_a_stranger_is_checked(name: str, mean: Bundle, tmp_path: Path) -> None:
    apply, expected = HOSTILE[name]
    folder = tmp_path / "b"
    mean.save(folder)
    description = json.loads((folder / DESCRIPTION).read_text())
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    apply(description, tensors)
    weights = safetensors.numpy.save(tensors)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / DESCRIPTION).write_bytes(seal_description(description, weights))
    with pytest.raises(UserError, match=expected) as refusal:
        read_bundle(folder)
    assert "\n" not in str(refusal.value)


def test_trees_for_other_classes_and_sums_that_overflow_are_refused(mean: Bundle, tmp_path: Path) -> None:
    trees = mean.members[0].trees
    fewer = replace(trees.sums, trees=np.array([12, 6], np.int32), baseline=trees.sums.baseline[:2])
    replace(mean, members=(TreeMember(replace(trees, sums=fewer), 0.75),)).save(tmp_path / "b")
    with pytest.raises(UserError, match="2 sums; expected one for each of 3 classes"):
        read_bundle(tmp_path / "b")
    huge = np.where(trees.sums.skip == 0, np.resize([1.7e308, 1.7e308, -1.7e308, -1.7e308], len(trees.sums.skip)), 0.0)
    baseline = np.array([np.inf, 0.0, 0.0])
    overflow = replace(trees.sums, number=huge, baseline=baseline)
    broken = replace(mean, members=(TreeMember(replace(trees, sums=overflow, single_label=True), 0.75),))
    with pytest.raises(UserError, match="trees of this bundle answer with values that are not finite"):
        predict_windows(broken, ecgs(2))


def test_a_bundle_without_members_answers_as_its_network(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    signals = ecgs(3, seed=7)
    p, _ = predict_with_network(bundle, signals)
    np.testing.assert_array_equal(predict_windows(bundle, signals)[0], p)
    assert mean_with(bundle, p, predict_with_members(bundle, signals)) is p
    assert (bundle.network_weight, bundle.mean_classes) == (1.0, 0)
