"""SCP-ECG: real files against their oracles, and made files against the parser of ecgdatakit and what was written."""

from __future__ import annotations

import binascii
import struct
from pathlib import Path

import ecgdatakit
import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data import read_record
from einthoven.data.formats.reading import read_microvolts
from einthoven.data.formats.scp_huffman import decode, default_codes, parse_tables
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

NUMBERS = {"I": 1, "II": 2, **{f"V{k}": k + 2 for k in range(1, 7)}, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}
EIGHT = ("I", "II", *LEADS[6:])
UNITS = np.cumsum(np.random.default_rng(4).integers(-30, 31, (8, 300)), axis=1)  # 2.5 µV each


# ------------------------------------------------------------------ a writer


def section(number: int, content: bytes, version: int = 20) -> bytes:
    content += b"\0" * (len(content) % 2)
    rest = (
        struct.pack("<HIBB6s", number, 16 + len(content), version, version, b"SCPECG" if number == 0 else b"") + content
    )
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def whole_file(contents: dict[int, bytes]) -> bytes:
    sections = {number: section(number, content) for number, content in contents.items()}
    position = 6 + 16 + 12 * 10 + 1
    pointers = struct.pack("<HII", 0, 136, 7)
    for number in range(1, 12):
        data = sections.get(number, b"")
        pointers += struct.pack("<HII", number, len(data), position if data else 0)
        position += len(data)
    body = section(0, pointers) + b"".join(sections.values())
    body = struct.pack("<I", 6 + len(body)) + body
    return struct.pack("<H", binascii.crc_hqx(body, 0xFFFF)) + body


def differences(values: np.ndarray, order: int) -> np.ndarray:
    result = values.copy()
    for _ in range(order):
        result = np.concatenate([result[:1], np.diff(result)])
    result[:order] = values[:order]
    return result


def encode(values: np.ndarray) -> bytes:
    """Code numbers with the default table."""
    short = {code.value: code.prefix for code in default_codes() if not code.number_bits}
    bits = []
    for value in values.tolist():
        if value in short:
            bits.append(short[value])
        elif -128 <= value < 128:
            bits.append(f"1111111110{value & 0xFF:08b}")
        else:
            bits.append(f"1111111111{value & 0xFFFF:016b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8) if text else b""


def leads_section(names: tuple[str, ...], starts: list[int], lengths: list[int], flags: int = 0x44) -> bytes:
    content = struct.pack("<BB", len(names), flags)
    for name, start, length in zip(names, starts, lengths, strict=True):
        content += struct.pack("<IIB", start, start + length - 1, NUMBERS[name])
    return content


def signal_section(
    data: list[bytes], order: int, nanovolts: int = 2500, interval: int = 2000, bimodal: int = 0
) -> bytes:
    lengths = struct.pack(f"<{len(data)}H", *map(len, data))
    return struct.pack("<HHBB", nanovolts, interval, order, bimodal) + lengths + b"".join(data)


def scp(
    units: np.ndarray = UNITS, names: tuple[str, ...] = EIGHT, order: int = 2, huffman: bool = True, **more: int
) -> bytes:
    rows = [differences(row, order) for row in units]
    data = [encode(row) if huffman else row.astype("<i2").tobytes() for row in rows]
    contents = {1: b"\xff\0\0\0"}
    if huffman:
        contents[2] = struct.pack("<H", 19999)
    contents[3] = leads_section(names, [1] * len(names), [units.shape[1]] * len(names))
    contents[6] = signal_section(data, order, **more)
    return whole_file(contents)


def by_other_parser(path: Path) -> tuple[np.ndarray, float]:
    record = ecgdatakit.FileParser.parse(path, units="mV")
    leads = {lead.label.upper(): np.asarray(lead.samples) for lead in record.leads}
    return np.stack([leads[lead.upper()] for lead in EIGHT]), record.leads[0].sampling_rate


def assert_units(path: Path, units: np.ndarray, fs: float = 500) -> None:
    record = read_record(path, want=EIGHT)
    assert record.fs == fs
    np.testing.assert_allclose(record.signal, units * 0.0025, atol=1e-6)
    counts, _, _, _ = read_microvolts(path, EIGHT)
    np.testing.assert_allclose(counts, units * 2.5, atol=0.5)


# ------------------------------------------------------------------ real files


def test_a_real_file_equals_another_parser(real_data: Path) -> None:
    path = real_data / "formats" / "example.scp"
    record = read_record(path)
    other = {lead.label: np.asarray(lead.samples) for lead in ecgdatakit.FileParser.parse(path, units="mV").leads}
    assert record.fs == 500 and record.signal.shape == (12, 5000)
    for lead, row in zip(record.leads, record.signal, strict=True):
        np.testing.assert_allclose(row, other[lead], atol=2e-3)


def test_a_real_file_equals_the_samples_of_its_edf(real_data: Path) -> None:
    record = read_record(real_data / "formats" / "contec.scp")
    edf = edfio.read_edf(real_data / "formats" / "contec.edf")
    samples = np.stack([signal.digital for signal in edf.signals[:6]])
    # The EDF states a nominal range of 1000 mV, so that its counts are compared. The SCP-ECG file states 5 µV.
    np.testing.assert_allclose(record.signal[:6], samples[:, :32767] * 0.005, atol=2e-3)
    assert record.fs == 800 == read_record(real_data / "formats" / "contec.edf").fs
    assert record.cautions == ("32,767 samples of the leads found, where the file says 37,855",)


# ------------------------------------------------------------------ made files


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("huffman", [True, False])
@pytest.mark.parametrize("name", ["a.scp", "a", "a.ecg"])
def test_encodings(tmp_path: Path, order: int, huffman: bool, name: str) -> None:
    (tmp_path / name).write_bytes(scp(order=order, huffman=huffman))
    assert_units(tmp_path / name, UNITS)
    values, fs = by_other_parser(tmp_path / name)
    np.testing.assert_allclose(read_record(tmp_path / name, want=EIGHT).signal, values, atol=1e-6)
    assert fs == 500


@pytest.mark.parametrize(
    ("interval", "fs"), [(1000, 1000), (4000, 250), (1250, 800), (2048, 488.28125), (3906, 1e6 / 3906)]
)
def test_intervals(tmp_path: Path, interval: int, fs: float) -> None:
    (tmp_path / "a.scp").write_bytes(scp(interval=interval))
    assert read_record(tmp_path / "a.scp").fs == pytest.approx(fs, rel=1e-4)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40), st.integers(0, 2))
