"""The sampling frequency of a file: an implausible one is refused, with the value that is meant and its option."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pydicom
import pytest
from write_formats import aecg, dicom_file, muse, sierra

from einthoven.commands.doctor import main
from einthoven.data import read_record
from einthoven.data.doctor import examine_records
from einthoven.data.formats.rate import HIGHEST_RATE, LOWEST_RATE
from einthoven.data.formats.reading import read_microvolts
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS, derive_limb_leads

SAMPLES = 400


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    """Twelve leads in whole µV that obey the limb-lead laws."""
    rng = np.random.default_rng(1)
    i, ii = 2 * rng.integers(-900, 900, (2, SAMPLES)).astype(np.float64)
    return np.concatenate([derive_limb_leads(i, ii), rng.integers(-2000, 2000, (6, SAMPLES))])


def write_table(path: Path, ecg: np.ndarray, name: str, times: Any) -> Path:
    lines = [",".join([name, *(f"{lead} (uV)" for lead in LEADS)])]
    lines += [",".join([repr(float(time)), *(f"{x:g}" for x in row)]) for time, row in zip(times, ecg.T, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


N = np.arange(SAMPLES)


@pytest.mark.parametrize(
    ("name", "times", "fs", "words"),
    [
        ("time", 2 * N, 500, "1000 times that is 500 Hz"),
        ("t", 1_700_000_000_000 + 4 * N, 250, "1000 times that is 250 Hz"),
        ("Time", N, 1000, "or the true value if the file numbers its samples"),
        ("time", 2000 * N, 500, "1,000,000 times that is 500 Hz"),
        ("t", np.round(N * 1000 / 125), 125, "1000 times that is 125 Hz"),
        ("time", N / 500 / 60, 500, "1/60 of that is 500 Hz"),
        ("time_ms", N / 500, 500, "1/1000 of that is 500 Hz"),
    ],
)
def test_times_of_another_unit_are_refused_with_the_rate_that_is_meant(
    tmp_path: Path, ecg: np.ndarray, name: str, times: Any, fs: int, words: str
) -> None:
    path = write_table(tmp_path / "a.csv", ecg, name, times)
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError) as refusal:
            read(path)
        message = str(refusal.value)
        assert f"(column '{name}', in " in message and words in message and f"use fs={fs}" in message
        assert "expected 50 to 20,000 Hz" in message and "\n" not in message

    # What the message offers is accepted, as an option and in the sidecar.
    record = read_record(path, fs=fs)
    assert record.fs == fs and any("as stated by the user" in note for note in record.notes)
    np.testing.assert_allclose(record.signal, ecg / 1000, atol=1e-6)
    (tmp_path / "a.json").write_text(json.dumps({"fs": fs}))
    assert read_record(path).fs == fs and read_microvolts(path)[1] == fs


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("time (us)", 2000),
        ("time_µs", 2000),
        ("t [msec]", 2),
        ("time (ns)", 2_000_000),
        ("t_sec", 0.002),
        ("time (min)", 1 / 30_000),
    ],
)
def test_times_with_a_unit_give_the_rate(tmp_path: Path, ecg: np.ndarray, name: str, step: float) -> None:
    assert read_record(write_table(tmp_path / "a.csv", ecg, name, step * N)).fs == 500


def test_a_rate_that_is_too_high_is_not_taken_for_minutes(tmp_path: Path, ecg: np.ndarray) -> None:
    path = write_table(tmp_path / "a.csv", ecg, "time_us", 40.0 * N)
    with pytest.raises(UserError, match=r"25000 Hz found .*20,000 Hz; use fs=…\."):
        read_record(path)


def write_npz(folder: Path, ecg: np.ndarray, fs: float) -> Path:
    np.savez(folder / "a.npz", signal=ecg, fs=fs, units="uV", leads=np.array(LEADS))
    return folder / "a.npz"


def write_wfdb(folder: Path, ecg: np.ndarray, fs: float) -> Path:
    lines = [f"a 12 {fs:.12g} {SAMPLES}"]
    for lead, row in zip(LEADS, ecg.astype(np.int16), strict=True):
        lines.append(f"a.dat 16 1000/mV 16 0 {row[0]} {row.sum(dtype=np.int16)} 0 {lead}")
    (folder / "a.hea").write_text("\n".join(lines) + "\n")
    (folder / "a.dat").write_bytes(ecg.T.astype("<i2").tobytes())
    return folder / "a.hea"


def write_edf_at(folder: Path, ecg: np.ndarray, fs: float) -> Path:
    ranges = {"physical_range": (-8000, 8000), "digital_range": (-8000, 8000), "physical_dimension": "uV"}
    signals = [
        edfio.EdfSignal.from_digital(row.astype(np.int16), fs, label=lead, **ranges)
        for lead, row in zip(LEADS, ecg, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=SAMPLES / fs).write(folder / "a.edf")
    return folder / "a.edf"


def write_dicom_at(folder: Path, ecg: np.ndarray, fs: float) -> Path:
    dataset = pydicom.dcmread(dicom_file())
    group = dataset.WaveformSequence[0]
    group.SamplingFrequency = fs
    group.NumberOfWaveformSamples = SAMPLES
    group.WaveformData = ecg.T.astype("<i2").tobytes()
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelSensitivity = "1"
        channel.ChannelBaseline = "0"
    dataset.WaveformSequence = [group]
    dataset.save_as(folder / "a.dcm")
    return folder / "a.dcm"


def write_aecg_at(folder: Path, ecg: np.ndarray, fs: float) -> Path:
    (folder / "a.xml").write_text(aecg(ecg, increment=f"{1 / fs:.12g}"))
    return folder / "a.xml"


def write_muse_at(folder: Path, ecg: np.ndarray, fs: float) -> Path:
    rows = ecg[[0, 1, *range(6, 12)]] / 5
    text = muse(rows).replace("<SampleBase>500<", f"<SampleBase>{round(fs * 1e4)}<")
    (folder / "a.xml").write_text(text.replace("<SampleExponent>0<", "<SampleExponent>-4<"))
    return folder / "a.xml"


WRITERS = [write_npz, write_wfdb, write_edf_at, write_dicom_at, write_aecg_at, write_muse_at]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("wrong", "offer"), [(0.5, "use fs=500."), (40.0, "use fs=…."), (500_000.0, "use fs=500.")])
def test_every_format_refuses_rates_that_no_electrocardiograph_has(
    tmp_path: Path, ecg: np.ndarray, write: Callable[[Path, np.ndarray, float], Path], wrong: float, offer: str
) -> None:
    path = write(tmp_path, ecg, wrong)
    with pytest.raises(UserError) as refusal:
        read_record(path)
    assert str(refusal.value).startswith(f"{path.name}: {wrong:g} Hz found") and str(refusal.value).endswith(offer)
    assert read_record(path, fs=500).fs == 500

    # A slow or fast recording is read if the user says that it is one.
    assert read_record(path, fs=wrong).fs == pytest.approx(wrong)
    assert read_microvolts(path, fs=wrong)[1] == pytest.approx(wrong)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("fs", [LOWEST_RATE, 976.5625, HIGHEST_RATE])
def test_every_format_keeps_plausible_rates_exactly(
    tmp_path: Path, ecg: np.ndarray, write: Callable[[Path, np.ndarray, float], Path], fs: float
) -> None:
    path = write(tmp_path, ecg, fs)
    assert read_record(path).fs == pytest.approx(fs, rel=1e-9)
    assert read_record(path, fs=fs).fs == pytest.approx(fs, rel=1e-9)
    with pytest.raises(UserError, match=f"Hz in the file, fs={1.01 * fs:.10g} given; expected one value"):
        read_record(path, fs=1.01 * fs)


@pytest.mark.parametrize("fs", [LOWEST_RATE, 249.5, 976.5625, HIGHEST_RATE])
def test_a_philips_rate_that_is_no_whole_number(tmp_path: Path, ecg: np.ndarray, fs: float) -> None:
    duration = round(ecg.shape[1] * 1000 / fs)
    text = sierra(ecg).replace("<samplingrate>500<", f"<samplingrate>{fs}<")
    text = text.replace(f"='{ecg.shape[1] * 2}'", f"='{duration}'")
    (tmp_path / "a.xml").write_text(text)
    record = read_record(tmp_path / "a.xml")
    assert record.fs == fs
    np.testing.assert_allclose(record.signal, ecg * 0.005, atol=1e-6)


# ------------------------------------------------------------------ messages name the option of the verb


def test_a_message_names_the_option_of_the_doctor(
    tmp_path: Path, ecg: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_table(tmp_path / "a.csv", ecg, "time", 2 * N)
    np.save(tmp_path / "b.npy", ecg)
    assert main([str(path), str(tmp_path / "b.npy"), "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first["findings"][0]["evidence"].endswith("1000 times that is 500 Hz: use --fs 500.")
    assert (
        "expected --leads …, --fs …, --units …, or 'leads', 'fs', 'units' in b.json"
        in second["findings"][0]["evidence"]
    )

    # The option that the message names is accepted.
    assert main([str(path), "--json", "--fs", "500"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["fs"] == 500


@pytest.mark.parametrize(
    ("style", "offer"),
    [
        ("--{name} {value}", "use --fs 500."),
        ("data.file_{name}={value}", "use data.file_fs=500."),
        (None, ": correct the file."),
    ],
)
def test_a_message_has_the_style_of_its_caller(tmp_path: Path, ecg: np.ndarray, style: str | None, offer: str) -> None:
    path = write_wfdb(tmp_path, ecg, 0.5)
    with pytest.raises(UserError) as refusal:
        read_record(path, option_style=style)
    assert str(refusal.value).endswith(offer)


# ------------------------------------------------------------------ the doctor


@pytest.mark.parametrize("fs", [0.5, 1.0, 10.0, 17.0, 19.9, 20.0, 45.0, 30_000.0])
def test_the_doctor_examines_or_says_why_not(fs: float) -> None:
    x = np.random.default_rng(0).normal(size=(12, 2000)).astype(np.float32)
    ((finding, *_),) = examine_records([Record(x, fs, LEADS, "a")])
    is_too_slow = fs < 20
    assert (finding.code == "fs" and "too slow" in finding.evidence) == is_too_slow


def test_the_doctor_keeps_the_findings_of_the_other_files(
    tmp_path: Path, ecg: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = ecg.copy()
    flat[8] = 0
    slow = write_npz(tmp_path, ecg, 10.0)
    (tmp_path / "b").mkdir()
    good = write_npz(tmp_path / "b", flat, 10.0)
    main([str(slow), str(good), "--fs", "10", "--json"])
    reports = json.loads(capsys.readouterr().out)
    assert [report["severity"] for report in reports] == ["error", "error"]
    assert all("too slow" in report["findings"][0]["evidence"] for report in reports)


def test_invalid_samples_do_not_break_the_limb_lead_laws(ecg: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([derive_limb_leads(*rng.normal(size=(2, 4000))), rng.normal(size=(6, 4000))])
    gaps = x.copy()
    gaps[0, :1500] = np.nan
    gaps[4, 2000:3500] = np.nan
    gaps[2, 3990:] = np.nan

    def codes(signal: np.ndarray) -> set[str]:
        return {finding.code for finding in examine_records([Record(signal, 500.0, LEADS, "a")])[0]}

    assert "limb_law" not in codes(x.astype(np.float32))
    assert "limb_law" not in codes(gaps.astype(np.float32))

    # A lead that contradicts the others where all are valid is reported. A lead without any valid sample is not.
    wrong = gaps.copy()
    wrong[3] = -wrong[3]
    assert "limb_law" in codes(wrong.astype(np.float32))
    lost = x.copy()
    lost[1] = np.nan
    assert "limb_law" not in codes(lost.astype(np.float32))
