from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.functional.moments import lead_moments
from einthoven.functional.pca import PCA, randomized_pca, variance_along

Array = NDArray[np.float64]


def make_samples(n: int = 200, d: int = 7, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 10 * rng.normal(size=d)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("k", [None, 1, 4])
def test_equals_scikit_learn_up_to_sign(k: int | None, whiten: bool) -> None:
    x = make_samples()
    ours = PCA(k, whiten).fit(x)
    theirs = sklearn.decomposition.PCA(k, whiten=whiten).fit(x)
    np.testing.assert_allclose(ours.mean_, theirs.mean_)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(ours.components_), np.abs(theirs.components_), atol=1e-10)
    np.testing.assert_allclose(np.abs(ours.transform(x)), np.abs(theirs.transform(x)), atol=1e-9)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(x)), theirs.inverse_transform(theirs.transform(x)), atol=1e-9
    )


def test_variance_along_the_own_components_is_their_eigenvalue() -> None:
    pca = PCA(4).fit(make_samples())
    covariance = np.cov(make_samples(), rowvar=False)
    directions, shares = variance_along(pca.components_ * [[3.0], [0.1], [1.0], [2.0]], covariance)
    np.testing.assert_allclose(directions, pca.components_, atol=1e-12)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_)


def test_variance_along_other_rows_is_what_least_squares_explains() -> None:
    x = make_samples() - make_samples().mean(axis=0)
    rows = np.random.default_rng(1).normal(size=(3, 7))
    # A row that is a sum of others adds nothing.
    directions, shares = variance_along(np.vstack([rows, rows[0] + rows[1]]), x.T @ x)
    coefficients, _, _, _ = np.linalg.lstsq(rows.T, x.T, rcond=None)
    residual = x.T - rows.T @ coefficients
    assert shares.sum() == pytest.approx(1 - (residual**2).sum() / (x**2).sum())
    assert shares[3] == 0 and not directions[3].any()
    np.testing.assert_allclose(directions[:3] @ directions[:3].T, np.eye(3), atol=1e-12)


def test_components_are_eigenvectors() -> None:
    x = make_samples()
    pca = PCA().fit(x)
    covariance = np.cov(x, rowvar=False)
    for vector, value in zip(pca.components_, pca.explained_variance_, strict=True):
        np.testing.assert_allclose(covariance @ vector, value * vector, atol=1e-10)
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(7), atol=1e-12)
    assert np.all(np.diff(pca.explained_variance_) <= 0)
    assert pca.explained_variance_ratio_.sum() == pytest.approx(1.0)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 6), whiten=st.booleans())
def test_full_rank_is_inverted(seed: int, d: int, whiten: bool) -> None:
    x = make_samples(40, d, seed)
    pca = PCA(whiten=whiten).fit(x)
    np.testing.assert_allclose(pca.inverse_transform(pca.transform(x)), x, atol=1e-8)


def test_truncation_error_is_the_dropped_variance() -> None:
    x = make_samples()
    pca = PCA(3).fit(x)
    error = ((x - pca.inverse_transform(pca.transform(x))) ** 2).sum() / (len(x) - 1)
    assert error == pytest.approx(PCA().fit(x).explained_variance_[3:].sum())


def test_whitened_covariance_is_identity() -> None:
    scores = PCA(whiten=True).fit(x := make_samples()).transform(x)
    np.testing.assert_allclose(np.cov(scores, rowvar=False), np.eye(7), atol=1e-10)


def test_whitening_drops_what_does_not_vary() -> None:
    x = make_samples(d=5)
    redundant = np.hstack([x, x[:, :1] - x[:, 1:2], x.sum(axis=1, keepdims=True)])
    pca = PCA(whiten=True).fit(redundant)
    assert pca.components_.shape == (5, 7)
    np.testing.assert_allclose(np.cov(pca.transform(redundant), rowvar=False), np.eye(5), atol=1e-8)
    assert PCA().fit(redundant).components_.shape == (7, 7)


def test_whitening_tolerance_knows_of_rounding() -> None:
    x = make_samples(2000, 4) * 20
    rounded = np.rint(np.hstack([x, x[:, :1] - x[:, 1:2]]))
    assert len(PCA(whiten=True).fit(rounded).components_) == 5  # the rounding itself is a direction...
    largest = PCA(1).fit(rounded).explained_variance_[0]
    assert len(PCA(whiten=True, tolerance=1.0 / largest).fit(rounded).components_) == 4  # ...of step 1


