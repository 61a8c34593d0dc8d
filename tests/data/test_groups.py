"""Files with several groups of signals: the rhythm is chosen by duration and leads, and parts of it are joined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from write_formats import sierra
from write_groups import (
    FS,
    Part,
    aecg_document,
    aecg_series,
    dicom_group,
    made_ecg,
    write_aecg_series,
    write_aecg_sets,
    write_dicom,
    write_dicom_groups,
    write_muse,
)

from einthoven.data import read_record
from einthoven.data.doctor import examine_records
from einthoven.data.formats.group import Group
from einthoven.data.formats.groups import join_groups
from einthoven.data.formats.pulse import is_calibration_pulse
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

Write = Callable[[Path, Sequence[Part]], Path]

WRITERS: dict[str, Write] = {
    "a.dcm": write_dicom,
    "series.xml": write_aecg_series,
    "sets.xml": write_aecg_sets,
    "muse.xml": write_muse,
}
WRITERS_WITH_STARTS = {name: WRITERS[name] for name in ("a.dcm", "series.xml", "sets.xml")}
ALL = pytest.mark.parametrize("name", WRITERS)
WITH_STARTS = pytest.mark.parametrize("name", WRITERS_WITH_STARTS)


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    return made_ecg()


def pulse(rows: int = 12, seconds: float = 1.0, first: float = 0.2, fs: float = FS) -> np.ndarray:
    """Return a calibration pulse of 1 mV for 200 ms, in µV."""
    x = np.zeros((rows, round(seconds * fs)), np.int64)
    x[:, round(first * fs) : round((first + 0.2) * fs)] = 1000
    return x


def assert_signal(path: Path, microvolts: np.ndarray) -> None:
    record = read_record(path)
    assert record.fs == FS
    np.testing.assert_allclose(record.signal, microvolts / 1000, atol=1e-6)
    counts, _, invalid, _ = read_microvolts(path)
    np.testing.assert_array_equal(counts, np.nan_to_num(microvolts))
    assert invalid == np.isnan(microvolts).sum()


# ------------------------------------------------------------------ beats and pulses


@ALL
@pytest.mark.parametrize("beat_label", ["MEDIAN BEAT", "RHYTHM", ""])
@pytest.mark.parametrize(("is_first", "seconds"), [(True, 1.2), (True, 2.0), (False, 0.6)])
def test_a_beat_is_left_out_in_any_order_and_with_any_label(
    tmp_path: Path, ecg: np.ndarray, name: str, beat_label: str, is_first: bool, seconds: float
) -> None:
    beat = Part(ecg[:, : round(seconds * FS)], label=beat_label)
    rhythm = Part(ecg, label="RHYTHM" if beat_label else "")
    path = WRITERS[name](tmp_path / name, [beat, rhythm] if is_first else [rhythm, beat])
    assert_signal(path, ecg)
    (caution,) = read_record(path).cautions
    assert caution.startswith("left out ") and f"(12 leads, {seconds:g} s)" in caution
    assert caution in read_record(path).notes


@ALL
def test_several_beats_and_pulses_are_left_out(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    parts = [
        Part(ecg[:, :600], label="A"),
        Part(pulse(), label="CALIBRATION"),
        Part(ecg, label="A"),
        Part(ecg[[1], :500], ("II",), label="B"),
    ]
    for number, order in enumerate(itertools.permutations(parts)):
        if number % 7 == 0:
            path = WRITERS[name](tmp_path / name, order)
            assert_signal(path, ecg)
            assert read_record(path).cautions[0].count(" s)") == 3


@ALL
def test_a_file_of_nothing_but_a_beat_is_refused(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    path = WRITERS[name](tmp_path / name, [Part(ecg[:, :600], label="Median")])
    with pytest.raises(
        UserError, match=r"'Median' \(12 leads, 1.2 s\) found, .*; expected the rhythm, because a median"
    ):
        read_record(path)
    path = WRITERS[name](tmp_path / name, [Part(ecg[:, :600], label="Median"), Part(pulse(), label="Calibration")])
    with pytest.raises(UserError, match=r"1.2 s\).*1 s\) found, without a recorded waveform"):
        read_record(path)


def test_a_file_of_very_many_groups_is_refused() -> None:
    group = Group("group", "", ("I",), 1, FS, lambda: (np.zeros((1, 1)), ("mV",)), start=0.0)
    groups = [replace(group, start=number / FS) for number in range(40_000)]
    with pytest.raises(UserError, match="40,000 waveform groups found; expected at most 1,000"):
        join_groups(groups, "a.dcm")


@ALL
def test_a_long_group_is_the_rhythm_whatever_its_label(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    path = WRITERS[name](tmp_path / name, [Part(ecg, label="MEDIAN BEAT")])
    assert_signal(path, ecg)
    (caution,) = read_record(path).cautions
    assert "'MEDIAN BEAT' (12 leads, 10 s), although its label" in caution
    parts = [Part(ecg[:, :600], label="RHYTHM"), Part(ecg, label="MEDIAN BEAT")]
    assert_signal(WRITERS[name](tmp_path / name, parts), ecg)


@pytest.mark.parametrize("name", ["a.dcm", "series.xml", "muse.xml"])
def test_a_padded_beat_beside_the_rhythm_is_known_by_its_label(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    padded = np.zeros_like(ecg)
    padded[:, :600] = ecg[:, :600]
    path = WRITERS[name](tmp_path / name, [Part(padded, label="MEDIAN"), Part(ecg)])
    assert_signal(path, ecg)


def test_derived_groups_are_left_out(tmp_path: Path, ecg: np.ndarray) -> None:
    derived = dicom_group(Part(ecg[::-1].copy(), label=""), originality="DERIVED")
    path = write_dicom_groups(tmp_path / "a.dcm", [derived, dicom_group(Part(ecg))])
    assert_signal(path, ecg)
    assert read_record(path).cautions == ("left out waveform group 1 'derived' (12 leads, 10 s)",)

    beat = aecg_series([Part(ecg[:, :600], label="REPRESENTATIVE_BEAT")], "TIME_RELATIVE")
    inner = beat.removeprefix("<component><series>").removesuffix("</series></component>")
    derivation = f"<derivation><derivedSeries>{inner}</derivedSeries></derivation>"
    text = aecg_document(aecg_series([Part(ecg)]).replace("</series>", f"{derivation}</series>"))
    (tmp_path / "a.xml").write_text(text)
    assert_signal(tmp_path / "a.xml", ecg)
    assert (
        "derived series 1 set 1 'REPRESENTATIVE_BEAT' (12 leads, 1.2 s)" in read_record(tmp_path / "a.xml").cautions[0]
    )


def test_a_relative_beat_does_not_continue_an_absolute_rhythm(tmp_path: Path, ecg: np.ndarray) -> None:
    beat = aecg_series([Part(ecg[:, :600], label="X", start=10.0)], "TIME_RELATIVE")
    for series in ([beat, aecg_series([Part(ecg)])], [aecg_series([Part(ecg)]), beat]):
        (tmp_path / "a.xml").write_text(aecg_document(*series))
        assert_signal(tmp_path / "a.xml", ecg)


@pytest.mark.parametrize("start", [float("nan"), float("inf")])
def test_a_start_that_is_not_finite_is_not_stated(tmp_path: Path, ecg: np.ndarray, start: float) -> None:
    parts = [Part(ecg, names=LEADS, start=start), Part(ecg, names=LEADS, start=start)]
    (tmp_path / "a.xml").write_text(aecg_document(aecg_series(parts, "TIME_RELATIVE")))
    with pytest.raises(UserError, match="do not state when they start"):
        read_record(tmp_path / "a.xml")


# ------------------------------------------------------------------ parts one after the other


@WITH_STARTS
@pytest.mark.parametrize("cuts", [(2500,), (1, 4000), (3333,), (1250, 2500, 3750), (4300,)])
def test_consecutive_groups_are_joined(tmp_path: Path, ecg: np.ndarray, name: str, cuts: tuple[int, ...]) -> None:
    bounds = [0, *cuts, 5000]
    parts = [Part(ecg[:, a:b], start=a / FS) for a, b in itertools.pairwise(bounds)]
    path = WRITERS[name](tmp_path / name, parts)
    assert_signal(path, ecg)
    assert read_record(path).cautions[0].startswith("joined ")
    assert_signal(WRITERS[name](tmp_path / name, parts[::-1]), ecg)


@WITH_STARTS
def test_a_calibration_pulse_does_not_continue_the_rhythm(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    path = WRITERS[name](tmp_path / name, [Part(ecg, label="A"), Part(pulse(), label="A", start=10.0)])
    assert_signal(path, ecg)


@WITH_STARTS
def test_a_pause_between_groups_is_invalid(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    path = WRITERS[name](tmp_path / name, [Part(ecg[:, :2000], start=3.0), Part(ecg[:, 3000:], start=9.0)])
    expected = ecg.astype(float)
    expected[:, 2000:3000] = np.nan
    assert_signal(path, expected)


@WITH_STARTS
@pytest.mark.parametrize("split", [2500, 1500, 3333])
def test_groups_of_the_same_leads_without_a_time_are_refused_with_both_lengths(
    tmp_path: Path, ecg: np.ndarray, name: str, split: int
) -> None:
    parts = [Part(ecg[:, :split]), Part(ecg[:, split:])]
    path = WRITERS[name](tmp_path / name, parts)
    with pytest.raises(UserError) as refusal:
        read_record(path)
    message = str(refusal.value)
    assert all(f"{length / FS:.4g} s)" in message for length in (split, 5000 - split))
    assert "have the same leads" in message and "\n" not in message


@WITH_STARTS
def test_groups_far_apart_are_refused_before_memory_is_used(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    path = WRITERS[name](tmp_path / name, [Part(ecg), Part(ecg, start=10.0)])
    text = path.read_bytes()
    path.write_bytes(text.replace(b"20020101120010", b"20320101120010").replace(b"10000 ", b"9999999999 "))
    if name == "a.dcm":
        later = dicom_group(Part(ecg))
        later.MultiplexGroupTimeOffset = "99999999999"
        write_dicom_groups(path, [dicom_group(Part(ecg)), later])
    with pytest.raises(UserError, match=r"waveform groups over .* s; expected those of one recording"):
        read_record(path)


# ------------------------------------------------------------------ different leads in different groups

FOUR_BY_THREE = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))


def columns(ecg: np.ndarray, rows: Sequence[int], first: int, last: int, start: float | None) -> Part:
    return Part(ecg[list(rows), first:last], [LEADS[row] for row in rows], start=start)


@WITH_STARTS
@pytest.mark.parametrize("layout", [FOUR_BY_THREE, (tuple(range(6)), tuple(range(6, 12)))])
@pytest.mark.parametrize("reverse", [False, True])
def test_leads_of_the_paper_format_are_placed_at_their_time(
    tmp_path: Path, ecg: np.ndarray, name: str, layout: tuple[tuple[int, ...], ...], reverse: bool
) -> None:
    step = 5000 // len(layout)
    parts = [columns(ecg, rows, k * step, (k + 1) * step, k * step / FS) for k, rows in enumerate(layout)]
    path = WRITERS[name](tmp_path / name, parts[::-1] if reverse else parts)
    expected = np.full(ecg.shape, np.nan)
    for k, rows in enumerate(layout):
        expected[list(rows), k * step : (k + 1) * step] = ecg[list(rows), k * step : (k + 1) * step]
    assert_signal(path, expected)

    findings = {finding.code for finding in examine_records([read_record(path)])[0]}
    assert "invalid" in findings and "reading" in findings and "limb_law" not in findings


@WITH_STARTS
def test_a_rhythm_strip_fills_what_the_columns_did_not_record(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    parts = [columns(ecg, rows, 1250 * k, 1250 * (k + 1), 2.5 * k) for k, rows in enumerate(FOUR_BY_THREE)]
    path = WRITERS[name](tmp_path / name, [Part(ecg[[1]], ("II",), start=0.0), *parts])
    signal = read_record(path).signal
    np.testing.assert_allclose(signal[1], ecg[1] / 1000, atol=1e-6)
    assert np.isnan(signal).mean() == pytest.approx(11 * 0.75 / 12)


@WITH_STARTS
@pytest.mark.parametrize("start", [0.0, None])
def test_a_strip_that_adds_nothing_is_left_out(tmp_path: Path, name: str, start: float | None) -> None:
    long = made_ecg(30.0)
    parts = [Part(long[[1]], ("II",), label="STRIP", start=start), Part(long[:, :5000], start=start)]
    path = WRITERS[name](tmp_path / name, parts)
    assert_signal(path, long[:, :5000])
    assert "(1 lead, 30 s)" in read_record(path).cautions[-1] and read_record(path).cautions[-1].startswith("left out")


@ALL
def test_groups_of_one_time_are_joined(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    six = [Part(ecg[:6], LEADS[:6]), Part(ecg[6:], LEADS[6:])]
    assert_signal(WRITERS[name](tmp_path / name, six), ecg)
    assert_signal(WRITERS[name](tmp_path / name, six[::-1]), ecg)
    each = [Part(ecg[[row]], (lead,)) for row, lead in enumerate(LEADS)]
    assert_signal(WRITERS[name](tmp_path / name, each), ecg)
    eight = [Part(ecg[[6, 7, 8, 9, 10, 11]], LEADS[6:]), Part(ecg[[0, 1]], ("I", "II"))]
    assert_signal(WRITERS[name](tmp_path / name, eight), ecg)
    beats = [*six, *(replace(part, ecg=part.ecg[:, :600]) for part in six)]
    assert_signal(WRITERS[name](tmp_path / name, beats), ecg)


@ALL
def test_limb_leads_that_contradict_each_other_are_not_of_one_time(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    parts = [columns(ecg, rows, 1250 * k, 1250 * (k + 1), None) for k, rows in enumerate(FOUR_BY_THREE)]
    path = WRITERS[name](tmp_path / name, parts)
    with pytest.raises(UserError, match=r"contradicts I and II of .*; expected groups that state when they start"):
        read_record(path)


@ALL
def test_groups_of_different_rates_are_refused(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    parts = [Part(ecg[:6], LEADS[:6]), Part(ecg[6:, ::2], LEADS[6:], fs=250)]
    with pytest.raises(UserError, match="waveform groups at 250 and 500 Hz"):
        read_record(WRITERS[name](tmp_path / name, parts))
    # The rate of a beat does not matter.
    beat = Part(ecg[:, :1200], label="X", fs=1000)
    assert_signal(WRITERS[name](tmp_path / name, [beat, Part(ecg)]), ecg)


# ------------------------------------------------------------------ the calibration second of Philips


def write_philips(path: Path, microvolts: np.ndarray) -> Path:
    path.write_text(sierra(microvolts // 5))
    return path


@pytest.mark.parametrize("first", [0.0, 0.1, 0.2, 0.8])
def test_the_calibration_second_of_philips_is_left_out(tmp_path: Path, ecg: np.ndarray, first: float) -> None:
    path = write_philips(tmp_path / "a.xml", np.hstack([ecg, pulse(first=first)]))
    assert_signal(path, ecg)
    assert read_record(path).cautions == ("left out the last second: a calibration pulse",)
    path = write_philips(tmp_path / "a.xml", np.hstack([pulse(first=first), ecg]))
    assert_signal(path, ecg)
    assert read_record(path).cautions == ("left out the first second: a calibration pulse",)


def test_a_pulse_that_limb_leads_compute_is_left_out_too(tmp_path: Path, ecg: np.ndarray) -> None:
    computed = pulse() * np.array([1, 1, 0, -1, 0.5, 0.5, *[1] * 6])[:, None]
    assert_signal(write_philips(tmp_path / "a.xml", np.hstack([ecg, computed]).astype(int)), ecg)


@pytest.mark.parametrize("seconds", [11.0, 10.0, 1.0, 7.5])
def test_real_seconds_of_philips_stay(tmp_path: Path, seconds: float) -> None:
    ecg = made_ecg(seconds)
    path = write_philips(tmp_path / "a.xml", ecg)
    assert_signal(path, ecg)
    assert read_record(path).cautions == ()


def test_seconds_that_are_no_pulse_in_all_leads_stay(tmp_path: Path) -> None:
    ecg = made_ecg(11.0)
    one_lead = ecg.copy()
    one_lead[6, -500:] = pulse(1)
    flat = ecg.copy()
    flat[:, -500:] = 0
    wide = ecg.copy()
    wide[:, -500:] = 0
    wide[:, -490:-10] = 1000
    high = ecg.copy()
    high[:, -500:] = 4 * pulse()
    for signal in (one_lead, flat, wide, high):
        assert read_record(write_philips(tmp_path / "a.xml", signal)).signal.shape == (12, 5500)


@pytest.mark.parametrize("fs", [250.0, 500.0, 976.5625])
def test_a_pulse_is_recognized_at_any_rate(fs: float) -> None:
    x = pulse(12, 1.0, 0.3, fs) / 1000
    assert is_calibration_pulse(x, fs) and is_calibration_pulse(x / 2, fs) and is_calibration_pulse(-x, fs)
    rng = np.random.default_rng(0)
    assert is_calibration_pulse(x + rng.uniform(-0.008, 0.008, x.shape), fs) and is_calibration_pulse(x + 0.3, fs)
    filtered = np.apply_along_axis(np.convolve, 1, x, np.full(round(0.01 * fs), 1 / round(0.01 * fs)), "same")
    assert is_calibration_pulse(filtered, fs)

    noisy = x + rng.normal(0, 0.05, x.shape)
    gaps = np.where(x > 0.5, np.nan, x)
    triangle = np.maximum(1 - np.abs(np.arange(x.shape[1]) / fs - 0.4) / 0.1, 0) * np.ones((12, 1))
    for other in (noisy, gaps, triangle, 0 * x, 0.1 * x, 4 * x, x[:, :2], np.hstack([x, x])):
        assert not is_calibration_pulse(other, fs)
