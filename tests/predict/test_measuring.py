"""Measurements of records as `einthoven predict` reports them, with the true waves of generated records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest import approx

from einthoven.data.formats.record import Record
from einthoven.data.synthetic.generate import Sample, iterate
from einthoven.functional.delineation import mask_to_probability
from einthoven.functional.leads import LEADS
from einthoven.functional.measurements import UNITS, Patient
from einthoven.predict.explaining import wave_shares
from einthoven.predict.measuring import measure_records, measurements_to_json, patient_of
from einthoven.report.measurement_text import measurement_line, measurement_lines, measurement_notes
from einthoven.terminal.measurement_columns import MeasurementColumns


class TrueWaves:
    """Finds the waves of generated records by their signals."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def probabilities(self, signals: NDArray[np.floating], fs: float, leads: Sequence[str]) -> NDArray[np.float32]:
        masks = []
        for signal in signals:
            (mask,) = (s.masks[int(fs)] for s in self._samples if np.allclose(s.signals[int(fs)] / 1e3, signal))
            masks.append(mask)
        return mask_to_probability(np.stack(masks)).astype(np.float32)


class RegularWaves:
    """Finds a P, a QRS and a T in each second of any signal."""

    def probabilities(self, signals: NDArray[np.floating], fs: float, leads: Sequence[str]) -> NDArray[np.float32]:
        percent = np.arange(signals.shape[2]) % round(fs) * 100 // round(fs)
        waves = np.stack([(percent >= start) & (percent < stop) for start, stop in ((30, 40), (45, 55), (65, 85))])
        return np.broadcast_to(waves, (len(signals), *waves.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(iterate(6, 3, rates=(100, 500)))


def record(sample: Sample, fs: int, *comments: str) -> Record:
    return Record((sample.signals[fs] / 1e3).astype(np.float32), fs, LEADS, "r", comments=comments)


def test_records_of_any_layout_keep_their_order(samples: list[Sample]) -> None:
    frequencies = [100, 500, 500, 100, 500, 100]
    records = [record(sample, fs) for sample, fs in zip(samples, frequencies, strict=True)]
    found = measure_records(TrueWaves(samples), records)
    for measured, sample, fs in zip(found, samples, frequencies, strict=True):
        qrs = 1e3 * sample.recording.shapes[False].qrs_duration
        assert measured.values["qrs"].value == approx(qrs, abs=600 / fs)
    assert not measure_records(TrueWaves(samples), [])


def test_the_header_tells_age_sex_and_pacing() -> None:
    assert patient_of(["Age: 74", "Sex: Female", "Dx: 10370003,426783006"]) == Patient(74.0, "female", True)
    assert patient_of(["sex : M", "Dx: 426783006"]) == Patient(None, "male", False)
    assert patient_of(["Age: NaN", "Sex: unknown", "sex"]) == Patient(None, None, False)


def test_of_a_long_record_the_first_five_minutes_are_measured() -> None:
    long = Record(np.ones((2, 40000), np.float32), 100.0, ("I", "II"), "r")
    (measured,) = measure_records(RegularWaves(), [long])
    assert measured.beats == 300
    assert measured.notes == ("measured in the first 300 s of 400 s",)


def test_a_gap_in_all_leads_divides_a_record_and_a_short_or_single_one_does_not() -> None:
    x = np.ones((2, 4000), np.float32)
    whole = Record(x.copy(), 100.0, ("I", "II"), "r")
    with_gaps = x.copy()
    with_gaps[:, 500:504] = np.nan  # 40 ms
    with_gaps[0, 1500:3000] = np.nan
    assert measure_records(RegularWaves(), [Record(with_gaps, 100.0, ("I", "II"), "r")]) == measure_records(
        RegularWaves(), [whole]
    )
    divided = with_gaps.copy()
    divided[:, 1000:1005] = np.nan  # 50 ms
    first, second = measure_records(RegularWaves(), [Record(divided, 100.0, ("I", "II"), "r"), whole])
    assert first.beats == 30 and second.beats == 40
    assert first.notes == ("measured in the longest part without a gap in all leads, 29.9 s of 40.0 s",)
    (nothing,) = measure_records(RegularWaves(), [Record(x * np.nan, 100.0, ("I", "II"), "r")])
    assert nothing.values["st_I"].value is None


def test_json_has_each_value_with_spread_beats_and_unit_or_a_reason(samples: list[Sample]) -> None:
    (measured,) = measure_records(RegularWaves(), [record(samples[0], 500, "Sex: Male")])
    content = measurements_to_json(measured)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["pr"] == {
        "value": approx(150),
        "spread": approx(0, abs=1e-6),
        "beats": 10,
        "unit": "ms",
    }
    assert content["heart_rate"]["value"] == approx(60)
    assert content["qtc"] == content["qtc_fridericia"]
    assert content["qtc"]["upper_limit"] == {"men": 450.0, "women": 460.0}
    assert {*content["axes"]} == {"p", "qrs", "t"} and {*content["st"]} == {*LEADS}
    assert content["rhythm"] == {"possible_atrial_fibrillation": False, "paced": False}

    (two_leads,) = measure_records(RegularWaves(), [Record(np.ones((1, 900), np.float32), 100.0, ("V1",), "r")])
    content = measurements_to_json(two_leads)
    assert content["axes"]["qrs"] == {"value": None, "unit": "°", "reason": "leads I and aVF are needed"}
    assert content["st"]["V1"]["reason"] == "no signal in this lead"


def test_text_has_the_values_or_the_reason(samples: list[Sample]) -> None:
    paced = record(samples[0], 500, "Age: 12", "Dx: 10370003")
    phase = np.arange(5000) % 500 / 500
    t_wave = np.sin(np.pi * np.clip((phase - 0.65) / 0.2, 0, 1)) ** 2
    (measured,) = measure_records(RegularWaves(), [replace(paced, signal=paced.signal + t_wave.astype(np.float32))])
    lines = measurement_lines(measured)
    assert lines[0] == "heart rate 60 ± 0/min"
    assert "PR – (paced rhythm)" in lines and "QRS 100 ± 0 ms" in lines
    notes = measurement_notes(measured)
    assert "QTc: paced rhythm" in notes and notes[-1].startswith("age 12: outside of the model")
    line = measurement_line(measured)
    assert "heart rate 60/min" in line and "QT 400 ms" in line and "no PR: paced rhythm" in line
    assert line.count("ST ") == 1 and " mV (" in line
    low = replace(measured.values["st_V1"], value=-0.004)
    levels = {name: low for name in measured.values if name.startswith("st_")}
    flat = replace(measured, values={**measured.values, **levels})
    assert "ST +0.00 (" in measurement_line(flat) and "-0.00" not in measurement_line(flat)


def test_csv_has_two_columns_for_each_measurement(samples: list[Sample]) -> None:
    columns = MeasurementColumns(("I", "V1"))
    assert columns.names[:2] == ["heart_rate", "heart_rate_spread"]
    assert columns.names[-3:] == ["st_V1", "st_V1_spread", "measurement_notes"]
    assert len(columns.names) == 2 * (len(UNITS) + 2) + 1
    (measured,) = measure_records(RegularWaves(), [record(samples[0], 100, "Dx: 10370003")])
    cells = dict(zip(columns.names, columns.cells(measurements_to_json(measured)), strict=True))
    assert cells["pr"] == cells["pr_spread"] == "" and "pr: paced rhythm" in cells["measurement_notes"]
    assert float(cells["qrs"]) == approx(100)
    assert float(cells["st_I"]) == approx(measured.values["st_I"].value, rel=1e-4)


def test_the_share_of_the_waves_in_an_explanation() -> None:
    signal = np.ones((2, 1000))
    even = wave_shares(RegularWaves(), signal, 100.0, ("I", "II"), -np.ones((2, 1000)))
    assert {*even} == {"P", "QRS", "ST", "T"}
    for share in even.values():
        assert share.relevance == approx(share.chance)
    relevance = np.zeros((2, 1000))
    relevance[:, 45:55] = [[1.0], [-1.0]]
    found = wave_shares(RegularWaves(), signal, 100.0, ("I", "II"), relevance)
    assert found["QRS"].relevance == approx(1.0) and found["QRS"].chance == approx(0.1, abs=0.01)
    assert found["T"].relevance == 0.0
    assert not wave_shares(RegularWaves(), signal, 100.0, ("I", "II"), np.zeros((2, 1000)))
