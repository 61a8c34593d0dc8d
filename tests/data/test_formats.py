"""Readers of the other formats, each against another reader of the same file or the numbers that were written."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import ecgdatakit
import edfio
import numpy as np
import pydicom
import pytest
import scipy.io
from pydicom import examples
from write_formats import EIGHT, FS, SAMPLES, aecg, dicom_file, muse, sierra, write_edf

from einthoven.data import read_record
from einthoven.data.formats.inputs import main_file
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS, derive_limb_leads


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    """Twelve leads in whole µV that obey the limb-lead laws."""
    rng = np.random.default_rng(0)
    i, ii = 2 * rng.integers(-900, 900, (2, SAMPLES)).astype(np.float64)
    return np.concatenate([derive_limb_leads(i, ii), rng.integers(-2000, 2000, (6, SAMPLES))])


def assert_is(path: Path, microvolts: np.ndarray, **told: object) -> None:
    record = read_record(path, **told)
    assert record.fs == FS and record.leads == LEADS and record.source == path.stem
    assert record.signal.dtype == np.float32
    np.testing.assert_allclose(record.signal, microvolts / 1000, rtol=1e-6, atol=1e-6)
    packed, rate, invalid, clipped = read_microvolts(path, **told)
    assert (rate, invalid, clipped) == (FS, np.isnan(microvolts).sum(), 0)
    np.testing.assert_array_equal(packed, np.nan_to_num(np.rint(microvolts)))


# ------------------------------------------------------------------ tables and arrays


def table(columns: dict[str, np.ndarray], separator: str = ",") -> str:
    rows = zip(*columns.values(), strict=True)
    lines = [separator.join("" if np.isnan(x) else repr(float(x)) for x in row) for row in rows]
    return "\n".join([separator.join(columns), *lines]) + "\n"


@pytest.mark.parametrize(("separator", "suffix"), [(",", ".csv"), (";", ".csv"), ("\t", ".csv"), ("\t", ".tsv")])
@pytest.mark.parametrize("time", [("time", 1.0), ("t (s)", 1.0), ("Time_ms", 1000.0), ("time [ms]", 1000.0)])
def test_a_table_with_time_and_units_says_all(
    tmp_path: Path, ecg: np.ndarray, separator: str, suffix: str, time: tuple[str, float]
) -> None:
    columns = {time[0]: np.arange(SAMPLES) / FS * time[1]}
    columns |= {f"{lead.lower()} (mV)": row / 1000 for lead, row in reversed(list(zip(LEADS, ecg, strict=True)))}
    path = tmp_path / f"a{suffix}"
    path.write_text(table(columns, separator))
    assert_is(path, ecg)


def test_a_table_may_be_told_what_it_does_not_say(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(dict(zip(LEADS, ecg, strict=True))))
    assert_is(path, ecg, fs=500, units="uV")
    (tmp_path / "a.json").write_text(json.dumps({"fs": 500, "units": "µV"}))
    assert_is(path, ecg)
    assert_is(path, ecg, fs=500.0)


def test_a_table_without_names(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(dict(zip(LEADS, ecg, strict=True))).partition("\n")[2])
    assert_is(path, ecg, fs=500, units="uV", leads=LEADS)
    path.write_text(table({f"ch{k}": row for k, row in enumerate(ecg)}))  # names that are none
    assert_is(path, ecg, fs=500, units="uV", leads=LEADS)


def test_empty_fields_are_invalid_and_an_index_is_dropped(tmp_path: Path, ecg: np.ndarray) -> None:
    gaps = ecg.copy()
    gaps[7, 3:9] = np.nan
    path = tmp_path / "a.csv"
    path.write_text("\ufeff" + table({"": np.arange(SAMPLES), **dict(zip(LEADS, gaps, strict=True))}))
    assert_is(path, gaps, fs=500, units="uV")
    assert read_record(path, fs=500, units="uV").notes == ("dropped the first column, which numbers the rows",)


def test_times_rounded_to_milliseconds_give_a_whole_rate(tmp_path: Path) -> None:
    samples = 3600
    columns = {"time_ms": np.round(np.arange(samples) / 360 * 1000), "II (mV)": np.zeros(samples)}
    (tmp_path / "a.csv").write_text(table(columns))
    record = read_record(tmp_path / "a.csv", want=("II",))
    assert record.fs == 360.0 and record.notes == ("360 Hz from column 'time_ms', in ms",)


def test_eight_leads_of_a_table_give_twelve(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table({f"{lead} [uV]": ecg[LEADS.index(lead)] for lead in EIGHT}))
    assert_is(path, ecg, fs=500)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, ">f8", np.uint16])
def test_arrays_in_both_orders(tmp_path: Path, ecg: np.ndarray, transpose: bool, dtype: type) -> None:
    values = (np.abs(ecg) if dtype is np.uint16 else ecg).astype(dtype)
    path = tmp_path / "a.npy"
    np.save(path, values.T if transpose else values)
    assert_is(path, values.astype(float), fs=500, units="uV", leads=LEADS)
    (tmp_path / "a.json").write_text(json.dumps({"fs": 500.0, "units": "uV", "leads": list(LEADS)}))
    assert_is(path, values.astype(float))


def test_an_array_in_fortran_order(tmp_path: Path, ecg: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(ecg))
    assert_is(tmp_path / "a.npy", ecg, fs=500, units="uV", leads=LEADS)


@pytest.mark.parametrize(
    ("version", "compressed", "dtype"),
    [
        ("4", False, np.int16),
        ("4", False, np.float64),
        ("5", False, np.float32),
        ("5", True, np.int16),
        ("5", True, ">f8"),
    ],
)
def test_a_matrix_of_matlab_without_a_header(
    tmp_path: Path, ecg: np.ndarray, version: str, compressed: bool, dtype: type
) -> None:
    path, told = tmp_path / "a.mat", {"fs": 500, "units": "uV", "leads": LEADS}
    others = {"a_name_longer_than_four": np.eye(3), "text": "I II"}
    values = others | {"val": ecg.astype(dtype)}
    scipy.io.savemat(path, values, format=version, do_compression=compressed)
    assert_is(path, scipy.io.loadmat(path)["val"].astype(float), **told)
    np.testing.assert_array_equal(scipy.io.loadmat(path)["val"], ecg)
    scipy.io.savemat(path, {"val": ecg.T, "x": 1j}, format=version, do_compression=compressed)
    assert_is(path, ecg, **told)
    assert main_file(path) == str(path)


def test_matlab_files_of_the_other_order_of_bytes(tmp_path: Path, ecg: np.ndarray) -> None:
    path, told = tmp_path / "a.mat", {"fs": 500, "units": "uV", "leads": LEADS}
    values = ecg.astype(">i2").tobytes(order="F")
    path.write_bytes(np.array([1030, *ecg.shape, 0, 4], ">i4").tobytes() + b"val\0" + values)
    np.testing.assert_array_equal(scipy.io.loadmat(path)["val"], ecg)
    assert_is(path, ecg, **told)
    name = np.array([3 << 16 | 1], ">u4").tobytes() + b"val\0"
    head = np.array([6, 8, 10, 0, 5, 8, *ecg.shape], ">u4").tobytes()
    matrix = head + name + np.array([3, len(values)], ">u4").tobytes() + values
    start = b"MATLAB 5.0".ljust(124) + b"\1\0MI"
    path.write_bytes(start + np.array([14, len(matrix)], ">u4").tobytes() + matrix)
    np.testing.assert_array_equal(scipy.io.loadmat(path)["val"], ecg)
    assert_is(path, ecg, **told)


def test_a_matrix_with_its_header_is_read_by_it(tmp_path: Path, ecg: np.ndarray) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"val": ecg.astype(np.int16)}, format="4")
    lines = "".join(f"a.mat 16+24 1000/mV 16 0 0 0 0 {lead}\n" for lead in LEADS)
    (tmp_path / "a.hea").write_text(f"a 12 {FS:g} {SAMPLES}\n{lines}")
    record = read_record(tmp_path / "a.mat", checksum="warn")
    np.testing.assert_allclose(record.signal, ecg / 1000, rtol=1e-6, atol=1e-6)
    with pytest.raises(UserError, match="units=mV given; expected none"):
        read_record(tmp_path / "a.mat", units="mV")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_says_all(tmp_path: Path, ecg: np.ndarray, save: object) -> None:
    path = tmp_path / "a.npz"
    save(path, signal=ecg.T / 1000, fs=500, units="mV", leads=np.array(LEADS))
    assert_is(path, ecg)


# ------------------------------------------------------------------ EDF


@pytest.mark.parametrize("unit", ["uV", "mV"])
def test_edf(tmp_path: Path, ecg: np.ndarray, unit: str) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, ecg, tuple(f"ECG {lead}" for lead in LEADS), unit)
    assert_is(path, ecg)
    notes = read_record(path).notes
    assert notes[-1] == "dropped 'Resp': not among the twelve leads"


def test_edf_equals_another_reader(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, ecg, LEADS, "mV")
    found = {lead.label: lead.samples for lead in ecgdatakit.FileParser.parse(path, units="mV").leads}
    np.testing.assert_allclose(read_record(path).signal, [found[lead] for lead in LEADS], atol=1e-6)


def test_edf_plus_with_annotations(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, ecg, annotations=[edfio.EdfAnnotation(0.01, None, "beat")])
    assert_is(path, ecg)


# ------------------------------------------------------------------ DICOM


def test_the_recorded_group_of_a_real_dicom_equals_pydicom() -> None:
    record = read_record(dicom_file())
    expected = examples.waveform.waveform_array(0).T / 1000  # µV; group 1 is a median beat
    assert record.fs == 1000.0 and record.signal.shape == (12, 10_000)
    np.testing.assert_allclose(record.signal, expected, rtol=1e-6)
    np.testing.assert_allclose(record.signal[2], record.signal[1] - record.signal[0], atol=2.6e-3)  # Einthoven
    assert any("'Lead I (Einthoven)' as I" in note for note in record.notes)


def test_dicom_baseline_correction_and_padding(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(dicom_file())
    group = dataset.WaveformSequence[0]
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelBaseline = "12.5"
        channel.ChannelSensitivityCorrectionFactor = "2"
        channel.ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
    counts = np.frombuffer(group.WaveformData, "<i2").copy()
    counts[12 * 7 + 3] = -32768
    group.WaveformData = counts.tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    dataset.save_as(tmp_path / "a.dcm")
    found = read_record(tmp_path / "a.dcm").signal
    assert np.argwhere(np.isnan(found)).tolist() == [[3, 7]]
    expected = dataset.waveform_array(0).T
    expected[3, 7] = np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# ------------------------------------------------------------------ XML


def test_hl7_aecg(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.xml"
    path.write_text(aecg(ecg))
    assert_is(path, ecg)
    path.write_text(aecg(ecg, increment="0.0039"))  # a rate that is no whole number
    assert read_record(path).fs == pytest.approx(1 / 0.0039, rel=1e-12)


def test_ge_muse(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.xml"
    path.write_text(muse(ecg[[LEADS.index(lead) for lead in EIGHT]]))
    assert_is(path, ecg * 5)
    assert "III, aVR, aVL, aVF derived from I and II" in read_record(path).notes


def test_philips(tmp_path: Path, ecg: np.ndarray) -> None:
    path = tmp_path / "a.xml"
    path.write_text(sierra(ecg))
    assert_is(path, ecg * 5)


# ------------------------------------------------------------------ what holds for all


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [(".edf", "edfio", "edf"), (".dcm", "pydicom", "dicom"), (".xml", "defusedxml", "xml")],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str, extra: str
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    sentence = rf"a{suffix}: the package {package} .* is missing; install einthoven\[{extra}\]"
    with pytest.raises(UserError, match=sentence):
        read_record(tmp_path / f"a{suffix}")


def test_reading_warns_of_nothing(tmp_path: Path, ecg: np.ndarray) -> None:
    (tmp_path / "a.xml").write_text(aecg(ecg, increment="0.0039"))
    write_edf(tmp_path / "a.edf", ecg)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (tmp_path / "a.xml", tmp_path / "a.edf", dicom_file()):
            read_record(path)


def test_every_real_record_reads(real_data: Path) -> None:
    challenge = sorted((real_data / "cinc2021").glob("*.hea"))
    ptbxl = sorted((real_data / "ptbxl").rglob("*.hea"))[::40]
    assert len(challenge) == 46 and len(ptbxl) > 40
    for header in [*challenge, *ptbxl]:
        record = read_record(header)
        assert record.signal.shape[0] == 12 and np.isfinite(record.signal).all() and record.fs in (100, 500, 1000)


def test_values_that_are_only_for_files_without_them(tmp_path: Path, ecg: np.ndarray) -> None:
    write_edf(tmp_path / "a.edf", ecg)
    order = (*LEADS[6:], *LEADS[:6])
    rows = ecg[[LEADS.index(lead) for lead in order]]
    (tmp_path / "b.csv").write_text("\n".join([",".join(order), *(",".join(map(str, row)) for row in rows.T)]))
    np.save(tmp_path / "c.npy", ecg)
    np.savez(tmp_path / "d.npz", signal=ecg / 1000, fs=250.0, units="mV", leads=LEADS)
    told = {"fs": 400.0, "units": "uV", "leads": LEADS}
    for name, fs in (("a.edf", 500), ("b.csv", 400), ("c.npy", 400), ("d.npz", 250)):
        record = read_record(tmp_path / name, **told, only_where_missing=True)
        assert record.fs == fs
        np.testing.assert_allclose(record.signal, ecg / 1000, atol=1e-6)
        if name != "c.npy":
            with pytest.raises(UserError):
                read_record(tmp_path / name, **told)
    # A sidecar belongs to one file, so it must not contradict the file.
    (tmp_path / "d.json").write_text('{"fs": 400}')
    with pytest.raises(UserError, match=r"250 Hz in the file, 400 Hz in its \.json; expected one value"):
        read_record(tmp_path / "d.npz", **told, only_where_missing=True)
