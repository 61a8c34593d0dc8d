"""Malformed files of the other formats: each is refused in one sentence that names the file."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from write_formats import aecg, dicom_file, muse, sierra, write_edf

from einthoven.data import read_record
from einthoven.data.formats import file_signals, matlab, numpy_arrays
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

TOLD = {"fs": 500, "units": "uV", "leads": LEADS}
ECG = np.round(np.random.default_rng(0).normal(0, 500, (12, 60)))

pytestmark = pytest.mark.usefixtures("bounded")


def refused(path: Path, sentence: str, **told: object) -> None:
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError) as caught:
            read(path, **told)
        said = str(caught.value)
        assert re.search(sentence, said), said
        assert path.stem in said and "\n" not in said and len(said) < 400 and said.endswith("."), said


# ------------------------------------------------------------------ tables

HEADER = ",".join(LEADS)
ROW = ",".join("5" * 12)
ROWS = f"{ROW}\n" * 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty; expected an ECG"),
        ("\n\n", "empty; expected a table"),
        (HEADER + "\n", "no samples found"),
        (f"{HEADER}\n{ROWS}5,5,5\n", "3 fields in line 22; expected 12"),
        (f"{HEADER}\n{ROW},5\n", "13 columns of numbers under 12 names"),
        (f"{HEADER}\n{ROWS}{ROW.replace('5', 'off', 1)}\n", "'off' in line 22; expected a number"),
        (f"{HEADER}\n{ROWS}{ROW.replace('5', 'inf', 1)}\n", "an infinite value"),
        (f"{HEADER}\n{ROWS}".replace("V6", "V5"), "V5 is named twice"),
        (f"{HEADER}\n{ROWS}".replace("V6", "V7"), "lead V6 missing"),
        (f"{HEADER}\n{ROWS}".replace("V6", "V6 (kV)"), "units kV in the file, units=uV given"),
        (f"time,t (s),{HEADER}\n" + f"0,0,{ROW}\n" * 3, "2 columns of time"),
        (f"time,{HEADER}\n" + f"0,{ROW}\n" * 3, "expected even steps"),
        (f"time,{HEADER}\n0,{ROW}\n", "1 times in column"),
        (f"time,{HEADER}\n" + "".join(f"{t},{ROW}\n" for t in (0, 0.002, 0.004, 0.008)), "expected even steps"),
        (f"time,{HEADER}\n" + "".join(f"{t},{ROW}\n" for t in (0, 0.002, "", 0.006)), "expected even steps"),
        (
            f"time,{HEADER}\n" + "".join(f"{t / 250},{ROW}\n" for t in range(9)),
            "250 Hz in the file .*, fs=500 given",
        ),
        ('"' + "x" * 200_000, "not a table|missing|columns"),
        (f"{HEADER}\n{ROW}\r{ROW}\n{ROWS}", "a line with a carriage return inside it"),
    ],
)
def test_tables(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, newline="")
    refused(path, sentence, fs=500, units="uV")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_not_a_table(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(np.random.default_rng(seed).bytes(1000))
    refused(path, "binary data found; expected a text file, such as a CSV")


@pytest.mark.parametrize("missing", ["fs", "units", "leads"])
@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz"])
def test_what_is_said_nowhere(tmp_path: Path, suffix: str, missing: str) -> None:
    path = tmp_path / f"bad{suffix}"
    if suffix == ".csv":
        path.write_text(ROWS)
    elif suffix == ".npy":
        np.save(path, ECG)
    else:
        np.savez(path, signal=ECG)
    told = {key: value for key, value in TOLD.items() if key != missing}
    refused(path, f"does not say the .*expected {missing}=…, or '{missing}' in bad.json beside it.$", **told)
    sidecar = {key: list(value) if key == "leads" else value for key, value in told.items()}
    (tmp_path / "bad.json").write_text(json.dumps(sidecar))
    refused(path, f"does not say the .*expected {missing}=…")


def test_amplitudes_beyond_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", ECG.astype(np.float64) * 1e300)
    refused(tmp_path / "bad.npy", "beyond the range of 32-bit numbers", **TOLD)


def test_all_that_is_said_nowhere_is_asked_for_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", ECG)
    refused(
        tmp_path / "bad.npy",
        "does not say the names of the leads, the sampling frequency, the unit of the amplitudes; expected leads=…, "
        "fs=…, units=…, or 'leads', 'fs', 'units' in bad.json beside it",
    )


@pytest.mark.parametrize(
    ("sidecar", "sentence"),
    [
        ("{", "bad.json: not JSON"),
        ("[" * 100_000, "bad.json: not JSON"),
        ("[1]", r"bad.json: '\[1\]' found; expected an object"),
        ('{"fs": 0}', "bad.json: fs '0' found; expected a positive"),
        ('{"fs": -500}', "fs '-500' found"),
        ('{"fs": NaN}', "fs 'nan' found"),
        ('{"fs": "500"}', "fs '500' found"),
        ('{"fs": true}', "fs 'True' found"),
        ('{"fs": 1e9}', "below 1 MHz"),
        ('{"units": 3}', "units '3' found"),
        ('{"units": "mV"}', "units mV in its .json, units=uV given; expected one value"),
        ('{"leads": "I,II"}', "leads 'I,II' found; expected a list"),
        ('{"leads": []}', r"leads '\[\]' found"),
        ('{"leads": [1, 2]}', r"leads '\[1, 2\]' found"),
        ('{"leads": ["I", "II"]}', "leads I II in its .json, leads=I,II,III,.* given"),
        ('{"fs": 250}', "fs 250.0 in its .json, fs=500 given"),
    ],
)
def test_sidecars(tmp_path: Path, sidecar: str, sentence: str) -> None:
    np.save(tmp_path / "bad.npy", ECG)
    (tmp_path / "bad.json").write_text(sidecar)
    refused(tmp_path / "bad.npy", sentence, **TOLD)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"fs": 0}, "0 Hz found; expected a positive"),
        ({"fs": -1}, "-1 Hz found"),
        ({"fs": float("nan")}, "nan Hz found"),
        ({"fs": float("inf")}, "inf Hz found"),
        ({"units": "furlong"}, "unknown unit 'furlong'"),
        ({"units": ""}, "no unit"),
        ({"leads": LEADS[:3]}, r"an array of shape \(12, 60\) found; expected 3 leads"),
        ({"leads": ("x",) * 12}, "missing"),
    ],
)
def test_what_is_told_wrongly(tmp_path: Path, told: dict, sentence: str) -> None:
    np.save(tmp_path / "bad.npy", ECG)
    refused(tmp_path / "bad.npy", sentence, **(TOLD | told))


# ------------------------------------------------------------------ arrays


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def claims(shape: str) -> bytes:
    """The bytes of an array whose header claims another shape."""
    return npy(ECG).replace(b"(12, 60)", shape.encode(), 1)


def header(text: bytes) -> bytes:
    """The bytes of an array with any text for its header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


