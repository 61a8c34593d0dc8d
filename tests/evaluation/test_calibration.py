"""Each calibration against a distortion that it can undo, scikit-learn, or a closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from scipy.stats import norm

from einthoven.errors import UserError
from einthoven.evaluation import calibration as c
from einthoven.evaluation.calibration_check import check_disjoint, fit_and_check
from einthoven.evaluation.calibration_state import fitted_state
from einthoven.evaluation.metrics import auroc_per_class
from einthoven.evaluation.scores import calibration_error_per_class, log_loss_per_class

NAMES = ("CD", "MI", "NORM")


def case(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-0.5, 1.5, (n, 3)))
    return (rng.random(p.shape) < p).astype(int), p


def single(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 1.5, (n, 3)), axis=1)
    return np.eye(3, dtype=int)[(rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=2)], p


def test_temperature_undoes_a_temperature() -> None:
    y, p = case(0)
    found = c.Temperature(NAMES, False).fit(y, expit(2.5 * logit(p)))
    assert found.temperature_ == pytest.approx(2.5, rel=0.08)
    y, p = single(1)
    found = c.Temperature(NAMES, True).fit(y, softmax(0.5 * np.log(p), axis=1))
    assert found.temperature_ == pytest.approx(0.5, rel=0.08)
    np.testing.assert_allclose(found.transform(p).sum(axis=1), 1)
    assert fitted_state(found) == {"temperature": found.temperature_}


def test_temperature_keeps_the_order_of_records() -> None:
    y, p = case(2)
    moved = c.Temperature(NAMES, False).fit(y, expit(3 * logit(p))).transform(p)
    np.testing.assert_allclose(auroc_per_class(y, moved), auroc_per_class(y, p), atol=1e-12)


def test_vector_scaling_equals_a_logistic_regression_of_the_logit() -> None:
    from sklearn.linear_model import LogisticRegression

    y, p = case(3)
    distorted = expit(logit(p) * [2.0, 0.5, 1.0] + [1.0, -1.0, 0.3])
    found = c.Vector(NAMES, False, prior=0.0).fit(y, distorted)
    for k in range(3):
        z = logit(distorted[:, [k]])
        expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z, y[:, k])
        assert found.slope_[k] == pytest.approx(expected.coef_[0, 0], rel=1e-3)
        assert found.offset_[k] == pytest.approx(expected.intercept_[0], abs=1e-3)
    assert found.slope_ == pytest.approx([0.5, 2.0, 1.0], rel=0.15)


def test_vector_scaling_of_a_softmax_undoes_an_offset() -> None:
    y, p = single(4)
    biased = softmax(np.log(p) + np.array([0.8, 0.0, -0.8]), axis=1)
    moved = c.Vector(NAMES, True, prior=0.0).fit(y, biased).transform(biased)
    np.testing.assert_allclose(moved.mean(axis=0), y.mean(axis=0), atol=1e-4)  # an offset's gradient is 0
    assert np.abs(moved - p).mean() < 0.3 * np.abs(biased - p).mean()


def test_vector_scaling_stays_finite_and_leaves_alone_what_it_cannot_learn() -> None:
    y = np.array([[0, 0], [0, 0], [1, 0], [1, 0]])
    p = np.array([[0.1, 0.2], [0.2, 0.3], [0.8, 0.4], [0.9, 0.1]])
    found = c.Vector(("a", "b"), False).fit(y, p)  # the first class is separable
    assert np.isfinite(found.slope_).all() and 1 < found.slope_[0] < 10
    np.testing.assert_allclose(found.transform(p)[:, 1], p[:, 1])


@pytest.mark.parametrize("levels", [None, 8])
def test_isotonic_equals_scikit_learn(levels: int | None) -> None:
    from sklearn.isotonic import IsotonicRegression

    y, p = case(5, 500)
    p = np.round(p * levels) / levels if levels else p
    fresh = case(6, 200)[1]
    found = c.Isotonic(NAMES, False).fit(y, p).transform(fresh)
    for k in range(3):
        reference = IsotonicRegression(out_of_bounds="clip").fit(p[:, k], y[:, k]).predict(fresh[:, k])
        np.testing.assert_allclose(found[:, k], (reference * 500 + 0.5) / 501, atol=1e-9)
    assert found.min() > 0 and found.max() < 1


def test_isotonic_of_single_labels_sums_to_one() -> None:
    y, p = single(7, 500)
    np.testing.assert_allclose(c.Isotonic(NAMES, True).fit(y, p).transform(p).sum(axis=1), 1)


@pytest.mark.parametrize("many", [case, single])
def test_prior_shift_is_calibrated_where_the_prevalence_is_another(many: object) -> None:
    is_single = many is single
    y, p = (single if is_single else case)(8, 20_000)
    rng = np.random.default_rng(0)
    # Draw records so that the second class becomes rarer: the signs of each class stay what they are.
    keep = (y[:, 1] == 0) | (rng.random(len(y)) < 0.25)
    stated = dict(zip(NAMES, y[keep].mean(axis=0).tolist(), strict=True))
    wanted = stated if is_single else {"MI": stated["MI"]}
    found = c.PriorShift(NAMES, is_single, wanted).fit(y, p).transform(p[keep])
    before = log_loss_per_class(y[keep], p[keep])[1]
    assert log_loss_per_class(y[keep], found)[1] < before - 0.01
    assert calibration_error_per_class(y[keep], found)[1] < 0.015 < calibration_error_per_class(y[keep], p[keep])[1]
    assert found[:, 1].mean() == pytest.approx(stated["MI"], abs=0.01)
    if not is_single:
        np.testing.assert_allclose(found[:, 0], p[keep, 0])  # not named: not moved


@pytest.mark.parametrize("method", [c.Temperature, c.Vector, c.Isotonic])
def test_calibration_lowers_the_loss_of_records_it_has_not_seen(method: type) -> None:
    (fit_y, fit_p), (y, p) = case(9, 1500), case(10, 1500)
    over = lambda q: expit(2.5 * logit(q))  # noqa: E731
    found = method(NAMES, False).fit(fit_y, over(fit_p))
    after, before = log_loss_per_class(y, found.transform(over(p))), log_loss_per_class(y, over(p))
    assert after.mean() < before.mean() - 0.05
    assert np.isfinite(found.transform(np.array([[0.0, 1.0, 0.5]]))).all()
    json.dumps(fitted_state(found))


def test_none_changes_nothing() -> None:
    y, p = case(11, 10)
    np.testing.assert_array_equal(c.Uncalibrated(NAMES, False).fit(y, p).transform(p), p)


def test_what_is_fitted_is_not_reported() -> None:
    check_disjoint([8], [9], "fold")
    with pytest.raises(UserError, match="fold 9 is both fitted on and reported"):
        check_disjoint([8, 9], [9, 10], "fold")


def test_nonsense_is_refused_with_a_sentence() -> None:
    y, p = case(12, 10)
    with pytest.raises(UserError, match="2 names for 3 columns"):
        c.Temperature(("a", "b"), False).fit(y, p)
    with pytest.raises(UserError, match=r"prevalence\.LVH: no such class; expected some of CD, MI, NORM"):
        c.PriorShift(NAMES, False, {"LVH": 0.1})
    for share in (0, 1.5, True, "x"):
        with pytest.raises(UserError, match=r"prevalence\.MI=.*expected a share"):
            c.PriorShift(NAMES, False, {"MI": share})
    with pytest.raises(UserError, match="names no class"):
        c.PriorShift(NAMES, False, {})
    with pytest.raises(UserError, match=r"sums to 0\.5 over 2 classes"):
        c.PriorShift(NAMES, True, {"CD": 0.2, "MI": 0.3})
    with pytest.raises(UserError, match=r"calibration\.prior=-1"):
        c.Vector(NAMES, False, prior=-1)


# ---------------------------------------------------------------- few records, and what does not help


def separated(n: int, classes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Records that are told apart without an error, with moderate probabilities."""
    rng = np.random.default_rng(0)
    y = ((np.arange(n)[:, None] + np.arange(classes)) % 2).astype(int)
    return y, expit(np.where(y, 1, -1) * (0.5 + 1.5 * rng.random((n, classes))))


