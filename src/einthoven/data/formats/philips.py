"""Read Philips exports (restingecgdata): the rhythm waveform.

References
----------
The layout follows the parser of the ecgdatakit package (`SierraXMLParser`), whose decompression is used. That parser
rounds the sampling frequency.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import FileSignals
from einthoven.data.formats.pulse import is_calibration_pulse
from einthoven.data.formats.xml_tree import attribute, number, scale, text_of
from einthoven.errors import UserError
from einthoven.files import reason
from einthoven.functional.leads import LEADS, canonical_lead

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TYPES = ("SierraECG", "PhilipsECG")
_VERSIONS = ("1.03", "1.04")

# Sets of leads that need no names.
_TWELVE_LEADS = ("STD-12", "10-WIRE")

_MOST_CHANNELS = 64

# Largest ratio of the samples in a compressed lead to those that are expected. Leads can end in padding.
_MOST_PADDING = 2

# Largest number of samples of all leads: 40 minutes of 12 leads at 500 Hz. Small files can expand to any size.
_MOST_SAMPLES = 2**24

# Start of a compressed lead: number of its bytes, and the first difference.
_CHUNK = struct.Struct("<I2xh")


def read_philips(root: Element, source: str) -> FileSignals:
    """Read the rhythm. A calibration pulse in the last or first second is left out.

    Raises
    ------
    UserError
        If the file has another version, is damaged or not calibrated, or holds another number of samples than its
        duration says.
    """
    _check_version(root, source)
    waveform = next(root.iter("parsedwaveforms"), None)
    if waveform is None:
        raise UserError(f"{source}: a Philips export without parsedwaveforms; expected a rhythm.")
    characteristics = next(root.iter("signalcharacteristics"), None)

    def stated(name: str, other_name: str = "") -> str:
        """Return what the waveform states, or else the description of the signals."""
        in_characteristics = [_child(characteristics, tag) for tag in (name, other_name) if tag]
        return attribute(waveform, name) or next(filter(None, in_characteristics), "")

    fs = number(attribute(waveform, "samplespersecond") or stated("samplingrate"), "sampling frequency", source)
    if not 0 < fs < 1e6:
        raise UserError(f"{source}: {fs:g} samples per second; expected those of an ECG.")
    names = _lead_names(waveform, characteristics, source)
    milliseconds = number(attribute(waveform, "durationperchannel"), "durationperchannel", source)
    expected = milliseconds * fs / 1000.0
    if not 0 < expected * len(names) <= _MOST_SAMPLES:
        raise UserError(f"{source}: {milliseconds:g} ms of {len(names)} leads found; expected a resting ECG.")
    resolution_text = stated("resolution", "signalresolution")
    if not resolution_text:
        raise UserError(f"{source}: no resolution found; expected that of the samples, in µV.")
    resolution = scale(resolution_text, "resolution", source)
    zero = number(stated("signaloffset") or "0", "signaloffset", source)
    is_signed = stated("signalsigned").lower() not in ("false", "no", "f", "0")

    # The duration is rounded to 1 ms.
    tolerance = 1.0 + fs / 1000.0
    counts = _read_counts(waveform, len(names), expected, tolerance, source, is_signed=is_signed)
    leads = [canonical_lead(name) for name in names[:6]]
    if _is_compressed(waveform, source) and leads == [(lead, 1) for lead in LEADS[:6]]:
        _rebuild_limb_leads(counts)
    microvolts = (counts - zero) * resolution

    cautions: tuple[str, ...] = ()
    second = round(fs)
    for name, at in (("last", slice(-second, None)), ("first", slice(second))):
        if microvolts.shape[1] >= second > 0 and is_calibration_pulse(microvolts[:, at] / 1000.0, fs):
            microvolts = microvolts[:, :-second] if name == "last" else microvolts[:, second:]
            cautions = (*cautions, f"left out the {name} second: a calibration pulse")
    return FileSignals(microvolts, names, ("uV",) * len(names), fs, (), cautions)


def _check_version(root: Element, source: str) -> None:
    kind = text_of(next(root.iter("documenttype"), None))
    version = text_of(next(root.iter("documentversion"), None))
    if kind not in _TYPES or not version.startswith(_VERSIONS):
        raise UserError(
            f"{source}: a Philips export of type {quote(kind)} and version {quote(version)}; expected "
            f"{' or '.join(_TYPES)} of version {' or '.join(_VERSIONS)}."
        )


def _child(element: Element | None, name: str) -> str:
    return "" if element is None else text_of(element.find(name))


def _lead_names(waveform: Element, characteristics: Element | None, source: str) -> tuple[str, ...]:
    names = attribute(waveform, "leadlabels").split()
    if names:
        # Files can name more leads than they hold.
        text = attribute(waveform, "numberofleads")
        count = float(number(text, "numberofleads", source)) if text else float(len(names))
        if not (count.is_integer() and 1 <= count <= len(names)):
            raise UserError(
                f"{source}: numberofleads {quote(text)} and the names of {len(names)} leads found; expected a name for "
                "each lead."
            )
        return tuple(names[: int(count)])
    text = _child(characteristics, "numberchannelsallocated") or _child(characteristics, "numberchannelsvalid")
    lead_set = _child(characteristics, "acquisitiontype") or _child(characteristics, "leadset")
    channels = int(number(text, "number of channels", source))
    if lead_set not in _TWELVE_LEADS or not 1 <= channels <= _MOST_CHANNELS:
        raise UserError(
            f"{source}: {channels} channels of {quote(lead_set)} without names found; expected leadlabels, or channels "
            f"of {' or '.join(_TWELVE_LEADS)}."
        )
    others = [f"channel {channel}" for channel in range(len(LEADS) + 1, channels + 1)]
    return (*LEADS, *others)[:channels]


def _is_compressed(waveform: Element, source: str) -> bool:
    method = attribute(waveform, "compression") or attribute(waveform, "compressmethod")
    flag = attribute(waveform, "compressflag").lower()
    if method.lower() in ("", "uncompressed", "none") or flag in ("false", "no", "f", "0"):
        return False
    if method.upper() != "XLI":
        raise UserError(f"{source}: the compression {quote(method)} found; expected XLI.")
    return True


def _read_counts(
    waveform: Element, lead_count: int, expected: float, tolerance: float, source: str, *, is_signed: bool
) -> NDArray[np.int64]:
    """Return the stored integers, shape (leads, samples).

    A lead must have the number of samples that its duration in ms says (`expected`), up to `tolerance`.
    """
    encoding = attribute(waveform, "dataencoding")
    text = text_of(waveform)
    if encoding not in ("Base64", "Plain") or (_is_compressed(waveform, source) and encoding != "Base64"):
        raise UserError(f"{source}: samples with the encoding {quote(encoding)}; expected Base64 or Plain.")
    try:
        if encoding == "Plain":
            values = np.array(text.split(), dtype=np.int64)
        else:
            data = base64.b64decode(text.replace(" ", ""), validate=True)
            if _is_compressed(waveform, source):
                return _decompress(data, lead_count, expected, tolerance, source)
            values = np.frombuffer(data, "<i2" if is_signed else "<u2").astype(np.int64)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise UserError(f"{source}: damaged: its samples cannot be read ({reason(error)}).") from None
    samples, rest = divmod(len(values), lead_count)
    if rest or abs(samples - expected) > tolerance:
        raise UserError(
            f"{source}: {len(values):,} samples of {lead_count} leads found; expected {expected:g} of each, as its "
            "duration says."
        )
    return values.reshape(lead_count, samples)


def _decompress(data: bytes, lead_count: int, expected: float, tolerance: float, source: str) -> NDArray[np.int64]:
    """Return the samples of XLI compression. Each lead is a chunk, which can end in some padding."""
    from ecgdatakit import CorruptedFileError
    from ecgdatakit.parsing.codecs.lzw import LzwDecoder
    from ecgdatakit.parsing.codecs.xli import xli_decode_deltas

    rows = []
    position = 0
    try:
        for lead in range(1, lead_count + 1):
            size, start = _CHUNK.unpack_from(data, position)
            position += _CHUNK.size
            chunk = data[position : position + size]
            position += size
            if len(chunk) < size:
                raise ValueError(f"{len(chunk):,} bytes of {size:,} in lead {lead}")
            decoder = LzwDecoder(chunk, bits=10)
            most_bytes = round(2 * _MOST_PADDING * expected) + 2
            content = bytearray()
            while (byte := decoder.read()) >= 0:
                content.append(byte)
                if len(content) > most_bytes:
                    raise ValueError(f"more samples in lead {lead} than its duration says")
            rows.append(xli_decode_deltas(bytes(content), start).astype(np.int64))
    except (ValueError, struct.error, CorruptedFileError) as error:
        raise UserError(f"{source}: damaged: its compressed samples cannot be read ({reason(error)}).") from None

    shortest = min(len(row) for row in rows)
    samples = shortest if abs(shortest - expected) <= tolerance else round(expected)
    if shortest < samples:
        raise UserError(f"{source}: {shortest:,} samples of a lead found; expected {expected:g}, as its duration says.")
    return np.stack([row[:samples] for row in rows])


def _rebuild_limb_leads(counts: NDArray[np.int64]) -> None:
    """Compute III, aVR, aVL and aVF. Compressed files store how these leads differ from the laws of the limb leads."""
    lead_i, lead_ii = counts[:2]
    counts[2] = lead_ii - lead_i - counts[2]
    counts[3] = -counts[3] - (lead_i + lead_ii) // 2
    counts[4] = (lead_i - counts[2]) // 2 - counts[4]
    counts[5] = (lead_ii + counts[2]) // 2 - counts[5]
