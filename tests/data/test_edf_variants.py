"""EDF and BDF as programs write them, and damaged BDF files. The writer of edfio is the oracle."""

from __future__ import annotations

from pathlib import Path

import edfio
import numpy as np
import pytest
from test_detect import write_bdf
from write_formats import write_edf

from einthoven.data import read_record
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

ECG = np.random.default_rng(1).integers(-4000, 4000, (12, 60)).astype(float)
SIGNALS = 13  # twelve leads and a respiration signal


def edf_bytes(path: Path, ecg: np.ndarray = ECG) -> bytearray:
    write_edf(path, ecg)
    return bytearray(path.read_bytes())


def set_field(data: bytearray, position: int, width: int, text: str) -> None:
    data[position : position + width] = text.encode().ljust(width)


def ranges(column: int) -> tuple[int, int]:
    """Positions of the physical minimum and maximum of a signal."""
    return 256 + SIGNALS * 104 + 8 * column, 256 + SIGNALS * 112 + 8 * column


@pytest.mark.parametrize("text", [("-8000,0", "8000,0"), ("-8000,", "8000,"), ("-8000,00", "+8000,0")])
@pytest.mark.parametrize("columns", [range(12), range(1), range(6, 13)])
def test_decimal_commas_in_the_ranges(tmp_path: Path, text: tuple[str, str], columns: range) -> None:
    data = edf_bytes(tmp_path / "a.edf")
    for column in columns:
        for position, value in zip(ranges(column), text, strict=True):
            set_field(data, position, 8, value)
    (tmp_path / "a.edf").write_bytes(data)
    np.testing.assert_allclose(read_record(tmp_path / "a.edf").signal, ECG / 1000, atol=1e-6)


def test_a_decimal_comma_in_the_duration(tmp_path: Path) -> None:
    data = edf_bytes(tmp_path / "a.edf")
    set_field(data, 244, 8, "0,12")
    (tmp_path / "a.edf").write_bytes(data)
    assert read_record(tmp_path / "a.edf").fs == 500


@pytest.mark.parametrize("kind", ["edf", "bdf"])
@pytest.mark.parametrize("incomplete_bytes", [0, 1, 700])
def test_a_recording_that_was_not_ended(tmp_path: Path, kind: str, incomplete_bytes: int) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "edf":
        write_edf(path, ECG)
    else:
        write_bdf(path, ECG)
    data = bytearray(path.read_bytes())
    set_field(data, 236, 8, "-1")
    path.write_bytes(data + bytes(incomplete_bytes))
    record = read_record(path)
    np.testing.assert_allclose(record.signal, ECG / 1000, atol=2e-3)
    assert "the header states no number of data records: 1, from the size of the file" in record.notes
    assert ("the last data record is incomplete, and not read" in record.notes) == (incomplete_bytes > 0)


