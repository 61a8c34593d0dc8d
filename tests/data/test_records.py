"""Records against the wfdb package, and damaged records against sentences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data import Record, read_record
from einthoven.data.records import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

WriteRecord = Callable[..., Path]


@pytest.fixture
def digital() -> np.ndarray:
    return np.random.default_rng(0).integers(-30000, 30000, (12, 50)).astype(np.int16)


def oracle(stem: Path) -> np.ndarray:
    """Signal in mV in canonical lead order, by the wfdb package, in float64."""
    record = wfdb.rdrecord(str(stem), physical=False)
    scale = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
    names = [name.upper() for name in record.sig_name]
    columns = [names.index(lead.upper()) for lead in LEADS]
    rows = [
        (record.d_signal[:, c].astype(np.float64) - record.baseline[c])
        / record.adc_gain[c]
        * scale[record.units[c].lower()]
        for c in columns
    ]
    return np.stack(rows)


def assert_equals_wfdb(stem: Path) -> None:
    record, expected = read_record(stem), oracle(stem)
    assert record.signal.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(record.signal), np.isnan(expected))
    # within the last bit of float32, so that every digital value comes back exactly
    np.testing.assert_array_max_ulp(record.signal, expected.astype(np.float32), maxulp=1)


@pytest.mark.parametrize("folder", ["records100/00000", "records500"])
def test_ptbxl_equals_wfdb(real_data: Path, folder: str) -> None:
    headers = sorted((real_data / "ptbxl" / folder).rglob("*.hea"))[:16]
    assert len(headers) == 16
    for header in headers:
        stem = header.with_suffix("")
        assert_equals_wfdb(stem)
        counts = wfdb.rdrecord(str(stem), physical=False).d_signal.T
        assert read_record(stem).fs == wfdb.rdheader(str(stem)).fs
        microvolts, _, invalid, clipped = read_microvolts(stem)
        np.testing.assert_array_equal(microvolts, counts)  # PTB-XL counts microvolts: nothing is lost
        assert (invalid, clipped) == (0, 0)


def test_every_challenge_record_reads(real_data: Path) -> None:
    headers = sorted((real_data / "cinc2021").glob("*.hea"))
    assert len(headers) == 46
    sources = {header.stem.rstrip("0123456789") for header in headers}
    assert sources == {"A", "E", "JS", "Q", "S"}
    early = 0
    for header in headers:
        record = read_record(header)
        assert record.signal.shape[0] == 12 and record.fs in (500, 1000)
        assert np.isfinite(record.signal).all()
        try:
            wfdb.rdheader(str(header.with_suffix("")))
        except Exception:  # the early Georgia headers, which the package rejects
            early += 1
            assert header.read_text().split()[0] == f"{header.stem}.mat"
        else:
            assert_equals_wfdb(header.with_suffix(""))
    assert early == 9


def test_early_georgia_header_reads_like_the_corrected_one(real_data: Path, tmp_path: Path) -> None:
    for suffix in (".hea", ".mat"):
        shutil.copy(real_data / "cinc2021" / f"E07501{suffix}", tmp_path)
    header = tmp_path / "E07501.hea"
    early = read_record(header).signal
    header.write_text(header.read_text().replace("E07501.mat", "E07501", 1))
    np.testing.assert_array_max_ulp(early, oracle(tmp_path / "E07501").astype(np.float32), maxulp=1)


def test_record_has_the_documented_shape_and_types(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    record = read_record(write_record(tmp_path, "a", digital, 250))
    assert isinstance(record, Record)
    assert record.signal.dtype == np.float32 and record.signal.shape == (12, 50)
    assert record.fs == 250.0 and record.leads == LEADS and record.source == "a"
    np.testing.assert_allclose(record.signal, digital / 1000.0, rtol=1e-7)


@pytest.mark.parametrize("ending", ["", ".hea", ".dat"])
def test_the_path_may_name_header_signal_or_stem(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, ending: str
) -> None:
    stem = write_record(tmp_path, "rec.v1", digital)
    assert read_record(f"{stem}{ending}").source == "rec.v1"


def test_leads_in_any_case_and_order_come_out_canonical(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    order = np.random.default_rng(1).permutation(12)
    names = [LEADS[k].swapcase() for k in order]
    signal = read_record(write_record(tmp_path, "a", digital[order], leads=names)).signal
    np.testing.assert_array_equal(signal, read_record(write_record(tmp_path, "b", digital)).signal)


def test_further_signals_are_left_aside(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> None:
    more = np.concatenate([digital[:2], digital])
    signal = read_record(write_record(tmp_path, "a", more, leads=("vx", "vx", *LEADS))).signal
    np.testing.assert_array_equal(signal, read_record(write_record(tmp_path, "b", digital)).signal)


@pytest.mark.parametrize(
    ("gain", "scale", "baseline"),
    [
        ("1000/mV", 1e-3, 0),
        ("1000", 1e-3, 0),
        ("1000.0(0)/MV", 1e-3, 0),
        ("1(0)/uV", 1e-3, 0),
        ("1/µV", 1e-3, 0),
        ("1/μV", 1e-3, 0),
        ("1e6/V", 1e-3, 0),
        ("200(100)/mV", 5e-3, 100),
        ("4880(-12)/mv", 1 / 4880, -12),
    ],
)
def test_gain_baseline_and_unit_give_millivolts(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, gain: str, scale: float, baseline: int
) -> None:
    signal = read_record(write_record(tmp_path, "a", digital, gain=gain)).signal
    np.testing.assert_allclose(signal, (digital.astype(float) - baseline) * scale, rtol=2e-7, atol=1e-12)


def test_the_zero_of_the_converter_is_the_baseline_where_none_is_given(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    stem = write_record(tmp_path, "a", digital, gain="1000/mV")
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace("/mV 16 0 ", "/mV 16 7 "))
    np.testing.assert_allclose(read_record(stem).signal, (digital.astype(float) - 7) / 1000, rtol=2e-7)


def test_invalid_samples_are_nan_and_counted(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> None:
    digital[3, 10:15] = -32768
    stem = write_record(tmp_path, "a", digital)
    signal = read_record(stem).signal
    assert np.isnan(signal[3, 10:15]).all() and np.isnan(signal).sum() == 5
    microvolts, _, invalid, clipped = read_microvolts(stem)
    assert (microvolts[3, 10:15] == 0).all() and (invalid, clipped) == (5, 0)


def test_overflow_of_the_microvolts_is_clipped_and_counted(tmp_path: Path, write_record: WriteRecord) -> None:
    digital = np.zeros((12, 20), dtype=np.int16)
    digital[0, :3], digital[1, 5] = 200, -200  # mV
    stem = write_record(tmp_path, "a", digital, gain="1/mV")
    microvolts, _, invalid, clipped = read_microvolts(stem)
    assert (microvolts[0, :3] == 32767).all() and microvolts[1, 5] == -32767
    assert (invalid, clipped) == (0, 4)


@pytest.mark.parametrize("fmt", ["212", "24", "32", "80", "16"])
def test_other_formats_equal_wfdb_also_where_samples_are_invalid(tmp_path: Path, fmt: str) -> None:
    signal = np.random.default_rng(2).normal(0, 0.02, (100, 12))
    signal[7, 3] = np.nan
    wfdb.wrsamp(
        "a",
        fs=100,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        p_signal=signal,
        fmt=[fmt] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(tmp_path),
    )
    expected = wfdb.rdrecord(str(tmp_path / "a")).p_signal.T
    np.testing.assert_allclose(read_record(tmp_path / "a").signal, expected, rtol=1e-6, atol=1e-9)
    assert np.isnan(read_record(tmp_path / "a").signal[3, 7])


# ---------------------------------------------------------------- damage


def edit(old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    """A change of the header's text."""

    def change(folder: Path) -> None:
        text = (folder / "a.hea").read_text()
        assert old in text
        (folder / "a.hea").write_text(text.replace(old, new, count))

    return change


