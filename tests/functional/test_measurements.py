"""Measurements against generated records, closed forms and SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from einthoven.data.synthetic.build import draw_build
from einthoven.data.synthetic.compose import FS as GENERATOR_FS
from einthoven.data.synthetic.compose import MARGIN, Recording, compose
from einthoven.data.synthetic.conditions import Patient as GeneratedPatient
from einthoven.functional import qtc
from einthoven.functional.beat_measures import PQ, ST_POINT, measure_beats, t_heights
from einthoven.functional.delineation import Boundaries, delineate, mask_to_probability
from einthoven.functional.leads import LEADS
from einthoven.functional.measurements import UNITS, Measurements, Patient, measure
from einthoven.functional.rhythm import is_possibly_fibrillation, spike_share

Float = NDArray[np.float64]
ADULT = GeneratedPatient(1, 50, False, {"NORM": 0.5}, likelihood={"NORM": 100.0})


def recording(rhythm: str, seed: int = 0, **conditions: float) -> Recording:
    """Return a noise-free record of the generator."""
    rng = np.random.default_rng(seed)
    patient = replace(
        ADULT, conditions=conditions or {"NORM": 0.5}, likelihood=dict.fromkeys(conditions or ["NORM"], 100.0)
    )
    return compose(rng, patient, draw_build(rng, 50, False), rhythm)


def twelve_leads(record: Recording) -> Float:
    """Return the twelve leads (12, 5000) of a generated record in mV."""
    i, ii, *chest = record.leads[:, MARGIN:-MARGIN].astype(np.float64)
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *chest])


def measured(record: Recording, patient: Patient | None = None) -> Measurements:
    """Measure a generated record with its true mask."""
    boundaries = delineate(mask_to_probability(record.mask(500)[None]), 500)
    return measure_one(twelve_leads(record), GENERATOR_FS, LEADS, boundaries, patient)


def measure_one(
    x: Float, fs: float, leads: tuple[str, ...], boundaries: Boundaries, patient: Patient | None = None
) -> Measurements:
    """Measure one record (L, T)."""
    (measurements,) = measure(x[None], fs, leads, boundaries, [patient or Patient()])
    return measurements


def beats_at(onsets: Float, *, qrs: float = 0.1, pr: float = 0.16, qt: float = 0.4, has_p: bool = True) -> Boundaries:
    """Return the boundaries of one record with equal beats."""
    onset = np.asarray(onsets, float)[None]
    nan = np.full_like(onset, np.nan)
    return Boundaries(
        p_onset=onset - pr if has_p else nan,
        p_end=onset - pr + 0.1 if has_p else nan,
        qrs_onset=onset,
        qrs_end=onset + qrs,
        t_onset=onset + qrs + 0.1,
        t_end=onset + qt,
    )


def values_of(boundaries: Boundaries, patient: Patient | None = None, t_height: float = 0.5) -> Measurements:
    """Measure a record of two leads of noise, and T waves of this height in mV in the first lead."""
    x = np.random.default_rng(0).normal(0, 0.1, (2, 2500))
    time = np.arange(2500) / 200.0
    for onset, end in zip(boundaries.t_onset[0], boundaries.t_end[0], strict=True):
        share = np.clip((time - onset) / (end - onset), 0, 1)
        x[0] += t_height * np.sin(np.pi * share) ** 2
    return measure_one(x, 200.0, ("I", "aVF"), boundaries, patient)


@pytest.mark.parametrize("seed", range(3))
def test_the_intervals_of_the_generator_are_measured(seed: int) -> None:
    record = recording("SR", seed)
    shape = record.shapes[False]
    values = measured(record).values
    assert values["pr"].value == pytest.approx(1e3 * shape.pr, abs=2)
    assert values["qrs"].value == pytest.approx(1e3 * shape.qrs_duration, abs=2)
    assert values["qtc_fridericia"].value == pytest.approx(1e3 * shape.qtc, abs=6)
    rr = np.diff(record.beats.onset[(record.beats.onset > 0) & (record.beats.onset < 9.9)])
    assert values["heart_rate"].value == pytest.approx(60 / np.median(rr), rel=0.01)


def test_the_axis_of_the_generator_is_measured() -> None:
    records = [recording("SR", seed) for seed in range(9)]
    axes = np.array([measured(record).values["axis_qrs"].value for record in records])
    differences = (axes - [record.axis for record in records] + 180) % 360 - 180
    # The axis of the generator is that of the QRS alone. P and ST reach into the interval, which turns small areas.
    assert np.median(np.abs(differences)) < 4


def test_rr_variability_is_that_of_the_intervals() -> None:
    rr = np.random.default_rng(1).normal(0.8, 0.05, 12)
    values = values_of(beats_at(0.5 + np.concatenate([[0.0], np.cumsum(rr)]))).values
    assert values["rr_sdnn"].value == pytest.approx(1e3 * np.std(rr, ddof=1))
    assert values["rr_rmssd"].value == pytest.approx(1e3 * np.sqrt(np.mean(np.diff(rr) ** 2)))
    assert values["qtc_bazett"].value == pytest.approx(400 / np.sqrt(np.median(rr)))
    rate = values["heart_rate"]
    assert rate.value == pytest.approx(np.median(60 / rr)) and rate.beats == 12
    assert rate.spread == pytest.approx(stats.iqr(60 / rr, scale="normal"), rel=1e-3)


def test_qtc_by_the_closed_forms() -> None:
    assert qtc.bazett(400.0, 0.64) == pytest.approx(500.0)
    assert qtc.fridericia(400.0, 0.512) == pytest.approx(500.0)
    assert qtc.bazett(400.0, 1.0) == qtc.fridericia(400.0, 1.0) == 400.0
    values = values_of(beats_at(np.arange(0.5, 10, 0.64))).values
    assert values["qtc_bazett"].value == pytest.approx(500.0)
    assert values["qtc_fridericia"].value == pytest.approx(400 / 0.64 ** (1 / 3))


@pytest.mark.parametrize(
    ("qt", "sex", "limits"),
    [
        (0.449, "male", ()),
        (0.455, "male", ("men",)),
        (0.455, "female", ()),
        (0.465, "female", ("women",)),
        (0.455, None, ("men",)),
        (0.465, None, ("men", "women")),
    ],
)
def test_the_limits_of_qtc_depend_on_the_sex(qt: float, sex: str | None, limits: tuple[str, ...]) -> None:
    notes = values_of(beats_at(np.arange(0.5, 10.0), qt=qt), Patient(sex=sex)).values["qtc_fridericia"].notes
    assert [note.rsplit(" ", 1)[1] for note in notes] == list(limits)


@pytest.mark.parametrize(("t_height", "is_measured"), [(0.0, False), (-0.02, False), (0.25, True), (-0.25, True)])
def test_qt_is_not_measured_if_t_is_flat_in_each_lead(t_height: float, is_measured: bool) -> None:
    values = values_of(beats_at(np.arange(0.5, 10.0)), t_height=t_height).values
    for name in ("qt", "qtc_fridericia", "qtc_bazett"):
        assert (values[name].value is not None) == is_measured
        assert values[name].reason == ("" if is_measured else "flat T wave: below 0.1 mV in each lead")
    assert values["pr"].value is not None and values["qrs"].value is not None


def test_the_height_of_t_is_measured_from_its_end_and_without_wander() -> None:
    boundaries = beats_at(np.arange(0.5, 10.0))
    time = np.arange(2500) / 250.0
    share = np.clip((time % 1.0 - 0.7) / 0.2, 0, 1)
    wave = np.sin(np.pi * share) ** 2
    x = np.stack([0.3 * wave, -0.2 * wave + 1.0, 0 * wave, np.where(np.arange(2500) % 250 < 60, np.nan, 0.3 * wave)])
    heights = t_heights(x[None], 250.0, boundaries)[0]
    assert heights == pytest.approx([0.3, 0.2, 0.0, 0.3], abs=0.01)
    assert np.isnan(t_heights(x[None], 250.0, beats_at(np.array([])))).all()


def test_a_sample_that_is_missing_hides_only_the_beat_that_it_is_in() -> None:
    x = np.random.default_rng(3).normal(0, 1, (1, 2, 2500))
    boundaries = beats_at(np.arange(0.5, 10.0))
    whole = measure_beats(x, 250.0, boundaries)
    x[0, 1, 250 * 3 + 140] = np.nan
    found = measure_beats(x, 250.0, boundaries)
    np.testing.assert_array_equal(np.argwhere(np.isnan(found.qrs_area)), [[0, 1, 3]])
    np.testing.assert_array_equal(found.qrs_area[0, 0], whole.qrs_area[0, 0])
    assert not np.isnan(found.p_area).any()


def test_a_wide_qrs_flags_qtc() -> None:
    onsets = np.arange(0.5, 10.0)
    assert values_of(beats_at(onsets, qrs=0.119)).values["qtc_bazett"].notes == ()
    assert values_of(beats_at(onsets, qrs=0.13)).values["qtc_bazett"].notes == ("QRS of 130 ms is part of QT",)


def test_atrial_fibrillation_has_no_pr_and_a_flag() -> None:
    for seed in range(3):
        found = measured(recording("AFIB", seed))
        assert found.has_fibrillation
        assert found.values["pr"].value is None and found.values["pr"].reason == "possible atrial fibrillation"
        assert "possible atrial fibrillation" in found.values["qtc_fridericia"].notes
        assert found.values["axis_p"].value is None
        assert found.values["qt"].value is not None
    for rhythm in ("SR", "SARRH", "STACH", "SBRAD"):
        assert not measured(recording(rhythm)).has_fibrillation


def test_irregular_intervals_alone_are_no_fibrillation() -> None:
    rr = np.array([[0.8, 0.5, 1.1, 0.7, 1.0]])
    assert is_possibly_fibrillation(rr, np.array([False])).all()
    assert not is_possibly_fibrillation(rr, np.array([True])).any()
    assert not is_possibly_fibrillation(np.full((1, 5), 0.8), np.array([False])).any()
    assert not is_possibly_fibrillation(rr[:, :3], np.array([False])).any()
    assert not is_possibly_fibrillation(np.zeros((2, 0)), np.array([False, True])).any()


def test_pacing_is_found_by_its_spikes_or_told_by_the_header() -> None:
    record = recording("PACE")
    found = measured(record)
    assert found.is_paced and found.values["pr"].reason == "paced rhythm"
    assert "paced rhythm" in found.values["qtc_bazett"].notes
    assert not measured(recording("SR")).is_paced
    told = values_of(beats_at(np.arange(0.5, 10.0)), Patient(is_paced=True))
    assert told.is_paced and told.values["pr"].value is None and told.values["qrs"].value is not None


def test_spikes_are_not_looked_for_at_100_hz() -> None:
    x = np.zeros((1, 2, 1000))
    assert np.isnan(spike_share(x, 100.0, np.array([[1.0, 2.0]]))).all()
    x = np.random.default_rng(0).normal(0, 0.005, (2, 2, 5000))
    x[0, 1, [480, 990]] += 1.0
    assert spike_share(x, 500.0, np.array([[1.0, 2.0], [1.0, np.nan]])) == pytest.approx([1.0, 0.0])


def test_a_record_without_p_waves_has_no_pr_and_no_p_axis() -> None:
    values = values_of(beats_at(np.arange(0.5, 10.0), has_p=False)).values
    for name in ("pr", "axis_p"):
        assert values[name].value is None and values[name].reason == "no P wave in most beats"
    few = beats_at(np.arange(0.5, 10.0))
    few.p_onset[0, 2:] = few.p_end[0, 2:] = np.nan
    assert values_of(few).values["pr"].value is None


def test_one_beat_has_intervals_and_no_rate() -> None:
    found = values_of(beats_at(np.array([2.0])))
    assert found.values["qrs"].value == pytest.approx(100) and found.values["qrs"].spread is None
    for name in ("heart_rate", "rr_sdnn", "rr_rmssd", "qtc_fridericia"):
        assert found.values[name].value is None and found.values[name].reason == "one beat"
    nothing = values_of(beats_at(np.array([])))
    assert {value.reason for value in nothing.values.values()} == {"no beat"}
    assert {*UNITS} < {*nothing.values}


def test_children_are_named_as_outside_of_the_model() -> None:
    boundaries = beats_at(np.arange(0.5, 10.0))
    assert "age 17" in values_of(boundaries, Patient(age=17.0)).notes[0]
    assert not values_of(boundaries, Patient(age=18.0)).notes
    assert not values_of(boundaries).notes


def test_areas_and_levels_are_the_integrals_of_the_lines_between_samples() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (1, 1, 400))
    fs = 250.0
    boundaries = beats_at(np.array([0.4, 0.9]) + 0.0013)
    found = measure_beats(x, fs, boundaries)
    time = np.arange(400) / fs

    def mean(start: float, stop: float) -> float:
        points = time[(time > start) & (time < stop)]
        area = integrate.quad(lambda at: np.interp(at, time, x[0, 0]), start, stop, points=points, limit=400)[0]
        return float(area / (stop - start))

    for beat, (onset, end) in enumerate(zip(boundaries.qrs_onset[0], boundaries.qrs_end[0], strict=True)):
        level = mean(onset - PQ[0], onset - PQ[1])
        st_level = mean(end + ST_POINT - 0.01, end + ST_POINT + 0.01) - level
        assert found.st[0, 0, beat] == pytest.approx(st_level, abs=1e-7)
        assert found.qrs_area[0, 0, beat] == pytest.approx((mean(onset, end) - level) * (end - onset), abs=1e-7)


def test_a_turned_signal_has_turned_axes_and_a_raised_st_its_level() -> None:
    fs, onsets = 200.0, np.arange(0.5, 10.0)
    boundaries = beats_at(onsets)
    time = np.arange(2500) / fs
    phase = (time - 0.5) % 1.0
    deflection = ((phase < 0.1) | (phase > 0.84)).astype(float)
    angle = np.deg2rad(70.0)
    # aVF is smaller by √3/2 than a lead on Einthoven's triangle.
    x = np.stack([np.cos(angle) * deflection, np.sin(angle) * np.sqrt(3) / 2 * deflection])
    x[:, (phase >= 0.84) & (phase < 0.95)] *= 0.2
    x[:, phase > 0.95] = 0.0
    x[0, (phase > 0.1) & (phase < 0.3)] = 0.15
    values = measure_one(x, fs, ("I", "aVF"), boundaries).values
    assert values["axis_qrs"].value == pytest.approx(70.0, abs=0.5)
    assert values["axis_p"].value == pytest.approx(70.0, abs=0.5)
    assert values["st_I"].value == pytest.approx(0.15, abs=1e-9)
    assert values["st_aVF"].value == pytest.approx(0.0, abs=1e-9)
    opposite = measure_one(-x, fs, ("I", "aVF"), boundaries).values["axis_qrs"].value
    assert opposite == pytest.approx(-110.0, abs=0.5)


def test_missing_leads_and_silent_leads_have_a_reason() -> None:
    x = np.zeros((2, 2500))
    x[0] = np.sin(np.arange(2500))
    values = measure_one(x, 200.0, ("I", "V1"), beats_at(np.arange(0.5, 10.0))).values
    assert values["axis_qrs"].reason == "leads I and aVF are needed"
    assert values["st_V1"].reason == "no signal in this lead" and values["st_I"].value is not None


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_lead_does_not_turn_the_axis(silent: int, value: float) -> None:
    x = np.random.default_rng(0).normal(0, 0.1, (2, 2500))
    x[silent] = value
    values = measure_one(x, 200.0, ("I", "aVF"), beats_at(np.arange(0.5, 10, 0.8))).values
    for name in ("axis_p", "axis_qrs", "axis_t"):
        assert values[name].value is None and values[name].reason == "no signal in lead I or aVF"


def test_a_record_has_the_same_measurements_alone_and_among_others() -> None:
    records = [recording("SR", 0), recording("AFIB", 1), recording("STACH", 2)]
    x = np.stack([twelve_leads(record) for record in records])
    x[1, 3, 2000:2100] = np.nan
    masks = np.stack([record.mask(500) for record in records])
    together = measure(x, GENERATOR_FS, LEADS, delineate(mask_to_probability(masks), 500), [Patient()] * 3)
    alone = [
        measure_one(x[row], GENERATOR_FS, LEADS, delineate(mask_to_probability(masks[row : row + 1]), 500))
        for row in range(3)
    ]
    assert together == alone