@pytest.mark.parametrize(
    ("samples", "duration", "fs"), [(100, "0.333333", 300), (41, "0.16016", 256), (33, "0.033", 1000)]
)
def test_a_rate_from_a_rounded_duration(tmp_path: Path, samples: int, duration: str, fs: float) -> None:
    signals = [
        edfio.EdfSignal(row[:samples], 100, label=lead, physical_dimension="uV", physical_range=(-4000, 4000))
        for row, lead in zip(np.tile(ECG, 2), LEADS, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=samples / 100).write(tmp_path / "a.edf")
    data = bytearray((tmp_path / "a.edf").read_bytes())
    set_field(data, 244, 8, duration)
    (tmp_path / "a.edf").write_bytes(data)
    assert read_record(tmp_path / "a.edf").fs == fs


def write_edf_plus(path: Path, kind: str, duration: float) -> bytearray:
    signal, dtype = (edfio.EdfSignal, np.int16) if kind == "EDF" else (edfio.BdfSignal, np.int32)
    limits = {"physical_range": (-30000, 30000), "digital_range": (-30000, 30000), "physical_dimension": "uV"}
    named_rows = zip(ECG.astype(dtype), LEADS, strict=True)
    signals = [signal.from_digital(row, 500, label=lead, **limits) for row, lead in named_rows]
    write = edfio.Edf if kind == "EDF" else edfio.Bdf
    annotations = [edfio.EdfAnnotation(0.02, None, "ü")]
    write(signals, data_record_duration=duration, annotations=annotations).write(path)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("kind", ["EDF", "BDF"])
def test_gaps_are_found_in_the_starts_of_the_data_records(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    data = write_edf_plus(path, kind, 0.04)
    third_start = b"+0.08\x14\x14\0"
    assert third_start in data
    for start, is_gap in ((b"+0.08", False), (b"+.0801", False), (b"+0.09", True), (b"+0.04", True)):
        # The letter of the header says D also for a recording without a gap.
        new_start = (start + b"\x14\x14").ljust(len(third_start), b"\0")
        changed = data.replace(third_start, new_start).replace(b"DF+C", b"DF+D")
        path.write_bytes(changed)
        if is_gap:
            with pytest.raises(UserError, match=rf"a recording with interruptions \({kind}\+D\)"):
                read_record(path)
        else:
            np.testing.assert_allclose(read_record(path).signal, ECG / 1000, atol=1e-6)


# ------------------------------------------------------------------ BDF


@pytest.mark.parametrize("names", [LEADS, tuple(f"ECG {lead}" for lead in LEADS), LEADS[::-1]])
def test_bdf(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_bdf(tmp_path / "a.bdf", ECG + 0.123, names)
    written = edfio.read_bdf(tmp_path / "a.bdf")
    expected = dict(zip(names, (signal.data for signal in written.signals), strict=True))
    by_lead = {name.removeprefix("ECG "): values for name, values in expected.items()}
    record = read_record(tmp_path / "a.bdf")
    assert record.fs == 500
    np.testing.assert_allclose(record.signal, np.stack([by_lead[lead] for lead in LEADS]) / 1000, atol=1e-6)
    np.testing.assert_allclose(written.signals[0].data, ECG[0] + 0.123, atol=2e-3)  # finer than 16 bits
    counts, _, _, _ = read_microvolts(tmp_path / "a.bdf")
    assert counts.shape == (12, 60)


def test_bdf_with_annotations_and_a_status_channel(tmp_path: Path) -> None:
    signals = [
        edfio.BdfSignal(row, 500, label=lead, physical_dimension="mV", physical_range=(-8, 8))
        for row, lead in zip(ECG / 1000, LEADS, strict=True)
    ]
    status = edfio.BdfSignal(np.arange(12.0), 100, label="Status", physical_dimension="Boolean")
    annotations = [edfio.EdfAnnotation(0.01, None, "beat")]
    edfio.Bdf([*signals, status], data_record_duration=0.12, annotations=annotations).write(tmp_path / "a.bdf")
    record = read_record(tmp_path / "a.bdf")
    np.testing.assert_allclose(record.signal, ECG / 1000, atol=2e-6)
    assert "dropped 'Status': not among the twelve leads" in record.notes


def _change(position: int, width: int, text: str) -> tuple[int, int, bytes]:
    return position, width, text.encode().ljust(width)


@pytest.mark.parametrize(
    "change",
    [
        slice(0, 0),
        slice(0, 200),
        slice(0, 256 * 13 - 1),
        slice(0, -1),
        slice(0, -1000),
        _change(0, 8, "0"),
        _change(236, 8, "99999999"),
        _change(236, 8, "-7"),
        _change(252, 4, "9999"),
        _change(252, 4, "0"),
        _change(252, 4, "x"),
        _change(244, 8, "0"),
        _change(244, 8, "nan"),
        _change(256 + 12 * 104, 8, "many"),
        _change(256 + 12 * 216, 8, "99999999"),
        _change(256 + 12 * 216, 8, "-5"),
    ],
)
@pytest.mark.usefixtures("bounded")
def test_damaged_bdf(tmp_path: Path, change: slice | tuple[int, int, bytes]) -> None:
    write_bdf(tmp_path / "whole.bdf", ECG)
    data = bytearray((tmp_path / "whole.bdf").read_bytes())
    if isinstance(change, slice):
        data = data[change]
    else:
        position, width, text = change
        data[position : position + width] = text
    (tmp_path / "bad.bdf").write_bytes(data)
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError) as refused:
            read(tmp_path / "bad.bdf")
        sentence = str(refused.value)
        assert sentence.startswith("bad.bdf: ") and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.usefixtures("bounded")
def test_a_bdf_that_is_too_large(tmp_path: Path) -> None:
    write_bdf(tmp_path / "bad.bdf", ECG)
    with (tmp_path / "bad.bdf").open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(UserError, match="2,147,483,648 bytes found; expected an ECG of at most 268,435,456 bytes"):
        read_record(tmp_path / "bad.bdf")
