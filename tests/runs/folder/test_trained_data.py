"""A run is judged and continued on the data that it was trained on, with the options that it was trained with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from einthoven import cli
from einthoven.errors import UserError
from einthoven.runs.config import identity
from einthoven.runs.folder.trained_data import ANCESTRY, IDENTITY, read_trained_data
from einthoven.runs.folder.trained_run import open_started
from einthoven.runs.folds import cross_validation as cross_validate
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.resume import open_interrupted
from einthoven.tracking.server import client

Train = Callable[..., None]
FOLDS = ("data.folds.train=[2,3,4]", "data.folds.val=[5,6,7]", "data.folds.test=[1,8,9,10]")
TRAINED, TESTED, UNLABELLED = 3, 2, 1  # an ecg_id of a training and of a test record, and of one without label


def reopened(own: Path) -> object:
    folder = own / "run"
    return open_interrupted(folder, open_started(folder))


@pytest.fixture
def trained(train: Train, workplace: Path) -> Path:
    """The folder of a run, trained once."""
    folder = workplace / "trained"
    if not folder.exists():
        small = ("model=logistic", "augment=none", "trainer.epochs=2", "diagnostics=none", "tracking.artifacts=false")
        train(*FOLDS, *small, f"hydra.run.dir={folder}", "tracking.experiment=trained")
    return folder


@pytest.fixture
def own(trained: Path, corpus: Path, tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run and of its corpus, in ``run`` and ``corpus``, which a test may change."""
    monkeypatch.chdir(workplace)
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copytree(trained, tmp_path / "run")
    set_option(tmp_path, "data.root", str(tmp_path / "corpus"))
    (tmp_path / "data" / "stores").mkdir(parents=True)  # other tests look into the usual stores
    set_option(tmp_path, "data.cache", str(tmp_path / "data"))
    return tmp_path


def set_option(own: Path, name: str, value: object) -> None:
    """Change the config.yaml of the run."""
    file = own / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    *groups, last = name.split(".")
    part = config
    for group in groups:
        part = part[group]
    part[last] = value
    file.write_text(yaml.safe_dump(config))


def table(own: Path) -> pd.DataFrame:
    return pd.read_csv(own / "corpus" / "ptbxl_database.csv")


def write(own: Path, changed: pd.DataFrame) -> None:
    changed.to_csv(own / "corpus" / "ptbxl_database.csv", index=False)


def set_cell(own: Path, ecg_id: int, column: str, value: object) -> None:
    changed = table(own)
    changed.loc[changed["ecg_id"] == ecg_id, column] = value
    write(own, changed)


def add(own: Path, ecg_id: int, *, of: int, patient: int, fold: int, flip: bool = True) -> None:
    """Add a record with the labels of another, and its signal, turned round in time or as it is."""
    changed = table(own)
    row = changed[changed["ecg_id"] == of].iloc[0].copy()
    folder = own / "corpus" / "records100" / "00000"
    name = f"{ecg_id:05d}_lr"
    header = (folder / f"{of:05d}_lr.hea").read_text().replace(f"{of:05d}_lr", name)
    samples = np.fromfile(folder / f"{of:05d}_lr.dat", "<i2").reshape(1000, 12)
    if flip:
        first = [int(line.split()[5]) for line in header.splitlines()[1:]]
        samples = np.concatenate([samples[:1], samples[:0:-1]])  # the header states the first sample and the sum
        assert first == samples[0].tolist()
    (folder / f"{name}.hea").write_text(header)
    samples.tofile(folder / f"{name}.dat")
    row["ecg_id"], row["patient_id"], row["strat_fold"] = ecg_id, float(patient), fold
    row["filename_lr"] = f"records100/00000/{name}"
    write(own, pd.concat([changed, row.to_frame().T], ignore_index=True))


def swap_folds(own: Path) -> None:
    changed = table(own)
    changed["strat_fold"] = changed["strat_fold"].map(lambda fold: {2: 8, 3: 9, 8: 2, 9: 3}.get(fold, fold))
    write(own, changed)


def other_signal(own: Path) -> None:
    file = own / "corpus" / "records100" / "00000" / f"{TESTED:05d}_lr.dat"
    samples = np.fromfile(file, "<i2").reshape(1000, 12)
    np.concatenate([samples[:1], samples[:0:-1]]).tofile(file)


