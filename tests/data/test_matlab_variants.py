"""MATLAB files of CPSC 2018 and of PhysioBank ATM. The writer of scipy and the specification are the oracles."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from einthoven.data import read_record
from einthoven.data.formats.inputs import main_file, other_files, other_files_state
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.terminal.record_files import expand

ECG = np.random.default_rng(5).integers(-2000, 2000, (12, 50)) / 1000
TOLD = {"fs": 500, "units": "mV", "leads": LEADS}


def cpsc(data: object = ECG, packed: bool = True, **more: object) -> bytes:
    stream = io.BytesIO()
    structure = {"sex": "Male", "age": 74, "data": data} | more
    scipy.io.savemat(stream, {"ECG": structure}, do_compression=packed)
    return stream.getvalue()


def names_of_one_byte() -> bytes:
    """A structure of 123 fields. The length of their names, 9 bytes in the file, is replaced by 1."""
    data = cpsc(packed=False, **{f"field{number}": 1 for number in range(100, 220)})
    length = struct.pack("<HHI", 5, 4, 9)
    assert data.count(length) == 1
    return data.replace(length, struct.pack("<HHI", 5, 4, 1))


def refused(path: Path, sentence: str, **told: object) -> None:
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError, match=sentence) as caught:
            read(path, **told)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# ------------------------------------------------------------------ CPSC 2018


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("data", [ECG, ECG.T, ECG.astype(np.float32), np.round(ECG * 1000).astype(np.int16) / 1000])
def test_the_structure_of_cpsc_2018(tmp_path: Path, packed: bool, data: np.ndarray) -> None:
    (tmp_path / "A0001.mat").write_bytes(cpsc(data, packed))
    record = read_record(tmp_path / "A0001.mat", **TOLD)
    np.testing.assert_allclose(record.signal, ECG, atol=1e-6)
    other = scipy.io.loadmat(tmp_path / "A0001.mat", simplify_cells=True)["ECG"]["data"]
    np.testing.assert_allclose(record.signal, other if other.shape == ECG.shape else other.T, atol=1e-6)
    refused(tmp_path / "A0001.mat", "does not say the names of the leads, the sampling frequency, the unit")


@pytest.mark.parametrize("names", [("p", "data"), ("data", "a_longer_name"), ("x", "y", "z", "data", "w")])
def test_other_fields_do_not_matter(tmp_path: Path, names: tuple[str, ...]) -> None:
    fields = {name: ECG if name == "data" else np.eye(3) for name in names}
    scipy.io.savemat(tmp_path / "a.mat", {"other": 1, "ECG": fields, "more": "text"})
    np.testing.assert_allclose(read_record(tmp_path / "a.mat", **TOLD).signal, ECG, atol=1e-6)


def test_a_matrix_val_is_preferred(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"ECG": np.eye(3), "val": ECG})
    np.testing.assert_allclose(read_record(tmp_path / "a.mat", **TOLD).signal, ECG, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (cpsc("text"), "the signals are another kind of array"),
        (cpsc(ECG * 1j), "the signals are another kind of array"),
        (cpsc({"data": ECG}), "the signals are another kind of array"),
        (cpsc(ECG[None]), "the signals are another kind of array"),
        (cpsc(ECG[:3]), "expected 12 leads"),
        (cpsc(ECG[:, :0]), "no samples|expected 12 leads"),
        (cpsc()[:-1] + b"x", "incorrect data check"),
        (cpsc(packed=False).replace(b"data", b"dada"), "'sex age dada' found in ECG; expected a matrix named data"),
        (cpsc()[:-8], "cut off"),
        (cpsc(packed=False)[:-100], "truncated or damaged|not a readable"),
        (names_of_one_byte(), "names of fields with 1 bytes each in 1,107 bytes"),
        (cpsc(packed=False)[:300], "not a readable|expected one structure|found in ECG"),
        (cpsc(packed=False)[:200], "found in ECG; expected a matrix named data"),
    ],
)
@pytest.mark.usefixtures("bounded")
def test_damaged_structures(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "bad.mat").write_bytes(data)
    refused(tmp_path / "bad.mat", sentence, **TOLD)


def test_a_matrix_in_the_place_of_the_structure(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "bad.mat", {"ECG": ECG})
    refused(tmp_path / "bad.mat", "val or ECG is another kind of array", **TOLD)
    scipy.io.savemat(tmp_path / "bad.mat", {"ECG": np.array([{"data": ECG}, {"data": ECG}])})
    refused(tmp_path / "bad.mat", "expected one structure|another kind of array", **TOLD)


# ------------------------------------------------------------------ PhysioBank ATM

GAINS = np.array([200.0, 1000.0, 4880.5, *[100.0] * 9])
BASES = np.array([1024, 0, -7, *[0] * 9])


def info(
    fs: str = "500", unit: str = "mV", rows: int = 12, separator: str = "\t", names: tuple[str, ...] = LEADS
) -> str:
    lines = [
        "Source: record x/100  Start: [00:00:10.000]",
        f"val has {rows} rows (signals) and 50 columns (samples/signal)",
        "Duration:     0:10",
        f"Sampling frequency: {fs} Hz  Sampling interval: 0.002 sec",
        separator.join(("Row", "Signal", "Gain", "Base", "Units")),
    ]
    fields = [(str(row + 1), names[row], f"{GAINS[row]:g}", str(BASES[row]), unit) for row in range(rows)]
    lines += map(separator.join, fields)
    return (
        "\n".join([*lines, "", "To convert from raw units to the physical units shown", "above, subtract 'base'."])
        + "\n"
    )


def write_atm(folder: Path, text: str, version: str = "4") -> tuple[Path, np.ndarray]:
    counts = np.rint(ECG * GAINS[:, None] + BASES[:, None]).astype(np.int16)
    scipy.io.savemat(folder / "100m.mat", {"val": counts}, format=version)
    (folder / "100m.info").write_text(text)
    return folder / "100m.mat", (counts - BASES[:, None]) / GAINS[:, None]


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("separator", ["\t", "   "])
def test_physiobank_atm(tmp_path: Path, version: str, separator: str) -> None:
    path, expected = write_atm(tmp_path, info(separator=separator), version)
    record = read_record(path)
    assert record.fs == 500
    np.testing.assert_allclose(record.signal, expected, atol=1e-6)
    assert other_files(main_file(path)) == "*.json/*.info"


def test_names_with_blanks_units_and_invalid_samples(tmp_path: Path) -> None:
    path, expected = write_atm(tmp_path, info(unit="uV", names=tuple(f"Lead {lead}" for lead in LEADS)))
    counts = scipy.io.loadmat(path)["val"]
    counts[3, 7] = -32768
    scipy.io.savemat(path, {"val": counts}, format="4")
    expected[3, 7] = np.nan
    np.testing.assert_allclose(read_record(path).signal, expected / 1000, atol=1e-9)


def test_a_change_of_the_info_is_noticed(tmp_path: Path) -> None:
    path, _ = write_atm(tmp_path, info())
    others = other_files(main_file(path))
    before = other_files_state(main_file(path), others)
    (tmp_path / "100m.info").write_text(info(fs="250"))
    assert before != other_files_state(main_file(path), others)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no sampling frequency or no rows"),
        ("Sampling frequency: 500 Hz\n", "no sampling frequency or no rows"),
        (info(fs="many"), "no sampling frequency or no rows"),
        (info(fs="1.2.3"), "a number that cannot be read"),
        (info(fs="0"), "0 Hz found"),
        (info(rows=11), r"a matrix of shape \(12, 50\) found; expected 11 rows"),
        (info(unit="mmHg"), "unknown unit 'mmHg'"),
        (info().replace("\t200\t", "\t0\t"), "a gain of 0"),
        (info().replace("\t200\t", "\t1e999\t"), "a gain of 0, or one that is not finite"),
        (info().replace("\t1024\t", "\tx\t"), "no sampling frequency or no rows"),
        (info().replace("1\tI\t", "7\tI\t"), "no sampling frequency or no rows"),
        (info().replace("\tII\t", "\tI\t"), "lead I is named twice"),
        ("x" * 2**21, "2,097,152 bytes found; expected"),
    ],
)
@pytest.mark.usefixtures("bounded")
def test_damaged_infos(tmp_path: Path, text: str, sentence: str) -> None:
    path, _ = write_atm(tmp_path, text)
    refused(path, sentence)


def test_what_contradicts_the_info_is_refused(tmp_path: Path) -> None:
    path, _ = write_atm(tmp_path, info())
    refused(path, "500 Hz in the file, fs=250 given", fs=250)
    refused(path, "units mV in the file, units=uV given", units="uV")


def test_a_folder_is_searched_for_matrices_with_an_info(tmp_path: Path) -> None:
    path, _ = write_atm(tmp_path, info())
    (tmp_path / "other.mat").write_bytes(cpsc())
    assert expand([str(tmp_path)]) == [path]
    path.with_suffix(".hea").write_text("")
    assert expand([str(tmp_path)]) == [path.with_suffix(".hea")]
