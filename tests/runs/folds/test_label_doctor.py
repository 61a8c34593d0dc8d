"""`einthoven doctor labels`: planted errors stand first, and what cannot be examined costs one sentence."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from einthoven import cli
from einthoven.commands import doctor
from einthoven.errors import UserError
from einthoven.runs.results import conclude
from einthoven.tracking.recorder import Recorder
from pages import assert_self_contained

RECORDS, FOLDS = 90, 2
PLANTED = {7: "{'NORM': 80.0, 'SR': 0.0}", 30: "{'LVH': 0.0}", 52: "{'LVH': 0.0, 'SR': 0.0}", 71: "{'NORM': 100.0}"}
"""Wrong statements of four records: of an infarction, a normal one, an infarction, and a hypertrophy."""
ATTRIBUTION = "PTB-XL, Wagner et al. 2020, CC BY 4.0"


@dataclass(frozen=True)
class Examined:
    """A cross-validation on labels with planted errors."""

    folder: Path
    corpus: Path
    workplace: Path


def write_shapes(root: Path, write_record: Callable[..., Path]) -> None:
    """Records of three classes, each with a shape of its own in noise, and with planted errors in the statements."""
    rng = np.random.default_rng(0)
    (root / "records100").mkdir(parents=True)
    statements = ("NORM", "IMI", "LVH")
    rows = []
    for ecg_id in range(1, RECORDS + 1):
        kind = ecg_id % 3
        wave = 400 * np.sin(np.arange(1000) * (0.05, 0.1, 0.2)[kind])
        noise: NDArray[np.float64] = rng.normal(0, 300, (12, 1000))
        name = f"records100/{ecg_id:05d}_lr"
        write_record(root / "records100", f"{ecg_id:05d}_lr", np.rint(wave + noise).astype(np.int16))
        codes = PLANTED.get(ecg_id, str({statements[kind]: 100.0, "SR": 0.0}))
        rows.append([ecg_id, float(ecg_id), codes, ecg_id // 3 % FOLDS + 1, name, name])
    columns = ["ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr", "filename_hr"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "ptbxl_database.csv", index=False)
    with (root / "scp_statements.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", "description", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"])
        for statement, name in (("NORM", "NORM"), ("IMI", "MI"), ("LVH", "HYP")):
            table.writerow([statement, f"text of <{statement}>", 1.0, "", "", name, name])
        table.writerow(["SR", "sinus rhythm", "", "", 1.0, "", ""])


@pytest.fixture(scope="module")
def examined(
    tmp_path_factory: pytest.TempPathFactory, write_record: Callable[..., Path], mlflow_db: Path
) -> Iterator[Examined]:
    """A cross-validation of a small network below ``outputs/``, and the doctor's answer to it."""
    workplace = tmp_path_factory.mktemp("labels")
    corpus = workplace / "corpus"
    write_shapes(corpus, write_record)
    shutil.copy(mlflow_db, workplace / "mlflow.db")
    folder = Path("outputs") / "day" / "cv"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        # The pictures of the training are not looked at here, and take most of its time.
        patch.setattr(conclude, "pictures", lambda *_: {})
        patch.setattr(Recorder, "figure", lambda *_: None)
        options = (
            "model=mlp",
            "model.width=32",
            "trainer.epochs=12",
            "trainer.batch_size=8",
            "tracking.artifacts=false",
        )
        diagnostics = ("diagnostics=none", "diagnostics.log_odds=true")
        data = ("data=ptbxl", f"data.root={corpus}", "folds=cv", "data.folds.train=[1,2]")
        cli.main(["train", *data, *options, *diagnostics, f"hydra.run.dir={folder}"])
        doctor.main(["labels", str(folder), "most=5"])
        yield Examined(workplace / folder, corpus, workplace)


