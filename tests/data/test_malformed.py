"""Malformed WFDB records: each is refused in one sentence that names the file, what was found and what was expected."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data import read_record
from einthoven.data.formats.reading import read_microvolts
from einthoven.data.formats.wfdb_header import Header, parse_header
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

WriteRecord = Callable[..., Path]
Change = Callable[[Path], object]
SAMPLES = 50

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture(scope="module")
def digital() -> np.ndarray:
    return np.random.default_rng(0).integers(-30000, 30000, (12, SAMPLES)).astype(np.int16)


# ------------------------------------------------------------------ ways to do damage


def edit(old: str, new: str, count: int = 1) -> Change:
    """A change of the header's text."""

    def change(folder: Path) -> None:
        text = (folder / "a.hea").read_text()
        assert old in text
        (folder / "a.hea").write_text(text.replace(old, new, count))

    return change


def field(line: int, index: int, value: str) -> Change:
    """A change of one field of one header line."""

    def change(folder: Path) -> None:
        lines = (folder / "a.hea").read_text().splitlines()
        fields = lines[line].split()
        fields[index] = value
        lines[line] = " ".join(fields)
        (folder / "a.hea").write_text("\n".join(lines))

    return change


def all_fields(index: int, value: str) -> Change:
    """A change of one field of all signal lines."""

    def change(folder: Path) -> None:
        for line in range(1, 13):
            field(line, index, value)(folder)

    return change


def drop_lines(first: int, last: int) -> Change:
    """Signal lines taken out, and counted out."""

    def change(folder: Path) -> None:
        lines = (folder / "a.hea").read_text().splitlines()
        del lines[first:last]
        (folder / "a.hea").write_text("\n".join(lines).replace("a 12 ", f"a {len(lines) - 1} ", 1))

    return change


def shorten(count: int) -> Change:
    return lambda folder: (folder / "a.dat").write_bytes((folder / "a.dat").read_bytes()[:-count])


