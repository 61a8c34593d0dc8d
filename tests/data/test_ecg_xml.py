"""XML exports: exact sampling frequencies, offsets of the zero line, names and units of leads, damaged files."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import ecgdatakit
import numpy as np
import pytest
from write_formats import aecg, muse, sierra
from write_groups import FS, Part, aecg_document, aecg_series, made_ecg, muse_document, muse_lead, write_muse

from einthoven.data import read_record
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

EIGHT = ("I", "II", *LEADS[6:])


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    return made_ecg(3.0)


def eight(ecg: np.ndarray) -> np.ndarray:
    return ecg[[LEADS.index(lead) for lead in EIGHT]]


def eli(ecg: np.ndarray, offsets: dict[str, float] | None = None, fs: str = "500", per_mv: str = "200") -> str:
    """Mortara ELI with eight leads. One count is 1/200 mV."""
    channels = []
    for name, row in zip(EIGHT, eight(ecg), strict=True):
        data = base64.b64encode((row // 5).astype("<i2").tobytes()).decode()
        offset = (offsets or {}).get(name, 0)
        channels.append(
            f'<CHANNEL OFFSET="{offset:g}" BITS="16" FORMAT="SIGNED" UNITS_PER_MV="{per_mv}" DURATION="{len(row)}" '
            f'SAMPLE_FREQ="{fs}" NAME="{name}" ENCODING="BASE64" DATA="{data}"/>'
        )
    source = '<SOURCE MANUFACTURER="Mortara Instrument, Inc."/>'
    return f'<?xml version="1.0"?><ECG ACQUISITION_TIME="20200101100000">{source}{"".join(channels)}</ECG>'


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def assert_signal(path: Path, microvolts: np.ndarray, fs: float = FS) -> None:
    record = read_record(path)
    assert record.fs == pytest.approx(fs, rel=1e-12)
    np.testing.assert_allclose(record.signal, microvolts / 1000, atol=1e-6)


def test_our_readers_equal_those_of_ecgdatakit(tmp_path: Path, ecg: np.ndarray) -> None:
    for text in (aecg(ecg), muse(eight(ecg) // 5), aecg_document(aecg_series([Part(ecg)]))):
        path = put(tmp_path, text)
        leads = {lead.label: lead.samples for lead in ecgdatakit.FileParser.parse(path, units="mV").leads}
        signal = read_record(path).signal
        for lead, samples in leads.items():
            np.testing.assert_allclose(signal[LEADS.index(lead)], samples, atol=1e-6)


# ------------------------------------------------------------------ sampling frequencies


@pytest.mark.parametrize(
    ("base", "exponent", "fs"),
    [(500, 0, 500), (5, 2, 500), (9765625, -4, 976.5625), (2495, -1, 249.5), (1, 3, 1000), (4096, -1, 409.6)],
)
def test_rates_of_muse_are_exact(tmp_path: Path, ecg: np.ndarray, base: int, exponent: int, fs: float) -> None:
    leads = "".join(muse_lead(name, row) for name, row in zip(EIGHT, eight(ecg), strict=True))
    assert_signal(put(tmp_path, muse_document([("Rhythm", base, exponent, leads)])), ecg, fs)


@pytest.mark.parametrize("fs", ["976.5625", "500", "1000.0", "249.5", "409.6"])
def test_rates_of_mortara_are_exact(tmp_path: Path, ecg: np.ndarray, fs: str) -> None:
    assert_signal(put(tmp_path, eli(ecg, fs=fs)), ecg, float(fs))


@pytest.mark.parametrize(
    ("increment", "unit", "fs"),
    [
        ("0.001024", "s", 976.5625),
        ("2", "ms", 500),
        ("1024", "us", 976.5625),
        ("0.004", "s", 250),
        ("4.0080160", "ms", 249.5),
    ],
)
def test_rates_of_aecg_are_exact(tmp_path: Path, ecg: np.ndarray, increment: str, unit: str, fs: float) -> None:
    text = aecg_document(aecg_series([Part(ecg)]))
    text = text.replace('<increment value="0.002" unit="s"/>', f'<increment value="{increment}" unit="{unit}"/>')
    record = read_record(put(tmp_path, text))
    assert record.fs == pytest.approx(fs, rel=1e-7)
    np.testing.assert_allclose(record.signal, ecg / 1000, atol=1e-6)


# ------------------------------------------------------------------ the zero line


@pytest.mark.parametrize("baselines", [{"V1": 40}, {"I": -12, "II": 7}, dict.fromkeys(EIGHT, 100), {"V6": 0}])
def test_first_sample_baselines_of_muse_are_added(tmp_path: Path, ecg: np.ndarray, baselines: dict[str, int]) -> None:
    leads = "".join(
        muse_lead(name, row, f"<FirstSampleBaseline>{baselines.get(name, 0)}</FirstSampleBaseline>")
        for name, row in zip(EIGHT, eight(ecg), strict=True)
    )
    record = read_record(put(tmp_path, muse_document([("Rhythm", 500, 0, leads)])))
    shifted = eight(ecg) + 5 * np.array([[baselines.get(name, 0)] for name in EIGHT])
    np.testing.assert_allclose(record.signal[[LEADS.index(lead) for lead in EIGHT]], shifted / 1000, atol=1e-6)
    np.testing.assert_allclose(record.signal[2], (shifted[1] - shifted[0]) / 1000, atol=1e-6)
    listed = ", ".join(f"{name} {baselines[name]}" for name in EIGHT if baselines.get(name))
    assert record.cautions == ((f"added FirstSampleBaseline: {listed}",) if listed else ())


def test_invalid_first_bytes_of_muse_are_refused(tmp_path: Path, ecg: np.ndarray) -> None:
    text = write_muse(tmp_path / "a.xml", [Part(ecg)]).read_text()
    changed = text.replace(
        "<LeadID>V2</LeadID>", "<LeadID>V2</LeadID><LeadOffsetFirstSample>100</LeadOffsetFirstSample>"
    )
    with pytest.raises(UserError, match="LeadOffsetFirstSample 100 in lead V2"):
        read_record(put(tmp_path, changed))
    later = text.replace("<LeadID>V2</LeadID>", "<LeadID>V2</LeadID><LeadTimeOffset>20</LeadTimeOffset>")
    with pytest.raises(UserError, match="leads of waveform 1 at the time offsets 0, 20"):
        read_record(put(tmp_path, later))


@pytest.mark.parametrize("offsets", [{}, dict.fromkeys(EIGHT, 30), {"II": -2.5}, {"V3": 1000, "V4": 1}])
def test_offsets_of_mortara_are_added(tmp_path: Path, ecg: np.ndarray, offsets: dict[str, float]) -> None:
    record = read_record(put(tmp_path, eli(ecg, offsets)))
    shifted = eight(ecg) / 1000 + np.array([[offsets.get(name, 0) / 200] for name in EIGHT])
    np.testing.assert_allclose(record.signal[[LEADS.index(lead) for lead in EIGHT]], shifted, atol=1e-6)
    assert len(record.cautions) == bool(offsets) and not any("not applied" in note for note in record.notes)


@pytest.mark.parametrize(
    ("origin", "unit", "shift"), [("40", "uV", 40), ("-0.04", "mV", -40), ("40000", "nV", 40), ("", "", 0)]
)
def test_origins_of_aecg_are_added_in_their_own_unit(
    tmp_path: Path, ecg: np.ndarray, origin: str, unit: str, shift: float
) -> None:
    text = aecg_document(aecg_series([Part(ecg)]))
    text = text.replace('<origin value="10" unit="uV"/>', f'<origin value="{origin}" unit="{unit}"/>')
    assert_signal(put(tmp_path, text), ecg - 10 + shift)


# ------------------------------------------------------------------ leads


@pytest.mark.parametrize("prefix", ["MDC_ECG_LEAD_", "MINDRAY_ECG_LEAD_", "EDAN_ECG_LEAD_"])
def test_lead_codes_of_aecg(tmp_path: Path, ecg: np.ndarray, prefix: str) -> None:
    text = aecg_document(aecg_series([Part(ecg)])).replace("MDC_ECG_LEAD_", prefix)
    assert_signal(put(tmp_path, text), ecg)


def test_leads_of_aecg_without_digits_are_named(tmp_path: Path, ecg: np.ndarray) -> None:
    empty = [(lead, row if lead[0] != "a" else row[:0]) for lead, row in zip(LEADS, ecg, strict=True)]
    text = aecg_document(aecg_series([Part(ecg)]))
    for lead, row in empty:
        if not len(row):
            start = text.index(f"MDC_ECG_LEAD_{lead.upper()}")
            first, last = text.index("<digits>", start) + 8, text.index("</digits>", start)
            text = text[:first] + text[last:]
    path = put(tmp_path, text)
    assert_signal(path, ecg)
    assert read_record(path).cautions == ("series 1 set 1: AVR AVL AVF without digits",)


def test_text_in_other_encodings(tmp_path: Path, ecg: np.ndarray) -> None:
    text = write_muse(tmp_path / "a.xml", [Part(ecg)]).read_text()
    named = text.replace("<Waveform>", "<PatientDemographics>Müller – “x”</PatientDemographics><Waveform>", 1)
    for declared, encoding in (
        ("UTF-8", "cp1252"),
        ("UTF-16", "utf-16"),
        ("ISO-8859-1", "cp1252"),
        ("UTF-8", "utf-8-sig"),
    ):
        head = f'<?xml version="1.0" encoding="{declared}"?><!--{"x" * 5000}-->\n'
        assert_signal(put(tmp_path, (head + named).encode(encoding)), ecg)


# ------------------------------------------------------------------ damage


def test_sizes_and_checksums_of_muse(tmp_path: Path, ecg: np.ndarray) -> None:
    text = write_muse(tmp_path / "a.xml", [Part(ecg)]).read_text()
    payload = (ecg[0] // 5).astype("<i2").tobytes()
    good = f"<LeadDataCRC32>{zlib.crc32(payload)}</LeadDataCRC32><LeadSampleSize>"
    assert_signal(put(tmp_path, text.replace("<LeadSampleSize>", good, 1)), ecg)
    for old, new, sentence in (
        ("<LeadSampleSize>", "<LeadDataCRC32>7</LeadDataCRC32><LeadSampleSize>", "CRC32 mismatch in lead I"),
        ("LeadByteCountTotal>3000", "LeadByteCountTotal>3002", "LeadByteCountTotal 3002 of lead I, 3000 found"),
        ("LeadSampleCountTotal>1500", "LeadSampleCountTotal>1499", "LeadSampleCountTotal 1499 of lead I, 1500 found"),
        ("<LeadSampleSize>2", "<LeadSampleSize>3", "for samples of 3 bytes"),
        ("<SampleExponent>0", "<SampleExponent>99", "SampleExponent 99 found"),
        ("<SampleBase>500", "<SampleBase>", "nothing found for the SampleBase"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_record(put(tmp_path, text.replace(old, new, 1)))


def xli(counts: np.ndarray) -> str:
    """Compress leads as Philips does, with LZW codes of single bytes. The limb leads become residuals of their laws."""
    i, ii, iii, avr, avl, avf = counts[:6]
    residuals = [ii - i - iii, -((i + ii) // 2) - avr, (i - iii) // 2 - avl, (ii + iii) // 2 - avf]
    data = b""
    for row in [i, ii, *residuals, *counts[6:]]:
        steps = 2 * row[1:-1] - row[:-2] - row[2:]
        words = np.concatenate([row[:2], 64 + steps[1:], [64]]).astype("<i2").view(np.uint16)
        content = [*(words >> 8).tolist(), *(words & 255).tolist()]
        bits = "".join(f"{code:010b}" for code in [*content, 1023])
        chunk = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
        data += struct.pack("<Ixxh", len(chunk), steps[0]) + chunk
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("fs", [500, 976.5625])
def test_compressed_philips(tmp_path: Path, ecg: np.ndarray, fs: float) -> None:
    plain = sierra(ecg // 10).replace(">500<", f">{fs}<").replace("='3000'", f"='{round(ecg.shape[1] / fs * 1000)}'")
    start, end = plain.split("dataencoding")
    attributes = end.partition(">")[0]
    path = put(
        tmp_path,
        f"{start}compression='XLI' dataencoding{attributes}>{xli(ecg // 10)}</parsedwaveforms>"
        "</waveforms></restingecgdata>",
    )
    assert_signal(path, ecg // 10 * 5, fs)
    if fs == 500:
        leads = ecgdatakit.FileParser.parse(path, units="mV").leads
        np.testing.assert_allclose(read_record(path).signal, [lead.samples for lead in leads], atol=1e-6)


def test_a_compressed_lead_cannot_become_larger_than_it_says(tmp_path: Path, ecg: np.ndarray) -> None:
    text = sierra(ecg // 5).replace("='3000'", "='30'")
    start, end = text.split("dataencoding")
    path = put(
        tmp_path,
        f"{start}compression='XLI' dataencoding{end.partition('>')[0]}>{xli(ecg // 10)}"
        "</parsedwaveforms></waveforms></restingecgdata>",
    )
    with pytest.raises(UserError, match="more samples in lead 1 than its duration says"):
        read_record(path)


def test_of_several_muse_rhythms_the_longest_is_read(tmp_path: Path, ecg: np.ndarray) -> None:
    short = Part(ecg[:, :1200], label="Rhythm")
    strip = Part(np.hstack([ecg, ecg])[[1]], ("II",), label="Rhythm")
    for parts in ([short, Part(ecg, label="Rhythm")], [strip, Part(ecg, label="Rhythm"), short]):
        path = write_muse(tmp_path / "m.xml", parts)
        assert_signal(path, ecg)
        assert "(12 leads, 2.4 s)" in read_record(path).cautions[0]
    # Of equally long ones, the first is read.
    later = Part(ecg[:, ::-1].copy(), label="Rhythm")
    path = write_muse(tmp_path / "m.xml", [Part(ecg, label="Rhythm"), later])
    assert_signal(path, ecg)
    assert read_record(path).cautions == ("left out waveform 2 'Rhythm' (12 leads, 3 s)",)
    # A flat one is read only if no other is as long.
    flat = Part(np.full_like(ecg, 35), label="Rhythm")
    path = write_muse(tmp_path / "m.xml", [flat, Part(ecg, label="Rhythm")])
    assert_signal(path, ecg)
    assert read_record(path).cautions == ("left out waveform 1 'Rhythm' (12 leads, 3 s)",)


def test_damaged_documents_are_refused(tmp_path: Path, ecg: np.ndarray) -> None:
    documents = {
        "aecg": aecg_document(aecg_series([Part(ecg)])),
        "muse": write_muse(tmp_path / "m.xml", [Part(ecg)]).read_text(),
        "eli": eli(ecg),
        "philips": sierra(ecg // 5),
    }
    for text in documents.values():
        assert_signal(put(tmp_path, text), ecg)
        for share in (0.1, 0.3, 0.5, 0.9, 0.999):
            with pytest.raises(UserError, match=r"^a.xml: not XML, or damaged"):
                read_record(put(tmp_path, text[: int(share * len(text))]))


def test_other_xml_is_refused_with_its_root(tmp_path: Path) -> None:
    for root in ("examdescript", "svg", "ECG"):
        with pytest.raises(UserError, match=f"root element '{root}'.*; expected HL7 aECG, Philips"):
            read_record(put(tmp_path, f"<{root}><a/></{root}>"))