def signals_swapped(own: Path) -> None:
    """Each of two records gets the files of the other: no signal is new, no row of the table has changed."""
    folder = own / "corpus" / "records100" / "00000"
    texts = {k: ((folder / f"{k:05d}_lr.hea").read_text(), (folder / f"{k:05d}_lr.dat").read_bytes()) for k in (1, 3)}
    for to, of in ((1, 3), (3, 1)):
        (folder / f"{to:05d}_lr.hea").write_text(texts[of][0].replace(f"{of:05d}_lr", f"{to:05d}_lr"))
        (folder / f"{to:05d}_lr.dat").write_bytes(texts[of][1])


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folds": (swap_folds, "records are in another fold (such as ecg_id "),
    "one label": (
        lambda own: set_cell(own, TRAINED, "scp_codes", "{'NORM': 100.0, 'CLBBB': 100.0}"),
        "1 record has other labels (such as ecg_id 3)",
    ),
    "a label of a test record": (
        lambda own: set_cell(own, TESTED, "scp_codes", "{'NORM': 100.0, 'CLBBB': 100.0}"),
        "1 record has other labels (such as ecg_id 2)",
    ),
    "a record without a label that gets one": (
        lambda own: set_cell(own, UNLABELLED, "scp_codes", "{'NORM': 100.0}"),
        "1 record has other labels (such as ecg_id 1)",
    ),
    "a signal": (other_signal, "1 record has another signal (such as ecg_id 2)"),
    "two signals": (signals_swapped, "2 records "),
    "a record less": (lambda own: write(own, table(own)[lambda t: t["ecg_id"] != TESTED]), "1 record is missing"),
    "patients": (lambda own: set_cell(own, 4, "patient_id", 77.0), "belong to another patient"),
    "a class": (
        lambda own: write(own, table(own).assign(scp_codes=lambda t: t["scp_codes"].str.replace("LVH", "NORM"))),
        "the classes were CD HYP MI NORM STTC and are CD MI NORM STTC",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_data_are_refused_with_what_has_changed(own: Path, name: str) -> None:
    change, expected = CHANGES[name]
    change(own)
    uses = {
        "run": lambda: read_finished(own / "run", "run", {}),
        "resume": lambda: reopened(own),
    }
    for option, use in uses.items():
        with pytest.raises(UserError) as refused:
            use()
        sentence = str(refused.value)
        assert sentence.startswith(f"{option}={own / 'run'}: the data have changed since this run was trained: ")
        assert expected in sentence and "\n" not in sentence


def test_data_in_another_folder_and_other_columns_of_the_table_are_the_same_data(own: Path) -> None:
    shutil.move(own / "corpus", own / "moved")
    set_option(own, "data.root", str(own / "moved"))
    moved = pd.read_csv(own / "moved" / "ptbxl_database.csv")
    moved["age"] += 1
    moved.to_csv(own / "moved" / "ptbxl_database.csv", index=False)
    run, meta = read_finished(own / "run", "run", {})
    assert run.data.store.fingerprint != meta["data"] and not run.data.notes
    with pytest.raises(UserError, match="trained to its end"):
        reopened(own)


def test_records_that_were_added_are_judged_if_they_are_really_new(own: Path) -> None:
    before, _ = read_finished(own / "run", "run", {})
    trained_patient = int(table(own).set_index("ecg_id")["patient_id"][TRAINED])
    add(own, 101, of=TESTED, patient=101, fold=8)  # new, in test
    add(own, 102, of=TRAINED, patient=102, fold=2)  # new, in a fold of the training
    add(own, 103, of=TRAINED, patient=103, fold=9, flip=False)  # a training record under another number
    add(own, 104, of=TESTED, patient=trained_patient, fold=9)  # of a patient who was trained on
    run, _ = read_finished(own / "run", "run", {})
    ids = {split: set(run.data.labels.ecg_ids[run.data.rows[split]].tolist()) for split in ("train", "val", "test")}
    old = {split: set(before.data.labels.ecg_ids[before.data.rows[split]].tolist()) for split in ids}
    assert ids == old | {"test": old["test"] | {101}}
    left_out, added = run.data.notes
    assert left_out.startswith("test: 1 record left out") and "ecg_id 103" in left_out
    assert added == (
        "4 records were added since this run was trained: 0 in val and 1 in test are used, 3 left out (other folds, "
        "or known patients or signals)"
    )
    with pytest.raises(UserError, match=r"resume=.*: the data have changed .*: 4 records are new; expected"):
        reopened(own)


def test_other_folds_may_be_judged_but_nothing_that_was_trained_on(own: Path) -> None:
    run, _ = read_finished(own / "run", "run", {"test": [1, 8]})
    assert set(run.data.labels.folds[run.data.rows["test"]]) == {1, 8}
    with pytest.raises(UserError, match="fold 2 is in both train and test"):
        read_finished(own / "run", "run", {"test": [2]})
    set_option(own, "data.folds.train", [3, 4])
    with pytest.raises(UserError, match=r"data.folds.train was \[2, 3, 4\] and is \[3, 4\]"):
        read_finished(own / "run", "run", {"test": [2]})


# ---------------------------------------------------------------- configuration and code

OPTIONS = {
    "seed": 1,
    "trainer.batch_size": 8,
    "trainer.epochs": 3,
    "model.head_dropout": 0.5,
    "optimizer.lr": 0.5,
    "augment._target_": "einthoven.augment.noise.Noise",
    "task.min_likelihood": 50.0,
    "data.fs": 500,
    "data.folds.test": [9],
    "pca._target_": "einthoven.models.time_frontend.TimeFrontend.fit",
    "diagnostics.gradients": 7,
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_changed_option_is_named_with_both_values(own: Path, option: str) -> None:
    set_option(own, option, OPTIONS[option])
    for use in (
        lambda: reopened(own),
        lambda: read_finished(own / "run", "run", {}),
    ):
        with pytest.raises(UserError, match=r"config\.yaml was changed after the checkpoint was written: ") as refused:
            use()
        new = OPTIONS[option] if isinstance(OPTIONS[option], str) else json.dumps(OPTIONS[option])
        assert f"{option} was " in str(refused.value) and f" and is {new}; expected" in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"), [("tracking.run_name", "another"), ("tracking.interval", 1), ("data.cache", "elsewhere")]
)
def test_what_changes_no_number_may_be_changed(own: Path, option: str, value: object) -> None:
    (own / "cache" / "stores").mkdir(parents=True)
    set_option(own, option, str(own / "cache") if option == "data.cache" else value)
    read_finished(own / "run", "run", {})
    with pytest.raises(UserError, match="trained to its end"):
        reopened(own)


def test_a_run_may_be_evaluated_on_another_device(own: Path) -> None:
    set_option(own, "trainer.device", "cpu")
    set_option(own, "trainer.residency", "stream")
    read_finished(own / "run", "run", {})
    with pytest.raises(
        UserError, match=r"trainer\.device was auto and is cpu, trainer\.residency was auto and is stream;"
    ):
        reopened(own)


@pytest.mark.usefixtures("no_pictures")
def test_other_code_is_refused_by_resume_and_told_by_evaluate(
    own: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = identity.code_hash()
    monkeypatch.setattr(identity, "code_hash", lambda modules: "another code")
    with pytest.raises(UserError, match=rf"the code has changed .*\(code.hash was {before} and is another code\)"):
        reopened(own)
    add(own, 101, of=TESTED, patient=101, fold=8)
    shutil.copy(workplace / "mlflow.db", own)  # another test counts the evaluated runs of the usual store
    set_option(own, "tracking.uri", f"sqlite:///{own}/mlflow.db")
    cli.main(["evaluate", f"run={own / 'run'}", "resamples=20"])
    shown = capfd.readouterr()
    assert "warning: run=" in shown.err and "the code has changed since this run was trained" in shown.err
    assert "1 record was added" in shown.out
    found = json.loads((own / "run" / "evaluation.json").read_text())
    assert found["code"] == {"trained": before, "evaluated": "another code"}
    assert len(found["warnings"]) == 2 and "1 record was added" in found["warnings"][0]
    card = (own / "run" / "model_card.md").read_text()
    assert "- The code has changed since this run was trained" in card and "another code (evaluated)" in card
    tracker = client(f"sqlite:///{own}/mlflow.db")
    (run,) = tracker.search_runs([tracker.get_experiment_by_name("trained").experiment_id])
    assert run.data.tags["evaluate.code.hash"] == "another code"
    assert "the code has changed" in run.data.tags["evaluate.warnings"] and str(own) not in str(run.data.tags)
    # What the calibration was fitted on is listed apart from what was trained on.
    again, _ = read_finished(own / "run", "run", {})
    ancestry = read_trained_data(own / "run", "run", takes_added=True).ancestry
    assert (
        ancestry.in_training(again.data.digests("train")).all() and ancestry.in_fitting(again.data.digests("val")).all()
    )
    assert not ancestry.in_training(again.data.digests("test")).any()
    assert not ancestry.in_fitting(again.data.digests("test")).any()


# ---------------------------------------------------------------- runs of the previous version


def test_a_run_that_noted_its_fingerprint_alone_is_taken_by_it(own: Path) -> None:
    for name in (IDENTITY, ANCESTRY):
        (own / "run" / name).unlink()
    run, _ = read_finished(own / "run", "run", {})
    assert run.ancestry.in_training(run.data.digests("train")).all()
    with pytest.raises(UserError, match="trained to its end"):
        reopened(own)
    swap_folds(own)
    for use in (
        lambda: reopened(own),
        lambda: read_finished(own / "run", "run", {}),
    ):
        with pytest.raises(
            UserError, match=r"the records, labels or folds have changed .*fingerprint was [0-9a-f]{12} and"
        ):
            use()


@pytest.mark.parametrize("name", [IDENTITY, ANCESTRY])
def test_damaged_notes_are_one_sentence(own: Path, name: str) -> None:
    file = own / "run" / name
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match=name) as refused:
        read_finished(own / "run", "run", {})
    assert "\n" not in str(refused.value)


def test_a_run_without_its_ancestry_is_refused(own: Path) -> None:
    (own / "run" / ANCESTRY).unlink()
    with pytest.raises(UserError, match=r"ancestry\.safetensors: missing; expected the list"):
        read_finished(own / "run", "run", {})


def test_a_cross_validation_is_of_the_same_data_throughout(own: Path) -> None:
    run, _ = read_finished(own / "run", "run", {})
    add(own, 101, of=TESTED, patient=101, fold=8)
    now = NetworkRun(run.config, own / "run").data
    cross_validate._refuse_changed(run.data.identity, run.data)
    with pytest.raises(
        UserError, match="folds=cv: the data have changed since the first fold was trained: 1 record is new"
    ):
        cross_validate._refuse_changed(run.data.identity, now)