def test_any_amplitudes(tmp_path_factory: pytest.TempPathFactory, values: list[int], order: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.scp"
    units = np.array([values] * 8)
    # The writers take differences modulo 2**16.
    rows = [differences(row, order).astype(np.int16).astype(int) for row in units]
    contents = {2: struct.pack("<H", 19999), 3: leads_section(EIGHT, [1] * 8, [len(values)] * 8)}
    contents[6] = signal_section([encode(row) for row in rows], order)
    path.write_bytes(whole_file(contents))
    np.testing.assert_allclose(read_record(path, want=EIGHT).signal, units * 0.0025, rtol=1e-6, atol=1e-6)


def test_leads_that_do_not_start_together(tmp_path: Path) -> None:
    starts = [1, 1, 101, 101, 101, 201, 201, 201]
    contents = {2: struct.pack("<H", 19999), 3: leads_section(EIGHT, starts, [100] * 8, 0x20)}
    contents[6] = signal_section([encode(differences(row[:100], 2)) for row in UNITS], 2)
    (tmp_path / "a.scp").write_bytes(whole_file(contents))
    expected = np.full((8, 300), np.nan)
    for row, start, values in zip(expected, starts, UNITS, strict=True):
        row[start - 1 : start + 99] = values[:100] * 0.0025
    np.testing.assert_allclose(read_record(tmp_path / "a.scp", want=EIGHT).signal, expected, atol=1e-6)


@pytest.mark.parametrize("beats", [((60, 61, 120),), ((10, 12, 60), (150, 152, 201)), ((1, 3, 20), (281, 290, 300))])
def test_a_subtracted_reference_beat(tmp_path: Path, beats: tuple[tuple[int, int, int], ...]) -> None:
    beat = np.rint(400 * np.exp(-(((np.arange(70) - 20) / 6) ** 2))).astype(int)
    residuals = UNITS.copy()
    fiducial = 21
    zones = b""
    for start, center, end in beats:
        zones += struct.pack("<HIII", 0, start, center, end)
        for sample in range(start, end + 1):  # from 1
            index = sample - center + fiducial - 1
            if 0 <= index < len(beat):
                residuals[:, sample - 1] -= beat[index]
    zones += struct.pack("<HIII", 1, 220, 230, 240)  # a beat of another type stays as it is
    protected = struct.pack("<II", 1, 300) * (len(beats) + 1)  # ignored: nothing was left out
    contents = {2: struct.pack("<H", 19999), 3: leads_section(EIGHT, [1] * 8, [300] * 8, 0x45)}
    contents[4] = struct.pack("<HHH", 140, fiducial, len(beats) + 1) + zones + protected
    contents[5] = signal_section([encode(differences(beat, 2))] * 8, 2)
    contents[6] = signal_section([encode(differences(row, 1)) for row in residuals], 1)
    (tmp_path / "a.scp").write_bytes(whole_file(contents))
    assert_units(tmp_path / "a.scp", UNITS)
    values, _ = by_other_parser(tmp_path / "a.scp")
    np.testing.assert_allclose(values, UNITS * 0.0025, atol=1e-6)


# ------------------------------------------------------------------ bimodal compression

SMOOTH = np.rint(500 * np.sin(np.arange(1000) / 40)[None] * np.linspace(0.2, 1, 8)[:, None]).astype(int)
COMPLEXES = ((101, 160), (402, 470), (800, 811))
"""First and last sample of the protected zones, from 1. The gaps leave 0, 1 and 3 samples over."""


def decimate(row: np.ndarray, zones: tuple[tuple[int, int], ...], factor: int, start: int = 1) -> np.ndarray:
    """Keep the samples of the zones. Between them, each group of `factor` samples becomes its mean."""
    result: list[float] = []
    group: list[int] = []
    for sample, value in enumerate([*row, 0], start):
        is_inside = sample == start + len(row) or any(first <= sample <= last for first, last in zones)
        if is_inside:
            result += [*group, value]
            group = []
        else:
            group.append(value)
            if len(group) == factor:
                result.append(sum(group) / factor)
                group = []
    return np.rint(result[:-1]).astype(int)


def bimodal(
    rows: np.ndarray, zones: tuple[tuple[int, int], ...], factor: int = 4, start: int = 1, **changes: bytes
) -> bytes:
    data = [encode(differences(decimate(row, zones, factor, start), 1)) for row in rows]
    contents = {2: struct.pack("<H", 19999), 3: leads_section(EIGHT, [start] * 8, [rows.shape[1]] * 8)}
    subtracted = struct.pack("<HIII", 1, 0, 0, 0) * len(zones)
    protected = b"".join(struct.pack("<II", *zone) for zone in zones)
    contents[4] = struct.pack("<HHH", 0, 0, len(zones)) + subtracted + protected
    contents[5] = signal_section([b""] * 8, 1)
    contents[6] = signal_section(data, 1, nanovolts=1000, interval=2000 * factor, bimodal=1)
    contents |= {int(name.removeprefix("s")): content for name, content in changes.items()}
    return whole_file({number: content for number, content in contents.items() if content})


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("zones", [COMPLEXES, ((1, 30), (31, 40), (990, 1000)), ((500, 500),), ((2000, 2010),)])
@pytest.mark.parametrize("start", [1, 21])
def test_bimodal_compression(tmp_path: Path, factor: int, zones: tuple[tuple[int, int], ...], start: int) -> None:
    # Steep waves inside of the zones are stored sample by sample.
    rows = SMOOTH.copy()
    for first, last in zones:
        inside = slice(max(first - start, 0), max(last - start + 1, 0))
        rows[:, inside] += np.arange(rows[:, inside].shape[1]) % 7 * 100
    (tmp_path / "a.scp").write_bytes(bimodal(rows, zones, factor, start))
    record = read_record(tmp_path / "a.scp", want=EIGHT)
    assert record.fs == 500 and record.signal.shape == rows.shape
    error = np.abs(record.signal - rows * 0.001)
    samples = np.arange(start, start + 1000)
    is_inside = np.any([(first <= samples) & (samples <= last) for first, last in zones], axis=0)
    # Beside a zone with steep waves, the interpolation is between different waves.
    is_near = np.convolve(is_inside, np.ones(9), "same") > 0
    assert error[:, is_inside].max(initial=0) < 1e-6
    assert error[:, 2:-2][:, ~is_near[2:-2]].max() < 0.002
    assert bool(record.cautions) == (factor > 1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (bimodal(SMOOTH, COMPLEXES, s5=b""), "bimodal compression without the reference beat and QRS zones"),
        (bimodal(SMOOTH, COMPLEXES, s4=b""), "bimodal compression without the reference beat and QRS zones"),
        (bimodal(SMOOTH, COMPLEXES, s5=signal_section([b""] * 8, 1, interval=3000)), "8000 µs per sample outside"),
        (bimodal(SMOOTH, COMPLEXES, s5=signal_section([b""] * 8, 1, interval=80)), "8000 µs per sample outside"),
        (bimodal(SMOOTH, COMPLEXES, s4=struct.pack("<HHH", 0, 0, 0)), "values of lead I .* its QRS zones leave 250"),
        (bimodal(SMOOTH, COMPLEXES, s4=struct.pack("<HHH42x", 0, 0, 3)), "0 protected zones of 3"),
        (bimodal(SMOOTH, ((1, 50), (50, 60))), "QRS zones that overlap"),
        (
            bimodal(SMOOTH, COMPLEXES, s3=leads_section(EIGHT, [1] * 8, [2**31] * 8)),
            "bytes for the 2,147,483,648 samples of lead I",
        ),
    ],
)
@pytest.mark.usefixtures("bounded")
def test_bimodal_compression_that_cannot_be_undone(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "a.scp").write_bytes(data)
    with pytest.raises(UserError, match=rf"^a\.scp: .*{sentence}"):
        read_record(tmp_path / "a.scp")