class Danger:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "bad.npy: empty; expected an ECG"),
        (b"I,II\0", "not an array in NumPy's format"),
        (npy(ECG)[:20], "not an array in NumPy's format"),
        (npy(ECG)[:-8], "truncated or damaged: 5752 bytes of 5760"),
        (npy(ECG) + b"x", "truncated or damaged"),
        (npy(ECG).replace(b"NUMPY\x01", b"NUMPY\x09"), "not an array in NumPy's format"),
        (npy(np.array([Danger()], dtype=object)), "pickled objects found"),
        (pickle.dumps(Danger()), "not an array in NumPy's format"),
        (npy(ECG.astype(complex)), "complex128 found; expected real numbers"),
        (npy(ECG > 0), "bool found; expected real numbers"),
        (npy(ECG.astype(str)), "an array of <U32 found; expected real numbers"),
        (npy(ECG[0]), r"an array of shape \(60,\) found"),
        (npy(ECG[None]), r"an array of shape \(1, 12, 60\) found"),
        (npy(ECG[:, :12]), "leads and samples cannot be told apart"),
        (npy(ECG[:, :0]), "no samples found"),
        (npy(ECG[:2]), "expected 12 leads"),
        (claims("(12, 99999999999999)"), "truncated or damaged"),
        (claims("(12, -60)"), "truncated or damaged|not an array"),
        (claims("(12, 06)"), "not an array in NumPy's format"),
        (npy(ECG).replace(b"'descr'", b"b'escr'"), "not an array in NumPy's format"),
        (npy(ECG).replace(b"'descr'", b"\x1edescr'"), "not an array in NumPy's format"),
        (header(b"{"), "not an array in NumPy's format"),
        (header(b"{'descr': '"), "not an array in NumPy's format"),
        (header(b"-" * 9000 + b"1"), "not an array in NumPy's format"),
        (header(b"(" * 5000 + b")" * 5000), "not an array in NumPy's format"),
    ],
)
def test_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npy").write_bytes(data)
    refused(tmp_path / "bad.npy", sentence, **TOLD)
    assert not (tmp_path / "unpickled").exists()


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "bad.npz: empty; expected an ECG"),
        (archive(), "nothing found; expected an array named signal"),
        (archive(ecg=npy(ECG), y=npy(ECG)), "'ecg y' found; expected an array named signal"),
        (archive(signal=npy(ECG))[:-40], "not a readable archive"),
        (archive(signal=npy(ECG)[:-8]), "bad.npz: signal: truncated"),
        (archive(signal=npy(np.array([Danger()], dtype=object))), "bad.npz: signal: pickled"),
        (archive(signal=npy(ECG), fs=npy(np.array(-5))), "fs '-5' found"),
        (archive(signal=npy(ECG), fs=npy(np.array([1, 2]))), r"fs '\[1, 2\]' found"),
        (archive(signal=npy(ECG), leads=npy(np.arange(12))), "leads .* found; expected a list of names"),
        (archive(signal=npy(ECG), units=npy(np.array("mV"))), "units mV in the file, units=uV given"),
    ],
)
def test_archives(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "bad.npz").write_bytes(data)
    refused(tmp_path / "bad.npz", sentence, **TOLD)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_arrays, "MOST_BYTES", 2**24)
    data = archive(signal=bytes(2**26))
    assert len(data) < 2**20
    (tmp_path / "bad.npz").write_bytes(data)
    refused(tmp_path / "bad.npz", "67,108,864 bytes unpacked; expected an ECG of at most 16,777,216 bytes", **TOLD)
    lie = data.replace((2**26).to_bytes(4, "little"), (2**20).to_bytes(4, "little"))  # of its size, to get past
    (tmp_path / "bad.npz").write_bytes(lie)
    refused(tmp_path / "bad.npz", "not a readable archive", **TOLD)


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(archive(signal=npy(ECG)))
    data[60:90] = bytes(30)
    (tmp_path / "bad.npz").write_bytes(data)
    refused(tmp_path / "bad.npz", "not a readable archive", **TOLD)


