"""Trees split where entropy falls most; naive Bayes is Bayes' rule; both keep their promises about NaN and files."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.features import Features
from einthoven.functional.information import bernoulli_entropy, categorical_entropy
from einthoven.models import features as feature_models
from einthoven.models.features import FeatureModel, FeatureTable
from einthoven.models.naive_bayes import NaiveBayes
from einthoven.models.trees import DecisionTree, GradientBoosting, RandomForest

Float = NDArray[np.float64]


def small() -> list[FeatureModel]:
    return [
        NaiveBayes(0),
        DecisionTree(0, depth=4, min_leaf=2),
        RandomForest(0, trees=20, features_per_split=0.7, min_leaf=2),
        GradientBoosting(0, rounds=20, lr=0.2, leaves=8, l2=1.0),
    ]


def problem(n: int, seed: int) -> tuple[Float, Float]:
    """Three features; two labels that depend on the first and the second."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 2)) < [0.3, 0.5]).astype(float)
    x = rng.normal(size=(n, 3))
    x[:, :2] += 2.0 * y
    return x, y


# ---------------------------------------------------------------- information gain


def gains(x: Float, y: Float) -> dict[tuple[int, float], float]:
    """Entropy reduction in nats of every split (feature, midpoint), averaged over the labels."""

    def entropy(part: Float) -> float:
        return float(bernoulli_entropy(torch.tensor(part.mean(axis=0))).mean())

    found = {}
    for feature in range(x.shape[1]):
        values = np.unique(x[:, feature])
        for threshold in (values[:-1] + values[1:]) / 2:
            left = x[:, feature] <= threshold
            parts = left.mean() * entropy(y[left]) + (~left).mean() * entropy(y[~left])
            found[feature, float(threshold)] = entropy(y) - parts
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_splits_where_the_entropy_falls_most(seed: int) -> None:
    x, y = problem(40, seed)
    x = x.astype(np.float32).astype(float)  # as the tree sees it
    tree = DecisionTree(0, depth=1, min_leaf=1).fit(x, y, single_label=False, seed=0).fitted["estimators"][0].tree_
    gain = gains(x, y)
    assert all(value >= -1e-12 for value in gain.values())
    best = max(gain.values())
    split = min(gain, key=lambda key: (key[0] != tree.feature[0], abs(key[1] - tree.threshold[0])))
    assert split[1] == pytest.approx(tree.threshold[0], abs=1e-6)
    assert gain[split] == pytest.approx(best, abs=1e-12)
    # the tree counts in bits; what its root lost to its leaves is that gain
    share = tree.n_node_samples[1:] / tree.n_node_samples[0]
    assert (tree.impurity[0] - share @ tree.impurity[1:]) * np.log(2) == pytest.approx(best, abs=1e-9)


def test_the_gain_is_the_mutual_information_of_split_and_label() -> None:
    x, y = problem(60, 9)
    (feature, threshold), gain = max(gains(x, y[:, :1]).items(), key=lambda item: item[1])
    left = x[:, feature] <= threshold
    joint = np.array([[(left == a)[y[:, 0] == b].sum() for b in (0, 1)] for a in (True, False)]) / 60

    def entropy(p: Float) -> float:
        return float(categorical_entropy(torch.tensor(p.ravel())))

    assert gain == pytest.approx(entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint), abs=1e-12)


# ---------------------------------------------------------------- naive Bayes


def test_naive_bayes_equals_scikit_learn_on_single_labels() -> None:
    from sklearn.naive_bayes import GaussianNB

    rng = np.random.default_rng(1)
    kind = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    x = rng.normal(size=(300, 4)) * (1 + kind[:, None]) + kind[:, None]
    found = NaiveBayes(0).fit(x, np.eye(3)[kind], single_label=True, seed=0)
    priors = (np.bincount(kind) + 1) / 303
    oracle = GaussianNB(priors=priors, var_smoothing=0).fit(x, kind)
    np.testing.assert_allclose(found.predict(x), oracle.predict_proba(x), rtol=1e-9, atol=1e-300)


