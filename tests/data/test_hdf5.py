"""HDF5 in the layout of CODE-15, and MATLAB 7.3. The writer of h5py is the oracle."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from einthoven.data import read_record
from einthoven.data.formats.inputs import file_state, main_file, other_files, other_files_state, record_exists
from einthoven.data.formats.reading import read_microvolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

TOLD = {"fs": 400, "units": "mV", "leads": LEADS}
TRACINGS = np.zeros((3, 256, 12), np.float32)
TRACINGS[0, 6:250] = np.random.default_rng(6).normal(0, 0.5, (244, 12))
TRACINGS[1] = np.random.default_rng(7).normal(0, 0.5, (256, 12))
TRACINGS[2, 56:200] = np.random.default_rng(8).normal(0, 0.5, (144, 12))
IDS = np.array([590673, 7, 1169160])


def write_code15(path: Path, tracings: np.ndarray = TRACINGS, ids: object = IDS, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("tracings", data=tracings, **options)
        if ids is not None:
            file.create_dataset("exam_id", data=ids)
    return path


def refused(path: Path, sentence: str, **told: object) -> None:
    for read in (read_record, read_microvolts):
        with pytest.raises(UserError, match=sentence) as caught:
            read(path, **(TOLD | told))
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 256, 12)}, {"compression": "gzip"}, {"chunks": (2, 100, 5)}])
@pytest.mark.parametrize(("row", "part"), [(0, slice(6, 250)), (1, slice(0, 256)), (2, slice(56, 200))])
def test_a_record_of_code15(tmp_path: Path, options: dict, row: int, part: slice) -> None:
    path = write_code15(tmp_path / "exams_part0.hdf5", **options)
    record = read_record(path / str(IDS[row]), **TOLD)
    np.testing.assert_array_equal(record.signal, TRACINGS[row, part].T)
    assert record.fs == 400 and record.source == str(IDS[row])
    assert any("removed the padding with 0" in note for note in record.notes) == (row != 1)


@pytest.mark.parametrize("ids", [IDS.astype(str).astype("S"), IDS.astype(np.uint64), [str(k) for k in IDS]])
def test_identifiers_of_other_types(tmp_path: Path, ids: object) -> None:
    path = write_code15(tmp_path / "a.h5", ids=ids)
    np.testing.assert_array_equal(read_record(path / "7", **TOLD).signal, TRACINGS[1].T)


def test_a_sidecar_is_for_all_records_of_a_file(tmp_path: Path) -> None:
    path = write_code15(tmp_path / "exams.hdf5")
    before = other_files_state(str(path / "7"), "*.json")
    with pytest.raises(UserError, match=r"^exams.hdf5/7: does not say the .*'units' in exams.json beside it.$"):
        read_record(path / "7")
    (tmp_path / "exams.json").write_text(json.dumps(TOLD))
    assert before != other_files_state(str(path / "7"), "*.json")
    np.testing.assert_array_equal(read_record(path / "7").signal, TRACINGS[1].T)


def test_without_identifiers_the_number_of_the_record_names_it(tmp_path: Path) -> None:
    path = write_code15(tmp_path / "a.hdf5", ids=None)
    np.testing.assert_array_equal(read_record(path / "1", **TOLD).signal, TRACINGS[1].T)
    refused(path / "3", "record 3 of 3 does not exist")
    refused(path / "x", "no data set exam_id found; expected the number of a record")
    refused(path, r"3 records found; expected one of them, such as a\.hdf5/0")


def test_one_record_needs_no_name(tmp_path: Path) -> None:
    path = write_code15(tmp_path / "one", TRACINGS[:1], IDS[:1])
    np.testing.assert_array_equal(read_record(path, **TOLD).signal, TRACINGS[0, 6:250].T)
    path = write_code15(tmp_path / "one.hdf5", TRACINGS[:1].transpose(0, 2, 1), IDS[:1])
    np.testing.assert_array_equal(read_record(path, **TOLD).signal, TRACINGS[0, 6:250].T)


@pytest.mark.parametrize("name", ["signal", "val", "ECG/data"])
@pytest.mark.parametrize("suffix", [".mat", ".h5", ""])
def test_matlab_7_3(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with h5py.File(path, "w", userblock_size=512) as file:
        file[name] = TRACINGS[1]  # MATLAB writes the axes in the other order
    if suffix == ".mat":
        data = bytearray(path.read_bytes())
        data[:19] = b"MATLAB 7.3 MAT-file"
        path.write_bytes(data)
    np.testing.assert_array_equal(read_record(path, **TOLD).signal, TRACINGS[1].T)


@pytest.mark.parametrize("place", ["data sets", "attributes of the samples", "attributes of the file"])
def test_what_a_file_of_one_record_states(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        samples = file.create_dataset("signal", data=TRACINGS[1])
        owner = {"data sets": file, "attributes of the samples": samples.attrs, "attributes of the file": file.attrs}
        for name, value in {"fs": np.array([250]), "units": "mV", "leads": list(LEADS)}.items():
            owner[place][name] = value
    record = read_record(path)
    assert record.fs == 250
    np.testing.assert_array_equal(record.signal, TRACINGS[1].T)
    refused(path, "250 Hz in the file, fs=500 given", fs=500)
    refused(path, "leads I II .* in the file, leads=V6,V5", leads=LEADS[::-1])


def test_a_matrix_of_matlab_7_3_with_its_info(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["val"] = np.rint(TRACINGS[1] * 1000).astype(np.int16)
    rows = "".join(f"{number}\t{lead}\t500\t-10\tmV\n" for number, lead in enumerate(LEADS, 1))
    head = "Sampling frequency: 250 Hz  Sampling interval: 0.004 sec\nRow\tSignal\tGain\tBase\tUnits\n"
    path.with_suffix(".info").write_text(head + rows)
    record = read_record(path)
    assert record.fs == 250
    np.testing.assert_allclose(record.signal, (np.rint(TRACINGS[1].T * 1000) + 10) / 500, rtol=1e-6)
    refused(path, "250 Hz in the file, fs=500 given", fs=500)


def test_a_file_with_a_block_before_it_needs_no_suffix(tmp_path: Path) -> None:
    for size in (512, 1024, 8192):
        with h5py.File(tmp_path / "a", "w", userblock_size=size) as file:
            file["signal"] = TRACINGS[1]
        np.testing.assert_array_equal(read_record(tmp_path / "a", **TOLD).signal, TRACINGS[1].T)


def test_the_state_of_a_record_in_a_file(tmp_path: Path) -> None:
    path = write_code15(tmp_path / "exams_part0.hdf5")
    record = path / "7"
    assert main_file(record) == str(record) and other_files(main_file(record)) == "*.json"
    assert record_exists(record) and not record_exists(tmp_path / "exams_part1.hdf5" / "7")
    before = file_state(main_file(record))
    assert before != file_state(main_file(path / "590673"))
    write_code15(path, TRACINGS * 2)
    assert before != file_state(main_file(record))
    np.testing.assert_array_equal(read_record(record, **TOLD).signal, TRACINGS[1].T * 2)


# ------------------------------------------------------------------ damaged files


def links(kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        other = path.with_name("other.h5")
        write_code15(other)
        with h5py.File(path, "w") as file:
            file["exam_id"] = IDS
            if kind == "external":
                file["tracings"] = h5py.ExternalLink("other.h5", "/tracings")
            elif kind == "soft":
                file["x"] = TRACINGS
                file["tracings"] = h5py.SoftLink("/x")
            elif kind == "virtual":
                layout = h5py.VirtualLayout(TRACINGS.shape, "f4")
                layout[:] = h5py.VirtualSource(str(other), "tracings", TRACINGS.shape)
                file.create_virtual_dataset("tracings", layout)
            else:
                file.create_dataset("tracings", TRACINGS.shape, "f4", external=[("/etc/passwd", 0, 100_000)])

    return write


def cut(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(write_code15(path).read_bytes()[:size])

    return write


def large(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["exam_id"] = IDS[:1]
        file.create_dataset("tracings", (1, 2**30, 12), "f4", chunks=(1, 2**20, 12), compression="gzip")


def wide_chunk(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["exam_id"] = IDS[:1]
        file.create_dataset("tracings", (1, 100, 12), "f4", maxshape=(None, None, 12), chunks=(2**10, 2**16, 12))


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: path.write_bytes(b""), "h5py package cannot read"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "h5py package cannot read"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 5000), "h5py package cannot read"),
        (cut(100), "h5py package cannot read"),
        (cut(-1000), "h5py package cannot read"),
        (links("external"), "is a link or no data set"),
        (links("soft"), "is a link or no data set"),
        (links("virtual"), "the samples of tracings are not in this file"),
        (links("outside"), "the samples of tracings are not in this file"),
        (large, "51,539,607,552 bytes found; expected an ECG of at most"),
        (wide_chunk, "bytes found; expected an ECG of at most"),
        (lambda path: write_code15(path, TRACINGS[0]), r"tracings of shape \(256, 12\) found"),
        (lambda path: write_code15(path, TRACINGS[:, :, 0]), r"tracings of shape \(3, 256\) found"),
        (lambda path: write_code15(path, np.zeros_like(TRACINGS)), "only zeros found"),
        (lambda path: write_code15(path, TRACINGS.astype("S4")), "expected real numbers"),
        (lambda path: write_code15(path, TRACINGS * 1j), "expected real numbers"),
        (lambda path: write_code15(path, ids=IDS * 0 + 7), "exam_id '7' twice"),
        (lambda path: write_code15(path, ids=IDS + 1), "no record of this exam_id; expected one such as 590674"),
        (lambda path: write_code15(path, ids=TRACINGS), "exam_id of float32 found; expected whole numbers or texts"),
        (lambda path: write_code15(path, ids=IDS[None]), r"exam_id of shape \(1, 3\)"),
        (
            lambda path: write_code15(path, ids=["7", "8" * 101, "9"]),
            "exam_id .* found; expected at most 100 characters",
        ),
        (lambda path: write_code15(path, ids=np.array([b"7", b"8" * 101, b"9"])), r"exam_id .* type \|S101 found"),
        (lambda path: write_code15(path, ids=[np.arange(2)] * 3), "exam_id of shape"),
        (lambda path: write_code15(path, TRACINGS[..., :7]), "expected 12 leads"),
    ],
)
def test_damaged_files(tmp_path: Path, write: Callable[[Path], object], sentence: str) -> None:
    write(tmp_path / "bad.hdf5")
    refused(tmp_path / "bad.hdf5" / "7" if "exam_id" in sentence else tmp_path / "bad.hdf5" / "590673", sentence)


def test_other_files_of_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["x"] = 1
    refused(tmp_path / "bad.h5", "'x' found; expected a data set tracings, or one of signal, val, ECG/data")
    refused(tmp_path / "absent.hdf5", "cannot be read")
    refused(tmp_path / "bad.h5" / "1", "'x' found; expected a data set tracings")


@pytest.mark.parametrize("name", ["ECG", "exam_id"])
def test_no_other_file_is_opened(tmp_path: Path, name: str) -> None:
    write_code15(tmp_path / "other.h5")
    path = write_code15(tmp_path / "bad.h5", ids=None)
    with h5py.File(path, "a") as file:
        file[name] = h5py.ExternalLink("other.h5", "/exam_id")
        if name == "ECG":
            del file["tracings"]
    # Opening a pipe would wait forever.
    (tmp_path / "other.h5").unlink()
    os.mkfifo(tmp_path / "other.h5")
    refused(path, "'ECG' found; expected a data set" if name == "ECG" else "exam_id is a link or no data set")


def test_a_chunk_that_is_larger_than_it_says(tmp_path: Path) -> None:
    bomb = zlib.compress(np.random.default_rng(9).bytes(1_200_000), 1)
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        data = file.create_dataset("signal", (1000, 12), "f4", chunks=(1000, 12), compression="gzip")
        data.id.write_direct_chunk((0, 0), bomb)
    refused(tmp_path / "bad.h5", "a chunk of /signal is larger than 48,004 bytes")


@pytest.mark.parametrize("fletcher32", [False, True])
def test_a_large_chunk(tmp_path: Path, fletcher32: bool) -> None:
    signal = np.random.default_rng(9).normal(0, 0.5, (30_000, 12)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "signal", data=signal, chunks=(30_000, 12), compression="gzip", shuffle=True, fletcher32=fletcher32
        )
    np.testing.assert_array_equal(read_record(tmp_path / "a.h5", **TOLD).signal, signal.T)
