"""`einthoven embed`: from files to a table of embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from einthoven import cli
from einthoven.predict import load_bundle
from einthoven.predict.embedding import Encoder, embed_files

WriteRecord = Callable[..., Path]


def outcome(*arguments: object) -> int:
    """Exit code of `einthoven embed` with the bundle of generated ECGs."""
    try:
        cli.main(["embed", "synthetic", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def records(write_record: WriteRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two good records and a broken one, in the working folder."""
    folder = tmp_path / "records"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, samples in (("a", 1000), ("b", 1000), ("c", 2000)):
        write_record(folder, name, np.rint(rng.normal(0, 300, (12, samples))).astype(np.int16))
    (folder / "b.dat").write_bytes(b"cut")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("verb", ["embed", "predict"])
def test_the_folder_of_a_cross_validation_names_its_runs(
    records: Path, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    for fold in (1, 2):
        Path(f"cv/fold-{fold}/checkpoints").mkdir(parents=True)
    output = ["--output", "all.parquet"] if verb == "embed" else []
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "cv", "records/a.hea", *output])
    shown = capfd.readouterr().err
    assert end.value.code == 2 and shown.count("\n") == 1
    assert "one run for each fold; expected one of them: cv/fold-1, cv/fold-2." in shown


def test_a_broken_file_is_reported_and_the_others_are_written(records: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert outcome("records", "--output", "all.parquet") == 1
    out, err = capfd.readouterr()
    assert "Wrote 2 rows of 2 files to all.parquet." in out
    assert "There is no embedding of 1 of 3 files" in err and "b" in err
    table = pd.read_parquet("all.parquet")
    assert table["file"].tolist() == ["records/a.hea", "records/c.hea"], "names as the user gave them"
    assert table["windows"].tolist() == [1, 2]
    bundle = load_bundle("synthetic").bundles[0]
    results = list(embed_files(Encoder.from_bundle(bundle), [records / "a.hea", records / "c.hea"], {}))
    values = table.filter(regex=r"^e\d+$")
    assert list(values) == [f"e{number}" for number in range(values.shape[1])]
    assert values.dtypes.eq("float32").all()
    np.testing.assert_allclose(values, np.concatenate([result.values for result in results]), rtol=1e-5, atol=1e-6)
    metadata = json.loads(pq.read_schema("all.parquet").metadata[b"einthoven"])
    assert metadata["model"] == bundle.sha256 and metadata["rows"] == "record"
    assert str(records.parent) not in json.dumps(metadata)


def test_csv_and_npz_have_the_same_values(records: Path) -> None:
    good = ("records/a.hea", "records/c.hea", "--windows")
    for name in ("one.parquet", "one.csv", "one.npz"):
        assert outcome(*good, "--output", name) == 0
    table = pd.read_parquet("one.parquet")
    assert table["window"].tolist() == [0, 0, 1] and table["start_s"].tolist() == [0.0, 0.0, 10.0]
    values = table.filter(regex=r"^e\d+$").to_numpy()
    text = pd.read_csv("one.csv")
    np.testing.assert_allclose(text.filter(regex=r"^e\d+$"), values, rtol=1e-5)
    sha256 = load_bundle("synthetic").bundles[0].sha256
    assert set(text["model"]) == {sha256}
    with np.load("one.npz") as arrays:
        np.testing.assert_array_equal(arrays["embedding"], values)
        assert arrays["files"].tolist() == table["file"].tolist()
        assert json.loads(str(arrays["model"]))["model"] == sha256


def test_tokens_have_a_row_each(records: Path) -> None:
    assert outcome("records/a.hea", "--tokens", "--output", "tokens.parquet") == 0
    table = pd.read_parquet("tokens.parquet")
    assert table["token"].tolist() == list(range(len(table))) and len(table) > 100
    assert table["start_s"].between(0, 10, inclusive="left").all()


def test_nothing_is_written_without_an_embedding(records: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert outcome("records/b.hea", "--output", "none.parquet") == 1
    assert not list(records.parent.glob("*none*"))
    capfd.readouterr()
    for arguments, expected in (
        (("records", "--output", "table.txt"), "expected a name that ends in .parquet, .csv, .npz"),
        (("records", "--output", "missing/table.csv"), "in a folder that is there"),
        (("records",), "--output"),
        (("nowhere.hea", "--output", "x.csv"), "nowhere.hea"),
    ):
        assert outcome(*arguments) in (1, 2)
        assert expected in capfd.readouterr().err