def many_overlapping_zones() -> bytes:
    """Each zone covers the whole record. Adding a beat to each of them would take hours."""
    count = 65_535
    zones = struct.pack("<HIII", 0, 1, 1, 2**31) * count
    contents = {3: leads_section(EIGHT, [1] * 8, [30_000] * 8, 0x45), 4: struct.pack("<HHH", 0, 1, count) + zones}
    contents[5] = contents[6] = signal_section([bytes(60_000)] * 8, 0)
    return whole_file(contents)


def own_tables() -> bytes:
    """Two tables: 0 is 0, 10 is a number of 16 bits, 11 switches to the other table."""
    content = struct.pack("<H", 2)
    for other, value in ((2, 0), (1, 7)):
        content += struct.pack("<H", 3)
        content += struct.pack("<BBBhI", 1, 1, 1, value, 0b0)
        content += struct.pack("<BBBhI", 2, 18, 1, 0, 0b01)  # the lowest bit is the first one
        content += struct.pack("<BBBhI", 2, 2, 0, other, 0b11)
    return content


def test_tables_of_the_file(tmp_path: Path) -> None:
    bits = "".join(f"10{value & 0xFFFF:016b}" for value in (5, -300)) + "0" + "11" + "0" + "11" + "0"
    stream = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    assert decode(stream, parse_tables(memoryview(own_tables())), 5).tolist() == [5, -300, 0, 7, 0]
    contents = {2: own_tables(), 3: leads_section(EIGHT, [1] * 8, [5] * 8), 6: signal_section([stream] * 8, 0)}
    (tmp_path / "a.scp").write_bytes(whole_file(contents))
    assert_units(tmp_path / "a.scp", np.array([[5, -300, 0, 7, 0]] * 8))


