"""Features against signals whose measures are known, and against what the readers of PTB-XL wrote down."""

from __future__ import annotations

import csv
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from einthoven.data.formats.reading import read_record
from einthoven.data.synthetic import generate
from einthoven.functional.beats import detect_beats, frontal_axis
from einthoven.functional.features import Features, beat_samples, ecg_features, feature_names
from einthoven.functional.leads import LEADS
from einthoven.functional.qrs_edges import qrs_area
from einthoven.functional.representative_beat import representative_beat

Float = NDArray[np.float64]
FS = 250.0


def wave(time: Float, centre: float, width: float, height: float) -> Float:
    """Half a period of a cosine squared, zero outside."""
    phase = (time - centre) / width
    return np.where(np.abs(phase) < 0.5, height * np.cos(np.pi * phase) ** 2, 0.0)


def drawn(rr: Float, *, st_level: float = 0.0, t: float = 0.3, seconds: float = 10.0) -> Float:
    """One lead: P 0.1 mV, R 1 mV, S -0.4 mV, an ST level and a T wave, at the beats with these intervals."""
    time = np.arange(round(seconds * FS)) / FS
    lead = np.zeros_like(time)
    for beat in 0.5 + np.concatenate([[0.0], np.cumsum(rr)]):
        lead += wave(time, beat - 0.16, 0.08, 0.1) + wave(time, beat, 0.06, 1.0) + wave(time, beat + 0.045, 0.05, -0.4)
        lead += np.where((time > beat + 0.08) & (time < beat + 0.2), st_level, 0.0) + wave(time, beat + 0.28, 0.16, t)
    return lead


def measured(*leads: Float, names: tuple[str, ...] = ("I", "aVF")) -> dict[str, float]:
    found = ecg_features(np.stack(leads)[None], FS, names)
    return dict(zip(found.names, found.values[0], strict=True))


def test_a_drawn_ecg_measures_what_was_drawn() -> None:
    rr = np.full(11, 0.8)
    found = measured(drawn(rr, st_level=0.2), 0.5 * drawn(rr))
    assert found["heart_rate_bpm"] == pytest.approx(75.0, abs=0.1)
    assert found["rr_spread"] < 0.01 and found["rr_step"] < 0.01
    assert found["r_I_mv"] == pytest.approx(1.0, abs=0.1) and found["r_aVF_mv"] == pytest.approx(0.5, abs=0.05)
    assert found["s_I_mv"] == pytest.approx(-0.4, abs=0.1)
    assert found["st_I_mv"] - found["j_aVF_mv"] == pytest.approx(0.2, abs=0.07)
    assert found["st_aVF_mv"] == pytest.approx(0.0, abs=0.05)
    assert found["t_aVF_mv"] == pytest.approx(0.15, abs=0.03) and found["p_aVF_mv"] == pytest.approx(0.05, abs=0.02)
    found = measured(drawn(rr), drawn(rr))
    assert found["qrs_duration_ms"] == pytest.approx(100, abs=15)
    assert found["p_peak_to_qrs_ms"] == pytest.approx(130, abs=25)


def test_a_premature_beat_and_its_pause_are_the_shortest_and_the_longest_interval() -> None:
    rr = np.array([0.8, 0.8, 0.8, 0.4, 1.2, 0.8, 0.8, 0.8, 0.8, 0.8])
    found = measured(drawn(rr), drawn(rr))
    assert found["rr_shortest"] == pytest.approx(0.5, abs=0.03)
    assert found["rr_longest"] == pytest.approx(1.5, abs=0.03)
    assert found["rr_spread"] == pytest.approx(np.std(rr) / 0.8, abs=0.01)
    assert found["rr_step"] == pytest.approx(np.sqrt(np.mean(np.diff(rr) ** 2)) / 0.8, abs=0.02)


def test_a_qrs_without_r_is_all_q() -> None:
    time = np.arange(2500) / FS
    beats = 0.5 + 0.8 * np.arange(12)
    found = measured(*([sum((wave(time, beat, 0.08, -0.9) for beat in beats), np.zeros(2500))] * 2))
    assert found["q_I_mv"] == pytest.approx(-0.9, abs=0.1)
    assert found["r_I_mv"] < 0.02 and abs(found["s_I_mv"]) < 0.02


def test_turning_the_signal_turns_the_axes() -> None:
    rr = np.full(11, 0.8)
    i, avf = drawn(rr), 0.5 * drawn(rr)
    found, turned = measured(i, avf), measured(-i, -avf)
    for axis in ("qrs_axis_deg", "t_axis_deg"):
        assert abs(abs(found[axis] - turned[axis]) - 180) < 1.0
    assert found["qrs_t_angle_deg"] == pytest.approx(turned["qrs_t_angle_deg"], abs=1.0)


