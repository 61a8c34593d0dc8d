"""Runs that learn from teachers: what they log and keep, how they go on, and which teachers they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from scipy.special import rel_entr

from einthoven.predict import load_bundle
from einthoven.runs.config.run_config import read_config
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.teachers import read_teachers
from einthoven.training import checkpoint
from small_runs import NETWORK, SHORT, STUDENT, killed_after_epoch, sentence

Train = Callable[..., None]

OF_TEACHER, OF_STUDENT = "data.folds.train=[2,3,4,5]", "data.folds.train=[5,6,7]"


@pytest.fixture
def teach(train: Train, workplace: Path) -> Callable[..., Path]:
    """The folder of a trained teacher of this name; it is trained once."""

    def teacher(name: str, *overrides: str) -> Path:
        folder = workplace / "teachers" / name
        if not folder.exists():
            experiment = "tracking.experiment=teachers"
            train(*SHORT, *NETWORK, OF_TEACHER, experiment, *overrides, f"hydra.run.dir={folder}")
        return folder

    return teacher


@pytest.fixture
def teachers(teach: Callable[..., Path]) -> tuple[Path, Path]:
    return teach("first"), teach("second", "seed=1")


def learn(train: Train, *teachers: Path | str, overrides: tuple[str, ...] = ()) -> None:
    named = f"task.teacher=[{','.join(map(str, teachers))}]"
    train(*SHORT, *STUDENT, OF_STUDENT, "tracking.experiment=students", named, *overrides)


def refused(
    train: Train, capsys: pytest.CaptureFixture[str], *teachers: Path | str, overrides: tuple[str, ...] = ()
) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(SystemExit) as exit_:
        learn(train, *teachers, overrides=overrides)
    return sentence(exit_.value, capsys)


def test_a_student_learns_from_two_teachers(train: Train, teachers: tuple[Path, Path], workplace: Path) -> None:
    folder = workplace / "student"
    learn(train, *teachers, overrides=(f"hydra.run.dir={folder}",))

    # The configuration has the label set and the hashes of the teachers, and MLflow gets no folder of the user.
    config = read_config(folder, "run")
    hashes = [teacher.sha256 for teacher in read_teachers(list(map(str, teachers)))]
    assert config.task.labels == "superdiagnostic" and list(config.task.teacher_sha256) == hashes
    assert len(set(hashes)) == 2
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("students")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id])[0].data
    assert logged.params["task.teacher"] == "['…/first', '…/second']"
    note = logged.tags["mlflow.note.content"]
    assert f"Distilled from 2 teachers: …/first ({hashes[0]}), …/second ({hashes[1]})" in note

    # The logged divergence is that of the mean probability of the teachers, in nats.
    folds: dict[str, list[int] | None] = {"val": None, "test": None}
    of_teachers = []
    for teacher in teachers:
        run, _ = read_finished(teacher, "run", folds)
        of_teachers.append(run.evaluate("val", "fp32").p)
    p = np.mean(of_teachers, axis=0)
    student, _ = read_finished(folder, "run", folds)
    q = student.evaluate("val", "fp32").p
    divergence = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()
    assert logged.metrics["val/kl_teacher"] == pytest.approx(divergence, rel=1e-4)
    assert logged.metrics["val/agreement_teacher"] == pytest.approx(((p >= 0.5) == (q >= 0.5)).mean())
    assert {"test/kl_teacher", "train/loss", "val/loss"} <= logged.metrics.keys()

    # The student has seen the training records of its teachers, too.
    bundle = load_bundle(folder).bundles[0]
    assert bundle.ancestry is not None and "distilled from 2 models" in bundle.provenance["trained_on"]
    of_first = load_bundle(teachers[0]).bundles[0].ancestry
    assert of_first is not None
    seen = set(bundle.ancestry.trained)
    assert set(of_first.trained) < seen and set(student.data.digests("train")) <= seen


def test_a_student_with_a_base_is_not_judged_on_records_of_its_teacher(
    train: Train, teach: Callable[..., Path], workplace: Path
) -> None:
    base = teach("base", "model.width=4", "data.folds.train=[6]")
    folder = workplace / "student-with-base"
    learn(train, teach("first"), overrides=(f"init_from={base}", "trainer.epochs=1", f"hydra.run.dir={folder}"))
    # Fold 2 is one of the teacher.
    student, _ = read_finished(folder, "run", {"val": [2], "test": None})
    assert not len(student.data.rows["val"]) and len(student.data.rows["test"])


def test_a_run_goes_on_bit_for_bit_with_the_same_teachers_only(
    train: Train,
    teachers: tuple[Path, Path],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = workplace / "moving"
    shutil.copytree(teachers[0], teacher)
    options = ("task.label_weight=0.3", "task.direction=reverse", "task.kl_temperature=2")
    learn(train, teacher, overrides=(*options, "hydra.run.dir=whole"))

    with killed_after_epoch(1):
        learn(train, teacher, overrides=(*options, "hydra.run.dir=cut"))
    capsys.readouterr()

    # Without its teacher, and with another one, the run does not go on.
    shutil.move(teacher, workplace / "away")
    with pytest.raises(SystemExit) as missing:
        train("resume=cut")
    assert f"task.teacher={teacher}: neither a run nor a bundle" in sentence(missing.value, capsys)
    shutil.copytree(teachers[1], teacher)
    with pytest.raises(SystemExit) as changed:
        train("resume=cut")
    assert "has changed since this run was started (its hash was" in sentence(changed.value, capsys)

    shutil.rmtree(teacher)
    shutil.move(workplace / "away", teacher)
    train("resume=cut")
    states = []
    for name in ("whole", "cut"):
        state, _ = checkpoint.load(workplace / name / "checkpoints" / "last.safetensors")
        states.append(state["model"])
    whole, cut = states
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not any("members" in name for name in whole), "the teacher is not part of the checkpoint"


def test_a_calibration_of_the_teacher_is_no_change(teachers: tuple[Path, Path], tmp_path: Path) -> None:
    (teacher,) = read_teachers([str(teachers[0])])
    bundle = teacher.bundle
    bundle.provenance["metrics"] = {"test/macro_auroc": 0.5}  # type: ignore[index]
    bundle.save(tmp_path / "bundle")
    (again,) = read_teachers([str(tmp_path / "bundle")])
    assert again.sha256 == teacher.sha256 and again.bundle.sha256 != bundle.sha256


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("task.labels=subdiagnostic",), "predicts CD HYP MI, which are no classes here; expected a model of the"),
        (("task.single_label=true",), "task.single_label=true: the teacher was trained with false; expected the same"),
        (
            ("task.labels=superdiagnostic", "task.single_label=true"),
            "each class by itself (sigmoid); expected",
        ),
        (("data.folds.val=[4]",), "of the records of val, such as ecg_id"),
        (("data.leads=[I,II]",), "and these records have I II; expected the same leads"),
        (("data.fs=500",), "reads records at 100 Hz, and these have 500 Hz"),
        (("trainer.window=2.5",), "reads windows of 10 s, and this run has windows of 2.5 s"),
        (("+task.teacher_sha256=[0123]",), "has changed since this run was started (its hash was 0123"),
        (("+task.teacher_sha256=[a,b]",), "task.teacher_sha256: 2 hashes for 1 teachers"),
        (("task.direction=up",), "task.direction=up: expected forward or reverse"),
        (("task.temperature=0",), "task.temperature=0"),
        (("folds=cv", "data.folds.val=[]", "data.folds.test=[]"), "of the records of val, such as ecg_id"),
        # The last fold is refused before the first one is trained.
        (
            ("folds=cv", "data.folds.train=[6,7,5]", "data.folds.val=[]", "data.folds.test=[]"),
            "of the records of a held-out fold, such as ecg_id",
        ),
    ],
)
def test_what_does_not_suit_the_teacher_is_refused(
    train: Train,
    teachers: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    words: str,
) -> None:
    assert words in refused(train, capsys, teachers[0], overrides=overrides)


def test_teachers_of_other_kinds_are_refused(
    train: Train, teach: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = teach("first")
    assert "predicts age, which has no probabilities" in refused(train, capsys, teach("age", "task=age"))
    other = teach("statements", "task=rhythm")
    assert "does not predict CD HYP MI NORM STTC and predicts AFIB SR" in refused(train, capsys, first, other)
    assert "neither a run nor a bundle" in refused(train, capsys, tmp_path / "nowhere")
    assert "on this machine" in refused(train, capsys, "runs:/abc")
    assert "task.teacher=[]: expected" in refused(train, capsys)

    hollow = tmp_path / "hollow"
    shutil.copytree(first / "bundle", hollow)
    (hollow / "weights.safetensors").unlink()
    assert f"task.teacher={hollow}: " in refused(train, capsys, hollow)
    capsys.readouterr()

    changed = tmp_path / "changed"
    shutil.copytree(first / "bundle", changed)
    (changed / "bundle.json").write_text((changed / "bundle.json").read_text().replace("HYP", "HIP", 1))
    assert "damaged or changed" in refused(train, capsys, changed)

    features = tmp_path / "features"
    features.mkdir()
    (features / "config.yaml").write_text(yaml.safe_dump({"model": {"a": 1}}))
    assert "fitted to features" in refused(train, capsys, features)

    pretraining = tmp_path / "pretraining"
    pretraining.mkdir()
    config = {
        "model": {"a": 1},
        "task": {"_target_": "einthoven.tasks.contrastive.Contrastive"},
        "trainer": {"epochs": 1},
    }
    (pretraining / "config.yaml").write_text(yaml.safe_dump(config))
    assert "is a pretraining (contrastive)" in refused(train, capsys, pretraining)


def test_a_teacher_that_does_not_list_its_records_is_taken_with_a_note(
    train: Train, teach: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    (teacher,) = read_teachers([str(teach("first"))])
    replace(teacher.bundle, ancestry=None).save(tmp_path / "silent")
    learn(train, tmp_path / "silent", overrides=("trainer.epochs=1", "augment=mixup", f"hydra.run.dir={tmp_path}/run"))
    assert "does not list its training records" in capsys.readouterr().out


def test_the_teachers_must_read_what_the_augmentation_makes(
    train: Train, teachers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    crop = ("augment=random_crop", "model=fcn_wang", "model.channels=[4,4,4]")
    with pytest.raises(SystemExit) as exit_:
        options = [o for o in (*SHORT, "task=distill", OF_STUDENT) if o != "augment=none"]
        train(*options, f"task.teacher=[{teachers[0]}]", *crop)
    words = f"task.teacher={teachers[0]}: model=mlp was built for windows of 1000 samples and got 500"
    assert words in sentence(exit_.value, capsys)


def test_a_model_without_gradients_is_refused(
    train: Train, teachers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train("task=distill", f"task.teacher=[{teachers[0]}]", "model=forest", OF_STUDENT)
    assert "task=distill: this model is fitted to labels at once" in sentence(exit_.value, capsys)
