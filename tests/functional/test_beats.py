"""Beats against what the generator knows exactly, closed forms, and the axis that PTB-XL's readers wrote down."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.data.formats.reading import read_record
from einthoven.data.synthetic import Generated, generate
from einthoven.data.synthetic.render import QRS_BIT
from einthoven.functional.beats import detect_beats, frontal_axis, heart_rate, rr_intervals
from einthoven.functional.qrs_edges import qrs_area, qrs_duration
from einthoven.functional.representative_beat import beat_and_repeatability, representative_beat

Float = NDArray[np.float64]


@pytest.fixture(scope="module")
def generated() -> Generated:
    return generate(80, seed=7, rates=(100, 500))


def compared(beats: NDArray[np.int64], masks: NDArray[np.uint8], fs: float) -> tuple[int, int, int]:
    """Found, missed and false beats, within 50 ms of the true QRS; those cut by an end of the record may be either."""
    near, end = 0.05 * fs, 0.15 * fs
    found = missed = false = 0
    for row, mask in zip(beats, masks, strict=True):
        row = row[row >= 0]
        edge = np.diff((mask & QRS_BIT > 0).astype(int), prepend=0, append=0)
        on, off = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1) - 1
        hit = (row >= on[:, None] - near) & (row <= off[:, None] + near)
        inner = (on > end) & (off < len(mask) - end)
        found += int(hit.any(axis=1).sum())
        missed += int((~hit.any(axis=1) & inner).sum())
        false += int((~hit.any(axis=0) & (row > end) & (row < len(mask) - end)).sum()) if len(on) else len(row)
    return found, missed, false


@pytest.mark.parametrize("fs", [100, 500])
def test_beats_of_generated_records_are_found(generated: Generated, fs: int) -> None:
    beats = detect_beats(generated.signals[fs] / 1000.0, fs)
    found, missed, false = compared(beats, generated.masks[fs], fs)
    assert found > 900
    assert found / (found + missed) > 0.995 and found / (found + false) > 0.985


@pytest.mark.parametrize("fs", [100, 500])
def test_measures_of_generated_records(generated: Generated, fs: int) -> None:
    x = generated.signals[fs] / 1000.0
    beats = detect_beats(x, fs)
    beat = representative_beat(x, beats, fs)
    area = qrs_area(beat, fs)
    axis = frontal_axis(area[:, 0], area[:, 5])
    true_axis = np.array([recording.axis for recording in generated.recordings])
    error = np.abs((axis - true_axis + 180.0) % 360.0 - 180.0)
    assert np.nanmedian(error) < 4.0 and np.nanquantile(error, 0.9) < 15.0
    duration = qrs_duration(beat, fs)
    true_duration = np.array([recording.shapes[False].qrs_duration for recording in generated.recordings])
    assert abs(np.nanmedian(duration - true_duration)) < 0.008
    assert np.nanmedian(np.abs(duration - true_duration)) < 0.012
    sinus = np.array([r.rhythm in {"SR", "SBRAD", "STACH"} for r in generated.recordings])
    true_rate = []
    for recording in generated.recordings:
        onset = recording.beats.onset
        inside = onset[(onset > 0.0) & (onset < 9.9)]
        true_rate.append(60.0 * (len(inside) - 1) / (inside[-1] - inside[0]))
    assert np.median(np.abs(heart_rate(beats, fs) / true_rate - 1.0)[sinus]) < 0.01
    assert np.isfinite(beat).all(axis=(1, 2)).mean() > 0.95


def train_of_waves(places: Float, fs: float = 100.0, seconds: float = 10.0) -> Float:
    """Two leads (1, 2, T) of gaussian waves of 1 mV and -0.5 mV, 20 ms wide, at `places` (s)."""
    time = np.arange(round(seconds * fs)) / fs
    wave = np.exp(-0.5 * ((time - np.asarray(places)[:, None]) / 0.02) ** 2).sum(axis=0)
    return np.stack([wave, -0.5 * wave])[None]


@given(rate=st.floats(35.0, 190.0), fs=st.sampled_from([100.0, 128.0, 250.0, 500.0]), gain=st.floats(0.05, 20.0))
def test_rate_and_places_of_a_regular_train(rate: float, fs: float, gain: float) -> None:
    places = np.arange(0.4, 9.6, 60.0 / rate)
    beats = detect_beats(gain * train_of_waves(places, fs), fs)
    assert beats.shape == (1, len(places))
    assert np.abs(beats[0] / fs - places).max() < 0.02
    assert heart_rate(beats, fs)[0] == pytest.approx(rate, rel=0.01)
    assert rr_intervals(beats, fs)[0] == pytest.approx(60.0 / rate, abs=2.0 / fs)


def test_the_representative_beat_is_the_wave_itself() -> None:
    x = train_of_waves(np.arange(0.4, 9.6, 0.8))
    x[0, :, 300:310] += 3.0  # one beat's worth of artefact does not shape a median
    beat = representative_beat(x, detect_beats(x, 100.0), 100.0)
    assert np.ptp(beat[0], axis=-1) == pytest.approx([1.0, 0.5], rel=0.08)
    area = qrs_area(beat, 100.0)[0]
    assert area == pytest.approx([0.02 * np.sqrt(2 * np.pi), -0.01 * np.sqrt(2 * np.pi)], rel=0.1)


@pytest.mark.parametrize("fs", [250, 500])
def test_beats_between_samples_and_of_another_shape_do_not_change_the_median(fs: int) -> None:
    """Beats at any fraction of a sample, and four of ten that are ectopic: the median is the normal beat."""
    time = np.arange(10 * fs) / fs
    places = 0.6 + 0.8317 * np.arange(11)
    is_ectopic = np.arange(11) % 5 > 2

    def gaussian(places: Float, width: float) -> Float:
        return np.exp(-0.5 * ((time - places[:, None]) / width) ** 2).sum(axis=0)

    normal = places[~is_ectopic]
    ectopic = places[is_ectopic]
    first = gaussian(normal, 0.009) - 0.6 * gaussian(normal + 0.03, 0.012) - 1.5 * gaussian(ectopic, 0.03)
    second = 0.5 * gaussian(normal, 0.009) + 2.0 * gaussian(ectopic, 0.03)
    x = np.stack([first, second])[None]
    beat = representative_beat(x, detect_beats(x, fs), fs)[0]
    alone = gaussian(np.array([5.0]), 0.009) - 0.6 * gaussian(np.array([5.03]), 0.012)
    assert beat[0].max() == pytest.approx(alone.max(), abs=0.02)
    assert beat[0].min() == pytest.approx(alone.min(), abs=0.01)
    assert beat[1].max() == pytest.approx(0.5, abs=0.01)


def test_what_follows_the_heartbeat() -> None:
    """Also where every second beat is of another form; not in a lead of noise; unknown in one without voltage."""
    places = np.arange(0.4, 9.6, 0.6)
    sign = np.where(np.arange(len(places)) % 2, 1.0, -0.4)
    wave = np.exp(-0.5 * ((np.arange(1000) / 100 - places[:, None]) / 0.02) ** 2)
    noise = np.random.default_rng(0).normal(0.0, 0.3, (40, 1000))
    x = np.concatenate([[wave.sum(0), (sign[:, None] * wave).sum(0), np.zeros(1000)], noise])[None]
    beats = detect_beats(x[:, :2], 100.0)
    beat, (found,) = beat_and_repeatability(x, beats, 100.0)
    np.testing.assert_array_equal(beat, representative_beat(x, beats, 100.0))
    assert found[0] > 0.99 and found[1] > 0.9 and np.isnan(found[2])
    assert abs(found[3:].mean()) < 0.15


def test_records_are_measured_alone(generated: Generated) -> None:
    """A record's beats do not depend on its neighbours, on its gain, or on an offset of its leads."""
    x = generated.signals[100][:6] / 1000.0
    together = detect_beats(x, 100)
    beats = representative_beat(x, together, 100)
    for row in range(6):
        alone = detect_beats(x[row : row + 1], 100)
        assert alone[0].tolist() == together[row][together[row] >= 0].tolist()
        assert np.allclose(representative_beat(x[row : row + 1], alone, 100)[0], beats[row])
    changed = 3.0 * x + np.arange(12)[:, None]
    assert np.array_equal(detect_beats(changed, 100), together)


