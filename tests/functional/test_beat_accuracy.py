"""Onset of QRS, and amplitudes of P, R and ST, against the exact times and sources of generated ECGs at any rate."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from einthoven.data.synthetic.compose import VENTRICULAR, Recording, draw_complexes
from einthoven.data.synthetic.generate import iterate
from einthoven.functional.beats import detect_beats, fiducial, qrs_edges, representative_beat
from einthoven.functional.features import ecg_features
from einthoven.functional.leads import LEADS, derive_limb_leads

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


def true_amplitudes(recording: Recording) -> dict[str, Float]:
    """R, ST and P (12,) of one beat alone, at 4,000 Hz: its isoelectric line is exactly 0 mV."""
    shape = recording.shapes[False]
    x = draw(recording, np.array([0.6]), np.median(recording.beats.rr, keepdims=True), np.array([True]), 2.0, 4000)
    time = np.arange(x.shape[1]) / 4000 - 0.6
    in_qrs = x[:, (time >= 0) & (time <= shape.qrs_duration)]
    in_st = x[:, (time >= shape.qrs_duration + 0.04) & (time <= shape.qrs_duration + 0.08)]
    in_p = x[:, (time >= -shape.pr) & (time <= shape.p_duration - shape.pr)]
    p = np.take_along_axis(in_p, np.abs(in_p).argmax(axis=1)[:, None], axis=1)[:, 0]
    return {"r": np.maximum(in_qrs.max(axis=1), 0.0), "st": in_st.mean(axis=1), "p": p}


def onset_error(x: Float, onsets: Float, fs: float) -> float:
    """Error of the onset of a record (L, T) in seconds."""
    beats = detect_beats(x[None], fs)
    onset, _ = qrs_edges(representative_beat(x[None], beats, fs), fs)
    before = [onsets[np.abs(onsets - place).argmin()] - place for place in beats[0] / fs]
    return float(onset[0] - fiducial(fs) / fs - np.median(before))


@pytest.mark.parametrize("fs", [100, 250, 500, 1000])
def test_the_onset_is_within_6_ms(recordings: list[Recording], fs: int) -> None:
    errors = np.array([onset_error(ten_seconds(r, fs), r.beats.onset, fs) for r in recordings])
    assert len(errors) > 30
    assert abs(np.median(errors)) < 0.0025
    assert np.mean(np.abs(errors) <= 0.006) >= 0.88 and np.abs(errors).max() < 0.013


@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_amplitudes_are_within_20_microvolts(recordings: list[Recording], fs: int) -> None:
    errors: dict[str, list[Float]] = {"r": [], "st": [], "p": []}
    for recording in recordings:
        features = ecg_features(ten_seconds(recording, fs)[None], fs, LEADS)
        values = dict(zip(features.names, features.values[0], strict=True))
        for wave, truth in true_amplitudes(recording).items():
            errors[wave].append(np.array([values[f"{wave}_{lead}_mv"] for lead in LEADS]) - truth)
    # A P wave that begins within the T wave before it has no level of its own in a record.
    for wave, least in (("r", 1.0), ("st", 0.98), ("p", 0.97)):
        error = np.abs(errors[wave])
        assert np.nanmedian(error) < 0.004
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
    assert abs(onset_error(leads, onsets, fs)) <= 0.006
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