# ------------------------------------------------------------------ EDF


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("edf") / "a.edf"
    write_edf(path, ECG)
    return path.read_bytes()


def put(data: bytes, offset: int, text: str, width: int) -> bytes:
    return data[:offset] + text.ljust(width).encode("latin-1") + data[offset + width :]


SIGNALS = 13  # twelve leads and a breathing signal
UNIT, LOWEST, HIGHEST, DIGITAL = (256 + SIGNALS * at for at in (96, 104, 112, 120))
PER_RECORD = 256 + SIGNALS * 216


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: b"", "empty; expected an ECG"),
        (lambda d: d[:100], "edfio package cannot read"),
        (lambda d: d[:600], "edfio package cannot read"),
        (lambda d: d[:-3], "edfio package cannot read.*(truncated|records)"),
        (lambda d: d + b"1234", "edfio package cannot read.*truncated"),
        (lambda d: put(d, 236, "9", 8), "edfio package cannot read.*9 data records"),
        (lambda d: put(d, 244, "0", 8), "edfio package cannot read.*data records of 0 s"),
        (lambda d: put(d, 244, "-1", 8), "expected a positive sampling frequency|expected 50 to 20,000 Hz"),
        (lambda d: put(d, 244, "nan", 8), "edfio package cannot read.*finite"),
        (lambda d: put(d, 252, "many", 4), "edfio package cannot read"),
        (lambda d: put(d, 252, "9999", 4), "edfio package cannot read"),
        (lambda d: put(d, 256, "V6", 16), "V6 is named twice"),
        (lambda d: put(d, 256 + 16 * 6, "EEG Fpz-Cz", 16), "lead V1 missing"),
        (lambda d: put(d, UNIT, "", 8), "lead I: no unit"),
        (lambda d: put(d, UNIT, "mmHg", 8), "lead I: unknown unit 'mmHg'"),
        (lambda d: put(d, HIGHEST, "-8000", 8), "edfio package cannot read.*equals"),
        (lambda d: put(d, HIGHEST, "high", 8), "edfio package cannot read"),
        (lambda d: put(d, LOWEST, "nan", 8), "edfio package cannot read.*finite"),
        (lambda d: put(d, DIGITAL, "8000", 8), "edfio package cannot read.*equals"),
        (lambda d: put(d, DIGITAL, "8001", 8), "edfio package cannot read.*digital minimum 8001 above maximum 8000"),
        (lambda d: put(put(d, PER_RECORD, "59", 8), PER_RECORD + 8, "61", 8), "leads at .* Hz; expected one rate"),
    ],
)
def test_edf(tmp_path: Path, edf: bytes, change: Callable[[bytes], bytes], sentence: str) -> None:
    (tmp_path / "bad.edf").write_bytes(change(edf))
    refused(tmp_path / "bad.edf", sentence)


