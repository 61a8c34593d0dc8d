"""Onset of QRS, and amplitudes of P, R and ST, against the exact times and sources of generated ECGs at any rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from einthoven.data.synthetic.compose import VENTRICULAR, Recording, draw_complexes
from einthoven.data.synthetic.generate import iterate
from einthoven.functional.beats import detect_beats, fiducial
from einthoven.functional.features import ecg_features
from einthoven.functional.leads import LEADS, derive_limb_leads
from einthoven.functional.qrs_edges import qrs_edges
from einthoven.functional.representative_beat import representative_beat

Float = NDArray[np.float64]


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    """Sinus rhythms without premature beats, of all conditions."""
    samples = (sample.recording for sample in iterate(45, 31, noise=0.0))
    return [r for r in samples if r.rhythm in ("SR", "SBRAD", "STACH") and len(r.shapes) == 1]


def draw(recording: Recording, onset: Float, rr: Float, has_p: NDArray[np.bool_], seconds: float, fs: float) -> Float:
    """Twelve leads (12, T) of the beats of a recording at any sampling frequency, without breathing and noise."""
    leads = np.zeros((8, round(seconds * fs)), np.float32)
    draw_complexes(leads, recording.shapes[False], onset, rr, has_p, np.zeros(len(onset)), 0.0, fs)
    return np.concatenate([derive_limb_leads(leads[0], leads[1]), leads[2:]]).astype(np.float64)


def ten_seconds(recording: Recording, fs: float) -> Float:
    beats = recording.beats
    assert not (beats.kind == VENTRICULAR).any()
    return draw(recording, beats.onset, beats.rr, beats.p_wave, 10.0, fs)


@dataclass
class Exact:
    """One beat alone (12, T) at 4,000 Hz, with an isoelectric line of exactly 0 mV, and the edges of its QRS."""

    x: Float
    time: Float
    """Seconds from the onset that the generator states."""
    onset: float
    """Where the first lead deviates by 25 µV. Gaussian waves have no onset of their own."""
    end: float
    """Where the last lead deviates by 25 µV, without T."""


def exact_beat(recording: Recording) -> Exact:
    shape = recording.shapes[False]
    flat_t = replace(shape.t, leads=0 * shape.t.leads, breath=0 * shape.t.breath)
    only_qrs = replace(recording, shapes={False: replace(shape, p=None, t=flat_t)})
    alone = np.array([0.6]), np.median(recording.beats.rr, keepdims=True), np.array([True]), 2.0, 4000
    x = draw(recording, *alone)
    time = np.arange(x.shape[1]) / 4000 - 0.6
    visible = time[np.abs(draw(only_qrs, *alone)).max(axis=0) > 0.025]
    return Exact(x, time, visible[0], visible[-1])


def true_amplitudes(recording: Recording) -> dict[str, Float]:
    """R, ST and P (12,) of the exact beat."""
    shape = recording.shapes[False]
    exact = exact_beat(recording)
    x, time = exact.x, exact.time
    in_qrs = x[:, (time >= exact.onset) & (time <= exact.end)]
    in_st = x[:, (time >= exact.end + 0.04) & (time <= exact.end + 0.08)]
    in_p = x[:, (time >= -shape.pr) & (time <= shape.p_duration - shape.pr)]
    p = np.take_along_axis(in_p, np.abs(in_p).argmax(axis=1)[:, None], axis=1)[:, 0]
    # A P wave that goes up and down alike has two amplitudes.
    highest, lowest = in_p.max(axis=1), in_p.min(axis=1)
    p = np.where(np.abs(highest + lowest) < 0.02, np.nan, p)
    # R is a peak. With ST elevation, the end of QRS can be higher.
    is_peak = (in_qrs[:, 1:-1] >= in_qrs[:, :-2]) & (in_qrs[:, 1:-1] > in_qrs[:, 2:])
    r = np.where(is_peak, in_qrs[:, 1:-1], 0.0).max(axis=1)
    return {"r": r, "st": in_st.mean(axis=1), "p": p}


def edge_errors(x: Float, onsets: Float, fs: float) -> tuple[float, float]:
    """Onset and end of a record (L, T) in seconds after the onset that the generator states."""
    beats = detect_beats(x[None], fs)
    onset, end = qrs_edges(representative_beat(x[None], beats, fs), fs)
    before = np.median([onsets[np.abs(onsets - place).argmin()] - place for place in beats[0] / fs])
    centre = fiducial(fs) / fs
    return float(onset[0] - centre - before), float(end[0] - centre - before)


@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_the_edges_of_qrs_are_within_6_ms(recordings: list[Recording], fs: int) -> None:
    assert len(recordings) > 30
    errors = []
    stated = []
    for recording in recordings:
        onset, end = edge_errors(ten_seconds(recording, fs), recording.beats.onset, fs)
        exact = exact_beat(recording)
        errors.append((onset - exact.onset, end - exact.end))
        stated.append(onset)
    onset_errors, end_errors = np.abs(errors).T
    assert np.median(onset_errors) < 0.001 and onset_errors.max() < 0.006
    # T can begin before a wide QRS has ended.
    assert np.mean(end_errors < 0.006) > 0.97
    assert np.mean(np.abs(stated) < 0.006) > 0.95


@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_amplitudes_are_within_20_microvolts(recordings: list[Recording], fs: int) -> None:
    errors: dict[str, list[Float]] = {"r": [], "st": [], "p": []}
    for recording in recordings:
        features = ecg_features(ten_seconds(recording, fs)[None], fs, LEADS)
        values = dict(zip(features.names, features.values[0], strict=True))
        # Where P lasts until QRS, no part of the record is isoelectric.
        if recording.shapes[False].pr <= recording.shapes[False].p_duration:
            continue
        for wave, truth in true_amplitudes(recording).items():
            errors[wave].append(np.array([values[f"{wave}_{lead}_mv"] for lead in LEADS]) - truth)
    for wave, least in (("r", 1.0), ("st", 0.995), ("p", 0.995)):
        error = np.abs(errors[wave])
        error = error[np.isfinite(error)]
        assert np.median(error) < 0.002
        assert np.mean(error <= 0.02) >= least, wave


def half_sine(time: Float, start: float, length: float, height: float) -> Float:
    inside = (time >= start) & (time <= start + length)
    return np.where(inside, height * np.sin(np.pi * (time - start) / length), 0.0)


@pytest.mark.parametrize("fs", [250, 500, 1000])
@pytest.mark.parametrize("q", [0.1, 0.15, 0.25, 0.4])
@pytest.mark.parametrize("q_length", [0.02, 0.03])
def test_a_small_q_wave_belongs_to_the_qrs(fs: int, q: float, q_length: float) -> None:
    """A q wave before an R wave of 1.5 mV; its first sample is known exactly. Baseline and P wave are as in an ECG."""
    time = np.arange(10 * fs) / fs
    onsets = np.arange(0.5, 9.4, 0.83)
    x = 0.2 * np.sin(2 * np.pi * 0.2 * time) + 1.0
    for onset in onsets:
        x += half_sine(time, onset - 0.16, 0.1, 0.15) + half_sine(time, onset, q_length, -q)
        x += half_sine(time, onset + q_length, 0.045, 1.5) + half_sine(time, onset + q_length + 0.045, 0.025, -0.3)
        x += np.exp(-0.5 * ((time - onset - 0.3) / 0.04) ** 2) * 0.3
    leads = np.stack([x, 0.6 * x, 0.4 * x])
    assert abs(edge_errors(leads, onsets, fs)[0]) <= 0.006
    features = ecg_features(leads[None], fs, ("I", "II", "V5"))
    values = dict(zip(features.names, features.values[0], strict=True))
    for lead, gain in (("I", 1.0), ("II", 0.6), ("V5", 0.4)):
        measured = [values[f"{wave}_{lead}_mv"] for wave in ("q", "r", "s", "p")]
        np.testing.assert_allclose(measured, gain * np.array([-q, 1.5, -0.3, 0.15]), atol=0.02)


def test_the_baseline_follows_wander_and_one_beat_or_none_is_no_error() -> None:
    """Wander of 0.15 Hz and 0.5 mV leaves the beat as it is."""
    fs = 500
    time = np.arange(10 * fs) / fs
    onsets = np.arange(0.5, 9.4, 0.83)
    x = np.zeros_like(time)
    for onset in onsets:
        x += half_sine(time, onset, 0.06, 1.0)
    wander = 0.5 * np.sin(2 * np.pi * 0.15 * time + 1)
    beats = detect_beats(x[None, None], fs)
    clean = representative_beat(x[None, None], beats, fs)
    wandering = representative_beat((x + wander)[None, None], beats, fs)
    np.testing.assert_allclose(wandering, clean, atol=0.02)
    for count in (1, 2, 3):
        some = representative_beat(x[None, None], beats[:, :count], fs)
        np.testing.assert_allclose(some, clean, atol=1e-6)
    assert np.isnan(representative_beat(x[None, None], beats[:, :0], fs)).all()


def rounded(time: Float, start: float, length: float, height: float) -> Float:
    """One hump of a sine squared: it begins and ends without a corner, as the waves of an ECG do."""
    inside = (time >= start) & (time <= start + length)
    return np.where(inside, height * np.square(np.sin(np.pi * (time - start) / length)), 0.0)


def end_of_late_parts(late_wave: tuple[float, float], st_level: float, fs: int) -> float:
    """Seconds from the onset to the measured end of an R and S wave of 70 ms, a late wave, and ST elevation.

    The late wave (seconds, mV) begins where S ends. ST rises within 50 ms where QRS ends.
    """
    time = np.arange(10 * fs) / fs
    onsets = np.arange(0.5, 9.4, 0.83)
    x = np.zeros_like(time)
    length, height = late_wave
    for onset in onsets:
        end = onset + 0.07 + length
        x += rounded(time, onset - 0.16, 0.1, 0.15) + rounded(time, onset, 0.04, 1.0)
        x += rounded(time, onset + 0.03, 0.04, -0.6) + (rounded(time, onset + 0.07, length, height) if length else 0.0)
        rise = np.square(np.sin(np.pi / 2 * np.clip((time - end) / 0.05, 0.0, 1.0)))
        x += st_level * rise * np.exp(-0.5 * np.square(np.maximum(time - end - 0.1, 0.0) / 0.08))
        x += 0.3 * np.exp(-0.5 * np.square((time - onset - 0.32) / 0.04))
    leads = np.stack([x, 0.6 * x, 0.4 * x])
    onset, end = edge_errors(leads, onsets, fs)
    assert abs(onset) <= 0.006
    return end


@pytest.mark.parametrize("fs", [250, 500, 1000])
@pytest.mark.parametrize("st_level", [0.3, 0.5])
def test_st_elevation_does_not_belong_to_the_qrs(fs: int, st_level: float) -> None:
    assert end_of_late_parts((0.0, 0.0), st_level, fs) == pytest.approx(0.07, abs=0.015)


@pytest.mark.parametrize("fs", [250, 500, 1000])
@pytest.mark.parametrize("late_wave", [(0.03, 0.12), (0.05, 0.3), (0.06, 0.5), (0.06, -0.3)])
@pytest.mark.parametrize("st_level", [0.0, 0.12])
def test_a_late_wave_belongs_to_the_qrs(fs: int, late_wave: tuple[float, float], st_level: float) -> None:
    """As in right bundle branch block. A hump of a sine squared is below 25 µV in its last milliseconds."""
    assert end_of_late_parts(late_wave, st_level, fs) == pytest.approx(visible_end(late_wave), abs=0.006)


@pytest.mark.parametrize("fs", [250, 500, 1000])
@pytest.mark.parametrize("late_wave", [(0.03, 0.065), (0.04, 0.08)])
def test_a_small_last_wave_belongs_to_the_qrs(fs: int, late_wave: tuple[float, float]) -> None:
    """It is so small that the noise limit of a straight ST segment hides it. The curve of ST shows it."""
    assert end_of_late_parts(late_wave, 0.0, fs) == pytest.approx(visible_end(late_wave), abs=0.006)


def visible_end(late_wave: tuple[float, float]) -> float:
    """Seconds from the onset until a late wave falls below 25 µV."""
    length, height = late_wave
    return float(0.07 + length * (1 - np.arcsin(np.sqrt(0.025 / abs(height))) / np.pi))


def test_a_beat_needs_20_ms_before_and_after_its_qrs() -> None:
    """The flat part at one end of a beat must not count as one at the other end."""
    fs = 500
    time = np.arange(round(0.9 * fs)) / fs
    beat = rounded(time, 0.36, 0.08, 1.0)[None, None]
    assert np.isfinite(qrs_edges(beat, fs)).all()
    assert np.isnan(qrs_edges(beat[..., : round(0.45 * fs)], fs)).all()
    assert np.isnan(qrs_edges(beat[..., round(0.35 * fs) :], fs, before=0.05)).all()


def p_and_t_of(pr: float, qt: float, rr: float) -> dict[str, Float]:
    """P and T of two leads: a positive P and T of 0.15 and 0.5 mV, and half of P with a T of 0.02 mV."""
    fs = 500
    time = np.arange(10 * fs) / fs
    p = np.zeros_like(time)
    t = np.zeros_like(time)
    qrs = np.zeros_like(time)
    for onset in np.arange(0.5, 9.6, rr):
        p += rounded(time, onset - pr, 0.1, 0.15)
        qrs += rounded(time, onset, 0.05, 1.0) + rounded(time, onset + 0.03, 0.05, -0.4)
        t += rounded(time, onset + 0.6 * qt, 0.4 * qt, 0.5)
    leads = np.stack([qrs + p + t, 0.6 * qrs + 0.5 * p + 0.04 * t])
    features = ecg_features(leads[None], fs, ("I", "II"))
    values = dict(zip(features.names, features.values[0], strict=True))
    return {wave: np.array([values[f"{wave}_{lead}_mv"] for lead in ("I", "II")]) for wave in ("p", "t")}


def test_p_is_not_the_t_wave_of_a_long_qt_interval() -> None:
    waves = p_and_t_of(pr=0.16, qt=0.46, rr=0.65)
    np.testing.assert_allclose(waves["p"], [0.15, 0.075], atol=0.02)
    np.testing.assert_allclose(waves["t"], [0.5, 0.02], atol=0.02)


def test_a_small_t_is_not_the_p_wave_of_a_long_pr_interval() -> None:
    waves = p_and_t_of(pr=0.30, qt=0.33, rr=0.66)
    np.testing.assert_allclose(waves["p"], [0.15, 0.075], atol=0.02)
    np.testing.assert_allclose(waves["t"], [0.5, 0.02], atol=0.02)
