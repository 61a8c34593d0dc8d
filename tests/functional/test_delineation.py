"""Boundaries against the beats of generated records, closed forms, and rules that hold for any probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit

from einthoven.data.synthetic.generate import Sample, iterate
from einthoven.data.synthetic.rhythm import VENTRICULAR
from einthoven.functional.delineation import (
    LONGEST_PR,
    P_MASS,
    SHORTEST,
    delineate,
    mask_to_probability,
    wave_of_sample,
)

Float = NDArray[np.float64]
FS = 100.0


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Twenty generated records with masks at 100 and 500 Hz."""
    return list(iterate(20, 1, rates=(100, 500)))


def box(start: float, stop: float, seconds: float = 3.0, fs: float = FS) -> Float:
    """Return 1 from `start` to `stop`, and 0 elsewhere."""
    time = np.arange(round(seconds * fs)) / fs
    return ((time >= start - 1e-9) & (time <= stop + 1e-9)).astype(float)


def curves(p: Float, qrs: Float, t: Float) -> Float:
    """Return the probabilities (1, 3, T) of one record."""
    return np.stack([p, qrs, t])[None]


@pytest.mark.parametrize("fs", [100, 500])
def test_the_beats_of_the_generator_are_found_within_one_sample(samples: list[Sample], fs: int) -> None:
    found = delineate(mask_to_probability(np.stack([sample.masks[fs] for sample in samples])), fs)
    errors: dict[str, list[float]] = {"pr": [], "qrs": [], "qt": []}
    for row, sample in enumerate(samples):
        beats = sample.recording.beats
        for onset, end, p_onset, p_end, t_end in zip(
            found.qrs_onset[row],
            found.qrs_end[row],
            found.p_onset[row],
            found.p_end[row],
            found.t_end[row],
            strict=True,
        ):
            if np.isnan(onset):
                continue
            beat = int(np.abs(beats.onset - onset).argmin())
            shape = sample.recording.shapes[bool(beats.kind[beat] == VENTRICULAR)]
            has_p = bool(beats.p_wave[beat]) and shape.p is not None
            # Only the P wave before the first QRS can lie outside of the record.
            assert np.isfinite(p_end) == has_p or (has_p and onset < shape.pr)
            errors["qrs"].append(end - onset - shape.qrs_duration)
            errors["pr"].append(onset - p_onset - shape.pr)
            errors["qt"].append(t_end - onset - shape.qtc * np.cbrt(beats.rr[beat]))
    for values in errors.values():
        known = np.array(values)[np.isfinite(values)]
        assert len(known) > 150
        assert np.abs(known).max() < 1.0 / fs
        # The errors are uniform between -1 and 1 samples at most, so that their mean is near zero.
        assert abs(known.mean()) < 0.12 / fs


def test_no_beat_is_lost_or_invented(samples: list[Sample]) -> None:
    found = delineate(mask_to_probability(np.stack([sample.masks[500] for sample in samples])), 500)
    for row, sample in enumerate(samples):
        recording = sample.recording
        durations = np.array(
            [recording.shapes[bool(kind)].qrs_duration for kind in recording.beats.kind == VENTRICULAR]
        )
        onset = recording.beats.onset
        is_inside = (onset > 0.0) & (onset + durations < 9.998)
        assert np.isfinite(found.qrs_onset[row]).sum() == is_inside.sum()


def test_a_boundary_is_where_a_line_crosses_one_half() -> None:
    time = np.arange(300) / FS
    ramp = np.clip((time - 1.0033) / 0.05, 0, 1) * np.clip((1.2171 - time) / 0.05, 0, 1)
    found = delineate(curves(np.zeros(300), ramp, np.zeros(300)), FS)
    assert found.qrs_onset[0, 0] == pytest.approx(1.0033 + 0.025, abs=1e-9)
    assert found.qrs_end[0, 0] == pytest.approx(1.2171 - 0.025, abs=1e-9)


def test_the_last_p_wave_and_the_largest_t_wave_belong_to_the_beat() -> None:
    p = np.maximum(box(0.5, 0.6), box(0.8, 0.9))
    t = np.maximum(box(1.2, 1.4), box(1.6, 1.68))
    found = delineate(curves(p, box(1.0, 1.1), t), FS)
    assert found.p_onset[0, 0] == pytest.approx(0.795)
    assert found.t_end[0, 0] == pytest.approx(1.405)


