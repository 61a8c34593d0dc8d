"""Dice against scikit-learn's F1, errors of boundaries against waves that are moved by known amounts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from einthoven.evaluation.resampling import number_groups, resample_counts
from einthoven.evaluation.segmentation import boundary_errors, dice, dice_interval, overlap_counts

FS = 100.0


def masks(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random((12, 3, 50)) < 0.3).astype(float)
    p = np.clip(0.3 * y + 0.7 * rng.random((12, 3, 50)), 0, 1)
    return y, p


def test_dice_is_the_f1_of_the_samples() -> None:
    y, p = masks()
    expected = [f1_score(y[:, k].ravel(), (p[:, k] >= 0.5).ravel()) for k in range(3)]
    np.testing.assert_allclose(dice(*overlap_counts(y, p))[0], expected)


def test_dice_of_a_resample_is_that_of_its_records() -> None:
    y, p = masks()
    counts = resample_counts(number_groups(None, 12), 5, np.random.default_rng(1))
    found = dice(*overlap_counts(y, p), counts)
    for row, count in zip(found, counts, strict=True):
        drawn = np.repeat(np.arange(12), count.astype(int))
        np.testing.assert_allclose(row, dice(*overlap_counts(y[drawn], p[drawn]))[0])


def test_a_mask_that_is_nowhere_has_no_dice_and_the_interval_is_of_the_others() -> None:
    y, p = masks()
    y[:, 2] = p[:, 2] = 0
    assert np.isnan(dice(*overlap_counts(y, p))[0, 2])
    interval = dice_interval(y, p, resamples=200)
    assert interval is not None
    assert interval.low < np.nanmean(dice(*overlap_counts(y, p))[0]) < interval.high
    assert dice_interval(np.zeros_like(y), np.zeros_like(p), resamples=20) is None


def curves(shift: float = 0.0, beats: int = 5, without_p: tuple[int, ...] = ()) -> np.ndarray:
    """Probabilities (1, 3, T) of a regular rhythm. Straight edges of 40 ms cross 0.5 also between samples."""
    time = np.arange(int(beats * FS) + 50) / FS
    result = np.zeros((1, 3, len(time)))
    for beat in range(beats):
        for wave, (start, end) in enumerate([(0.3, 0.4), (0.46, 0.56), (0.7, 0.88)]):
            if wave == 0 and beat in without_p:
                continue
            edges = [start - 0.02, start + 0.02, end - 0.02, end + 0.02]
            result[0, wave] += np.interp(time, beat + np.array(edges) + shift, [0, 1, 1, 0])
    return result


@pytest.mark.parametrize("shift", [0.0, 0.004, -0.007])
def test_a_known_shift_is_the_bias_of_each_boundary(shift: float) -> None:
    compared = boundary_errors(curves(), curves(shift), FS)
    assert set(compared.errors) == {"p_onset", "p_end", "qrs_onset", "qrs_end", "t_onset", "t_end"}
    for errors in compared.errors.values():
        assert len(errors) == 5
        np.testing.assert_allclose(errors, 1000 * shift, atol=1e-6)
    assert set(compared.missed.values()) == set(compared.invented.values()) == {0.0}


def test_missed_and_invented_waves_are_shares_of_waves() -> None:
    compared = boundary_errors(curves(), curves(without_p=(1, 3)), FS)
    assert compared.missed["p"] == pytest.approx(2 / 5) and compared.invented["p"] == 0.0
    compared = boundary_errors(curves(without_p=(1, 3)), curves(), FS)
    assert compared.invented["p"] == pytest.approx(2 / 5) and compared.missed["p"] == 0.0
    compared = boundary_errors(curves(), 0.0 * curves(), FS)
    assert compared.missed["qrs"] == 1.0 and np.isnan(compared.invented["qrs"]) and not len(compared.errors["t_end"])