def write(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def instead(name: str, make: Callable[[Path], object]) -> Change:
    """Something else in place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def link_out(path: Path) -> None:
    """A symbolic link to a file outside the record's folder that would read well."""
    outside = path.parent.parent / f"{path.parent.name}-outside{path.suffix}"
    outside.write_bytes(b"\0" * (2 * 12 * SAMPLES))
    path.symlink_to(outside)


def flac(samples: int) -> Change:
    """A FLAC file that says it has so many samples of 12 channels of 16 bits, and has none."""
    info = (4096 << 48 | 4096 << 32).to_bytes(8) + bytes(2) + (100 << 44 | 11 << 41 | 15 << 36 | samples).to_bytes(8)
    return write("a.dat", b"fLaC\x80\0\0\x22" + info + bytes(16))


def segments(text: str) -> Change:
    """The record `a` as a segment, under a master header `m`; reading starts there."""
    return lambda folder: (folder / "m.hea").write_text(text)


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


MILLION = 10**6
BIG = "9" * 5000

DAMAGE: dict[str, tuple[Change, str]] = {
    "truncated signal": (shorten(10), "a.dat: truncated: 49 of 50 samples per lead found"),
    "truncated by one byte": (shorten(1), "a.dat: truncated"),
    "empty signal": (write("a.dat", b""), "a.dat: truncated: 0 of 50"),
    "signal missing": (lambda folder: (folder / "a.dat").unlink(), "a.dat: cannot be read (No such file"),
    "signal is a folder": (instead("a.dat", Path.mkdir), "a.dat: cannot be read (Is a directory), though a.hea"),
    "signal is a pipe": (instead("a.dat", os.mkfifo), "a.dat: cannot be read (not an ordinary file)"),
    "signal is a device": (instead("a.dat", lambda p: p.symlink_to("/dev/zero")), "outside the record's folder"),
    "signal links to itself": (instead("a.dat", lambda p: p.symlink_to(p)), "a.dat: "),
    "signal links to nothing": (instead("a.dat", lambda p: p.symlink_to("gone.dat")), "a.dat: cannot be read"),
    "signal links outside": (instead("a.dat", link_out), "a.dat: a symbolic link that leads outside"),
    "header missing": (lambda folder: (folder / "a.hea").unlink(), "a.hea: cannot be read (No such file"),
    "header is a folder": (instead("a.hea", Path.mkdir), "a.hea: cannot be read (Is a directory)"),
    "header is a pipe": (instead("a.hea", os.mkfifo), "a.hea: cannot be read (not an ordinary file)"),
    "header is a device": (instead("a.hea", lambda p: p.symlink_to("/dev/zero")), "not an ordinary file"),
    "header empty": (write("a.hea", b""), "a.hea: empty"),
    "header of comments": (write("a.hea", b"# nothing\n\n#\n"), "a.hea: empty"),
    "header of 10 MB": (lambda f: (f / "a.hea").write_bytes(b"#" * 10**7), "a.hea: a header of 10000000 bytes"),
    "header of 1 MB of digits": (write("a.hea", b"9" * MILLION), "a.hea: record line '999"),
    "header line of 1 MB of digits": (field(1, 2, "9" * (MILLION - 2000)), "a.hea: lead I: gain inf/mV"),
    "header line of 1 MB of digits and a letter": (field(1, 2, "9" * (MILLION - 2000) + "x"), "a.hea: signal line"),
    "header of 100,000 signals": (
        write("a.hea", b"a 100000 100 50\n" + b"a 16 1\n" * 100000),
        "a.hea: leads I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6 missing",
    ),
    "header binary": (write("a.hea", bytes(range(128, 256)) * 4), "a.hea: record line"),
    "header in UTF-16": (write("a.hea", "a 12 100 50\n".encode("utf-16")), "a.hea: record line"),
    "header of zeros": (write("a.hea", b"\0" * 100), "a.hea: record line"),
    "header of one word": (write("a.hea", b"hello\n"), "a.hea: record line 'hello' cannot be read"),
    "header that is the signal": (lambda f: (f / "a.hea").write_bytes((f / "a.dat").read_bytes()), "a.hea: "),
    "wrong checksum": (field(4, 6, "12345"), "a.dat: lead aVR: checksum 17985 found, a.hea says 12345"),
    "wrong initial value": (field(4, 5, "12345"), "a.dat: lead aVR: first sample"),
    "one bit flipped": (
        lambda f: (f / "a.dat").write_bytes(b"\1" + (f / "a.dat").read_bytes()[1:]),
        "a.dat: lead I: checksum",
    ),
    "signals of another record": (
        lambda f: (f / "a.dat").write_bytes(b"\0" * 1200),
        "the header belongs to another file",
    ),
    "missing lead": (drop_lines(7, 8), "a.hea: lead V1 missing: found"),
    "2 leads": (drop_lines(3, 13), "a.hea: leads V1, V2, V3, V4, V5, V6 missing: found 'I II', expected"),
    "1 lead": (drop_lines(2, 13), "a.hea: leads II, III,"),
    "doubled lead": (field(4, 8, "V6"), "a.hea: lead V6 is named twice"),
    "doubled lead in other case": (field(4, 8, "v6"), "is named twice"),
    "lead without a name": (edit(" 0 V6", ""), "a.hea: lead V6 missing"),
    "unknown lead": (field(8, 8, "V7"), "a.hea: lead V2 missing"),
    "unknown unit": (field(1, 2, "1000/mmHg"), "a.hea: lead I: unknown unit 'mmHg'; expected mV"),
    "gain 0": (field(1, 2, "0/mV"), "a.hea: lead I: gain 0/mV is not that of a calibrated ECG"),
    "gain missing": (edit(" 1000.0(0)/mV 16 0 ", "\n#"), "a.hea: signal line 'a.dat 16' is too short"),
    "gain not a number": (field(1, 2, "nan/mV"), "a.hea: signal line 'a.dat 16 nan/mV"),
    "gain infinite": (field(1, 2, "1e999/mV"), "a.hea: lead I: gain inf/mV"),
    "gain text": (field(1, 2, "high/mV"), "a.hea: signal line 'a.dat 16 high/mV"),
    "gain too small for any volt": (field(1, 2, "1e-300/mV"), "a.hea: lead I: gain 1e-300/mV"),
    "gain of dots": (field(1, 2, "1.2.3/mV"), "a.hea: signal line"),
    "baseline text": (field(1, 2, "1000(x)/mV"), "a.hea: signal line"),
    "baseline of 5000 digits": (field(1, 2, f"1000({BIG})/mV"), "a.hea: signal line"),
    "baseline beyond float": (field(1, 2, f"1000({'9' * 400})/mV"), "a.hea: signal line"),
    "bits text": (field(1, 3, "sixteen"), "a.hea: signal line"),
    "block text": (field(1, 7, "none"), "a.hea: signal line"),
    "zero of 5000 digits": (field(1, 4, BIG), "a.hea: signal line"),
    "digits of another script": (field(1, 4, "٣"), "a.hea: signal line"),
    "digits with an underscore": (field(1, 5, "1_0"), "a.hea: signal line"),
    "negative samples": (field(0, 3, "-5"), "-5 samples"),
    "samples text": (field(0, 3, "many"), "a.hea: record line 'a 12 100 many' cannot be read; expected"),
    "one sample too many": (field(0, 3, str(SAMPLES + 1)), "a.dat: truncated: 50 of 51"),
    "terabytes of samples": (field(0, 3, "999999999999"), "a.dat: truncated: 50 of 999999999999"),
    "samples of 5000 digits": (field(0, 3, BIG), "a.hea: record line"),
    "negative fs": (field(0, 2, "-100"), "-100 Hz"),
    "fs 0": (field(0, 2, "0"), "0 Hz"),
    "absurd fs": (field(0, 2, "1e12"), "1e+12 Hz"),
    "fs not a number": (field(0, 2, "nan"), "a.hea: record line 'a 12 nan 50'"),
    "fs text": (field(0, 2, "fast"), "a.hea: record line"),
    "signals text": (field(0, 1, "twelve"), "a.hea: record line"),
    "no signals": (field(0, 1, "0"), "a.hea: 0 signals"),
    "negative signals": (field(0, 1, "-12"), "a.hea: -12 signals"),
    "more signals than lines": (field(0, 1, "15"), "a.hea: 12 signal lines found, expected 15"),
    "a billion signals": (field(0, 1, "1000000000"), "a.hea: 12 signal lines found, expected 1000000000"),
    "format text": (field(1, 1, "sixteen"), "a.hea: signal line"),
    "unknown format": (all_fields(1, "99"), "a.hea: signal format 99 found for 'a.dat', expected one of 16"),
    "two formats in one file": (field(1, 1, "212"), "a.hea: file 'a.dat' in several formats or offsets"),
    "two offsets in one file": (field(1, 1, "16+2"), "a.hea: file 'a.dat' in several formats or offsets"),
    "no samples per frame": (field(1, 1, "16x0"), "a.hea: signal line"),
    "a billion samples per frame": (field(1, 1, "16x999999999"), "a.dat: truncated: 0 of 50"),
    "offset of 5000 digits": (all_fields(1, f"16+{BIG}"), "a.hea: signal line"),
    "offset beyond the file": (all_fields(1, "16+999999"), "a.dat: truncated: 0 of 50"),
    "offset beyond any file": (all_fields(1, f"16+{'9' * 18}"), "a.dat: truncated: 0 of 50"),
    "skew beyond the record": (field(1, 1, "16:50"), "a.hea: lead I: skew of 50 samples found"),
    "signal line too short": (field(1, 0, "\n"), "a.hea: signal line"),
    "checksum text": (field(1, 6, "sum"), "a.hea: signal line"),
    "path up": (all_fields(0, "../a.dat"), "a.hea: file '../a.dat' lies outside the record's folder; expected"),
    "path down": (all_fields(0, "b/a.dat"), "outside the record's folder"),
    "path absolute": (all_fields(0, "/etc/passwd"), "outside the record's folder"),
    "path of Windows": (all_fields(0, "..\\a.dat"), "outside the record's folder"),
    "path is the folder": (all_fields(0, "."), "outside the record's folder"),
    "path is the folder above": (all_fields(0, ".."), "outside the record's folder"),
    "path with a zero byte": (all_fields(0, "a\0.dat"), "outside the record's folder"),
    "path too long": (all_fields(0, "a" * 300), "expected a name of at most 255 characters"),
    "no signal file": (all_fields(0, "~"), "~: cannot be read"),
    "FLAC without a length": (both(all_fields(1, "516"), edit("a 12 100 50", "a 12 100")), "a.hea: no number"),
    "FLAC that is none": (all_fields(1, "516"), "a.dat: "),
    "FLAC of a header alone": (both(all_fields(1, "516"), flac(SAMPLES)), "a.hea: the wfdb package cannot read this"),
    "FLAC of fewer samples": (both(all_fields(1, "516"), flac(SAMPLES - 1)), "a.dat: truncated: 49 of 50"),
    "FLAC of all samples there are": (
        both(all_fields(1, "516"), flac(2**36 - 1), field(0, 3, str(2**36 - 1))),
        "a.dat: truncated: 2752512 of 68719476735",
    ),
    "FLAC of a billion samples in a few bytes": (
        both(all_fields(1, "516"), flac(2**36 - 1), field(0, 3, "2752512")),
        "a.hea: the wfdb package cannot read this record",
    ),
    "format 8 too short": (both(all_fields(1, "8"), field(0, 3, "101")), "a.dat: truncated: 100 of 101"),
    "format 310 too short": (both(all_fields(1, "310"), field(0, 3, "76")), "a.dat: truncated: 75 of 76"),
    "format 212 too short": (both(all_fields(1, "212"), field(0, 3, "67")), "a.dat: truncated: 66 of 67"),
    "format 24 too short": (all_fields(1, "24"), "a.dat: truncated: 33 of 50"),
    "format 32 too short": (all_fields(1, "32"), "a.dat: truncated: 25 of 50"),
    "segment missing": (segments("m/2 12 100 100\na 50\nb 50\n"), "b.hea: cannot be read (No such file or directory)"),
    "segment outside": (segments("m/1 12 100 50\n../a 50\n"), "m.hea: file '../a.hea' lies outside"),
    "segment links outside": (
        both(segments("m/1 12 100 50\na 50\n"), instead("a.hea", link_out)),
        "a.hea: a symbolic link that leads outside",
    ),
    "segments that are not listed": (segments("m/3 12 100 100\na 50\n"), "m.hea: 1 segment lines found, expected 3"),
    "segments text": (segments("m/two 12 100 100\na 50\n"), "m.hea: record line"),
    "no segments": (segments("m/0 12 100 100\na 50\n"), "m.hea: 0 segments found"),
    "segment that is its own record": (segments("m/1 12 100 50\nm 50\n"), "m.hea: a multi-segment record inside"),
    "segment that holds its record": (
        both(segments("m/1 12 100 50\na 50\n"), write("a.hea", b"a/1 12 100 50\nm 50\n")),
        "a.hea: a multi-segment record inside another",
    ),
    "segment without a length": (segments("m/1 12 100 50\na\n"), "m.hea: segment line 'a' cannot be read"),
    "segment of negative length": (segments("m/1 12 100 50\na -50\n"), "m.hea: segment line 'a -50' cannot be read"),
    "segment of another length": (segments("m/1 12 100 49\na 49\n"), "a.hea: 50 samples at 100 Hz found, m.hea says"),
    "segment of another rate": (segments("m/1 12 500 50\na 50\n"), "a.hea: 50 samples at 100 Hz found, m.hea says 50"),
    "segments of another sum": (segments("m/2 12 100 99\na 50\na 50\n"), "m.hea: segments of 100 samples found"),
    "segments that are gaps": (segments("m/1 12 100 50\n~ 50\n"), "m.hea: nothing but gaps found"),
    "terabytes of gaps": (segments(f"m/2 12 100\na 50\n~ {10**12}\n"), "m.hea: 1000000000050 samples per lead found"),
    "the same segment 100,000 times": (
        segments("m/100000 12 100\n" + "a 50\n" * 100000),
        "m.hea: 5000000 samples per lead found, of which the files hold 50; expected at least one in 1000",
    ),
    "a layout of nothing": (segments("m/2 12 100\n~ 0\na 50\n"), "m.hea: no layout found"),
    "a layout without segments": (
        both(segments("m/1 12 100\nl 0\n"), lambda f: (f / "l.hea").write_text(
            "l 12 100 0\n" + "".join(f"~ 0 1000/mV 16 0 0 0 0 {lead}\n" for lead in LEADS)
        )),
        "m.hea: no samples of",
    ),
}  # fmt: skip


def refusal(folder: Path) -> str:
    """The sentence with which both readers refuse what lies in a folder."""
    stem = folder / ("m" if (folder / "m.hea").exists() else "a")
    sentences = set()
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError) as refused:
            read(stem)
        sentences.add(str(refused.value))
    assert len(sentences) == 1, sentences
    return sentences.pop()


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.filterwarnings("error", "ignore:The inplace keyword")  # that of the wfdb package
def test_damage_is_refused_in_one_sentence(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, name: str
) -> None:
    change, expected = DAMAGE[name]
    write_record(tmp_path, "a", digital)
    change(tmp_path)
    sentence = refusal(tmp_path)
    assert expected in sentence
    assert "\n" not in sentence and "\0" not in sentence and sentence.endswith(".")
    assert len(sentence) < 600