def test_planted_errors_are_the_first_records(examined: Examined) -> None:
    with (examined.folder / "label_doctor.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == RECORDS * 3
    first_row = {int(row["record"]): row for row in reversed(rows)}
    ranks = {record: int(row["rank"]) for record, row in first_row.items()}
    assert sorted(ranks.values()) == list(range(1, RECORDS + 1))
    assert max(ranks[record] for record in PLANTED) <= 6
    # The scores go down: from record to record, and from label to label.
    of_records = [float(row["score"]) for row in sorted(first_row.values(), key=lambda row: int(row["rank"]))]
    assert of_records == sorted(of_records, reverse=True)
    # The model is confident that a label of each is wrong.
    assert {int(row["record"]) for row in rows if row["confident_error"] == "1"} >= PLANTED.keys()


def test_the_table_has_the_predictions_of_the_held_out_folds(examined: Examined) -> None:
    table = pd.read_csv(examined.folder / "label_doctor.csv")
    held_out = pd.read_parquet(examined.folder / "out_of_fold.parquet").set_index("record_id")
    for row in table.itertuples():
        assert row.fold == int(row.record) // 3 % FOLDS + 1
        assert row.label == held_out.loc[row.record, f"{row[4]}_label"]
        assert row.probability == pytest.approx(held_out.loc[row.record, f"{row[4]}_probability"], abs=1e-6)


def test_margins_of_the_training_tell_the_planted_errors(examined: Examined) -> None:
    odds = pd.read_parquet(examined.folder / "training_log_odds.parquet").set_index("record_id")
    labels = pd.read_parquet(examined.folder / "out_of_fold.parquet").set_index("record_id")
    classes = ("HYP", "MI", "NORM")
    signs = labels.loc[odds.index, [f"{name}_label" for name in classes]].to_numpy() * 2 - 1
    margins = odds[[f"{name}_log_odds" for name in classes]].to_numpy() * signs
    assert len(odds) == RECORDS
    assert roc_auc_score(odds.index.isin(list(PLANTED)), -margins.min(axis=1)) > 0.95


def test_the_page_shows_ecg_labels_and_statements(examined: Examined) -> None:
    page = (examined.folder / "label_doctor.html").read_text()
    assert_self_contained(page)
    assert page.count('<img src="data:image/png;base64,') == 5 and page.count(f"<figcaption>{ATTRIBUTION}") == 5
    assert "text of &lt;NORM&gt;" in page and "80 %" in page and "unknown" in page
    assert str(examined.workplace) not in page and not re.search(r'(src|href)="(?!data:)', page)
    titles = re.findall(r"<h2>(\d)\. Record (\d+): labelled (\w+)</h2>", page)
    assert [int(number) for number, *_ in titles] == [1, 2, 3, 4, 5]
    assert set(PLANTED) & {int(record) for _, record, _ in titles}


def test_the_run_is_found_by_its_id(examined: Examined, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = json.loads((examined.folder / "tracking" / "run.json").read_text())["run_id"]
    before = (examined.folder / "label_doctor.csv").read_bytes()
    doctor.main(["labels", "most=2", f"runs:/{run_id}"])
    assert (examined.folder / "label_doctor.csv").read_bytes() == before
    shown = capsys.readouterr().out
    assert "2. " in shown and "3. " not in shown and "the statements of the first 2 records" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "0 runs given; expected the folder or the id of one cross-validation. A record that is called labels is"),
        (["a", "b"], "2 runs given"),
        (["a", "most=0"], "most=0: expected a number of records, 1 or more"),
        (["a", "--json"], "doctor labels: --json: unknown; there are"),
        (["0123abcd"], "0123abcd: no such folder, and no run with this id below outputs/"),
        (["corpus"], "corpus: no config.yaml there; expected the folder of a cross-validation"),
        (["outputs/day/cv/fold-1"], "is the folder of a single run, which has predicted the records that it was"),
    ],
)
def test_other_runs_are_refused(examined: Examined, words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        doctor.main(["labels", *words])


def damage_table(folder: Path) -> None:
    (folder / "out_of_fold.parquet").write_bytes(b"PAR1 nothing")


def other_labels(folder: Path) -> None:
    table = pd.read_parquet(folder / "out_of_fold.parquet")
    table.assign(MI_label=1 - table["MI_label"]).to_parquet(folder / "out_of_fold.parquet")


def other_classes(folder: Path) -> None:
    table = pd.read_parquet(folder / "out_of_fold.parquet")
    table.drop(columns=["MI_label", "MI_probability"]).to_parquet(folder / "out_of_fold.parquet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "out_of_fold.parquet").unlink(), "no out_of_fold.parquet there, so that the"),
        (damage_table, "out_of_fold.parquet: damaged"),
        (other_labels, "has other labels than the data"),
        (other_classes, "has other records or classes than the data"),
        (lambda folder: shutil.rmtree(folder / "fold-1"), "fold-1: holds no run"),
    ],
)
def test_a_changed_folder_is_refused(
    examined: Examined, tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    folder = tmp_path / "cv"
    shutil.copytree(examined.folder, folder)
    change(folder)
    with pytest.raises(UserError, match=re.escape(sentence)):
        doctor.main(["labels", str(folder)])


def test_a_record_without_margins_does_not_take_them_from_the_others(
    examined: Examined, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cv"
    shutil.copytree(examined.folder, folder)
    odds = pd.read_parquet(folder / "training_log_odds.parquet")
    record = int(odds["record_id"][0])
    odds[1:].to_parquet(folder / "training_log_odds.parquet")
    doctor.main(["labels", str(folder), "most=1"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "the mean of two log-odds" in printed and "1 record has no log-odds of the training" in printed
    before, after = (
        pd.read_csv(place / "label_doctor.csv").sort_values(["record", "class"])["score"].to_numpy()
        for place in (examined.folder, folder)
    )
    is_changed = pd.read_csv(folder / "label_doctor.csv").sort_values(["record", "class"])["record"] == record
    assert (before[~is_changed] == after[~is_changed]).all() and (before[is_changed] != after[is_changed]).any()


def test_changed_labels_are_refused(examined: Examined) -> None:
    database = examined.corpus / "ptbxl_database.csv"
    text = database.read_text()
    database.write_text(text.replace("{'LVH': 0.0}", "{'IMI': 100.0}"))
    try:
        with pytest.raises(
            UserError, match=r"the data have changed since this run was trained: 1 record has other labels"
        ):
            doctor.main(["labels", str(examined.folder)])
    finally:
        database.write_text(text)


def test_a_record_that_is_called_labels_is_examined(
    tmp_path: Path,
    write_record: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_record(tmp_path, "labels", np.zeros((12, 1000), np.int16))
    monkeypatch.chdir(tmp_path)
    doctor.main(["./labels", "--json"])
    (report,) = json.loads(capfd.readouterr().out)
    assert "flat" in {finding["code"] for finding in report["findings"]}