@pytest.mark.parametrize(
    ("p", "why"),
    [
        (box(0.8, 0.82), "too short"),
        (0.51 * box(0.84, 0.88), "too little probability"),
        (box(0.3, 0.42), "too far from the QRS"),
        (box(1.3, 1.4), "no QRS follows"),
        (np.zeros(300), "none"),
    ],
)
def test_no_p_wave_is_invented(p: Float, why: str) -> None:
    found = delineate(curves(p, box(1.0, 1.1), box(1.2, 1.4)), FS)
    assert np.isnan(found.p_onset).all() and np.isnan(found.p_end).all(), why
    assert np.isfinite(found.t_end).all()


def test_a_short_gap_does_not_split_a_wave() -> None:
    qrs = box(1.0, 1.1)
    qrs[105] = 0.2
    found = delineate(curves(np.zeros(300), qrs, np.zeros(300)), FS)
    assert found.qrs_onset.shape == (1, 1)
    assert found.qrs_end[0, 0] == pytest.approx(1.105)


def test_the_next_qrs_and_the_end_of_the_record_hide_the_end_of_t() -> None:
    first, second = box(1.0, 1.1, 2.2), box(1.5, 1.6, 2.2)
    t = np.maximum(box(1.2, 1.5, 2.2), box(1.8, 2.2, 2.2))
    found = delineate(curves(np.zeros(220), np.maximum(first, second), t), FS)
    assert found.t_onset[0] == pytest.approx([1.195, 1.795])
    assert np.isnan(found.t_end).all()


def test_records_do_not_influence_each_other(samples: list[Sample]) -> None:
    probability = mask_to_probability(np.stack([sample.masks[100] for sample in samples[:4]]))
    together = delineate(probability, FS)
    for row in range(4):
        alone = delineate(probability[row : row + 1], FS)
        for name, values in vars(alone).items():
            assert np.array_equal(getattr(together, name)[row, : values.shape[1]], values[0], equal_nan=True)


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 8.0))
def test_order_and_lengths_hold_for_any_probability(seed: int, width: float) -> None:
    # Smooth noise has waves of any length, which overlap.
    noise = gaussian_filter1d(np.random.default_rng(seed).normal(size=(2, 3, 600)), width, axis=2)
    probability = expit(6 * noise / noise.std())
    found = delineate(probability, FS)
    is_beat = np.isfinite(found.qrs_onset)
    assert (is_beat == np.isfinite(found.qrs_end)).all()
    assert (found.qrs_end - found.qrs_onset)[is_beat].min(initial=1.0) > SHORTEST[1] - 2 / FS

    # Comparisons with NaN are false, so that each rule is tested as "not violated".
    assert not (found.p_onset >= found.p_end).any()
    assert not (found.p_end > found.qrs_onset).any()
    assert not (found.qrs_end > found.t_onset).any()
    assert not (found.t_onset >= found.t_end).any()
    assert not (found.t_end[:, :-1] > found.qrs_onset[:, 1:]).any()
    assert not (np.diff(found.qrs_onset, axis=1) <= 0).any()
    assert not (found.qrs_onset - found.p_onset > LONGEST_PR + 1 / FS).any()
    has_onset = np.isfinite(found.p_onset)
    assert np.isfinite(found.p_end[has_onset]).all()

    # A P wave contains enough probability.
    for row, column in np.argwhere(has_onset):
        first, last = found.p_onset[row, column] * FS - 25, found.p_end[row, column] * FS + 25
        inside = probability[row, 0, max(round(first), 0) : round(last) + 1]
        assert inside.sum() / FS >= P_MASS


def test_samples_get_the_wave_of_the_mask(samples: list[Sample]) -> None:
    mask = np.stack([sample.masks[500] for sample in samples])
    waves = wave_of_sample(delineate(mask_to_probability(mask), 500), 500, 5000)
    # Each wave that is complete is marked; overlapping waves and waves at the ends of the record differ.
    agreement = {number: (waves == number)[mask == bit].mean() for number, bit in ((1, 1), (2, 2), (4, 4))}
    assert min(agreement.values()) > 0.9
    assert not ((waves == 2) & (mask & 2 == 0)).any()
    assert not ((waves == 1) & (mask & 1 == 0)).any()


def test_a_record_without_waves_has_no_beats() -> None:
    found = delineate(np.zeros((3, 3, 100)), FS)
    assert found.qrs_onset.shape == (3, 0)
    assert not wave_of_sample(found, FS, 100).any()
    with pytest.raises(ValueError, match=r"expected \(n, 3, T\)"):
        delineate(np.zeros((3, 100)), FS)
