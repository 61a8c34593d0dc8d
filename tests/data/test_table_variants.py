"""Tables as other programs write them: pandas and hand-made texts are the oracles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data import read_record
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

ECG = np.random.default_rng(2).integers(-2000, 2000, (12, 40)) / 1000
TOLD = {"fs": 500, "units": "mV"}


def text_of(
    values: np.ndarray = ECG,
    separator: str = ",",
    decimal: str = ".",
    header: str | None = ",".join(LEADS),
    fmt: str = "%.3f",
) -> str:
    rows = [separator.join((fmt % value).replace(".", decimal) for value in row) for row in values.T]
    first = [] if header is None else [header.replace(",", separator)]
    return "\n".join([*first, *rows]) + "\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def assert_ecg(path: Path, ecg: np.ndarray = ECG, **told: object) -> None:
    record = read_record(path, **told)
    assert record.fs == 500
    np.testing.assert_allclose(record.signal, ecg, atol=1e-6)


def refused(path: Path, sentence: str, **told: object) -> None:
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError, match=sentence) as caught:
            read(path, **told)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# ------------------------------------------------------------------ separators and decimal commas


@pytest.mark.parametrize("separator", [";", "\t", "|", " ", "   ", " \t", ";  "])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".asc", ""])
def test_separators_and_decimal_marks(tmp_path: Path, separator: str, decimal: str, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", text_of(separator=separator, decimal=decimal))
    assert_ecg(path, **TOLD)
    path.write_text(text_of(separator=separator, decimal=decimal, header=None))
    assert_ecg(path, leads=LEADS, **TOLD)


def test_columns_of_fixed_width(tmp_path: Path) -> None:
    rows = ["".join(f"{value:9.3f}" for value in row) for row in ECG.T]
    header = "".join(f"{lead:>9}" for lead in LEADS)
    assert_ecg(write(tmp_path / "a.txt", "\n".join([header, *rows])), **TOLD)


@given(
    values=st.lists(st.tuples(*[st.floats(-20, 20)] * 12), min_size=3, max_size=9),
    style=st.sampled_from([(";", ","), ("\t", ","), (";", "."), ("\t", "."), (",", "."), (" ", ".")]),
    has_index=st.booleans(),
)
def test_what_pandas_writes(
    tmp_path_factory: pytest.TempPathFactory, values: list, style: tuple[str, str], has_index: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "pandas.csv"
    frame = pd.DataFrame(values, columns=list(LEADS))
    has_index = has_index and style[0] != " "  # blanks cannot separate an empty name
    frame.to_csv(path, sep=style[0], decimal=style[1], index=has_index)
    try:
        record = read_record(path, **TOLD)
    except UserError as error:
        # Whole numbers of three digits behind every mark can be read in two ways.
        assert "between thousands" in str(error)
    else:
        np.testing.assert_allclose(record.signal, frame.to_numpy().T, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("names", ["I,II", "time,II", "II,V1"])
def test_digits_behind_a_decimal_comma_are_no_column(tmp_path: Path, names: str) -> None:
    path = write(tmp_path / "a.csv", text_of(ECG[:1], decimal=",", header=None))
    path.write_text(f"{names}\n{path.read_text()}")
    refused(path, "looks like the digits behind a decimal comma; expected semicolons", want=("II",), **TOLD)


def test_twelve_decimal_commas_between_commas(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", text_of(decimal=",", header=None))
    refused(path, "looks like the digits behind a decimal comma", leads=LEADS, **TOLD)


@pytest.mark.parametrize(("separator", "mark"), [(";", "."), ("\t", "."), (";", ","), (" ", ","), (",", ".")])
def test_marks_between_thousands_are_refused(tmp_path: Path, separator: str, mark: str) -> None:
    counts = np.round(ECG * 1000).astype(int)
    rows = [separator.join(f"{value:,d}".replace(",", mark) for value in row) for row in counts.T]
    path = write(tmp_path / "a.csv", "\n".join([separator.join(LEADS), *rows]))
    refused(path, "can stand between thousands", fs=500, units="uV")


def test_three_decimals_beside_a_column_of_whole_numbers_are_no_thousands(tmp_path: Path) -> None:
    values = np.vstack([np.arange(40), np.abs(ECG) % 9 + 1.001])
    rows = [";".join([f"{row[0]:.0f}", *(f"{value:.3f}" for value in row[1:])]) for row in values.T]
    path = write(tmp_path / "a.csv", "\n".join([";".join(["sample", *LEADS]), *rows]))
    np.testing.assert_allclose(read_record(path, **TOLD).signal, np.round(values[1:], 3), atol=1e-6)


def test_points_and_commas(tmp_path: Path) -> None:
    text = text_of(separator=";").replace("0.", "0,", 1)
    refused(write(tmp_path / "a.csv", text), "numbers with points and with commas", **TOLD)


# ------------------------------------------------------------------ headers


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_header_that_counts_the_columns(tmp_path: Path, start: int, separator: str) -> None:
    frame = pd.DataFrame(ECG.T, columns=range(start, start + 12))
    for has_index in (False, True):
        frame.to_csv(tmp_path / "a.csv", sep=separator, index=has_index)
        assert_ecg(tmp_path / "a.csv", leads=LEADS, **TOLD)
    refused(tmp_path / "a.csv", "does not say the names of the leads", **TOLD)


def test_two_columns_that_begin_with_0_and_1(tmp_path: Path) -> None:
    counts = "0,1\n5,7\n-3,4\n"
    record = read_record(write(tmp_path / "a.csv", counts), want=("I", "II"), leads=["I", "II"], **TOLD)
    np.testing.assert_array_equal(record.signal, [[0, 5, -3], [1, 7, 4]])
    record = read_record(write(tmp_path / "a.csv", "0,1\n0.5,0.7\n"), want=("I", "II"), leads=["I", "II"], **TOLD)
    np.testing.assert_allclose(record.signal, [[0.5], [0.7]])


@pytest.mark.parametrize("columns", [7, 8, 12, 15])
def test_the_default_names_of_r_are_no_chest_leads(tmp_path: Path, columns: int) -> None:
    values = np.vstack([ECG, ECG])[:columns]
    header = ",".join(f"V{number}" for number in range(1, columns + 1))
    path = write(tmp_path / "a.csv", text_of(values, header=header))
    refused(path, "does not say the names of the leads", want=("V1",), **TOLD)
    told = [*LEADS, "x", "y", "z"][:columns]
    record = read_record(path, leads=told, want=("I", "II"), **TOLD)
    np.testing.assert_allclose(record.signal, ECG[:2], atol=1e-6)


def test_r_numbers_its_rows(tmp_path: Path) -> None:
    rows = [f'"{number}",' + ",".join(f"{value:.3f}" for value in row) for number, row in enumerate(ECG.T, start=1)]
    header = '"",' + ",".join(f'"V{number}"' for number in range(1, 13))
    path = write(tmp_path / "a.csv", "\n".join([header, *rows]))
    assert_ecg(path, leads=LEADS, **TOLD)
    assert read_record(path, leads=LEADS, **TOLD).notes == ("dropped the first column, which numbers the rows",)


@pytest.mark.parametrize("comments", ["# device X\n", "#\n# 500 Hz\n#\n"])
def test_comments_before_the_table(tmp_path: Path, comments: str) -> None:
    path = write(tmp_path / "a.csv", comments + text_of())
    assert_ecg(path, **TOLD)
    path.write_text(path.read_text().replace(f"{ECG[0, 3]:.3f}", "off", 1))
    line = comments.count("\n") + 2 + 3
    refused(path, f"'off' in line {line}; expected a number", **TOLD)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = text_of(ECG * 1000, separator="\t", header=",".join(f"{lead} [µV]" for lead in LEADS))
    for mark in ("", "\ufeff") if encoding in ("utf-16-le", "utf-16-be") else ("",):
        (tmp_path / "a.txt").write_bytes((mark + text).encode(encoding))
        assert_ecg(tmp_path / "a.txt", fs=500)


# ------------------------------------------------------------------ PhysioBank ATM and rdsamp


def atm(clock: str, unit: str, values: np.ndarray = ECG, quoted: bool = True) -> str:
    mark = "'" if quoted else ""
    times = []
    for k in range(values.shape[1]):
        seconds = 59.9 + k / 500
        if clock == "seconds":
            times.append(f"{seconds:.3f}")
        elif clock == "h:m:s":
            times.append(f"{mark}1:{int(seconds // 60):02d}:{seconds % 60:06.3f}{mark}")
        else:
            times.append(f"{mark}{int(seconds // 60)}:{seconds % 60:06.3f}{mark}")
    rows = [",".join([time, *(f"{value:.3f}" for value in row)]) for time, row in zip(times, values.T, strict=True)]
    names = ",".join(f"{mark}{name}{mark}" for name in ("Elapsed time", *(lead.lower() for lead in LEADS)))
    units = ",".join(f"{mark}{name}{mark}" for name in (unit, *["mV"] * 12))
    return "\n".join([names, units, *rows]) + "\n"


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize(
    ("clock", "unit"), [("m:s", "hh:mm:ss.mmm"), ("h:m:s", "hh:mm:ss.mmm"), ("seconds", "seconds")]
)
def test_the_two_header_lines_of_physiobank_atm(tmp_path: Path, clock: str, unit: str, quoted: bool) -> None:
    path = write(tmp_path / "samples.csv", atm(clock, unit, quoted=quoted))
    assert_ecg(path)
    path.write_text(path.read_text().replace(f"{ECG[3, 5]:.3f}", "-", 1))
    assert np.isnan(read_record(path).signal).sum() == 1


def test_the_second_line_states_other_units(tmp_path: Path) -> None:
    text = atm("m:s", "hh:mm:ss.mmm", ECG * 1000).replace("'mV'", "'uV'")
    assert_ecg(write(tmp_path / "a.csv", text))
    refused(write(tmp_path / "a.csv", text.replace("'uV'", "'mmHg'", 1)), "unknown unit 'mmHg'")


@pytest.mark.parametrize(("unit", "step"), [("ms", 2), ("[ms]", 2), ("(s)", 0.002), ("us", 2000), ("min", 0.002 / 60)])
def test_a_row_of_units_is_for_the_times_too(tmp_path: Path, unit: str, step: float) -> None:
    rows = [f"{step * number:.9f},{line}" for number, line in enumerate(text_of(header=None).splitlines())]
    names = ",".join(["time", *LEADS])
    units = ",".join([unit, *["(mV)"] * 12])
    path = write(tmp_path / "a.csv", "\n".join([names, units, *rows]))
    assert_ecg(path)
    refused(write(path, path.read_text().replace(unit, "furlong", 1)), "unknown unit 'furlong' of the column 'time'")


@pytest.mark.parametrize("pattern", ["{} uV", "{}_uV", "{}/µV", "{} in uV", "Lead {} [uV]"])
def test_a_unit_behind_the_name(tmp_path: Path, pattern: str) -> None:
    header = ",".join(pattern.format(lead) for lead in LEADS)
    path = write(tmp_path / "a.csv", text_of(1000 * ECG, header=header))
    assert_ecg(path, fs=500)
    refused(path, "units [uµ]V in the file, units=mV given", **TOLD)


def test_two_units_of_a_column_are_refused(tmp_path: Path) -> None:
    header = ",".join(f"{lead} (uV)" for lead in LEADS)
    for unit in ("µV", "microvolt"):
        assert_ecg(
            write(tmp_path / "a.csv", f"{header}\n{','.join([unit] * 12)}\n{text_of(1000 * ECG, header=None)}"), fs=500
        )
    path = write(tmp_path / "a.csv", f"{header}\n{','.join(['mV'] * 12)}\n{text_of(header=None)}")
    refused(path, "lead I: unit uV in the header, mV in the row below; expected one value", fs=500)


@pytest.mark.parametrize("unit", ["counts", "0.1 mV", "10uV", "1e-4V"])
def test_an_unknown_unit_in_brackets_is_not_overruled(tmp_path: Path, unit: str) -> None:
    path = write(tmp_path / "a.csv", text_of(header=",".join(f"{lead} ({unit})" for lead in LEADS)))
    refused(path, f"units {unit} in the file, units=mV given", **TOLD)
    refused(path, f"lead I: unknown unit '{unit}'", fs=500)
    header = ",".join(f"{lead} (Einthoven)" for lead in LEADS)
    assert_ecg(write(path, text_of(header=header)), **TOLD)


def test_a_damaged_first_row_is_no_header(tmp_path: Path) -> None:
    first, rest = text_of(header=None).split(",", 1)
    for bad in ("NA", f"{first}x"):
        path = write(tmp_path / "a.csv", f"{bad},{rest}")
        refused(path, f"'{bad}' in line 1", **TOLD, leads=LEADS)


def test_a_header_in_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for separator in (",", " "):
        np.savetxt(path, ECG[::-1].T, fmt="%.3f", delimiter=separator, header=separator.join(LEADS[::-1]))
        assert_ecg(path, **TOLD)
        refused(path, "leads V6 V5 .* in the file, leads=I,II,", **TOLD, leads=LEADS)


def test_the_line_of_a_spreadsheet_about_the_separator(tmp_path: Path) -> None:
    for line in ("sep=;\n", '"sep=;"\n'):
        assert_ecg(write(tmp_path / "a.csv", line + text_of(separator=";", decimal=",")), **TOLD)


def test_the_minus_sign_of_typography(tmp_path: Path) -> None:
    text = text_of(-np.abs(ECG) - 0.001, separator=";", decimal=",").replace("-", "\N{MINUS SIGN}")
    assert_ecg(write(tmp_path / "a.csv", text), -np.abs(ECG) - 0.001, **TOLD)


# ------------------------------------------------------------------ Apple Watch

ENGLISH = (
    'Name,{name}\nDate of Birth,"Jan 1, 1970"\nRecorded Date,2024-01-01 10:00:00 +0100\nClassification,Sinus Rhythm\n'
    'Symptoms,\nSoftware Version,2.0\nDevice,"Watch6,4"\nSample Rate,{fs} hertz\n\n\nLead,Lead I\nUnit,{unit}\n\n'
)
GERMAN = "Name,{name}\nGeburtsdatum,01.01.1970\nMessrate,{fs} Hertz\n\nAbleitung,Ableitung I\nEinheit,{unit}\n\n"
FRENCH = 'Nom;{name}\nFréquence d\'échantillonnage;"{fs} Hz"\nDérivation;Dérivation I\nUnité;{unit}\n\n'
WATCH = np.round(np.random.default_rng(3).normal(0, 300, 200), 3)


@pytest.mark.parametrize(
    ("head", "decimal", "fs"),
    [(ENGLISH, ".", "512"), (ENGLISH, ".", "511.538"), (GERMAN, ",", "512"), (FRENCH, ",", "512")],
)
@pytest.mark.parametrize("unit", ["µV", "uV", "μV"])
@pytest.mark.parametrize("name", ["X Y", "Malcolm I", "500 Hz"])
def test_apple_watch(tmp_path: Path, head: str, decimal: str, fs: str, unit: str, name: str) -> None:
    values = "\n".join(f"{value:.3f}".replace(".", decimal) for value in WATCH)
    path = write(tmp_path / "ecg_2024-01-01.csv", head.format(name=name, fs=fs, unit=unit) + values + "\n")
    if name == "500 Hz":
        path.write_text(path.read_text().replace("500 Hz", "x", 1))
    record = read_record(path, want=("I",))
    assert record.fs == float(fs) and record.leads == ("I",)
    np.testing.assert_allclose(record.signal, WATCH[None] / 1000, atol=1e-6)

    # Neither the name nor the dates are in the record.
    assert not any(name in text or "1970" in text for text in (*record.notes, *record.comments))


@pytest.mark.parametrize(
    ("rate", "lead", "unit"),
    [
        ("512\N{NO-BREAK SPACE}hertz", "Dérivation I", "µV"),
        ("512\N{NARROW NO-BREAK SPACE}hercios", "Derivación I", "µV"),
        ("512赫兹", "I导联", "µV"),
        ("512ヘルツ", "第I誘導", "µV"),
        ("512 герц", "Отведение I", "мкВ"),
        ("\u0665\u0661\u0662 هرتز", "I", "µV"),
    ],
)
def test_apple_watch_in_other_languages(tmp_path: Path, rate: str, lead: str, unit: str) -> None:
    head = f"x,I V\nx,{rate}\n\nx,{lead}\nx,{unit}\n\n"
    values = -np.abs(WATCH) - 1.0
    body = "\n".join(f"{value:.3f}" for value in values).replace("-", "\N{MINUS SIGN}").replace(".", ",")
    record = read_record(write(tmp_path / "a.csv", head + body), want=("I",))
    assert record.fs == 512
    np.testing.assert_allclose(record.signal, values[None] / 1000, atol=1e-6)


def test_a_comment_about_the_rate_does_not_make_an_apple_watch(tmp_path: Path) -> None:
    for comment in ("# device X, 500 Hz", "% sampling rate; 500 hertz"):
        assert_ecg(write(tmp_path / "a.csv", f"{comment}\n{text_of()}"), **TOLD)
    path = write(tmp_path / "a.csv", f"# Lead II, 500 Hz\n{text_of(ECG[:2], header=None)}")
    record = read_record(path, **TOLD, leads=("I", "II"), want=("I", "II"))
    np.testing.assert_allclose(record.signal, ECG[:2], atol=1e-6)


def test_no_line_before_the_numbers_of_an_apple_watch_is_skipped(tmp_path: Path) -> None:
    text = ENGLISH.format(name="X", fs="512", unit="µV") + "x6.25\n7.5\n"
    refused(write(tmp_path / "a.csv", text), "'x6.25' in line 14; expected one number", want=("I",))


def test_twelve_leads_of_an_apple_watch_are_missing(tmp_path: Path) -> None:
    text = ENGLISH.format(name="X", fs="512", unit="µV") + "\n".join(map(str, WATCH))
    path = write(tmp_path / "a.csv", text)
    refused(path, "leads II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6 missing: found 'I'")
    assert read_record(path, want=("I",), fs=512, units="uV", leads=["I"]).fs == 512  # what is true may be stated
    refused(path, "units µV in the file, units=mV given", want=("I",), units="mV")
    refused(path, "512 Hz in the file, fs=500 given", want=("I",), fs=500)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("Lead,Lead I", "Lead,Lead Z", "no lead found in the lines before the numbers"),
        ("Unit,µV", "Unit,furlong", "no unit found in the lines before the numbers"),
        ("Unit,µV", "", "no unit found"),
        ("512 hertz", "0 hertz", "0 Hz"),
        ("512 hertz", "99999999 hertz", "does not say|expected a number"),
        ("7.5\n", "7.5,8\nx\n", "'7.5,8' in line 15; expected one number"),
        ("7.5\n", "nan\n", "'nan' in line 15"),
        ("7.5\n", "1e999\n", "infinite"),
        ("6.25\n7.5\n", "", "no samples found"),
        ("6.25\n7.5\n", "\0\1\2\n", "expected|no samples"),
        ("hertz", "herz", "does not say|expected a number"),
    ],
)
@pytest.mark.usefixtures("bounded")
def test_damaged_apple_watch(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = ENGLISH.format(name="X", fs="512", unit="µV") + "6.25\n7.5\n"
    assert old in text
    refused(write(tmp_path / "bad.csv", text.replace(old, new, 1)), sentence, want=("I",))


# ------------------------------------------------------------------ times and ends of lines


@pytest.mark.parametrize("name", ["Time", "t"])
@pytest.mark.parametrize("fmt", ["00:00:{:06.3f}", "0:{:06.3f}"])
def test_times_of_a_clock(tmp_path: Path, name: str, fmt: str) -> None:
    lines = text_of().split("\n")
    rows = [f"{fmt.format(number / 500)},{line}" for number, line in enumerate(lines[1:-1])]
    path = write(tmp_path / "a.csv", "\n".join([f"{name},{lines[0]}", *rows]))
    assert_ecg(path, units="mV")


def test_lines_may_end_in_a_carriage_return(tmp_path: Path) -> None:
    for end in ("\r", "\r\n"):
        (tmp_path / "a.csv").write_bytes(text_of().replace("\n", end).encode())
        assert_ecg(tmp_path / "a.csv", **TOLD)


def test_names_with_blanks_between_blanks_are_refused(tmp_path: Path) -> None:
    for name in ("Lead {}", "{} (mV)"):
        header = ",".join(name.format(lead) for lead in LEADS)
        path = write(tmp_path / "a.txt", text_of(separator=" ", header=header))
        refused(path, "12 columns of numbers under 24 names found; expected one each", **TOLD)


def test_comments_of_matlab_and_empty_lines(tmp_path: Path) -> None:
    assert_ecg(write(tmp_path / "a.txt", f"\n% made by\n  \n% MATLAB\n{text_of(separator=' ')}"), **TOLD)
