"""A run says which records it leaves out, and keeps their list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from einthoven import cli
from einthoven.functional.leads import LEADS


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Sixty records in files without a header: one is missing, two are damaged."""
    root = tmp_path / "records"
    root.mkdir()
    rng = np.random.default_rng(0)
    rows = ["path,labels,fold"]
    for number in range(60):
        if number != 5:
            np.save(root / f"r{number}.npy", rng.normal(0, 0.1 + 0.2 * (number % 2), (12, 200)).astype("f4"))
        rows.append(f"r{number}.npy,{'AF' if number % 2 else 'SR'},{number // 2 % 10 + 1}")
    for number in (20, 41):
        (root / f"r{number}.npy").write_bytes(b"junk")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_the_list_is_printed_kept_and_logged(
    records: Path, tmp_path: Path, mlflow_db: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(mlflow_db.read_bytes())
    files = [f"data.file_leads=[{','.join(LEADS)}]", "data.file_fs=100", "data.file_units=mV", "data.seconds=2"]
    accepted = ["data.on_error=quarantine", "data.allow_missing=true", "data.fold_column=fold", "task=columns"]
    short = ["model=naive_bayes", "hydra.run.dir=run", "tracking.artifacts=false"]
    cli.main(["train", "data=folder", f"data.root={records}", *files, *accepted, *short])

    shown = capfd.readouterr().out
    assert "3 of 60 records are left out" in shown and "run/quarantine.csv" in shown
    table = pd.read_csv("run/quarantine.csv")
    assert sorted(table["ecg_id"]) == [6, 21, 42]
    (logged,) = Path("mlruns").rglob("quarantine.csv")
    assert pd.read_csv(logged).equals(table) and str(tmp_path) not in logged.read_text()