def edit_line(number: int, field: int, value: str) -> Callable[[Path], None]:
    """A change of one field of one header line."""

    def change(folder: Path) -> None:
        lines = (folder / "a.hea").read_text().splitlines()
        fields = lines[number].split()
        fields[field] = value
        lines[number] = " ".join(fields)
        (folder / "a.hea").write_text("\n".join(lines))

    return change


def drop_line(number: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = (folder / "a.hea").read_text().splitlines()
        del lines[number]
        (folder / "a.hea").write_text("\n".join(lines).replace("a 12 ", "a 11 ", 1))

    return change


def shorten(count: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "a.dat").write_bytes((folder / "a.dat").read_bytes()[:-count])

    return change


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def folder_instead(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated signal": (shorten(10), "a.dat: truncated"),
    "truncated by one byte": (shorten(1), "a.dat: truncated"),
    "empty signal": (write("a.dat", b""), "a.dat: truncated"),
    "signal missing": (lambda folder: (folder / "a.dat").unlink(), "a.dat: cannot be read"),
    "signal is a folder": (folder_instead("a.dat"), "a.dat: cannot be read"),
    "header missing": (lambda folder: (folder / "a.hea").unlink(), "a.hea: cannot be read"),
    "header is a folder": (folder_instead("a.hea"), "a.hea: cannot be read"),
    "header empty": (write("a.hea", b""), "a.hea: empty"),
    "header of comments": (write("a.hea", b"# nothing\n\n#\n"), "a.hea: empty"),
    "header binary": (write("a.hea", bytes(range(128, 256)) * 4), "a.hea: not a text file"),
    "header of zeros": (write("a.hea", b"\0" * 100), "a.hea: "),
    "header of one word": (write("a.hea", b"hello\n"), "a.hea: record line"),
    "wrong checksum": (edit_line(4, 6, "12345"), "lead aVR: checksum"),
    "wrong initial value": (edit_line(4, 5, "12345"), "lead aVR: first sample"),
    "missing lead": (drop_line(7), "a.hea: lead V1 missing"),
    "doubled lead": (edit_line(4, 8, "V6"), "a.hea: lead V6 is named twice"),
    "doubled lead in other case": (edit_line(4, 8, "v6"), "is named twice"),
    "lead without a name": (edit(" 0 aVR", ""), "aVR missing"),
    "unknown lead": (edit_line(4, 8, "V7"), "lead aVR missing"),
    "unknown unit": (edit_line(1, 2, "1000/mmHg"), "unknown unit 'mmHg'"),
    "gain 0": (edit_line(1, 2, "0/mV"), "a.hea: lead I: gain 0/mV is not that of a calibrated ECG"),
    "gain not a number": (edit_line(1, 2, "nan/mV"), "a.hea: "),
    "gain infinite": (edit_line(1, 2, "1e999/mV"), "a.hea: lead I: gain inf/mV"),
    "gain text": (edit_line(1, 2, "high/mV"), "a.hea: signal line"),
    "gain too small for any volt": (edit_line(1, 2, "1e-300/mV"), "a.hea: lead I: gain 1e-300/mV"),
    "gain of dots": (edit_line(1, 2, "1.2.3/mV"), "a.hea: signal line"),
    "baseline text": (edit_line(1, 2, "1000(x)/mV"), "a.hea: signal line"),
    "baseline of 5000 digits": (edit_line(1, 2, f"1000({'9' * 5000})/mV"), "a.hea: "),
    "baseline beyond float": (edit_line(1, 2, f"1000({'9' * 400})/mV"), "a.hea: "),
    "0 samples": (edit_line(0, 3, "0"), "0 samples"),
    "negative samples": (edit_line(0, 3, "-5"), "-5 samples"),
    "samples text": (edit_line(0, 3, "many"), "a.hea: record line"),
    "too many samples": (edit_line(0, 3, "999999999999"), "a.dat: truncated"),
    "negative fs": (edit_line(0, 2, "-100"), "-100 Hz"),
    "fs 0": (edit_line(0, 2, "0"), "0 Hz"),
    "absurd fs": (edit_line(0, 2, "1e12"), "1e+12 Hz"),
    "fs not a number": (edit_line(0, 2, "nan"), "nan Hz"),
    "fs text": (edit_line(0, 2, "fast"), "a.hea: record line"),
    "signals text": (edit_line(0, 1, "twelve"), "a.hea: record line"),
    "no signals": (edit_line(0, 1, "0"), "0 signals"),
    "more signals than lines": (edit_line(0, 1, "15"), "12 signal lines found, expected 15"),
    "multi-segment": (edit_line(0, 0, "a/3"), "multi-segment"),
    "format text": (edit_line(1, 1, "sixteen"), "a.hea: signal line"),
    "unknown format": (edit("a.dat 16 ", "a.dat 99 ", 12), "a.hea: "),
    "offset of 5000 digits": (edit("a.dat 16 ", f"a.dat 16+{'9' * 5000} ", 12), "a.hea: "),
    "offset beyond the file": (edit("a.dat 16 ", "a.dat 16+999999 ", 12), "a.dat: truncated"),
    "offset beyond any file": (edit("a.dat 16 ", f"a.dat 16+{'9' * 30} ", 12), "a.hea: signal line"),
    "signal line too short": (edit_line(1, 0, "\n"), "a.hea: signal line"),
    "checksum text": (edit_line(1, 6, "sum"), "a.hea: signal line"),
    "path up": (edit("a.dat", "../a.dat", 12), "outside the record's folder"),
    "path absolute": (edit("a.dat", "/etc/passwd", 12), "outside the record's folder"),
    "path is the folder above": (edit("a.dat", "..", 12), "outside the record's folder"),
    "path with a zero byte": (edit("a.dat", "a\0.dat", 12), "outside the record's folder"),
    "path too long": (edit("a.dat", "a" * 300, 12), "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.filterwarnings("error")
def test_damage_is_refused_in_one_sentence(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, name: str
) -> None:
    change, expected = DAMAGE[name]
    stem = write_record(tmp_path, "a", digital)
    change(tmp_path)
    with pytest.raises(UserError) as refusal:
        read_record(stem)
    sentence = str(refusal.value)
    assert expected in sentence
    assert "\n" not in sentence and "\0" not in sentence and sentence.endswith(".")
    assert len(sentence) < 500


def test_a_zero_byte_in_the_path_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_record("a\0b")


TOKENS = ["", "0", "-1", "16", "212", "16x2", "16:3", "16+24", "1e9", "nan", "inf", "1000/mV", "9" * 40, "a.dat"]
TOKENS += ["/", "..", "-", "~", "\0", "\n", "\t", "#", "µ", "I", "v6", "1000(5)/uV", "()", "(", "٣", "1_0", "0x10"]
VALID = [f"a 12 100 {50}", *(f"a.dat 16 1000.0(0)/mV 16 0 0 0 0 {lead}" for lead in LEADS)]


@st.composite
def headers(draw: st.DrawFn) -> str:
    """A valid header with some of its fields replaced, or any text at all."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.text(max_size=200))
    lines = [line.split(" ") for line in VALID]
    for _ in range(draw(st.integers(1, 4))):
        line = lines[draw(st.integers(0, len(lines) - 1))]
        line[draw(st.integers(0, len(line) - 1))] = draw(st.sampled_from(TOKENS) | st.text(max_size=8))
    return "\n".join(" ".join(line) for line in lines)


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.dat").write_bytes(b"\0" * (2 * 12 * 50))
    return folder


@pytest.mark.filterwarnings("ignore")
@given(header=headers())
def test_any_header_gives_a_record_or_a_sentence(playground: Path, header: str) -> None:
    (playground / "a.hea").write_text(header, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        record = read_record(playground / "a")
    except UserError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert record.signal.shape[0] == 12 and record.signal.dtype == np.float32
        assert not np.isinf(record.signal).any()
