"""Records against the wfdb package, and damaged records against sentences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from einthoven.data import Record, read_record
from einthoven.data.formats.reading import read_microvolts
from einthoven.functional.leads import LEADS

WriteRecord = Callable[..., Path]


@pytest.fixture
def digital() -> np.ndarray:
    return np.random.default_rng(0).integers(-30000, 30000, (12, 50)).astype(np.int16)


def oracle(stem: Path) -> np.ndarray:
    """Signal in mV in canonical lead order, by the wfdb package, in float64."""
    record = wfdb.rdrecord(str(stem), physical=False)
    scale = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
    names = [name.upper() for name in record.sig_name]
    columns = [names.index(lead.upper()) for lead in LEADS]
    rows = [
        (record.d_signal[:, c].astype(np.float64) - record.baseline[c])
        / record.adc_gain[c]
        * scale[record.units[c].lower()]
        for c in columns
    ]
    return np.stack(rows)


def assert_equals_wfdb(stem: Path) -> None:
    record, expected = read_record(stem), oracle(stem)
    assert record.signal.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(record.signal), np.isnan(expected))
    # within the last bit of float32, so that every digital value comes back exactly
    np.testing.assert_array_max_ulp(record.signal, expected.astype(np.float32), maxulp=1)


@pytest.mark.parametrize("folder", ["records100/00000", "records500"])
def test_ptbxl_equals_wfdb(real_data: Path, folder: str) -> None:
    headers = sorted((real_data / "ptbxl" / folder).rglob("*.hea"))[:16]
    assert len(headers) == 16
    for header in headers:
        stem = header.with_suffix("")
        assert_equals_wfdb(stem)
        counts = wfdb.rdrecord(str(stem), physical=False).d_signal.T
        assert read_record(stem).fs == wfdb.rdheader(str(stem)).fs
        microvolts, _, invalid, clipped = read_microvolts(stem)
        np.testing.assert_array_equal(microvolts, counts)  # PTB-XL counts microvolts: nothing is lost
        assert (invalid, clipped) == (0, 0)


def test_every_challenge_record_reads(real_data: Path) -> None:
    headers = sorted((real_data / "cinc2021").glob("*.hea"))
    assert len(headers) == 46
    sources = {header.stem.rstrip("0123456789") for header in headers}
    assert sources == {"A", "E", "JS", "Q", "S"}
    early = 0
    for header in headers:
        record = read_record(header)
        assert record.signal.shape[0] == 12 and record.fs in (500, 1000)
        assert np.isfinite(record.signal).all()
        try:
            wfdb.rdheader(str(header.with_suffix("")))
        except Exception:  # the early Georgia headers, which the package rejects
            early += 1
            assert header.read_text().split()[0] == f"{header.stem}.mat"
        else:
            assert_equals_wfdb(header.with_suffix(""))
    assert early == 9


def test_early_georgia_header_reads_like_the_corrected_one(real_data: Path, tmp_path: Path) -> None:
    for suffix in (".hea", ".mat"):
        shutil.copy(real_data / "cinc2021" / f"E07501{suffix}", tmp_path)
    header = tmp_path / "E07501.hea"
    early = read_record(header).signal
    header.write_text(header.read_text().replace("E07501.mat", "E07501", 1))
    np.testing.assert_array_max_ulp(early, oracle(tmp_path / "E07501").astype(np.float32), maxulp=1)


def test_record_has_the_documented_shape_and_types(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    record = read_record(write_record(tmp_path, "a", digital, 250))
    assert isinstance(record, Record)
    assert record.signal.dtype == np.float32 and record.signal.shape == (12, 50)
    assert record.fs == 250.0 and record.leads == LEADS and record.source == "a"
    np.testing.assert_allclose(record.signal, digital / 1000.0, rtol=1e-7)


@pytest.mark.parametrize("ending", ["", ".hea", ".dat"])
def test_the_path_may_name_header_signal_or_stem(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, ending: str
) -> None:
    stem = write_record(tmp_path, "rec.v1", digital)
    assert read_record(f"{stem}{ending}").source == "rec.v1"


def test_leads_in_any_case_and_order_come_out_canonical(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    order = np.random.default_rng(1).permutation(12)
    names = [LEADS[k].swapcase() for k in order]
    signal = read_record(write_record(tmp_path, "a", digital[order], leads=names)).signal
    np.testing.assert_array_equal(signal, read_record(write_record(tmp_path, "b", digital)).signal)


def test_further_signals_are_left_aside(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> None:
    more = np.concatenate([digital[:2], digital])
    signal = read_record(write_record(tmp_path, "a", more, leads=("vx", "vx", *LEADS))).signal
    np.testing.assert_array_equal(signal, read_record(write_record(tmp_path, "b", digital)).signal)


@pytest.mark.parametrize(
    ("gain", "scale", "baseline"),
    [
        ("1000/mV", 1e-3, 0),
        ("1000", 1e-3, 0),
        ("1000.0(0)/MV", 1e-3, 0),
        ("1(0)/uV", 1e-3, 0),
        ("1/µV", 1e-3, 0),
        ("1/μV", 1e-3, 0),
        ("1e6/V", 1e-3, 0),
        ("200(100)/mV", 5e-3, 100),
        ("4880(-12)/mv", 1 / 4880, -12),
    ],
)
def test_gain_baseline_and_unit_give_millivolts(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, gain: str, scale: float, baseline: int
) -> None:
    signal = read_record(write_record(tmp_path, "a", digital, gain=gain)).signal
    np.testing.assert_allclose(signal, (digital.astype(float) - baseline) * scale, rtol=2e-7, atol=1e-12)


def test_the_zero_of_the_converter_is_the_baseline_where_none_is_given(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    stem = write_record(tmp_path, "a", digital, gain="1000/mV")
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace("/mV 16 0 ", "/mV 16 7 "))
    np.testing.assert_allclose(read_record(stem).signal, (digital.astype(float) - 7) / 1000, rtol=2e-7)


def test_invalid_samples_are_nan_and_counted(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> None:
    digital[3, 10:15] = -32768
    stem = write_record(tmp_path, "a", digital)
    signal = read_record(stem).signal
    assert np.isnan(signal[3, 10:15]).all() and np.isnan(signal).sum() == 5
    microvolts, _, invalid, clipped = read_microvolts(stem)
    assert (microvolts[3, 10:15] == 0).all() and (invalid, clipped) == (5, 0)


def test_overflow_of_the_microvolts_is_clipped_and_counted(tmp_path: Path, write_record: WriteRecord) -> None:
    digital = np.zeros((12, 20), dtype=np.int16)
    digital[0, :3], digital[1, 5] = 200, -200  # mV
    stem = write_record(tmp_path, "a", digital, gain="1/mV")
    microvolts, _, invalid, clipped = read_microvolts(stem)
    assert (microvolts[0, :3] == 32767).all() and microvolts[1, 5] == -32767
    assert (invalid, clipped) == (0, 4)


@pytest.mark.parametrize("fmt", ["212", "24", "32", "80", "16"])
def test_other_formats_equal_wfdb_also_where_samples_are_invalid(tmp_path: Path, fmt: str) -> None:
    signal = np.random.default_rng(2).normal(0, 0.02, (100, 12))
    signal[7, 3] = np.nan
    wfdb.wrsamp(
        "a",
        fs=100,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        p_signal=signal,
        fmt=[fmt] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(tmp_path),
    )
    expected = wfdb.rdrecord(str(tmp_path / "a")).p_signal.T
    np.testing.assert_allclose(read_record(tmp_path / "a").signal, expected, rtol=1e-6, atol=1e-9)
    assert np.isnan(read_record(tmp_path / "a").signal[3, 7])
