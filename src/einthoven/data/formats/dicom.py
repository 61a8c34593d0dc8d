"""Read DICOM 12-lead and general ECG waveforms with the pydicom package."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import FileSignals, check_sample_count, read_ordinary_file
from einthoven.data.formats.group import Group
from einthoven.data.formats.groups import join_groups
from einthoven.data.formats.lead_codes import lead_of_code
from einthoven.data.formats.patient import of_dicom
from einthoven.errors import UserError
from einthoven.files import reason
from einthoven.functional.leads import canonical_lead

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Interpretations of the samples as linear integers -> NumPy kind. The other interpretations are companded audio.
_LINEAR = {"SB": "i", "UB": "u", "SS": "i", "US": "u", "SL": "i", "UL": "u"}

# Channels that start less than this apart, in s, are of one time: a converter samples one after the other.
_LARGEST_SKEW = 0.005

# A file without the preamble starts with an element of group 0002, 0008 or, in big endian, 0800.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018)


def is_dicom(head: bytes) -> bool:
    """Return whether a file is DICOM, from its first kilobyte. A file may lack the preamble and the file meta header.

    Parameters
    ----------
    head : bytes
        At least the first 132 bytes, if the file has as many.
    """
    if head[128:132] == b"DICM":
        return True
    # Without a preamble, the first element is the group length, the SOP class, the character set or the image type.
    is_big_endian = head[:1] == b"\x00"
    element = int.from_bytes(head[2:4], "big" if is_big_endian else "little")
    has_first_element = head[:2] in _FIRST_GROUPS and element in _FIRST_ELEMENTS
    if not has_first_element:
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[4:8], "big" if is_big_endian else "little")
    return is_explicit or 0 < length < 256


def read_dicom(path: str | Path) -> FileSignals:
    """Read the recorded waveform of a DICOM file.

    Derived groups, median beats and calibration pulses are left out, as `einthoven.data.formats.groups` describes.
    Samples equal to the padding value become NaN.

    Raises
    ------
    UserError
        If the file is not DICOM or contains no waveform, or if its samples are damaged or not calibrated.

    References
    ----------
    DICOM PS3.3, C.10.9, Waveform Module; PS3.5, 7.3, Big Endian byte ordering.
    """
    import pydicom

    source = Path(path).name
    data = read_ordinary_file(path)
    try:
        if not is_dicom(data[:1024]):
            raise ValueError("it does not begin like DICOM")
        # A deflated file could expand to any size. pydicom unpacks it before it can be asked for the transfer syntax.
        if pydicom.uid.DeflatedExplicitVRLittleEndian.encode() in data:
            raise ValueError("a deflated data set, whose size is not known before it is unpacked")
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)

        sequence = list(dataset.get("WaveformSequence") or [])
        if not sequence:
            kind = getattr(dataset.get("SOPClassUID"), "name", "an unknown kind")
            raise UserError(f"{source}: {quote(str(kind))} without a recorded waveform; expected a 12-lead ECG.")
        is_little_endian = dataset.original_encoding[1] is not False
        groups = [_describe(group, number, is_little_endian, source) for number, group in enumerate(sequence, 1)]
        return replace(join_groups(groups, source), comments=of_dicom(dataset))
    except UserError:
        raise
    # pydicom raises the exceptions of struct and NumPy, and others for missing elements.
    except Exception as error:
        raise UserError(f"{source}: the pydicom package cannot read this file ({reason(error)}).") from None


def _describe(dataset: Dataset, number: int, is_little_endian: bool, source: str) -> Group:
    """Describe one multiplex group without reading its samples."""
    is_derived = str(dataset.get("WaveformOriginality", "ORIGINAL")) == "DERIVED"
    definitions = dataset.get("ChannelDefinitionSequence", []) if is_derived else dataset.ChannelDefinitionSequence
    offset_ms = dataset.get("MultiplexGroupTimeOffset")
    label = str(dataset.get("MultiplexGroupLabel") or "").strip(" \0")
    return Group(
        name=f"waveform group {number}",
        label="derived" if is_derived and not label else label,
        names=tuple(_channel_name(channel, source) for channel in definitions),
        samples=int(dataset.get("NumberOfWaveformSamples") or 0),
        fs=float(dataset.get("SamplingFrequency") or 0) if is_derived else float(dataset.SamplingFrequency),
        load=partial(_read_group, dataset, is_little_endian, source),
        start=None if offset_ms is None else float(offset_ms) / 1000.0,
        is_derived=is_derived,
    )


def _check_skews(definitions: Iterable[Dataset], fs: float, source: str) -> None:
    """Refuse channels that do not start together (PS3.3, Waveform Module). Their samples do not belong to one time."""
    skews = []
    for channel in definitions:
        in_samples = channel.get("ChannelSampleSkew")
        in_seconds = channel.get("ChannelTimeSkew")
        skews.append(float(in_samples) / fs if in_samples else float(in_seconds or 0))
    if skews and not max(skews) - min(skews) < _LARGEST_SKEW:
        raise UserError(
            f"{source}: channels that start {min(skews):g} to {max(skews):g} s late (ChannelTimeSkew or "
            f"ChannelSampleSkew); expected channels that start together, within {_LARGEST_SKEW:g} s."
        )


def _read_group(dataset: Dataset, is_little_endian: bool, source: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the values of one multiplex group, and the units that its channels state."""
    channels = list(dataset.ChannelDefinitionSequence)
    counts = _read_counts(dataset, is_little_endian, source)
    if len(channels) != len(counts):
        raise ValueError(f"{len(channels)} channels defined, {len(counts)} stored")

    # The padding value is stored as the bytes of a sample, or as a number.
    padding = dataset.get("WaveformPaddingValue")
    if isinstance(padding, bytes):
        padding = np.frombuffer(padding[: counts.dtype.itemsize], counts.dtype)[0]

    # Amplitude = count * sensitivity * correction factor + baseline.
    _check_skews(channels, float(dataset.SamplingFrequency), source)
    values = np.empty(counts.shape)
    units = []
    for row, channel in enumerate(channels):
        if "ChannelSensitivity" not in channel or "ChannelSensitivityUnitsSequence" not in channel:
            name = quote(_channel_name(channel, source))
            raise UserError(f"{source}: lead {name} has no sensitivity; expected a calibrated waveform.")
        stored_bits = int(channel.get("WaveformBitsStored") or 0)
        is_padding = np.zeros(counts.shape[1], bool) if padding is None else counts[row] == int(padding)
        significant = _significant_bits(counts[row], stored_bits, is_padding, source)
        # The padding value repeats its sign, although the samples may have zeros above the bits that are stored.
        if padding is not None:
            is_padding |= significant == int(padding)
        correction = channel.get("ChannelSensitivityCorrectionFactor")
        scale = float(channel.ChannelSensitivity) * (1.0 if correction in (None, "") else float(correction))
        if scale == 0:
            name = quote(_channel_name(channel, source))
            raise UserError(f"{source}: lead {name} has the sensitivity 0; expected a calibrated waveform.")
        amplitudes = significant * scale + float(channel.get("ChannelBaseline") or 0)
        if not np.isfinite(amplitudes).all():
            raise ValueError("a sensitivity that is not finite")
        amplitudes[is_padding] = np.nan
        values[row] = amplitudes
        units.append(str(channel.ChannelSensitivityUnitsSequence[0].CodeValue))
    return values, tuple(units)


