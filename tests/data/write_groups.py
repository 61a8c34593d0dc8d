"""Writers of DICOM, aECG and MUSE files with several groups of signals, from whole microvolts (leads, T)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from einthoven.functional.leads import LEADS

FS = 500


def made_ecg(seconds: float = 10.0, fs: float = FS, seed: int = 0) -> np.ndarray:
    """Return twelve leads in whole µV, multiples of 10, with beats. They obey the limb-lead laws exactly."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fs)) / fs
    beats = np.exp(-0.5 * (((t + 0.4) % 0.83 - 0.4) / 0.012) ** 2)
    t_waves = np.exp(-0.5 * (((t + 0.1) % 0.83 - 0.4) / 0.05) ** 2)
    weights = rng.uniform(-1, 1, (8, 2)) * [1000, 300]
    rows = weights @ np.stack([beats, t_waves]) + rng.normal(0, 20, (8, len(t)))
    i, ii, *chest = (20 * np.rint(rows / 20)).astype(np.int64)
    return np.stack([i, ii, ii - i, -(i + ii) // 2, i - ii // 2, ii - i // 2, *chest])


@dataclass(frozen=True)
class Part:
    """One group of a file: leads in µV, what the file calls it, and its start in s (None: not stated)."""

    ecg: np.ndarray
    names: Sequence[str] = LEADS
    label: str = "RHYTHM"
    start: float | None = None
    fs: float = FS


# ------------------------------------------------------------------ DICOM

NUMBERS = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, *range(3, 9)), strict=True))
"""Lead -> number in SCP-ECG and MDC (PS3.16, CID 3001)."""


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def dicom_group(
    part: Part,
    *,
    bits: int = 16,
    stored: int | None = None,
    kind: str = "SS",
    dtype: str = "<i2",
    unit_uv: int = 1,
    counts: np.ndarray | None = None,
    source: Callable[[str], Dataset] | None = None,
    originality: str | None = "ORIGINAL",
) -> Dataset:
    group = Dataset()
    if originality is not None:
        group.WaveformOriginality = originality
    group.NumberOfWaveformChannels = len(part.names)
    group.NumberOfWaveformSamples = part.ecg.shape[1]
    group.SamplingFrequency = part.fs
    group.MultiplexGroupLabel = part.label
    if part.start is not None:
        group.MultiplexGroupTimeOffset = f"{1000 * part.start:g}"
    channels = []
    for name in part.names:
        channel = Dataset()
        lead_source = source(name) if source else code(f"2:{NUMBERS[name]}", "MDC", f"Lead {name}")
        channel.ChannelSourceSequence = DicomSequence([lead_source])
        channel.ChannelSensitivity = str(unit_uv)
        channel.ChannelSensitivityUnitsSequence = DicomSequence([code("uV", "UCUM", "microvolt")])
        channel.ChannelSensitivityCorrectionFactor = "1"
        channel.ChannelBaseline = "0"
        channel.ChannelSampleSkew = "0"
        channel.WaveformBitsStored = stored or bits
        channels.append(channel)
    group.ChannelDefinitionSequence = DicomSequence(channels)
    group.WaveformBitsAllocated = bits
    group.WaveformSampleInterpretation = kind
    values = part.ecg // unit_uv if counts is None else counts
    data = np.ascontiguousarray(values.T).astype(dtype).tobytes()
    group.WaveformData = data + b"\0" * (len(data) % 2)
    group["WaveformData"].VR = "OB" if bits == 8 else "OW"
    return group


def write_dicom_groups(path: Path, groups: Sequence[Dataset], syntax: Any = ExplicitVRLittleEndian) -> Path:
    kind = "1.2.840.10008.5.1.4.1.1.9.1.1"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    # Without these two arguments, pydicom does not write big endian.
    order: dict[str, Any] = {}
    if syntax == ExplicitVRBigEndian:
        order = {"is_implicit_VR": False, "is_little_endian": False}
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128, **order)
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.WaveformSequence = DicomSequence(groups)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_dicom(path: Path, parts: Sequence[Part]) -> Path:
    return write_dicom_groups(path, [dicom_group(part) for part in parts])


# ------------------------------------------------------------------ aECG


def aecg_set(part: Part, clock: str = "TIME_ABSOLUTE") -> str:
    """Return a sequence set with 5 µV per digit and an origin of 10 µV."""
    start = part.start or 0.0
    head = f"200201011200{start:06.3f}" if clock == "TIME_ABSOLUTE" else f"{start:g}"
    text = (
        f'<component><sequence><code code="{clock}"/><value xsi:type="GLIST_TS"><head value="{head}" unit="s"/>'
        f'<increment value="{1 / part.fs:.12g}" unit="s"/></value></sequence></component>'
    )
    for name, row in zip(part.names, part.ecg, strict=True):
        digits = " ".join(str(x) for x in (row - 10) // 5)
        text += (
            f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/><value xsi:type="SLIST_PQ">'
            f'<origin value="10" unit="uV"/><scale value="5" unit="uV"/><digits>{digits}</digits></value>'
            "</sequence></component>"
        )
    return f"<component><sequenceSet>{text}</sequenceSet></component>"


def aecg_series(parts: Sequence[Part], clock: str = "TIME_ABSOLUTE") -> str:
    sets = "".join(aecg_set(part, clock) for part in parts)
    return f'<component><series><code code="{parts[0].label}"/>{sets}</series></component>'


def aecg_document(*series: str) -> str:
    return (
        '<?xml version="1.0"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{"".join(series)}</AnnotatedECG>'
    )


def write_aecg_series(path: Path, parts: Sequence[Part]) -> Path:
    """Write each part as a series."""
    path.write_text(aecg_document(*(aecg_series([part]) for part in parts)))
    return path


def write_aecg_sets(path: Path, parts: Sequence[Part]) -> Path:
    """Write the parts as the sequence sets of one series."""
    path.write_text(aecg_document(aecg_series(parts)))
    return path


# ------------------------------------------------------------------ MUSE


def muse_lead(name: str, row: np.ndarray, more: str = "") -> str:
    """Return a lead with 5 µV per bit."""
    data = base64.b64encode((row // 5).astype("<i2").tobytes()).decode()
    return (
        f"<LeadData><LeadByteCountTotal>{2 * len(row)}</LeadByteCountTotal><LeadSampleCountTotal>{len(row)}"
        "</LeadSampleCountTotal><LeadAmplitudeUnitsPerBit>5</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>MICROVOLTS"
        f"</LeadAmplitudeUnits><LeadID>{name}</LeadID>{more}<LeadSampleSize>2</LeadSampleSize>"
        f"<WaveFormData>{data}</WaveFormData></LeadData>"
    )


def muse_document(waveforms: Sequence[tuple[str, float, int, str]]) -> str:
    """Return an export with waveforms of (type, sample base, exponent, leads)."""
    parts = [
        f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{base}</SampleBase>"
        f"<SampleExponent>{exponent}</SampleExponent>{leads}</Waveform>"
        for kind, base, exponent, leads in waveforms
    ]
    return f"<RestingECG>{''.join(parts)}</RestingECG>"


def write_muse(path: Path, parts: Sequence[Part]) -> Path:
    waveforms = []
    for part in parts:
        leads = "".join(muse_lead(name, row) for name, row in zip(part.names, part.ecg, strict=True))
        waveforms.append((part.label, part.fs, 0, leads))
    path.write_text(muse_document(waveforms))
    return path