@given(st.lists(st.integers(-32768, 32767), max_size=200))
def test_the_default_table_decodes_what_it_codes(values: list[int]) -> None:
    tables = parse_tables(memoryview(struct.pack("<H", 19999)))
    assert decode(encode(np.array(values, dtype=int)), tables, len(values)).tolist() == values


# ------------------------------------------------------------------ damaged files


def with_sections(**changes: bytes) -> bytes:
    contents = {2: struct.pack("<H", 19999), 3: leads_section(EIGHT, [1] * 8, [300] * 8)}
    contents[6] = signal_section([encode(differences(row, 2)) for row in UNITS], 2)
    contents |= {int(name.removeprefix("s")): content for name, content in changes.items()}
    return whole_file({number: content for number, content in contents.items() if content})


def poke(position: int, data: bytes, whole: bytes | None = None) -> bytes:
    whole = scp() if whole is None else whole
    return whole[:position] + data + whole[position + len(data) :]


def code(prefix_bits: int, all_bits: int) -> bytes:
    return struct.pack("<HH", 1, 1) + struct.pack("<BBBhI", prefix_bits, all_bits, 1, 0, 0)


def one_lead_many_times() -> bytes:
    """One long lead, and many of eight samples far from it. As one array, they would need 2 GB."""
    names = ("I",) * 32
    leads = leads_section(names, [1] + [8_388_000] * 31, [524_280] + [8] * 31)
    return with_sections(s3=leads, s6=signal_section([bytes(65_535)] + [b"\0"] * 31, 2))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty; expected an ECG"),
        (scp()[:5], "not a readable SCP-ECG file"),
        (scp()[:-1], "truncated"),
        (scp()[:200], "truncated"),
        (poke(0, b"\0\0"), "damaged: checksum .* of the file, where the file says 0x0000"),
        (poke(500, b"\x55\xaa"), "damaged: checksum"),
        (poke(2, struct.pack("<I", 2**32 - 1)), "truncated"),
        (poke(2, struct.pack("<I", 0)), "not a readable SCP-ECG file"),
        (with_sections(s3=b""), "no section 3"),
        (with_sections(s6=b""), "no section 6"),
        (with_sections(s2=struct.pack("<H", 0)), "0 Huffman tables"),
        (with_sections(s2=struct.pack("<H", 60000)), "60000 Huffman tables"),
        (with_sections(s2=struct.pack("<HH", 1, 9)), "not a readable SCP-ECG file"),
        (with_sections(s2=code(0, 0)), "a code of 0 and 0 bits"),
        (with_sections(s2=code(40, 40)), "a code of 40 and 40 bits"),
        (with_sections(s2=struct.pack("<HH", 1, 2) + code(1, 1)[4:] * 2), "one begins like another"),
        (with_sections(s2=code(1, 1)), "a Huffman code that is in no table"),
        (with_sections(s3=b"\0\0"), "0 leads; expected 1 to 32"),
        (with_sections(s3=b"\xff\0"), "255 leads; expected 1 to 32"),
        (with_sections(s3=b"\x20\0"), "not a readable SCP-ECG file"),
        (many_overlapping_zones(), "QRS zones that overlap"),
        (with_sections(s3=leads_section(EIGHT, [2**31] + [1] * 7, [300] * 8)), "leads over 2,147,483,"),
        (one_lead_many_times(), "32 leads over 8,388,007 samples, of which the longest has 524,280"),
        (with_sections(s3=struct.pack("<BB", 1, 0) + struct.pack("<IIB", 9, 2, 1)), "a lead from sample 9 to 2"),
        (
            with_sections(s3=struct.pack("<BB", 1, 0) + struct.pack("<IIB", 1, 2**32 - 1, 133)),
            "no samples of the twelve",
        ),
        (with_sections(s3=leads_section(("I",) * 8, [1] * 8, [300] * 8)), "lead I is named twice"),
        (with_sections(s3=leads_section(EIGHT, [1] * 8, [300] * 8, 0x45)), "reference beat that is not in the file"),
        (with_sections(s6=signal_section([b"\0"] * 8, 2, nanovolts=0)), "0 nV per unit"),
        (with_sections(s6=signal_section([b"\0"] * 8, 2, interval=0)), "0 µs per sample"),
        (with_sections(s6=signal_section([b"\0"] * 8, 3)), "differences of order 3"),
        (with_sections(s6=signal_section([b""] * 8, 2)), "no samples of the twelve leads"),
        (with_sections(s6=struct.pack("<HHBB8H", 2500, 2000, 2, 0, *[65535] * 8)), "leads of 524,280 bytes in 0"),
        (with_sections(s6=b"\0\0"), "not a readable SCP-ECG file"),
        (scp(interval=40000), "25 Hz found"),
    ],
)
@pytest.mark.usefixtures("bounded")
def test_damaged_files(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "bad.scp").write_bytes(data)
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError, match=sentence) as refused:
            read(tmp_path / "bad.scp")
        text = str(refused.value)
        assert text.startswith("bad.scp: ") and text.endswith(".") and "\n" not in text


@given(st.data())
@pytest.mark.usefixtures("bounded")
def test_any_damage_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(scp(UNITS[:, :40]))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.scp"
    path.write_bytes(whole)
    with pytest.raises(UserError):
        read_record(path)