@pytest.mark.parametrize("samples", [1, 2, 30, 1000])
def test_nothing_to_find(samples: int) -> None:
    for x in (np.zeros((3, 12, samples)), np.full((3, 12, samples), np.nan), np.full((3, 12, samples), 5.0)):
        beats = detect_beats(x, 100.0)
        assert beats.shape == (3, 0)
        assert np.isnan(heart_rate(beats, 100.0)).all()
        beat = representative_beat(x, beats, 100.0)
        assert np.isnan(beat).all()
        assert np.isnan(qrs_duration(beat, 100.0)).all() and np.isnan(qrs_area(beat, 100.0)).all()


@given(degrees=st.floats(-179.0, 180.0), size=st.floats(0.01, 3.0))
def test_axis_of_a_dipole(degrees: float, size: float) -> None:
    """A dipole in the middle of Einthoven's triangle, projected on I and on aVF."""
    angle = np.radians(degrees)
    i, ii = size * np.cos(angle), size * np.cos(angle - np.pi / 3)
    found = frontal_axis(np.array([i]), np.array([ii - i / 2]))
    assert abs((found[0] - degrees + 180.0) % 360.0 - 180.0) < 1e-6
    assert np.isnan(frontal_axis(np.zeros(1), np.zeros(1))[0])


def test_real_records_agree_with_their_readers(real_data: Path) -> None:
    """PTB-XL's `heart_axis` (left, normal, right) and its statements of rate and conduction."""
    root = real_data / "ptbxl"
    with (root / "ptbxl_database.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["heart_axis"] or "SBRAD" in row["scp_codes"]]
    x = np.stack([read_record(root / row["filename_lr"]).signal for row in rows])
    beats = detect_beats(x, 100.0)
    area = qrs_area(representative_beat(x, beats, 100.0), 100.0)
    axis = frontal_axis(area[:, 0], area[:, 5])
    told = np.array([row["heart_axis"] for row in rows])
    left, normal, right = (np.isin(told, names) for names in (("LAD", "ALAD", "AXL"), ("MID",), ("RAD", "ARAD")))
    assert left.sum() > 200 and normal.sum() > 100
    agree = np.concatenate([axis[left] < 0, (axis[normal] >= 0) & (axis[normal] < 90), axis[right] >= 90])
    assert agree.mean() > 0.9
    slow = np.array(["SBRAD" in row["scp_codes"] for row in rows])
    rate = heart_rate(beats, 100.0)
    assert np.median(rate[slow]) < 60.0 and ((rate > 25.0) & (rate < 250.0)).all()