def test_naive_bayes_is_calibrated_where_classes_are_gaussian() -> None:
    """Among records told 0.7, seven of ten have the label, within three standard errors."""
    x, y = problem(40_000, 2)
    p = NaiveBayes(0).fit(x[:20_000], y[:20_000], single_label=False, seed=0).predict(x[20_000:])
    for label in range(2):
        for low in np.arange(0.0, 1.0, 0.1):
            own = (p[:, label] >= low) & (p[:, label] < low + 0.1)
            told, seen = p[own, label].mean(), y[20_000:][own, label].mean()
            assert abs(told - seen) < 3.5 * np.sqrt(told * (1 - told) / own.sum()) + 0.005  # and the fit's own error


def test_a_feature_that_was_not_measured_says_nothing_to_naive_bayes() -> None:
    x, y = problem(500, 3)
    with_gaps, without = x.copy(), x[:, 1:]
    model = NaiveBayes(0).fit(x, y, single_label=False, seed=0)
    with_gaps[:, 0] = np.nan
    expected = NaiveBayes(0).fit(without, y, single_label=False, seed=0).predict(without)
    np.testing.assert_allclose(model.predict(with_gaps), expected, rtol=1e-9)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("model", small(), ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("single_label", [False, True])
def test_each_learns_with_gaps_and_constant_labels_and_comes_back_from_its_file(
    model: FeatureModel, single_label: bool, tmp_path: Path
) -> None:
    x, y = problem(400, 4)
    x[::9, 2] = np.nan
    x = np.column_stack([x, np.full(400, np.nan)])  # nobody measured it
    y = np.column_stack([y, np.zeros(400)])  # nobody has it
    if single_label:
        y = np.column_stack([1 - y[:, 0], y[:, 0], np.zeros(400)])
    features = Features(("a", "b", "c", "d"), x, np.zeros((400, 1, 1)))
    model.table.fit(features, 0)
    p = model.fit(x[:300], y[:300], single_label=single_label, seed=0).predict(x[300:])
    assert p.shape == (100, 3) and ((p > 0) & (p < 1)).all()
    if single_label:
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert p[:, 2].max() < 0.1
    assert ((p[:, 1] > 0.5) == y[300:, 1]).mean() > (0.75 if single_label else 0.7)

    feature_models.save(model, {"classes": ["a"]}, tmp_path / "model.skops")
    fresh = next(other for other in small() if type(other) is type(model))
    assert feature_models.load(fresh, tmp_path / "model.skops") == {"classes": ["a"]}
    np.testing.assert_array_equal(fresh.predict(x[300:]), p)
    assert fresh.table.names == model.table.names


def test_a_file_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    x, y = problem(50, 5)
    tree = DecisionTree(0, depth=2, min_leaf=2)
    tree.table.fit(Features(("a", "b", "c"), x, np.zeros((50, 1, 1))), 0)
    feature_models.save(tree.fit(x, y, single_label=False, seed=0), {}, tmp_path / "tree.skops")
    with pytest.raises(UserError, match=r"tree\.skops: needs sklearn\.tree\._tree\.Tree, which NaiveBayes does not"):
        feature_models.load(NaiveBayes(0), tmp_path / "tree.skops")


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """The file of a fitted model."""
    x, y = problem(50, 5)
    model = NaiveBayes(0)
    model.table.fit(Features(("a", "b", "c"), x, np.zeros((50, 1, 1))), 0)
    feature_models.save(model.fit(x, y, single_label=False, seed=0), {}, tmp_path / "model.skops")
    return tmp_path / "model.skops"


def test_every_flipped_bit_of_a_fitted_model_is_noticed(fitted: Path) -> None:
    whole, generator = fitted.read_bytes(), np.random.default_rng(0)
    for byte in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[byte] ^= 1 << int(generator.integers(8))
        fitted.write_bytes(changed)
        with pytest.raises(UserError, match=r"model\.skops"):
            feature_models.load(NaiveBayes(0), fitted)
    fitted.write_bytes(whole)
    feature_models.load(NaiveBayes(0), fitted)


def test_a_file_of_the_version_without_a_hash_is_read(fitted: Path) -> None:
    with ZipFile(fitted) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with ZipFile(fitted, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert feature_models.load(NaiveBayes(0), fitted) == {}


def test_a_model_of_other_features_is_refused(tmp_path: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import skops.io

    monkeypatch.setattr(feature_models, "VERSION", 4)
    with pytest.raises(UserError, match=r"features of version 3, and this einthoven measures version 4; .*again\.$"):
        feature_models.load(NaiveBayes(0), fitted)
    # Earlier files do not name a version.
    content = skops.io.load(fitted)
    del content["features"]
    skops.io.dump(content, tmp_path / "old.skops")
    with pytest.raises(UserError, match=r"^old\.skops: the model was fitted to features of version 1, .* it again\.$"):
        feature_models.load(NaiveBayes(0), tmp_path / "old.skops")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a fitted NaiveBayes"),
        (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "not a fitted NaiveBayes"),
        ({"schema.json": b"[" * 100_000}, "not a fitted NaiveBayes"),
        ({"schema.json": b"{}"}, "not a fitted NaiveBayes"),
        ({"other": bytes(1 << 21)}, "bytes unpacked; expected"),
        (
            {"schema.json": b'{"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1}'},
            "model.skops",
        ),
    ],
)
def test_a_file_that_is_no_fitted_model_is_one_sentence(
    fitted: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | dict[str, bytes], expected: str
) -> None:
    monkeypatch.setattr(feature_models, "MOST_BYTES", 1 << 20)
    if isinstance(content, bytes):
        fitted.write_bytes(content)
    else:
        with ZipFile(fitted, "w", ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    with pytest.raises(UserError, match=expected) as refusal:
        feature_models.load(NaiveBayes(0), fitted)
    assert str(refusal.value).isprintable()


def test_the_scores_of_beats_are_their_principal_components() -> None:
    rng = np.random.default_rng(0)
    shapes = np.linalg.qr(rng.normal(size=(24, 3)))[0].T
    scores = rng.normal(size=(50, 3)) * [4.0, 2.0, 1.0]
    beat = (scores @ shapes).reshape(50, 2, 12)
    beat[7] = np.nan
    table = FeatureTable(3).fit(Features(("a",), np.zeros((50, 1)), beat), seed=0)
    found = table.transform(Features(("a",), np.zeros((50, 1)), beat))
    assert table.names == ("a", "beat_pc1", "beat_pc2", "beat_pc3") and found.shape == (50, 4)
    assert np.isnan(found[7, 1:]).all() and np.isfinite(np.delete(found, 7, axis=0)).all()
    kept = np.delete(beat.reshape(50, -1), 7, axis=0)
    back = table.pca.inverse_transform(np.delete(found, 7, axis=0)[:, 1:])  # type: ignore[union-attr]
    np.testing.assert_allclose(back, kept, atol=1e-9)


def test_no_components_and_a_negative_number_of_them() -> None:
    features = Features(("a",), np.zeros((5, 1)), np.zeros((5, 1, 3)))
    assert FeatureTable(0).fit(features, 0).transform(features).shape == (5, 1)
    with pytest.raises(UserError, match=r"model\.components=-1"):
        FeatureTable(-1)


def test_splits_that_choose_from_fewer_features_use_more_of_them() -> None:
    x, y = problem(400, seed=3)
    shares = {}
    for features_per_split in (1.0, 0.3):
        model = GradientBoosting(0, rounds=20, lr=0.2, leaves=8, l2=1.0, features_per_split=features_per_split)
        gain = model.fit(x, y, single_label=False, seed=0).information_gain(x, y)
        shares[features_per_split] = gain[2] / gain.sum()
    # The third feature knows nothing of the labels.
    assert shares[0.3] > 1.5 * shares[1.0]