@pytest.mark.parametrize("n", [2, 5, 17, 60])
@pytest.mark.parametrize("single_label", [False, True])
def test_a_perfectly_separated_fold_gives_a_moderate_temperature(n: int, single_label: bool) -> None:
    y, p = separated(n)
    if single_label:
        y, p = np.concatenate([1 - y, y], axis=1), np.concatenate([1 - p, p], axis=1)
    names = NAMES[: y.shape[1]]
    assert c.Temperature(names, single_label, prior=0.0).fit(y, p).temperature_ < 0.03  # without a prior
    found = c.Temperature(names, single_label).fit(y, p)
    assert 0.2 < found.temperature_ < 1
    # Other records, where the model errs: with a temperature of 0.01, more than 50 nats.
    rng = np.random.default_rng(1)
    z = rng.normal(0, 1.5, (200, 1))
    label = (rng.random(z.shape) < expit(z)).astype(int)
    other = expit(z) if not single_label else np.concatenate([1 - expit(z), expit(z)], axis=1)
    label = label if not single_label else np.concatenate([1 - label, label], axis=1)
    assert log_loss_per_class(label, found.transform(other)).mean() < 3


@pytest.mark.parametrize("prior", [0.5, 1.0, 20.0])
def test_the_temperature_is_the_most_probable_one(prior: float) -> None:
    """Bishop 2006, equation 4.142, on a grid: the log-likelihood and the logarithm of a normal density."""
    y, p = separated(12)
    y[:2] = 1 - y[:2]
    slopes = np.linspace(0.01, 6, 60_000)
    likelihood = np.log(expit(np.where(y, 1, -1) * logit(p) * slopes)).sum(axis=0)
    posterior = likelihood + norm.logpdf(slopes, 1, 1 / np.sqrt(prior))
    found = c.Temperature(("a",), False, prior).fit(y, p)
    assert 1 / found.temperature_ == pytest.approx(slopes[posterior.argmax()], abs=2e-4)


