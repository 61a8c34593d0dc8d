"""The format of a file follows from its content, not from its name alone; formats that are not read are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import edfio
import numpy as np
import pydicom
import pytest
import scipy.io
from write_formats import aecg, dicom_file, write_edf

from einthoven.data import read_record
from einthoven.data.formats.detect import detect_format
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

ECG = np.random.default_rng(0).integers(-2000, 2000, (12, 60)).astype(float)
TOLD = {"fs": 500, "units": "uV", "leads": LEADS}
STATED = ("EDF", "BDF", "DICOM", "XML")


def write_bdf(path: Path, ecg: np.ndarray, names: tuple[str, ...] = LEADS) -> None:
    signals = [
        edfio.BdfSignal(row, 500, label=name, physical_dimension="uV", physical_range=(-8388.608, 8388.607))
        for row, name in zip(ecg, names, strict=True)
    ]
    edfio.Bdf(signals, data_record_duration=ecg.shape[1] / 500).write(path)


def write(kind: str, path: Path) -> None:
    """Write a file of some format under any name."""
    if kind == "EDF":
        write_edf(path.with_suffix(".edf"), ECG)
        path.with_suffix(".edf").rename(path)
    elif kind == "BDF":
        write_bdf(path.with_suffix(".bdf"), ECG)
        path.with_suffix(".bdf").rename(path)
    elif kind == "DICOM":
        shutil.copy(dicom_file(), path)
    elif kind == "XML":
        path.write_text(f"<!-- {'x' * 5000} -->\n{aecg(ECG)}")
    elif kind == "XML in UTF-16":
        path.write_text("<AnnotatedECG/>", encoding="utf-16")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, ECG)
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, signal=ECG)
    elif kind == "mat":
        with path.open("wb") as file:
            scipy.io.savemat(file, {"val": ECG})
    elif kind == "table":
        path.write_text(",".join(LEADS) + "\n" + "\n".join(",".join(map(str, row)) for row in ECG.T))
    else:
        raise ValueError(kind)


@pytest.mark.parametrize("kind", ["EDF", "BDF", "DICOM", "npy", "npz", "mat", "table"])
@pytest.mark.parametrize("name", ["a", "a.ecg", "a.tmp", "record 1.2.840", "a.dat"])
def test_the_name_does_not_matter(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    write(kind, path)
    assert detect_format(path) == kind
    record = read_record(path, **({} if kind in STATED else TOLD))
    if kind != "DICOM":
        np.testing.assert_allclose(record.signal, ECG / 1000, atol=2e-3)


@pytest.mark.parametrize(("kind", "suffix"), [("BDF", ".edf"), ("EDF", ".dcm"), ("npz", ".npy"), ("npy", ".csv")])
def test_a_wrong_suffix_does_not_matter(tmp_path: Path, kind: str, suffix: str) -> None:
    write(kind, tmp_path / f"a{suffix}")
    record = read_record(tmp_path / f"a{suffix}", **({} if kind in STATED else TOLD))
    np.testing.assert_allclose(record.signal, ECG / 1000, atol=2e-3)


@pytest.mark.parametrize("name", ["a.xml", "a", "a.txt", "a.aecg"])
@pytest.mark.parametrize("kind", ["XML", "XML in UTF-16"])
def test_xml_with_a_comment_first(tmp_path: Path, kind: str, name: str) -> None:
    write(kind, tmp_path / name)
    assert detect_format(tmp_path / name) == "XML"


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
def test_dicom_without_a_preamble(tmp_path: Path, syntax: str) -> None:
    dataset = pydicom.dcmread(dicom_file())
    path = tmp_path / "IM000001"
    implicit = syntax == pydicom.uid.ImplicitVRLittleEndian
    pydicom.dcmwrite(path, pydicom.Dataset(dataset), implicit_vr=implicit, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    assert detect_format(path) == "DICOM"


@pytest.mark.parametrize(
    ("data", "format_name"),
    [
        (b"ISHNE1.0" + bytes(600), "ISHNE"),
        (b"ISHNE1.0\x12\x34" + bytes(range(256)) * 4, "ISHNE"),
        (b"ANN  1.0" + bytes(600), "ISHNE"),
        (b"@ MFR Standard 12 leads ECG".ljust(34) + b"\x01\x01\x01", "MFER"),
        (b"@ MFR                             \x01\x01\x00", "MFER"),
        (b"<?xml version='1.0'?>\n<CardiologyXML xmlns:xsi='x'><StripData/></CardiologyXML>", "GE CardioSoft"),
        ("<!-- c --><CardiologyXML/>".encode("utf-16"), "GE CardioSoft"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?><!DOCTYPE x><c:CardiologyXML/>", "GE CardioSoft"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
        (b"%PDF-1.7\n1 0 obj", "PDF"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "JPEG"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML"),
        (b"PK\x03\x04\x14\x00\x06\x00" + bytes(18) + b"\x13\x00\x00\x00[Content_Types].xml", "zip or Excel"),
    ],
)
@pytest.mark.parametrize("name", ["bad", "bad.ecg", "bad.dat", "bad.csv"])
def test_formats_that_are_not_read_are_named(tmp_path: Path, data: bytes, format_name: str, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"^{name}: a file of the format {format_name}.*, which is not read; expected"):
        read_record(tmp_path / name)


def test_mfer_without_its_preamble_is_named_by_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "bad.mwf").write_bytes(b"\x01\x01\x01\x02\x01\x00" + bytes(50))
    with pytest.raises(UserError, match="of the format MFER, which is not read"):
        read_record(tmp_path / "bad.mwf")


def test_a_signal_file_without_a_header_may_be_of_an_edan(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(bytes(2000))
    with pytest.raises(UserError, match=r"x\.dat: no header \(x\.hea\) beside it; .* Edan electrocardiograph"):
        read_record(tmp_path / "x.dat")


@pytest.mark.parametrize("data", [b"\x7fELF" + bytes(99), b"no digits here"])
def test_what_belongs_to_no_format(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(UserError, match="found at its start, which belongs to no known format; expected"):
        read_record(tmp_path / "bad")


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".dcm", ".xml", ".scp", ".h5", ".npy", ".npz", ".mat", ".dat", ""])
def test_a_table_with_the_suffix_of_another_format(tmp_path: Path, suffix: str) -> None:
    ecg = np.random.default_rng(3).integers(-2000, 2000, (12, 40))
    text = "\n".join([",".join(LEADS), *(",".join(map(str, row)) for row in ecg.T)])
    (tmp_path / f"a{suffix}").write_text(text)
    record = read_record(tmp_path / f"a{suffix}", fs=500, units="uV")
    np.testing.assert_allclose(record.signal, ecg / 1000, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        ("/annex/objects/SHA256E-s12345--4d7a.edf\n", "git annex get"),
    ],
)
@pytest.mark.parametrize("suffix", [".edf", ".hdf5", ".csv"])
def test_a_pointer_to_a_file_says_how_to_fetch_it(tmp_path: Path, text: str, command: str, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text(text)
    with pytest.raises(UserError, match=f"^a{suffix}: a pointer to the file, which is not here; '{command}' fetches"):
        read_record(tmp_path / f"a{suffix}")
