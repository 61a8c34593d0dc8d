"""WFDB signals in every format and layout against the wfdb package, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.data import read_record
from einthoven.data.formats.reading import read_microvolts
from einthoven.data.formats.wfdb_signal import INVALID, decode
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

PLAIN = ("16", "61", "160", "212", "24", "32", "80")
WHOLE = ("8", "310", "311")
COMPRESSED = ("508", "516", "524")
BYTES = {"8": 1, "80": 1, "16": 2, "61": 2, "160": 2, "212": 1.5, "24": 3, "32": 4, "310": 4 / 3, "311": 4 / 3}
MILLIVOLT = {"mV": 1.0, "mv": 1.0, "uV": 1e-3, "µV": 1e-3, "V": 1e3}

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the wfdb package


def write(
    folder: Path,
    name: str,
    formats: Sequence[str],
    *,
    samples: int = 61,
    fs: float = 250,
    gains: str | Sequence[str] = "1000/mV",
    names: Sequence[str] = LEADS,
    files: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """A record of random bytes; `formats` as in the header, one for each signal."""
    rng = np.random.default_rng(seed)
    files = [f"{name}.dat"] * len(names) if files is None else files
    gains = [gains] * len(names) if isinstance(gains, str) else gains
    lines = [f"{name} {len(names)} {fs} {samples}"]
    for file, fmt, gain, lead in zip(files, formats, gains, names, strict=True):
        lines.append(f"{file} {fmt} {gain} 16 0 0 0 0 {lead}")
    for file in set(files):
        own = [fmt for fmt, of in zip(formats, files, strict=True) if of == file]
        kind = own[0].split("x")[0].split(":")[0].split("+")[0]
        offset = int(own[0].partition("+")[2] or 0)
        width = sum(int(fmt.partition("x")[2].split(":")[0].split("+")[0] or 1) for fmt in own)
        size = math.ceil(math.ceil(samples * width / 3) * 3 * BYTES[kind])  # some more than are needed
        (folder / file).write_bytes(rng.bytes(offset + size))
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    return folder / name


def physical(stem: Path, **options: bool) -> tuple[np.ndarray, float]:
    """Leads (12, T) in mV, in float64, and their frequency, by the wfdb package."""
    record = wfdb.rdrecord(str(stem), **options)
    signals = record.p_signal.T if record.p_signal is not None else record.e_p_signal
    names = [name.upper() for name in record.sig_name]
    rows = [signals[names.index(lead.upper())] * MILLIVOLT[record.units[names.index(lead.upper())]] for lead in LEADS]
    return np.stack(rows), record.fs * len(rows[0]) / record.sig_len


def assert_equal(stem: Path, **options: bool) -> np.ndarray:
    """Both readers against the wfdb package; checksums and first samples of random bytes are let pass."""
    expected, fs = physical(stem, **options)
    record = read_record(stem, checksum="warn")
    np.testing.assert_array_equal(record.signal, expected.astype(np.float32), strict=True)
    assert record.fs == fs
    microvolts, rate, invalid, clipped = read_microvolts(stem, checksum="warn")
    assert rate == fs and invalid == np.isnan(expected).sum()
    rounded = np.rint(np.nan_to_num(expected) * 1000)
    np.testing.assert_array_equal(microvolts, np.clip(rounded, -32767, 32767).astype(np.int16), strict=True)
    assert clipped == (np.abs(rounded) > 32767).sum()
    return expected


# ------------------------------------------------------------------ formats


@pytest.mark.parametrize("samples", [1, 2, 3, 61, 400])
@pytest.mark.parametrize("fmt", PLAIN + WHOLE)
def test_random_bytes_read_as_wfdb_reads_them(tmp_path: Path, fmt: str, samples: int) -> None:
    for names in (LEADS, ("resp", *LEADS)):  # an odd number of samples, too
        stem = write(tmp_path, "a", [fmt] * len(names), samples=samples, names=names, seed=samples)
        assert_equal(stem)
        assert_equal(write(tmp_path, "b", [f"{fmt}+24"] * len(names), samples=samples, names=names, seed=samples))


@pytest.mark.parametrize("gain", ["1000/mV", "200(-7)/mV", "4880.5(100)/mV", "1(3)/uV", "2000/mV", "1e6/V", "2/uV"])
@pytest.mark.parametrize("fmt", ["16", "24", "212", "310"])
def test_gains_and_baselines(tmp_path: Path, fmt: str, gain: str) -> None:
    # amplitudes in other units than mV may differ from a product by 1000 in their last bit of 53
    stem = write(tmp_path, "a", [fmt] * 12, gains=gain)
    if gain.endswith("mV"):
        assert_equal(stem)
        return
    counts = wfdb.rdrecord(str(stem), physical=False)
    factor = {"uV": 1.0, "V": 1e6}[counts.units[0]]
    microvolts = (counts.d_signal.T.astype(float) - counts.baseline[0]) / counts.adc_gain[0] * factor
    microvolts[INVALID[fmt] == counts.d_signal.T] = np.nan
    found, _, invalid, _ = read_microvolts(stem, checksum="warn")
    expected = np.clip(np.rint(np.nan_to_num(microvolts)), -32767, 32767)
    np.testing.assert_array_equal(found, expected)
    assert invalid == np.isnan(microvolts).sum()
    np.testing.assert_allclose(read_record(stem, checksum="warn").signal, microvolts / 1000, rtol=1e-7)


@pytest.mark.parametrize("fmt", ["16", "212", "24", "32", "80", "508", "516", "524"])
def test_what_wfdb_writes_is_read_and_verified(tmp_path: Path, fmt: str) -> None:
    bits = {"80": 8, "508": 8, "212": 12, "24": 24, "524": 24, "32": 32}.get(fmt, 16)
    rng = np.random.default_rng(1)
    counts = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (120, 12), dtype=np.int64)
    wfdb.wrsamp(
        "a",
        fs=500,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=counts,
        fmt=[fmt] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        comments=["Age: 60", "Dx: 426783006"],
        write_dir=str(tmp_path),
    )
    assert_equal(tmp_path / "a")
    record = read_record(tmp_path / "a")
    assert record.notes == () and record.comments == ("Age: 60", "Dx: 426783006")
    if fmt in COMPRESSED:
        return
    data = bytearray((tmp_path / "a.dat").read_bytes())
    data[-36] ^= 1  # the lowest bit of a sample: a sum to 16 bits is blind to the higher ones
    (tmp_path / "a.dat").write_bytes(data)
    with pytest.raises(UserError, match="checksum"):
        read_record(tmp_path / "a")


@given(data=st.binary(min_size=12, max_size=96), fmt=st.sampled_from(PLAIN))
@settings(max_examples=60)
def test_decoding_by_hand(data: bytes, fmt: str) -> None:
    count = int(len(data) / BYTES[fmt])
    found = decode(data[: math.ceil(count * BYTES[fmt])], fmt, count)
    assert found.tolist() == [by_hand(data, fmt, k) for k in range(count)]


def by_hand(data: bytes, fmt: str, k: int) -> int:
    """Sample k, from the words of the specification."""
    if fmt == "212":
        three = data[k // 2 * 3 : k // 2 * 3 + 3] + b"\0"
        value = three[2] | (three[1] >> 4) << 8 if k % 2 else three[0] | (three[1] & 15) << 8
        return value - 4096 if value >= 2048 else value
    size = int(BYTES[fmt])
    sample = data[k * size : (k + 1) * size]
    if fmt in ("80", "160"):
        return int.from_bytes(sample, "little") - 2 ** (8 * size - 1)
    return int.from_bytes(sample, "big" if fmt == "61" else "little", signed=True)


# ------------------------------------------------------------------ layouts


def test_several_files_of_several_formats(tmp_path: Path) -> None:
    formats = ["16"] * 3 + ["212"] * 3 + ["24+7"] * 2 + ["310"] * 2 + ["80", "8"]
    files = ["a.dat"] * 3 + ["b.dat"] * 3 + ["c.dat"] * 2 + ["d.dat"] * 2 + ["e.dat", "f.dat"]
    assert_equal(write(tmp_path, "a", formats, files=files))
    assert_equal(write(tmp_path, "b", ["16"] * 12, files=[f"b_{lead}.dat" for lead in LEADS]))


@pytest.mark.parametrize("fmt", ["16", "212", "24", "80", "310", "8"])
def test_several_samples_per_frame_come_at_their_own_rate(tmp_path: Path, fmt: str) -> None:
    stem = write(tmp_path, "a", [f"{fmt}x4"] * 12)
    assert_equal(stem, smooth_frames=False)
    assert read_record(stem, checksum="warn").fs == 1000
    names = (*LEADS[:5], "resp", *LEADS[5:])  # another signal at another rate changes nothing
    formats = [f"{fmt}x4"] * 5 + [f"{fmt}"] + [f"{fmt}x4"] * 7
    mixed = write(tmp_path, "b", formats, names=names)
    record = wfdb.rdrecord(str(mixed), smooth_frames=False)
    expected = np.stack([record.e_p_signal[record.sig_name.index(lead)] for lead in LEADS])
    np.testing.assert_array_equal(read_record(mixed, checksum="warn").signal, expected.astype(np.float32))


def test_leads_of_several_rates_are_averaged_over_each_frame(tmp_path: Path) -> None:
    stem = write(tmp_path, "a", ["32x2"] * 6 + ["32x5"] * 5 + ["32"])
    assert_equal(stem)
    assert "leads of several rates: averaged over each frame, to 250 Hz" in read_record(stem, checksum="warn").notes
    counts = np.fromfile(tmp_path / "a.dat", dtype="<i4")
    counts[7] = INVALID["32"]  # frame 0 of V2
    counts.tofile(tmp_path / "a.dat")
    signal = read_record(stem, checksum="warn").signal
    assert np.isnan(signal).sum() == 1


@pytest.mark.parametrize("fmt", ["16", "212", "160", "310", "80"])
def test_skew_is_undone(tmp_path: Path, fmt: str) -> None:
    skews = (0, 3, 3, 0, 0, 3, 0, 3, 0, 0, 3, 0)  # wfdb reads only where those that are not 0 are equal
    assert_equal(write(tmp_path, "a", [f"{fmt}:{skew}+24" for skew in skews]))
    plain = read_record(write(tmp_path, "b", [fmt] * 12), checksum="warn").signal
    skews = (0, 3, 1, 0, 0, 60, 0, 2, 0, 0, 1, 0)
    skewed = read_record(write(tmp_path, "c", [f"{fmt}:{skew}" for skew in skews]), checksum="warn").signal
    for found, expected, skew in zip(skewed, plain, skews, strict=True):
        np.testing.assert_array_equal(found, np.append(expected[skew:], np.full(skew, np.nan)))


def test_skew_of_several_samples_per_frame(tmp_path: Path) -> None:
    plain = read_record(write(tmp_path, "a", ["16x3"] * 12), checksum="warn").signal
    skewed = read_record(write(tmp_path, "b", ["16x3"] * 11 + ["16x3:4"]), checksum="warn").signal
    np.testing.assert_array_equal(skewed[:11], plain[:11])
    np.testing.assert_array_equal(skewed[11, :-12], plain[11, 12:])
    assert np.isnan(skewed[11, -12:]).all()


@pytest.mark.parametrize("fmt", ["16", "212", "310"])
def test_without_a_number_of_samples_the_file_says(tmp_path: Path, fmt: str) -> None:
    stem = write(tmp_path, "a", [fmt] * 12, samples=60)
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 250 60\n", " 250\n", 1))
    assert assert_equal(stem).shape == (12, 60)


def test_what_the_header_leaves_to_the_format_is_said(tmp_path: Path) -> None:
    stem = write(tmp_path, "a", ["16"] * 12, samples=60, gains="1000")
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 250 60\n", "\n", 1))
    expected = wfdb.rdrecord(str(stem)).p_signal.T  # which takes 250 Hz and mV, too
    record = read_record(stem, checksum="warn")
    np.testing.assert_array_equal(record.signal, expected.astype(np.float32))
    assert record.fs == 250
    assert record.notes[:2] == (
        "no sampling frequency: 250 Hz, the default of the format",
        "leads without a unit: mV, the default of the format",
    )


def test_only_the_wanted_leads_have_to_be_there(tmp_path: Path) -> None:
    files = ["a.dat"] * 6 + ["b.dat"] * 6
    stem = write(tmp_path, "a", ["16"] * 12, files=files, gains=["1000/mV"] * 6 + ["5/mmHg"] * 6)
    header = stem.with_suffix(".hea")
    whole = physical_rows(stem, ("aVL", "I"))
    (tmp_path / "b.dat").unlink()
    record = read_record(stem, want=("aVL", "I"), checksum="warn")
    assert record.leads == ("aVL", "I")
    np.testing.assert_array_equal(record.signal, whole.astype(np.float32))
    np.testing.assert_array_equal(read_microvolts(stem, ("aVL", "I"), checksum="warn")[0], np.rint(whole * 1000))
    header.write_text("\n".join(header.read_text().splitlines()[:7]).replace("a 12 ", "a 6 ", 1))
    np.testing.assert_array_equal(read_microvolts(stem, ["I"], checksum="warn")[0], np.rint(whole[1:] * 1000))
    with pytest.raises(UserError, match="V1"):
        read_microvolts(stem, ["I", "V1"], checksum="warn")


def physical_rows(stem: Path, leads: Sequence[str]) -> np.ndarray:
    record = wfdb.rdrecord(str(stem))
    return np.stack([np.nan_to_num(record.p_signal[:, record.sig_name.index(lead)]) for lead in leads])


def test_derived_and_turned_leads_in_microvolts(tmp_path: Path) -> None:
    names = ("II", "-aVR", "V1", "V2", "V3", "V4", "V5", "V6")
    stem = write(tmp_path, "a", ["24"] * 8, names=names, gains="250000/mV")
    counts = wfdb.rdrecord(str(stem), physical=False).d_signal.T.astype(float) / 250000
    ii, avr = counts[0], -counts[1]
    i = -2 * avr - ii
    found, _, invalid, _ = read_microvolts(stem, checksum="warn")
    expected = np.stack([i, ii, ii - i, avr, i - ii / 2, ii - i / 2, *counts[2:]]) * 1000
    np.testing.assert_allclose(found, np.clip(expected, -32767, 32767), atol=0.5 + 1e-6)
    assert invalid == 0
    assert any("derived" in note for note in read_record(stem, checksum="warn").notes)


# ------------------------------------------------------------------ segments


def master(folder: Path, text: str) -> Path:
    (folder / "m.hea").write_text(text)
    return folder / "m"


def test_segments_of_a_fixed_layout(tmp_path: Path) -> None:
    write(tmp_path, "a", ["16"] * 12, samples=50)
    write(tmp_path, "b", ["212"] * 12, samples=31, gains="200(5)/mV", seed=1)
    stem = master(tmp_path, "m/3 12 250 131\na 50\nb 31\na 50\n# Dx: 1\n")
    expected = assert_equal(stem)
    np.testing.assert_array_equal(expected[:, :50], physical(tmp_path / "a")[0])
    assert read_record(stem, checksum="warn").comments == ("Dx: 1",)


def test_gaps_are_nan_and_said(tmp_path: Path) -> None:
    write(tmp_path, "a", ["16"] * 12, samples=50)
    (tmp_path / "null.hea").write_text("null 0 250 20\n")
    stem = master(tmp_path, "m/5 12 250\n~ 7\na 50\nnull 20\na 50\n~ 3\n")
    record = read_record(stem, checksum="warn")
    one = physical(tmp_path / "a")[0].astype(np.float32)
    gap = np.full((12, 20), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(record.signal, np.concatenate([gap[:, :7], one, gap, one, gap[:, :3]], axis=1))
    assert "NaN in 3 of 5 segments, which lack some or all of the leads" in record.notes
    microvolts, _, invalid, _ = read_microvolts(stem, checksum="warn")
    assert invalid == np.isnan(record.signal).sum() and (microvolts[:, :7] == 0).all()


def test_segments_of_a_variable_layout(tmp_path: Path) -> None:
    layout = "l 13 250 0\n" + "".join(f"~ 0 1000/mV 16 0 0 0 0 {lead}\n" for lead in (*LEADS, "resp"))
    (tmp_path / "l.hea").write_text(layout)
    write(tmp_path, "a", ["16"] * 12, samples=50)
    some = ("V3", "resp", "II", "aVF")
    write(tmp_path, "b", ["16"] * 4, samples=40, names=some, gains="200/mV", seed=1)
    write(tmp_path, "c", ["16"] * 12, samples=30, names=LEADS[::-1], gains="500(3)/mV", seed=2)
    assert_equal(master(tmp_path, "m/5 13 250 150\nl 0\na 50\n~ 30\nb 40\nc 30\n"))


def test_segments_of_several_samples_per_frame(tmp_path: Path) -> None:
    write(tmp_path, "a", ["16x2"] * 12, samples=50)
    write(tmp_path, "b", ["212x2"] * 12, samples=31, seed=1)
    stem = master(tmp_path, "m/2 12 250 81\na 50\nb 31\n")
    expected = np.concatenate([physical(tmp_path / name, smooth_frames=False)[0] for name in "ab"], axis=1)
    record = read_record(stem, checksum="warn")
    np.testing.assert_array_equal(record.signal, expected.astype(np.float32))
    assert record.fs == 500


def test_segments_name_a_lead_in_several_ways(tmp_path: Path) -> None:
    write(tmp_path, "a", ["16"] * 12, samples=50)
    write(tmp_path, "b", ["16"] * 12, samples=40, seed=1)
    expected = assert_equal(master(tmp_path, "m/2 12 250 90\na 50\nb 40\n"))
    write(tmp_path, "b", ["16"] * 12, samples=40, names=tuple(f"ECG {lead.upper()}" for lead in LEADS), seed=1)
    record = read_record(tmp_path / "m", checksum="warn")
    np.testing.assert_array_equal(record.signal, expected.astype(np.float32))


@pytest.mark.parametrize("fmt", ["8", "310"])
def test_other_names_and_no_number_of_samples_in_every_format(tmp_path: Path, fmt: str) -> None:
    stem = write(tmp_path, "a", [fmt] * 12, samples=60)
    expected = assert_equal(stem).astype(np.float32)
    stem.with_suffix(".dat").rename(tmp_path / "A.DAT")
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 60", " 0", 1))
    header.rename(tmp_path / "COPY.HEA")
    np.testing.assert_array_equal(read_record(tmp_path / "COPY.HEA", checksum="warn").signal, expected)


def test_a_damaged_segment_is_named(tmp_path: Path, write_record: Callable[..., Path]) -> None:
    digital = np.random.default_rng(0).integers(-3000, 3000, (12, 50)).astype(np.int16)
    for name in "ab":
        write_record(tmp_path, name, digital)
    stem = master(tmp_path, "m/2 12 100 100\na 50\nb 50\n")
    np.testing.assert_array_equal(read_microvolts(stem)[0], np.tile(digital, 2))
    (tmp_path / "b.dat").write_bytes(b"\1" + (tmp_path / "b.dat").read_bytes()[1:])
    with pytest.raises(UserError, match=r"b\.dat: lead I: checksum"):
        read_microvolts(stem)


# ------------------------------------------------------------------ real records


def test_real_records_equal_wfdb(real_data: Path) -> None:
    headers = sorted((real_data / "ptbxl").rglob("*.hea"))[::20] + sorted((real_data / "cinc2021").glob("*.hea"))
    compared = 0
    for header in headers:
        try:
            wfdb.rdheader(str(header.with_suffix("")))
        except Exception:  # the early Georgia headers, which the package rejects
            read_record(header)
        else:
            assert_equal(header.with_suffix(""))
            assert read_record(header).notes == ()
            compared += 1
    assert compared == len(headers) - 9
