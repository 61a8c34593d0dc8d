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
    assert np.mean(end_errors < 0.006) > 0.95
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
    for wave, least in (("r", 1.0), ("st", 0.99), ("p", 0.99)):
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