def test_what_cannot_be_measured_is_nan_and_nothing_is_infinite() -> None:
    rng = np.random.default_rng(0)
    flat, nan, noise = np.zeros((12, 1000)), np.full((12, 1000), np.nan), rng.normal(0, 0.02, (12, 1000))
    found = ecg_features(np.stack([flat, nan, noise]), 100.0, LEADS)
    assert np.isnan(found.values[:2]).all(axis=1).tolist() == [True, True]
    assert not np.isinf(found.values).any()


@pytest.mark.parametrize(("value", "samples"), [(0.0, 1000), (np.nan, 1000), (np.nan, 600)])
def test_a_lead_that_is_missing_has_no_waves_of_0_mv(value: float, samples: int) -> None:
    x = generate(1, seed=2, rates=(100,)).signals[100] / 1000.0
    assert np.isfinite(ecg_features(x, 100.0, LEADS).values).all()
    x[:, [LEADS.index("I"), LEADS.index("V6")], :samples] = value
    found = ecg_features(x, 100.0, LEADS)
    unknown = {name for name, height in zip(found.names, found.values[0], strict=True) if np.isnan(height)}
    waves = {name for name in found.names if "_I_" in name or "_V6_" in name}
    assert unknown == waves | {"qrs_axis_deg", "t_axis_deg", "qrs_t_angle_deg", "sokolow_lyon_mv"}


def test_a_flat_lead_has_no_area_so_the_axis_is_unknown() -> None:
    x = generate(1, seed=2, rates=(100,)).signals[100] / 1000.0
    x[:, LEADS.index("I")] = 0.0
    area = qrs_area(representative_beat(x, detect_beats(x, 100.0), 100.0), 100.0)
    assert np.flatnonzero(np.isnan(area[0])).tolist() == [LEADS.index("I")]
    assert np.isnan(frontal_axis(area[:, LEADS.index("I")], area[:, LEADS.index("aVF")])).all()


def test_a_record_is_measured_alike_alone_and_in_company() -> None:
    x = generate(6, seed=2, rates=(100,)).signals[100] / 1000.0
    together = ecg_features(x, 100.0, LEADS)
    alone = [ecg_features(x[k : k + 1], 100.0, LEADS).values for k in range(len(x))]
    np.testing.assert_allclose(together.values, np.concatenate(alone), rtol=1e-9, atol=1e-12)


def test_fewer_leads_have_fewer_features() -> None:
    x = generate(3, seed=2, rates=(100,)).signals[100][:, :2] / 1000.0
    names = ecg_features(x, 100.0, LEADS[:2]).names
    assert "r_II_mv" in names and not {"qrs_axis_deg", "sokolow_lyon_mv", "cornell_mv", "r_V1_mv"} & set(names)


@pytest.fixture(scope="module")
def read(real_data: Path) -> tuple[Features, list[set[str]]]:
    """Features of the first 400 real records, and the statements of each."""
    root = real_data / "ptbxl"
    with (root / "ptbxl_database.csv").open() as file:
        rows = list(csv.DictReader(file))[:400]
    signals = np.stack([np.nan_to_num(read_record(root / row["filename_lr"]).signal) for row in rows])
    return ecg_features(signals, 100.0, LEADS), [set(literal_eval(row["scp_codes"])) for row in rows]


@pytest.mark.parametrize(
    ("feature", "statements", "higher"),
    [
        ("rr_spread", {"AFIB"}, True),
        ("heart_rate_bpm", {"SBRAD"}, False),
        ("heart_rate_bpm", {"STACH"}, True),
        ("qrs_duration_ms", {"CLBBB", "CRBBB"}, True),
        ("qrs_axis_deg", {"LAFB"}, False),
        ("sokolow_lyon_mv", {"LVH"}, True),
        ("q_aVF_mv", {"IMI"}, False),
        ("q_V2_mv", {"ASMI"}, False),
    ],
)
def test_features_tell_what_readers_saw(
    read: tuple[Features, list[set[str]]], feature: str, statements: set[str], higher: bool
) -> None:
    from sklearn.metrics import roc_auc_score

    features, codes = read
    values = features.values[:, features.names.index(feature)]
    has = np.array([bool(statements & own) for own in codes])
    known = np.isfinite(values)
    assert known.mean() > 0.97 and has[known].sum() >= 5
    assert roc_auc_score(has[known], values[known] if higher else -values[known]) > 0.75


@pytest.mark.parametrize("leads", [LEADS, ("I", "II", "aVF"), ("V3", "aVL"), ("V6", "V5", "V1")])
def test_the_names_and_the_length_of_the_beat_are_known_before_a_measurement(leads: tuple[str, ...]) -> None:
    for fs in (100.0, 250.0, 333.0):
        x = np.stack([drawn(np.full(11, 0.8))[: round(9 * fs)]] * len(leads))[None]
        found = ecg_features(x, fs, leads)
        assert found.names == feature_names(leads)
        assert found.beat.shape == (1, len(leads), beat_samples(fs))
        assert found.values.shape == (1, len(found.names))