def test_signs_do_not_depend_on_the_order_of_samples() -> None:
    x = make_samples()
    first, second = PCA().fit(x), PCA().fit(x[::-1])
    np.testing.assert_allclose(first.components_, second.components_, atol=1e-9)
    assert np.all(first.components_[np.arange(7), np.abs(first.components_).argmax(axis=1)] > 0)


@pytest.mark.parametrize("k", [0, -1, 8])
def test_refuses_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match="k must lie within 1 and 7"):
        PCA(k).fit(make_samples())


def test_refuses_samples_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        PCA().fit(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="not finite"):
        PCA().fit(np.array([[1.0, np.nan], [2.0, 3.0]]))
    with pytest.raises(ValueError, match="do not vary"):
        PCA(whiten=True).fit(np.ones((5, 3)))


def test_real_ecgs_span_eight_dimensions() -> None:
    if not (root := os.environ.get("EINTHOVEN_REAL_DATA")):
        pytest.skip("set EINTHOVEN_REAL_DATA to a folder with ptbxl/ to test on real records")
    import wfdb

    folder = Path(root) / "ptbxl"
    with (folder / "ptbxl_database.csv").open() as file:
        names = [row["filename_lr"] for row in csv.DictReader(file)][:40]
    records = (wfdb.rdrecord(str(folder / name), physical=False).d_signal.T[None] for name in names)
    moments = lead_moments(records, scale=1e-3)
    values = PCA().fit_covariance(moments.mean, moments.covariance).explained_variance_
    # Stored at 1 microvolt: four directions hold nothing but that rounding.
    assert values[7] > 100 * 1e-6
    assert np.all(values[8:] < 1e-6)
    whitened = PCA(whiten=True, tolerance=1e-6 / values[0]).fit_covariance(moments.mean, moments.covariance)
    assert whitened.components_.shape == (8, 12)


def test_pca_in_pieces_is_that_of_the_whole() -> None:
    x = make_samples(500, 9) + 1e4
    moments = lead_moments([part[:, :, None] for part in (x[:1], x[1:7], x[7:7], x[7:])])
    pieces = PCA(4).fit_covariance(moments.mean, moments.covariance * 500 / 499)
    whole = sklearn.decomposition.PCA(4).fit(x)
    np.testing.assert_allclose(pieces.explained_variance_, whole.explained_variance_, rtol=1e-8)
    np.testing.assert_allclose(np.abs(pieces.components_), np.abs(whole.components_), atol=1e-7)


def decaying(n: int, d: int, rate: float) -> Array:
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, d)) * np.exp(-rate * np.arange(d)) @ np.linalg.qr(rng.normal(size=(d, d)))[0] + 5.0


@pytest.mark.parametrize(("n", "d", "k"), [(300, 120, 5), (12, 200, 6), (50, 8, 8)])
def test_randomized_equals_scikit_learn(n: int, d: int, k: int) -> None:
    x = decaying(n, d, 0.15)
    ours = randomized_pca(lambda: iter([x[:5], x[5:5], x[5:]]), k)
    theirs = sklearn.decomposition.PCA(k, svd_solver="full").fit(x)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-10)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(ours.transform(x)), np.abs(theirs.transform(x)), atol=1e-3)
    np.testing.assert_allclose(ours.components_ @ ours.components_.T, np.eye(k), atol=1e-12)
    assert np.all(ours.components_[np.arange(k), np.abs(ours.components_).argmax(axis=1)] > 0)


def test_more_iterations_come_nearer_where_the_spectrum_is_flat() -> None:
    x = decaying(400, 150, 0.01)
    best = PCA(10).fit(x).explained_variance_.sum()
    missed = [
        1 - randomized_pca(lambda: [x], 10, oversampling=2, iterations=q).explained_variance_.sum() / best
        for q in (0, 2, 8)
    ]
    assert missed[0] > 4 * missed[1] > 16 * missed[2] > -1e-9


def test_randomized_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="at least 2 samples, found 1"):
        randomized_pca(lambda: [np.zeros((1, 4))], 1)
    with pytest.raises(ValueError, match="within 1 and 4"):
        randomized_pca(lambda: [np.zeros((3, 4))], 5)
    with pytest.raises(ValueError, match="not finite"):
        randomized_pca(lambda: [np.full((3, 4), np.inf)], 2)
