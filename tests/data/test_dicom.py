"""DICOM waveforms as pydicom writes them: byte orders, sizes of samples, codes of leads, missing preambles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from write_formats import dicom_file
from write_groups import FS, NUMBERS, Part, code, dicom_group, made_ecg, write_dicom_groups

from einthoven.data import read_record
from einthoven.data.formats.dicom import is_dicom
from einthoven.data.formats.lead_codes import lead_of_code
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    return made_ecg(3.0)


def assert_signal(path: Path, microvolts: np.ndarray) -> None:
    record = read_record(path)
    assert record.fs == FS
    np.testing.assert_allclose(record.signal, microvolts / 1000, atol=1e-6)


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("bits", "kind", "dtype", "unit_uv"),
    [
        (16, "SS", "i2", 1),
        (16, "US", "u2", 1),
        (32, "SL", "i4", 1),
        (32, "UL", "u4", 1),
        (8, "SB", "i1", 20),
        (8, "UB", "u1", 20),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("samples", [1500, 1333])
def test_every_size_of_sample_in_both_byte_orders(
    tmp_path: Path, ecg: np.ndarray, bits: int, kind: str, dtype: str, unit_uv: int, syntax: Any, samples: int
) -> None:
    largest = 2 ** (bits - 1) - 1
    counts = np.clip(ecg[:, :samples] // unit_uv, -largest, largest)
    if dtype[0] == "u":
        counts = np.abs(counts)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    part = Part(ecg[:, :samples])
    group = dicom_group(part, bits=bits, kind=kind, dtype=f"{order}{dtype}", unit_uv=unit_uv, counts=counts)
    path = write_dicom_groups(tmp_path / "a.dcm", [group], syntax)
    assert_signal(path, counts * unit_uv)


def test_an_odd_number_of_bytes(tmp_path: Path, ecg: np.ndarray) -> None:
    part = Part(ecg[:1, :1501].clip(-2500, 2500), ("II",))
    group = dicom_group(part, bits=8, kind="SB", dtype="i1", unit_uv=20)
    path = write_dicom_groups(tmp_path / "a.dcm", [group])
    signal = read_record(path, want=("II",)).signal
    np.testing.assert_allclose(signal, part.ecg // 20 * 20 / 1000, atol=1e-6)


@pytest.mark.parametrize(("bits", "stored"), [(16, 12), (16, 10), (16, 15), (32, 24), (32, 16)])
@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_bits_above_those_that_are_stored(
    tmp_path: Path, ecg: np.ndarray, bits: int, stored: int, extended: bool, syntax: Any
) -> None:
    largest = 2 ** (stored - 1) - 1
    counts = np.clip(ecg // 5, -largest, largest)
    assert counts.min() < 0
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    written = counts if extended else counts & (2**stored - 1)
    options = {"bits": bits, "kind": "SS" if bits == 16 else "SL", "dtype": f"{order}i{bits // 8}"}
    group = dicom_group(Part(ecg), stored=stored, unit_uv=5, counts=written, **options)
    assert_signal(write_dicom_groups(tmp_path / "a.dcm", [group], syntax), counts * 5)


def test_padding_may_have_more_bits_than_samples(tmp_path: Path, ecg: np.ndarray) -> None:
    counts = (ecg // 5).clip(-2000, 2000)
    counts[3, 40:50] = -32768
    group = dicom_group(Part(ecg), stored=12, unit_uv=5, counts=counts)
    group.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    expected = counts * 5.0
    expected[3, 40:50] = np.nan
    assert_signal(write_dicom_groups(tmp_path / "a.dcm", [group]), expected)


def test_padding_may_repeat_its_sign_where_samples_do_not(tmp_path: Path, ecg: np.ndarray) -> None:
    counts = (ecg // 5).clip(-2000, 2000)
    counts[3, 40:50] = -2048
    group = dicom_group(Part(ecg), stored=12, unit_uv=5, counts=counts & 0xFFF)
    group.add_new("WaveformPaddingValue", "OW", np.int16(-2048).tobytes())
    expected = counts * 5.0
    expected[3, 40:50] = np.nan
    assert_signal(write_dicom_groups(tmp_path / "a.dcm", [group]), expected)


@pytest.mark.parametrize("name", ["ChannelTimeSkew", "ChannelSampleSkew"])
def test_channels_that_start_later_are_refused(tmp_path: Path, ecg: np.ndarray, name: str) -> None:
    group = dicom_group(Part(ecg))
    for number, channel in enumerate(group.ChannelDefinitionSequence):
        del channel.ChannelSampleSkew
        setattr(channel, name, str((10 if name == "ChannelSampleSkew" else 0.02) * (number > 6)))
    with pytest.raises(UserError, match=r"channels that start 0 to 0\.02 s late .* within 0\.005 s\.$"):
        read_record(write_dicom_groups(tmp_path / "a.dcm", [group]))

    # A converter that samples one channel after the other makes small skews.
    for number, channel in enumerate(group.ChannelDefinitionSequence):
        channel.ChannelTimeSkew = None
        channel.ChannelSampleSkew = str(number / 12)
    assert_signal(write_dicom_groups(tmp_path / "a.dcm", [group]), ecg)


def test_samples_beyond_the_bits_that_are_stored_are_refused(tmp_path: Path, ecg: np.ndarray) -> None:
    counts = ecg // 5
    counts[2, 7] = 5000
    group = dicom_group(Part(ecg), stored=12, unit_uv=5, counts=counts)
    with pytest.raises(UserError, match="samples of more than 12 bits"):
        read_record(write_dicom_groups(tmp_path / "a.dcm", [group]))


# ------------------------------------------------------------------ names of leads

SOURCES: dict[str, Callable[[str], Dataset]] = {
    "MDC": lambda lead: code(f"2:{NUMBERS[lead]}", "MDC", ""),
    "MDC in another language": lambda lead: code(f"2:{NUMBERS[lead]}", "MDC", f"Ableitung {lead}"),
    "SCP-ECG": lambda lead: code(f"5.6.3-9-{NUMBERS[lead]}", "SCPECG", ""),
    "context-free": lambda lead: code(str(131_072 + NUMBERS[lead]), "MDC", ""),
    "reference ID": lambda lead: code(f"MDC_ECG_LEAD_{lead.upper()}", "MDC", ""),
    "private code": lambda lead: code(f"X{NUMBERS[lead]}", "99ACME", f"Lead {lead}"),
    "both": lambda lead: code(f"2:{NUMBERS[lead]}", "MDC", f"{lead}"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_code_names_a_lead(tmp_path: Path, ecg: np.ndarray, kind: str) -> None:
    order = [*LEADS[6:], *LEADS[5::-1]]
    rows = [LEADS.index(lead) for lead in order]
    group = dicom_group(Part(ecg[rows], order), source=SOURCES[kind])
    assert_signal(write_dicom_groups(tmp_path / "a.dcm", [group]), ecg)


def test_a_code_that_contradicts_the_name_is_refused(tmp_path: Path, ecg: np.ndarray) -> None:
    shifted = dict(zip(LEADS, (*LEADS[1:], LEADS[0]), strict=True))
    exchanged = {**dict(zip(LEADS, LEADS, strict=True)), "V1": "V2", "V2": "V1"}
    for names in (shifted, exchanged):
        group = dicom_group(Part(ecg))
        for channel, lead in zip(group.ChannelDefinitionSequence, LEADS, strict=True):
            channel.ChannelSourceSequence = [code(f"2:{NUMBERS[lead]}", "MDC", f"Lead {names[lead]}")]
        with pytest.raises(UserError, match=r"a channel whose code '2:.*' means .*, but whose name is 'Lead"):
            read_record(write_dicom_groups(tmp_path / "a.dcm", [group]))


def test_codes_of_other_leads_are_no_leads(tmp_path: Path, ecg: np.ndarray) -> None:
    group = dicom_group(Part(np.vstack([ecg, ecg[:2]]), [*LEADS, "I", "II"]))
    for channel, number in zip(group.ChannelDefinitionSequence[-2:], (9, 16), strict=True):
        channel.ChannelSourceSequence = [code(f"2:{number}", "MDC", f"Lead X{number}")]
    assert_signal(write_dicom_groups(tmp_path / "a.dcm", [group]), ecg)
    assert lead_of_code("2:9") == "2:9" and lead_of_code("nonsense") is None and lead_of_code("200000") is None


# ------------------------------------------------------------------ files without a preamble


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("keeps_meta", [True, False])
def test_a_file_may_lack_the_preamble_and_the_meta_header(
    tmp_path: Path, ecg: np.ndarray, syntax: Any, keeps_meta: bool
) -> None:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    path = write_dicom_groups(tmp_path / "a.dcm", [dicom_group(Part(ecg), dtype=f"{order}i2")], syntax)
    data = path.read_bytes()
    assert is_dicom(data[:1024])
    meta_length = 12 + int.from_bytes(data[140:144], "little")
    path.write_bytes(data[132:] if keeps_meta else data[132 + meta_length :])
    assert is_dicom(path.read_bytes()[:1024])
    assert_signal(path, ecg)


@pytest.mark.parametrize("name", ["IM000001", "1.2.840.113619.2.1.4", "ecg.bin", "ECG.DCM", "scan.1"])
@pytest.mark.parametrize("has_preamble", [True, False])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, ecg: np.ndarray, name: str, has_preamble: bool) -> None:
    path = write_dicom_groups(tmp_path / name, [dicom_group(Part(ecg))])
    if not has_preamble:
        path.write_bytes(path.read_bytes()[132:])
    assert_signal(path, ecg)


def test_other_files_are_not_taken_for_dicom(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5000))
    texts = [b"", b"DICM", b"I,II,III\n0,0,0\n", b"<?xml version='1.0'?>", bytes(1024), b"\x08\x00" * 600]
    assert not any(is_dicom(text) for text in [*texts, (tmp_path / "a.npy").read_bytes()[:1024]])
    assert is_dicom(dicom_file().read_bytes()[:1024])


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("cut", [2, 3, 24, 1000, 35_000])
def test_a_group_with_missing_samples_is_refused(tmp_path: Path, ecg: np.ndarray, cut: int) -> None:
    group = dicom_group(Part(ecg))
    group.WaveformData = group.WaveformData[:-cut]
    with pytest.raises(UserError, match=r"pydicom package cannot read this file \(.* bytes of waveform data"):
        read_record(write_dicom_groups(tmp_path / "a.dcm", [group]))