def test_a_zero_byte_in_the_path_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_record("a\0b")


def test_a_path_through_a_file_is_refused(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> None:
    stem = write_record(tmp_path, "a", digital)
    with pytest.raises(UserError, match=r"a\.hea: cannot be read \(Not a directory\)"):
        read_record(f"{stem}.dat/a")


def test_a_file_without_permission_is_refused(tmp_path: Path, write_record: WriteRecord, digital: np.ndarray) -> None:
    stem = write_record(tmp_path, "a", digital)
    for suffix in (".dat", ".hea"):
        stem.with_suffix(suffix).chmod(0)
        if os.access(stem.with_suffix(suffix), os.R_OK):
            pytest.skip("the tests run as root, to whom every file is open")
        assert f"a{suffix}: cannot be read (Permission denied)" in refusal(tmp_path)


def test_links_inside_the_folder_and_to_the_folder_are_followed(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    (tmp_path / "real").mkdir()
    stem = write_record(tmp_path / "real", "a", digital)
    expected = read_record(stem).signal
    (tmp_path / "link").symlink_to("real")
    np.testing.assert_array_equal(read_record(tmp_path / "link" / "a").signal, expected)
    stem.with_suffix(".dat").rename(tmp_path / "real" / "b.dat")
    stem.with_suffix(".dat").symlink_to("b.dat")
    np.testing.assert_array_equal(read_record(tmp_path / "link" / "a").signal, expected)


def test_what_is_damaged_may_be_read_with_a_warning(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray
) -> None:
    stem = write_record(tmp_path, "a", digital)
    expected = read_record(stem).signal
    field(4, 6, "12345")(tmp_path)
    field(9, 5, "12345")(tmp_path)
    record = read_record(stem, checksum="warn")
    np.testing.assert_array_equal(record.signal, expected)
    assert [note.split(" found")[0][:29] for note in record.notes] == [
        "a.dat: lead aVR: checksum 179",
        "a.dat: lead V3: first sample ",
    ]
    assert read_microvolts(stem, checksum="warn")[0].shape == (12, SAMPLES)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"checksum": "off"}, "checksum='off': expected verify or warn"),
        ({"fs": 101}, "Hz in the file, fs=101 given"),
        ({"units": "mV"}, "units=mV given"),
        ({"leads": LEADS}, "leads="),
        ({"want": ()}, "wanted; expected some of I II"),
        ({"want": ("V7",)}, "'V7' wanted"),
        ({"want": ("I", "I")}, "'I I' wanted"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, write_record: WriteRecord, digital: np.ndarray, options: dict[str, object], expected: str
) -> None:
    stem = write_record(tmp_path, "a", digital)
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError) as refused:
            read(stem, **options)
        assert expected in str(refused.value)