def _read_counts(dataset: Dataset, is_little_endian: bool, source: str) -> NDArray[np.integer]:
    """Return the stored integers of a multiplex group, shape (channels, samples).

    The waveform data have the byte order of the file. The samples of all channels at one time follow one another.
    """
    kind = _LINEAR.get(str(dataset.WaveformSampleInterpretation))
    if kind is None:
        raise UserError(
            f"{source}: samples of interpretation {quote(str(dataset.WaveformSampleInterpretation))}; "
            f"expected one of {' '.join(_LINEAR)}."
        )
    bits = int(dataset.WaveformBitsAllocated)
    if bits not in (8, 16, 32):
        raise ValueError(f"{bits} bits allocated")
    dtype = np.dtype(f"{'<' if is_little_endian else '>'}{kind}{bits // 8}")
    shape = (int(dataset.NumberOfWaveformSamples), int(dataset.NumberOfWaveformChannels))
    check_sample_count(shape[0] * shape[1], source)
    size = shape[0] * shape[1] * dtype.itemsize

    # A value of odd length has one more byte. A group without samples has no bytes that mean anything.
    data = b"" if size == 0 else bytes(dataset.WaveformData)
    if len(data) not in (size, size + size % 2):
        raise ValueError(f"{len(data)} bytes of waveform data, {size} expected")
    return np.frombuffer(data[:size], dtype).reshape(shape).T


def _significant_bits(
    counts: NDArray[np.integer], stored_bits: int, is_padding: NDArray[np.bool_], source: str
) -> NDArray[np.integer]:
    """Return samples without the bits above those that are stored. These repeat the sign, or are zero."""
    allocated_bits = 8 * counts.dtype.itemsize
    if not 0 < stored_bits < allocated_bits:
        return counts
    wide = counts.astype(np.int64)
    low = wide & ((1 << stored_bits) - 1)
    is_signed = counts.dtype.kind == "i"
    sign_bit = 1 << (stored_bits - 1) if is_signed else 0
    significant = (low ^ sign_bit) - sign_bit
    unsigned = wide & ((1 << allocated_bits) - 1)
    is_extended = bool(((wide == significant) | is_padding).all())
    is_zero_above = bool(((unsigned == low) | is_padding).all())
    if not is_extended and not is_zero_above:
        raise UserError(f"{source}: samples of more than {stored_bits} bits; expected the bits that the file states.")
    return significant


def _channel_name(channel: Dataset, source: str) -> str:
    """Return the name of the lead of a channel: by the code of its source, the meaning of that code, or the label."""
    sources: Any = channel.get("ChannelSourceSequence") or []
    code = lead_of_code(str(sources[0].get("CodeValue", ""))) if sources else None
    meaning = str(sources[0].get("CodeMeaning", "")).strip(" \0") if sources else ""
    label = str(channel.get("ChannelLabel", "")).strip(" \0")
    code_lead = canonical_lead(code) if code else None
    meaning_lead = canonical_lead(meaning)
    if code and meaning_lead and code_lead != meaning_lead:
        raise UserError(
            f"{source}: a channel whose code {quote(str(sources[0].CodeValue))} means {code}, but whose name is "
            f"{quote(meaning)}; expected one lead."
        )
    if meaning_lead:
        return meaning
    if code and code_lead:
        return code
    return label if canonical_lead(label) else meaning or label or code or "unnamed"
