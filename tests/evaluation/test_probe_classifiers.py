"""Probes of embeddings, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from einthoven.errors import UserError
from einthoven.evaluation.comparison import difference_of_means, paired_difference
from einthoven.evaluation.probes import HELD_OUT, STRENGTHS, fit_linear_probe, neighbour_scores

RNG = np.random.default_rng(0)
PATIENTS = np.repeat(np.arange(120), 2)
# Twenty values of different sizes and one constant. The two classes depend on one value each, and on chance.
STANDARD = RNG.normal(0.0, 1.0, (240, 21))
X = (3.0 + STANDARD) * np.logspace(-2, 2, 21)
X[:, 20] = 7.0
Y = STANDARD[:, 3:5] + RNG.normal(0.0, 1.0, (240, 2)) > 0


def regression(strength: float) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def test_a_linear_probe_is_a_logistic_regression_for_each_class() -> None:
    probe = fit_linear_probe(X, Y, PATIENTS, strengths=[0.1])
    for k in range(2):
        expected = regression(0.1).fit(X, Y[:, k]).decision_function(X)
        np.testing.assert_allclose(probe.logits(X)[:, k], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_strength_is_the_best_one_for_patients_that_are_held_out(seed: int) -> None:
    part_of_patient = np.random.default_rng(seed).permutation(120) % HELD_OUT
    held_out = part_of_patient[PATIENTS] == 0
    assert held_out.sum() == 48
    scores = []
    for strength in STRENGTHS:
        fitted = [regression(strength).fit(X[~held_out], Y[~held_out, k]) for k in range(2)]
        auroc = [roc_auc_score(Y[held_out, k], fitted[k].decision_function(X[held_out])) for k in range(2)]
        scores.append(np.mean(auroc))
    probe = fit_linear_probe(X, Y, PATIENTS, seed=seed)
    assert probe.inverse_strength == STRENGTHS[int(np.argmax(scores))]
    expected = regression(probe.inverse_strength).fit(X, Y[:, 0]).decision_function(X)
    np.testing.assert_allclose(probe.logits(X)[:, 0], expected, rtol=1e-6, atol=1e-8)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(UserError, match="fifth of the 1 patients"):
        fit_linear_probe(X, Y, np.zeros(240, int))


def test_neighbours_are_those_of_scikit_learn() -> None:
    train, queries = X[:200], np.concatenate([X[200:], np.zeros((1, 21))])
    scores = neighbour_scores(train, Y[:200], queries[:-1], 7)
    expected = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(train, Y[:200]).predict_proba(X[200:])
    np.testing.assert_allclose(scores, np.stack([p[:, 1] for p in expected], axis=1))
    assert np.isfinite(neighbour_scores(train, Y[:200], queries, 7)).all()
    with pytest.raises(UserError, match="neighbours=201: expected a number from 1 to the 200"):
        neighbour_scores(train, Y[:200], queries, 201)


def test_the_difference_to_several_models_is_the_mean_of_the_differences() -> None:
    scores = [RNG.normal(0, noise, Y.shape) + Y for noise in (0.5, 1.0, 2.0)]
    options = {"groups": PATIENTS, "resamples": 50}
    apart = [paired_difference(Y, other, scores[0], **options).difference for other in scores[1:]]
    assert difference_of_means(Y, scores[1:], [scores[0]], **options).difference == pytest.approx(np.mean(apart))
    # Two equal models are one.
    assert difference_of_means(Y, [scores[1]] * 2, [scores[0]], **options) == paired_difference(
        Y, scores[1], scores[0], **options
    )
