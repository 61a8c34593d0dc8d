"""`einthoven doctor` and the report of `einthoven prepare`: what is shown, and the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven import cli
from einthoven.commands import doctor
from einthoven.data.synthetic import generate, write_synthetic
from einthoven.errors import UserError
from einthoven.terminal.record_files import expand


@pytest.fixture
def folder(tmp_path: Path, write_record: Callable[..., Path]) -> Path:
    """Three records: one sound, one with a flat lead, one that is truncated."""
    x = generate(3, seed=4).signals[100]
    x[1, 8] = 0
    (tmp_path / "r").mkdir()
    for name, signal in zip(("a", "b", "c"), x, strict=True):
        write_record(tmp_path / "r", name, signal)
    file = tmp_path / "r" / "c.dat"
    file.write_bytes(file.read_bytes()[:100])
    return tmp_path / "r"


def test_one_bad_file_is_reported_and_the_rest_done(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([str(folder), "--json"])
    reports = json.loads(capfd.readouterr().out)
    assert [Path(report["file"]).name for report in reports] == ["a.hea", "b.hea", "c.hea"]
    codes = [{finding["code"] for finding in report["findings"]} for report in reports]
    assert "flat" in codes[1] and codes[2] == {"unreadable"} and not {"flat", "unreadable"} & codes[0]
    assert "truncated" in reports[2]["findings"][0]["evidence"]
    assert reports[0]["fs"] == 100 and reports[0]["seconds"] == 10 and len(reports[0]["leads"]) == 12


def test_the_table_and_strictness(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not doctor.main([str(folder / "b.hea")])
    assert doctor.main([str(folder / "b.hea"), "--strict"])
    assert not doctor.main([str(folder / "a"), "--strict"])
    shown = capfd.readouterr().out
    assert "V3 spans 0.000 mV" in " ".join(shown.split()) and "worst finding" not in shown
    assert doctor.main([str(folder)])
    assert "The worst finding of the 3 files: 2 error, 1 " in capfd.readouterr().out


def test_patterns_and_folders(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [file.name for file in expand([f"{folder}/[ab].hea", str(folder)])] == ["a.hea", "b.hea", "c.hea"]
    for name in (f"{folder}/*.nothing", str(tmp_path / "empty")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="holds no record"):
            expand([name])
    (tmp_path / "empty" / "a.csv").write_text("I,II")
    with pytest.raises(UserError, match=r"tables by a pattern: '.*empty/\*\.csv'\.$"):
        expand([str(tmp_path / "empty")])
    assert "warning" not in capsys.readouterr().err
    (tmp_path / "empty" / "exams.hdf5").write_bytes(b"")
    (tmp_path / "empty" / "a.hea").write_text("")
    assert [file.name for file in expand([str(tmp_path / "empty")])] == ["a.hea"]
    warning = " ".join(capsys.readouterr().err.split())
    assert "empty: HDF5 files are not read from a folder (1 found)" in warning and "exams.hdf5/RECORD." in warning
    assert re.search(r"empty: tables are not read from a folder \(1 found\).*such as '.*empty/\*\.csv'\.", warning)


@pytest.mark.parametrize("arguments", [[], ["a", "--fs", "fast"], ["a", "--nothing"]])
def test_a_mistake_is_a_sentence(arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"doctor: .*--help"):
        doctor.main(arguments)


def test_exit_codes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(["doctor", str(folder)])
    assert ending.value.code == 1
    cli.main(["doctor", str(folder / "a.hea")])
    cli.main(["doctor", "--help"])
    assert "usage: einthoven doctor FILE" in capfd.readouterr().out


def test_prepare_reports_and_strictness_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On generated records spoilt on disk: the table, the files beside the store, exit code 1 with the counts."""
    root = tmp_path / "corpus"
    write_synthetic(root, records=12, seed=4)
    record = next((root / "records100").rglob("00003_lr.dat"))
    samples = np.fromfile(record, dtype="<i2").reshape(-1, 12)
    header = record.with_suffix(".hea").read_text().splitlines()
    samples[:, 8] = 0
    fields = header[9].split()
    fields[5:7] = ["0", "0"]  # initial value and checksum
    header[9] = " ".join(fields)
    samples.tofile(record)
    record.with_suffix(".hea").write_text("\n".join(header) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    data = ["data=ptbxl", f"data.root={root}"]
    cli.main(["prepare", *data, "doctor=false"])
    assert "What the doctor found" not in capfd.readouterr().out and not list(tmp_path.rglob("doctor.parquet"))
    cli.main(["prepare", *data])
    shown = capfd.readouterr().out
    assert "What the doctor found" in shown and "Powerline noise and pacing spikes cannot be measured" in shown
    (listed,) = tmp_path.rglob("quarantine.csv")
    assert "00003_lr,flat: V3 spans 0.000 mV" in listed.read_text()
    assert (listed.parent / "doctor.parquet").exists()
    with pytest.raises(SystemExit) as ending:
        cli.main(["prepare", *data, "strict=true"])
    assert ending.value.code == 1
    assert "1 × flat (error); 1 record in quarantine.csv; such as ecg_id 3." in capfd.readouterr().err
    with pytest.raises(SystemExit) as ending:
        cli.main(["prepare", *data, "strict=true", "doctor=false"])
    assert ending.value.code == 2 and "strict=True: expected false where doctor=false" in capfd.readouterr().err


def test_windows_and_several_sources_are_prepared_and_counted_right(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.csv").write_text("path,labels\na,AF\nb,AF\nc,\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    mine = ["data=folder", f"data.root={folder}", "data.on_error=quarantine", "data.seconds=5", "data.long=slide"]
    for _ in range(2):  # the second time, the doctor's list is there
        cli.main(["prepare", *mine])
        assert "1 of 3 records is left out" in capfd.readouterr().out
    (listed,) = tmp_path.rglob("quarantine.csv")
    rows = [line.split(",") for line in listed.read_text().splitlines()[1:]]
    assert [row[1] for row in rows] == ["c", "b", "b"] and all("flat" in row[2] for row in rows[1:])
    options = (f"root={folder}", "on_error=quarantine")
    named = ["+data@data.sources.a=folder", *(f"data.sources.a.{option}" for option in options)]
    cli.main(["prepare", "data=concat", *named, "data.seconds=10"])
    assert "What the doctor found" in capfd.readouterr().out
    found = [path.parent.name for path in tmp_path.rglob("doctor.parquet")]
    assert sorted(name.split("-")[0] for name in found) == ["a", "r"]