# ------------------------------------------------------------------ any header at all

TOKENS = ["", "0", "-1", "16", "212", "16x2", "16:3", "16+24", "1e9", "nan", "inf", "1000/mV", "9" * 40, "a.dat"]
TOKENS += ["/", "..", "-", "~", "\0", "\n", "\t", "#", "µ", "I", "v6", "1000(5)/uV", "()", "(", "٣", "1_0", "0x10"]
TOKENS += ["a/2", "a/1", "a 25\na", "8", "310", "516", "160:2", "80x4", "2", "25", "50", "-aVR", "x 0"]
VALID = [f"a 12 100 {SAMPLES}", *(f"a.dat 16 1000.0(0)/mV 16 0 0 0 0 {lead}" for lead in LEADS)]


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
    (folder / "a.dat").write_bytes(b"\0" * (2 * 12 * SAMPLES))
    return folder


@pytest.mark.filterwarnings("ignore")
@given(header=headers())
def test_any_header_gives_a_record_or_a_sentence(playground: Path, header: str) -> None:
    (playground / "a.hea").write_text(header, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        record = read_record(playground / "a")
    except UserError as refused:
        assert "\n" not in str(refused)
    else:
        assert record.signal.shape[0] == 12 and record.signal.dtype == np.float32
        assert not np.isinf(record.signal).any()


@given(text=headers() | st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace")))
def test_the_parser_gives_a_header_or_a_sentence(text: str) -> None:
    try:
        header = parse_header(text, "", "a.hea")
    except UserError as refused:
        assert "\n" not in str(refused)
    else:
        assert isinstance(header, Header) and 0 < header.fs < 1e6
        assert len(header.files) == len(header.checksums) == len(header.layout.names)