# ------------------------------------------------------------------ DICOM


def without(*keywords: str) -> Callable[[pydicom.Dataset], object]:
    def change(dataset: pydicom.Dataset) -> None:
        for keyword in keywords:
            delattr(dataset.WaveformSequence[0], keyword)

    return change


def three_leads(dataset: pydicom.Dataset) -> None:
    for group in dataset.WaveformSequence:
        counts = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12)[:, 6:9]
        group.WaveformData = counts.tobytes()
        group.NumberOfWaveformChannels = 3
        group.ChannelDefinitionSequence = group.ChannelDefinitionSequence[6:9]


def channel(**values: object) -> Callable[[pydicom.Dataset], object]:
    def change(dataset: pydicom.Dataset) -> None:
        first = dataset.WaveformSequence[0].ChannelDefinitionSequence[0]
        for keyword, value in values.items():
            if value is None:
                delattr(first, keyword)
            else:
                setattr(first, keyword, value)

    return change


def group(**values: object) -> Callable[[pydicom.Dataset], object]:
    return lambda dataset: [setattr(dataset.WaveformSequence[0], key, value) for key, value in values.items()]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: delattr(d, "WaveformSequence"), "without a recorded waveform; expected a 12-lead ECG"),
        (lambda d: setattr(d, "WaveformSequence", []), "without a recorded waveform"),
        (group(WaveformOriginality="DERIVED"), "without a recorded waveform"),
        (three_leads, "leads I, II, III, aVR, aVL, aVF, V4, V5, V6 missing"),
        (without("WaveformData"), "pydicom package cannot read.*WaveformData"),
        (without("SamplingFrequency"), "pydicom package cannot read.*SamplingFrequency"),
        (without("ChannelDefinitionSequence"), "pydicom package cannot read"),
        (group(SamplingFrequency="0"), "0 Hz found"),
        (group(SamplingFrequency="-500"), "-500 Hz found"),
        (group(NumberOfWaveformSamples=20_000), "pydicom package cannot read"),
        (group(NumberOfWaveformSamples=0), "no samples found"),
        (group(NumberOfWaveformChannels=11), "pydicom package cannot read"),
        (group(WaveformSampleInterpretation="MB"), "interpretation 'MB'; expected one of"),
        (group(WaveformBitsAllocated=24), "pydicom package cannot read"),
        (channel(ChannelSensitivity=None), "has no sensitivity; expected a calibrated waveform"),
        (channel(ChannelSensitivityUnitsSequence=None), "has no sensitivity"),
        (channel(ChannelSensitivity="0"), "has the sensitivity 0; expected a calibrated waveform"),
        (channel(ChannelSensitivityCorrectionFactor="0"), "has the sensitivity 0; expected a calibrated waveform"),
        (channel(ChannelSensitivityUnitsSequence=[]), "pydicom package cannot read"),
    ],
)
def test_dicom(tmp_path: Path, change: Callable[[pydicom.Dataset], object], sentence: str) -> None:
    dataset = pydicom.dcmread(dicom_file())
    change(dataset)
    dataset.save_as(tmp_path / "bad.dcm")
    refused(tmp_path / "bad.dcm", sentence)