def test_a_prior_of_one_record_changes_nothing_where_there_are_many() -> None:
    y, p = case(13)
    over = expit(1.4 * logit(p))
    free, pulled = (c.Temperature(NAMES, False, prior).fit(y, over).temperature_ for prior in (0.0, 1.0))
    assert pulled == pytest.approx(free, rel=1e-3)


@pytest.mark.parametrize("kind", [c.Temperature, c.Vector])
@pytest.mark.parametrize("prior", [-1.0, float("nan"), float("inf")])
def test_a_prior_is_a_number_of_records(kind: type, prior: float) -> None:
    with pytest.raises(UserError, match=r"calibration\.prior="):
        kind(NAMES, False, prior)


class Sharpened:
    """Multiplies the logits by 20, whatever it is fitted on."""

    def __init__(self, classes: tuple[str, ...], single_label: bool) -> None:
        self.classes, self.single_label = classes, single_label

    def fit(self, y: np.ndarray, p: np.ndarray) -> Sharpened:
        return self

    def transform(self, p: np.ndarray) -> np.ndarray:
        return expit(20 * logit(np.asarray(p).clip(1e-12, 1 - 1e-12)))


@pytest.mark.parametrize("method", [Sharpened, c.Isotonic])
def test_a_calibration_that_makes_the_likelihood_worse_is_not_used(method: type) -> None:
    y, p = case(14, 60)
    found, check = fit_and_check(lambda: method(NAMES, False), y, p, np.arange(60))
    assert check is not None
    assert check.after > check.before == pytest.approx(log_loss_per_class(y, p).mean())
    assert isinstance(found, c.Uncalibrated) and not check.is_better
    np.testing.assert_array_equal(found.transform(p), p)
    assert fitted_state(found) == {}


@pytest.mark.parametrize("method", [c.Temperature, c.Vector, c.Isotonic])
def test_a_calibration_that_helps_is_fitted_on_all_records(method: type) -> None:
    y, p = case(15, 1500)
    over = expit(2.5 * logit(p))
    found, check = fit_and_check(lambda: method(NAMES, False), y, over, np.arange(1500))
    assert check is not None and check.is_better and check.parts == 5
    assert fitted_state(found) == fitted_state(method(NAMES, False).fit(y, over))


@pytest.mark.parametrize("many", [case, single])
def test_the_check_is_of_patients_that_were_held_out(many: object) -> None:
    """Three patients, so three parts: each is answered by what was fitted on the two others."""
    is_single = many is single
    y, p = (single if is_single else case)(16, 90)
    patients = np.arange(90) % 3
    _, check = fit_and_check(lambda: c.Temperature(NAMES, is_single), y, p, patients)
    answers = np.empty_like(p)
    for patient in range(3):
        out = patients == patient
        answers[out] = c.Temperature(NAMES, is_single).fit(y[~out], p[~out]).transform(p[out])
    loss = -np.log(answers[y == 1]).mean() if is_single else log_loss_per_class(y, answers).mean()
    assert check is not None
    assert (check.parts, check.after) == (3, pytest.approx(loss))


def test_copies_of_a_record_do_not_make_a_calibration_look_good() -> None:
    """Isotonic curves learn noise by heart: 20 copies of each of 30 records are of one patient each."""
    y, p = (np.repeat(values, 20, axis=0) for values in case(17, 30))
    apart = fit_and_check(lambda: c.Isotonic(NAMES, False), y, p, np.arange(600))[1]
    together = fit_and_check(lambda: c.Isotonic(NAMES, False), y, p, np.repeat(np.arange(30), 20))[1]
    assert apart is not None and together is not None
    assert apart.is_better and not together.is_better


def test_records_of_one_patient_cannot_tell_whether_a_calibration_helps() -> None:
    y, p = case(18, 30)
    found, check = fit_and_check(lambda: c.Temperature(NAMES, False), y, expit(3 * logit(p)), np.zeros(30))
    assert isinstance(found, c.Uncalibrated)
    assert check is not None and check.parts == 1 and not check.is_better


def test_a_shift_of_the_prior_is_for_other_records_and_not_judged_by_these() -> None:
    y, p = case(19, 100)
    found, check = fit_and_check(lambda: c.PriorShift(NAMES, False, {"MI": 0.01}), y, p, np.arange(100))
    assert isinstance(found, c.PriorShift) and check is None
    assert fit_and_check(lambda: c.Uncalibrated(NAMES, False), y, p, np.arange(100))[1] is None
