"""Read SCP-ECG, the format of EN 1064 and ISO 11073-91064.

No Python library reads all real files that we have (docs/decisions/0038-formats.md), so this reader is our own.
It reads the sections about leads and signals, and of the patient age and sex. Names, dates and diagnoses are not read.

References
----------
EN 1064:2005+A1:2007, "Standard communication protocol, computer-assisted electrocardiography". The numbers of sections
and the names of fields are those of the standard.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import MOST_BYTES as MOST_SIGNAL_BYTES
from einthoven.data.formats.file_signals import FileSignals, read_ordinary_file, whole_rate
from einthoven.data.formats.lead_codes import lead_of_code
from einthoven.data.formats.patient import of_scp
from einthoven.data.formats.scp_beats import (
    parse_protected,
    parse_subtraction,
    reference_beat_samples,
    restore,
    stored_positions,
)
from einthoven.data.formats.scp_huffman import Lookup, decode, parse_tables
from einthoven.errors import UserError
from einthoven.files import reason
from einthoven.functional.leads import canonical_lead

MOST_BYTES = 2**26
"""Largest size of a file. A lead has at most 65,535 bytes, as its length has 16 bits."""

# Numbers of the sections.
_PATIENT = 1
_TABLES = 2  # Huffman tables
_LEADS = 3  # lead definitions
_QRS = 4  # locations of QRS complexes
_REFERENCE_BEAT = 5
_RHYTHM = 6  # rhythm, or what is left of it without the reference beat

_FILE_HEADER = struct.Struct("<HI")
_SECTION_HEADER = struct.Struct("<HHIBB6s")
_POINTER = struct.Struct("<HII")
_LEAD = struct.Struct("<IIB")
_SIGNAL_HEADER = struct.Struct("<HHBB")

_USES_REFERENCE_BEAT = 0x01

# Largest ratio of the length of the record to the samples of its longest lead. The rest of the record is gaps.
_MOST_GAPS = 16

# Largest number of leads. The widest electrocardiographs have 18.
_MOST_LEADS = 32

# Largest ratio of the rates inside and outside of the QRS complexes in bimodal compression. The standard has 4.
_MOST_DECIMATION = 8

# Zero bits can follow the last value up to an even number of bytes. A zero bit is a code of the default table.
_MOST_PADDING = 15


@dataclass(frozen=True)
class _Lead:
    """One lead: its name, its first sample in the record, from 1, and the number of samples that the file states."""

    name: str
    start: int
    samples: int


@dataclass(frozen=True)
class _SignalHeader:
    """The first fields of section 5 or 6: nV per unit, µs per sample, order of the differences, bimodal compression."""

    nanovolts: int
    interval: int
    differences: int
    is_bimodal: bool


@dataclass(frozen=True)
class _Rhythm:
    """The rhythm: µs per sample, the amplitudes of each lead in nV, and what a reader has to know about them."""

    interval: int
    leads: list[NDArray[np.float64]]
    cautions: tuple[str, ...] = ()


def read_scp(path: str | Path) -> FileSignals:
    """Read the rhythm data of an SCP-ECG file. A reference beat that was subtracted is added again.

    Leads that do not start together are placed on one time axis, with NaN where nothing was recorded.

    Samples that bimodal compression left out are interpolated, and the record carries a caution.

    Raises
    ------
    UserError
        If the file is truncated or damaged, if its checksums are wrong, or if it has no rhythm data.
    """
    source = Path(path).name
    data = memoryview(read_ordinary_file(path, MOST_BYTES))
    try:
        sections = _sections(data)
        for number in (_LEADS, _RHYTHM):
            if number not in sections:
                raise ValueError(f"no section {number}")
        leads, uses_reference_beat = _parse_leads(sections[_LEADS])
        rhythm = _read_rhythm(sections, leads, uses_reference_beat)
        return replace(_on_one_time_axis(leads, rhythm), comments=of_scp(sections.get(_PATIENT)))
    except (ValueError, struct.error) as error:
        raise UserError(f"{source}: not a readable SCP-ECG file ({reason(error)}).") from None


def _sections(data: memoryview) -> dict[int, memoryview]:
    """Return the content of each section that is not empty. Checksums and lengths are verified.

    Raises
    ------
    ValueError, struct.error
        If the file is truncated or damaged.
    """
    checksum, length = _FILE_HEADER.unpack_from(data)
    if length > len(data):
        raise ValueError(f"truncated: {len(data):,} bytes of {length:,}")
    _verify(checksum, data[2:length], "the file")
    pointers = _section(data[:length], 0, _FILE_HEADER.size + 1, None)
    sections: dict[int, memoryview] = {}
    for number, size, index in _POINTER.iter_unpack(pointers[: len(pointers) // _POINTER.size * _POINTER.size]):
        if number == 0 or size <= _SECTION_HEADER.size:
            continue
        if number in sections:
            raise ValueError(f"two sections {number}")
        sections[number] = _section(data[:length], number, index, size)
    return sections


def _section(data: memoryview, number: int, index: int, size: int | None) -> memoryview:
    """Return the content of a section that starts at byte `index`, from 1."""
    header = data[max(index - 1, 0) :][: _SECTION_HEADER.size]
    checksum, own_number, own_size, *_ = _SECTION_HEADER.unpack(header)
    section = data[index - 1 :][:own_size]
    is_complete = own_size >= _SECTION_HEADER.size and len(section) == own_size and size in (None, own_size)
    if index < 1 or own_number != number or not is_complete:
        raise ValueError(f"section {number} is not where the file says, or is truncated")
    _verify(checksum, section[2:], f"section {number}")
    return section[_SECTION_HEADER.size :]


def _verify(checksum: int, data: memoryview, part: str) -> None:
    """Compare a CRC of 16 bits (CCITT) with that of the data."""
    own_checksum = binascii.crc_hqx(data, 0xFFFF)
    if own_checksum != checksum:
        raise ValueError(f"damaged: checksum {own_checksum:#06x} of {part}, where the file says {checksum:#06x}")


def _parse_leads(section: memoryview) -> tuple[list[_Lead], bool]:
    """Parse section 3. Return the leads, and whether a reference beat was subtracted."""
    count, flags = struct.unpack_from("<BB", section)
    if not 1 <= count <= _MOST_LEADS:
        raise ValueError(f"{count} leads; expected 1 to {_MOST_LEADS}")
    leads = []
    for k in range(count):
        start, end, number = _LEAD.unpack_from(section, 2 + k * _LEAD.size)
        if end < start:
            raise ValueError(f"a lead from sample {start} to {end}")
        leads.append(_Lead(lead_of_code(f"2:{number}") or str(number), start, end - start + 1))
    return leads, bool(flags & _USES_REFERENCE_BEAT)


def _read_rhythm(sections: dict[int, memoryview], leads: Sequence[_Lead], uses_reference_beat: bool) -> _Rhythm:
    """Decode section 6. Undo bimodal compression, and then the subtraction of the reference beat."""
    tables = parse_tables(sections[_TABLES]) if _TABLES in sections else None
    header = _parse_signal_header(sections[_RHYTHM])
    reference = _parse_signal_header(sections[_REFERENCE_BEAT]) if _REFERENCE_BEAT in sections else None
    interval = header.interval
    cautions: tuple[str, ...] = ()

    if header.is_bimodal:
        if reference is None or _QRS not in sections:
            raise ValueError("bimodal compression without the reference beat and QRS zones that say what was left out")
        factor = _decimation(header.interval, reference.interval)
        units = _read_bimodal(sections[_RHYTHM], tables, leads, parse_protected(sections[_QRS]), factor)
        interval = header.interval // factor
        if factor > 1:
            cautions = (f"bimodal compression: between the QRS complexes, interpolated from means of {factor} samples",)
    else:
        counts = _parse_signals(sections[_RHYTHM], tables, [lead.samples for lead in leads])
        units = [values.astype(np.float64) for values in counts]
    amplitudes = [header.nanovolts * values for values in units]

    if uses_reference_beat:
        if reference is None or _QRS not in sections:
            raise ValueError("a subtracted reference beat that is not in the file")
        if reference.interval != interval:
            raise ValueError(f"a reference beat at {reference.interval} µs per sample, where the rhythm has {interval}")
        subtraction = parse_subtraction(sections[_QRS])
        beats = _parse_signals(sections[_REFERENCE_BEAT], tables, [2**16] * len(leads))
        for lead, values, beat in zip(leads, amplitudes, beats, strict=True):
            nanovolts = reference.nanovolts * beat.astype(np.float64)
            values += reference_beat_samples(lead.start, len(values), subtraction, nanovolts)
    return _Rhythm(interval, amplitudes, cautions)


def _decimation(interval: int, interval_inside: int) -> int:
    """Return how many samples outside of the QRS complexes became one, from the µs per sample outside and inside."""
    factor, rest = divmod(interval, interval_inside)
    if rest or not 1 <= factor <= _MOST_DECIMATION:
        raise ValueError(
            f"bimodal compression with {interval} µs per sample outside of the QRS complexes and {interval_inside} "
            f"inside; expected a multiple, up to {_MOST_DECIMATION} times"
        )
    return factor


def _read_bimodal(
    section: memoryview,
    tables: list[Lookup] | None,
    leads: Sequence[_Lead],
    protected: NDArray[np.int64],
    factor: int,
) -> list[NDArray[np.float64]]:
    """Decode section 6 with bimodal compression, and interpolate the samples that were left out."""
    header = _parse_signal_header(section)
    units = []
    for lead, data in zip(leads, _split_leads(section, len(leads)), strict=True):
        # A code has at least one bit.
        if lead.samples > 8 * len(data) * factor:
            raise ValueError(f"{len(data):,} bytes for the {lead.samples:,} samples of lead {lead.name}")
        positions = stored_positions(lead.start, lead.samples, protected, factor)
        values = _decode_lead(data, tables, header.differences, len(positions) + _MOST_PADDING + 1)
        if not len(positions) <= len(values) <= len(positions) + _MOST_PADDING:
            raise ValueError(
                f"{len(values):,} values of lead {lead.name} after bimodal compression; its QRS zones leave "
                f"{len(positions):,}"
            )
        units.append(restore(values[: len(positions)], positions, lead.samples))
    return units


def _parse_signal_header(section: memoryview) -> _SignalHeader:
    nanovolts, interval, differences, bimodal = _SIGNAL_HEADER.unpack_from(section)
    if nanovolts == 0 or interval == 0 or differences > 2:
        raise ValueError(f"{nanovolts} nV per unit, {interval} µs per sample, differences of order {differences}")
    return _SignalHeader(nanovolts, interval, differences, bool(bimodal))


def _parse_signals(
    section: memoryview, tables: list[Lookup] | None, most_values: Sequence[int]
) -> list[NDArray[np.int64]]:
    """Decode section 5 or 6 for the leads of section 3. Without Huffman tables, a value has 16 bits."""
    differences = _parse_signal_header(section).differences
    parts = zip(_split_leads(section, len(most_values)), most_values, strict=True)
    return [_decode_lead(data, tables, differences, most) for data, most in parts]


def _split_leads(section: memoryview, count: int) -> list[bytes]:
    """Return the encoded bytes of each lead of section 5 or 6."""
    lengths = struct.unpack_from(f"<{count}H", section, _SIGNAL_HEADER.size)
    position = _SIGNAL_HEADER.size + 2 * count
    if position + sum(lengths) > len(section):
        raise ValueError(f"leads of {sum(lengths):,} bytes in {len(section) - position:,}")
    parts = []
    for length in lengths:
        parts.append(bytes(section[position : position + length]))
        position += length
    return parts


def _decode_lead(data: bytes, tables: list[Lookup] | None, differences: int, most_values: int) -> NDArray[np.int64]:
    """Return the amplitudes of a lead, at most `most_values`."""
    if tables is None:
        values = np.frombuffer(data[: len(data) // 2 * 2], "<i2")[:most_values].astype(np.int64)
    else:
        values = decode(data, tables, most_values)
    return _integrate(values, differences)


def _integrate(values: NDArray[np.int64], differences: int) -> NDArray[np.int64]:
    """Undo first or second differences. The first one or two values are amplitudes.

    Amplitudes have 16 bits, and the sums are taken modulo 2**16, as the writers do.
    """
    if differences == 1:
        values = np.cumsum(values)
    elif differences == 2 and len(values) > 1:
        slopes = np.cumsum(np.concatenate([[values[1] - values[0]], values[2:]]))
        values = np.concatenate([values[:1], values[0] + np.cumsum(slopes)])
    return values.astype(np.int16).astype(np.int64)


def _on_one_time_axis(leads: Sequence[_Lead], rhythm: _Rhythm) -> FileSignals:
    """Return the twelve leads in µV. Leads that are shorter than the file says are noted."""
    amplitudes = rhythm.leads
    columns = [column for column, lead in enumerate(leads) if canonical_lead(lead.name) and len(amplitudes[column])]
    dropped = [quote(lead.name) for column, lead in enumerate(leads) if column not in columns]
    notes = (f"dropped {', '.join(dropped)}: not among the twelve leads, or without samples",) if dropped else ()
    if not columns:
        raise ValueError("no samples of the twelve leads")

    first = min(leads[column].start for column in columns)
    total = max(leads[column].start + len(amplitudes[column]) for column in columns) - first
    longest = max(len(amplitudes[column]) for column in columns)
    # A file can name one lead many times.
    if total > _MOST_GAPS * longest or total * len(columns) * 8 > MOST_SIGNAL_BYTES:
        raise ValueError(f"{len(columns)} leads over {total:,} samples, of which the longest has {longest:,}")
    values = np.full((len(columns), total), np.nan)
    for row, column in zip(values, columns, strict=True):
        start = leads[column].start - first
        row[start : start + len(amplitudes[column])] = amplitudes[column] / 1000.0

    # Some writers store only what fits into the 16 bits of the length of a lead.
    stated = max(leads[column].samples for column in columns)
    cautions = rhythm.cautions
    if longest < stated:
        cautions = (*cautions, f"{longest:,} samples of the leads found, where the file says {stated:,}")
    names = tuple(leads[column].name for column in columns)
    return FileSignals(values, names, ("uV",) * len(names), whole_rate(1e6 / rhythm.interval), notes, cautions)