@pytest.mark.parametrize("data", [b"no DICOM", bytes(200), b"\0" * 128 + b"DICM", dicom_file().read_bytes()[:5000]])
def test_files_that_are_no_dicom(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.dcm").write_bytes(data)
    refused(tmp_path / "bad.dcm", "pydicom package cannot read|without a recorded waveform")


# ------------------------------------------------------------------ XML

BILLION = (
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {chr(98 + k)} '{('&' + chr(97 + k) + ';') * 10}'>" for k in range(9))
    + "]><AnnotatedECG>&j;</AnnotatedECG>"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty; expected an ECG"),
        ("<", "not XML, or damaged"),
        ("<svg></svg>", "not an ECG in XML"),
        ("<AnnotatedECG>", "not XML, or damaged"),
        ("<AnnotatedECG/>", "no digits of any lead found"),
        (BILLION, "XML with entities found"),
        (aecg(ECG)[:3000], "not XML, or damaged"),
        (aecg(ECG[:, :0]), "no digits of any lead found"),
        (aecg(ECG, increment="0"), "a time increment of 0 's'; expected one above 0"),
        (aecg(ECG).replace("<digits>", "<digits>x", 1), "invalid digits of lead I"),
        (aecg(ECG).replace("<digits>", "<digits>7 ", 1), r"leads of \[60, 61\] samples"),
        (aecg(ECG).replace("unit='uV'", "unit=''"), "no voltage unit for lead 'I'"),
        (aecg(ECG[:11], LEADS[:11]), "lead V6 missing"),
        (aecg(ECG, (*LEADS[:11], "V5")), "V5 is named twice"),
        (muse(ECG[:8], unit="BITS"), "no voltage unit for lead I, II"),
        (muse(ECG[:8]).replace("500", "0"), "0 Hz found"),
        (aecg(ECG).replace("<scale value='0.5'", "<scale value='0'", 1), "0 found for the scale of lead I"),
        (muse(ECG[:8]).replace("PerBit>5<", "PerBit>0.0<"), "0 found for the LeadAmplitudeUnitsPerBit of lead I"),
        (sierra(ECG).replace("<signalresolution>5<", "<signalresolution>0<"), "0 found for the resolution"),
        (muse(ECG[:8]).replace("500", "x"), "'x' found for the SampleBase of waveform 1"),
        (muse(ECG[:8]).replace("<WaveFormData>", "<WaveFormData>A"), "damaged: the samples of lead I are not Base64"),
        (muse(ECG[:8]).replace("<WaveFormData>", "<LeadDataCRC32>1</LeadDataCRC32><WaveFormData>"), "damaged: CRC32"),
        (sierra(ECG).replace("1.03", "9.9"), "type 'SierraECG' and version '9.9'; expected"),
        (sierra(ECG).replace("<signalresolution>5</signalresolution>", ""), "no resolution found"),
        (sierra(ECG).replace("='120'", "='900000'"), "720 samples of 12 leads found; expected 450000 of each"),
        (sierra(ECG).replace("='120'", "='90000000000'"), "ms of 12 leads found; expected a resting ECG"),
        (sierra(ECG).replace("'Base64'", "'Hex'"), "the encoding 'Hex'; expected Base64 or Plain"),
        (sierra(ECG).replace("leads='12'", "leads='13'"), "numberofleads '13' and the names of 12 leads found"),
        (sierra(ECG).replace("leads='12'", "leads='0'"), "numberofleads '0' and the names of 12 leads found"),
        (sierra(ECG).replace("dataencoding", "compression='ZIP' dataencoding"), "the compression 'ZIP' found"),
        (sierra(ECG).replace("dataencoding", "compression='XLI' dataencoding"), "compressed samples cannot be read"),
    ],
)
def test_xml(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.xml").write_text(text)
    refused(tmp_path / "bad.xml", sentence)


# ------------------------------------------------------------------ MATLAB


def mat(version: str = "5", packed: bool = True, **values: object) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, values, format=version, do_compression=packed)
    return stream.getvalue()


def bomb() -> bytes:
    """A compressed matrix that says it is small, followed by more."""
    packed = zlib.compress(zlib.decompress(mat(val=ECG)[136:]) + bytes(10**7))
    return mat(val=ECG)[:128] + struct.pack("<2I", 15, len(packed)) + packed


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "bad.mat: empty; expected an ECG"),
        (b"I,II\0" * 50, "not a readable MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF", "h5py package cannot read"),
        (mat(ecg=ECG, fs=500), "'ecg fs' found; expected a matrix named val"),
        (mat("4", ecg=ECG, fs=500), "'ecg fs' found; expected a matrix named val"),
        (mat()[:128], "nothing found; expected a matrix named val"),
        (mat(val="text"), "another kind of array"),
        (mat("4", val="text"), "another kind of array"),
        (mat(val=ECG * 1j), "another kind of array"),
        (mat("4", val=ECG * 1j), "another kind of array"),
        (mat(val=ECG > 0), "another kind of array"),
        (mat(val={"a": ECG}), "another kind of array"),
        (mat(val=ECG[None]), "another kind of array"),
        (mat(val=ECG[:3]), "expected 12 leads"),
        (mat(val=ECG)[:-8], "cut off"),
        (mat(packed=False, val=ECG)[:-8], "truncated or damaged: 5752 bytes of 5760"),
        (mat("4", val=ECG)[:-8], "truncated or damaged: 5752 bytes of 5760"),
        (mat(val=ECG)[:-1] + b"x", "not a readable MATLAB file .*incorrect data check"),
        (bomb(), "longer than it says"),
        (struct.pack("<5I", 0, 2**32 - 1, 2**32 - 1, 0, 4) + b"val\0", "truncated or damaged: 0 bytes"),
    ],
)
def test_matlab(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "bad.mat").write_bytes(data)
    refused(tmp_path / "bad.mat", sentence, **TOLD)


def test_a_matrix_that_is_large_unpacked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MOST_BYTES", 1000)
    (tmp_path / "bad.mat").write_bytes(mat(val=ECG))
    refused(tmp_path / "bad.mat", "bytes unpacked; expected an ECG of at most 1,000 bytes", **TOLD)


# ------------------------------------------------------------------ all of them

EVERY = (".csv", ".tsv", ".npy", ".npz", ".mat", ".edf", ".dcm", ".xml")


@pytest.mark.parametrize("suffix", EVERY)
def test_what_is_no_file(tmp_path: Path, suffix: str) -> None:
    refused(tmp_path / f"absent{suffix}", "cannot be read")
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"folder{suffix}", "cannot be read")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    refused(tmp_path / f"pipe{suffix}", "not an ordinary file")
    with (tmp_path / f"large{suffix}").open("wb") as file:
        file.truncate(2**31)  # takes no room on the disk
    refused(tmp_path / f"large{suffix}", "2,147,483,648 bytes found; expected an ECG of at most")


def test_more_samples_than_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_signals, "MOST_SAMPLES", 700)
    write_edf(tmp_path / "a.edf", ECG)
    np.save(tmp_path / "a.npy", ECG.astype(np.int8))
    scipy.io.savemat(tmp_path / "a.mat", {"val": ECG.astype(np.int8)})
    (tmp_path / "a.csv").write_text(f"{HEADER}\n" + f"{ROW}\n" * 60)
    (tmp_path / "a.xml").write_text(aecg(ECG))
    (tmp_path / "w.hea").write_text("w 12 500 60\n" + "".join(f"w.dat 80 20/mV 8 0 0 0 0 {lead}\n" for lead in LEADS))
    (tmp_path / "w.dat").write_bytes(bytes(720))
    # The frames alone would be few enough.
    (tmp_path / "f.hea").write_text("f 12 250 30\n" + "".join(f"f.dat 80x2 20/mV 8 0 0 0 0 {lead}\n" for lead in LEADS))
    (tmp_path / "f.dat").write_bytes(bytes(720))
    stating = [("a.edf", {}), ("a.xml", {}), ("w.hea", {}), ("f.hea", {})]
    for name, told in (*stating, ("a.npy", TOLD), ("a.mat", TOLD), ("a.csv", TOLD)):
        refused(tmp_path / name, f"{name}: 720 samples found; expected an ECG of at most 700 samples", **told)
    with pytest.raises(UserError, match=r"waveform_ecg.dcm: 120,000 samples found"):
        read_record(dicom_file())


def test_files_that_say_all_are_told_nothing(tmp_path: Path) -> None:
    write_edf(tmp_path / "bad.edf", ECG)
    (tmp_path / "bad.dcm").write_bytes(dicom_file().read_bytes())
    (tmp_path / "bad.xml").write_text(aecg(ECG))
    for suffix in (".edf", ".dcm", ".xml"):
        refused(tmp_path / f"bad{suffix}", "units=mV given; expected none", units="mV")
        # Another fault of the file is the better message.
        (tmp_path / f"bad{suffix}").write_bytes(b"")
        with pytest.raises(UserError) as refusal:
            read_record(tmp_path / f"bad{suffix}", units="mV")
        assert "expected none" not in str(refusal.value)


def test_an_unknown_format_is_answered_with_those_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(b"\x7fELF" + bytes(300))
    refused(
        tmp_path / "bad.bin", "belongs to no known format; expected the stem of a WFDB record, or a file such as .edf"
    )


@given(st.sampled_from(EVERY), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_record(path, **(TOLD if suffix in EVERY[:5] else {}))


@given(st.data())
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edf: bytes, data: st.DataObject
) -> None:
    whole = {
        ".edf": edf,
        ".npy": npy(ECG),
        ".npz": archive(signal=npy(ECG)),
        ".mat": mat(val=ECG),
        ".xml": muse(ECG[:8]).encode(),
        ".csv": (HEADER + "\n" + ROWS).encode(),
    }
    suffix = data.draw(st.sampled_from(sorted(whole)))
    damaged = bytearray(whole[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged), 4000) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(damaged)
    try:
        record = read_record(path, **(TOLD if suffix in EVERY[:5] else {}))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert record.signal.shape[0] == 12 and record.fs > 0
