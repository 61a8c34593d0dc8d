"""A run that is killed at any stage is completed by `resume`: as one that nobody disturbed."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.tracking._tracking_service import utils

from einthoven import cli
from einthoven.errors import UserError
from einthoven.runs import network_run, session, start
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results import advice, conclude
from einthoven.tracking import run_folder
from einthoven.tracking.recorder import Recorder
from einthoven.training import checkpoint
from einthoven.training.step import train_step

Train = Callable[..., None]
FAST = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=8")
BARE = "tracking.artifacts=false"


class Killed(BaseException):
    """The end of a process. Nothing of the package may treat it."""


def killed(*args: object, **kwargs: object) -> Any:
    raise Killed


@pytest.fixture
def sudden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves no time to close a run."""

    def leave(recorder: Recorder, status: str = "FINISHED") -> None:
        recorder._entries.close()
        recorder._files.close()
        recorder._lock.release()

    finish = Recorder.finish

    def end(recorder: Recorder, status: str = "FINISHED") -> None:
        (leave if status == "FAILED" else finish)(recorder, status)

    monkeypatch.setattr(Recorder, "finish", end)
    monkeypatch.setattr(Recorder, "tags", lambda self, values: None if "error" in values else tags(self, values))


tags = Recorder.tags


def run_of(workplace: Path, experiment: str) -> MlflowRun:
    (run,) = runs_of(workplace, experiment)
    return run


def runs_of(workplace: Path, experiment: str) -> list[MlflowRun]:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def points(workplace: Path, run: MlflowRun) -> list[tuple[str, int, float]]:
    with sqlite3.connect(workplace / "mlflow.db") as store:
        rows = store.execute("select key, step, value from metrics where run_uuid = ?", (run.info.run_id,)).fetchall()
    # Speed and memory differ between two runs.
    return sorted(row for row in rows if not row[0].startswith("system/"))


def files(workplace: Path, run: MlflowRun, folder: str = "") -> set[str]:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    paths = set()
    for entry in client.list_artifacts(run.info.run_id, folder or None):
        paths |= files(workplace, run, entry.path) if entry.is_dir else {entry.path}
    return paths


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.load(folder / "checkpoints" / "last.safetensors")[0]["model"]
    return state


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def undisturbed(train: Train, workplace: Path, options: tuple[str, ...]) -> tuple[Path, MlflowRun]:
    """The folder of a run that nobody disturbs, and the run. It is made once for some options."""
    name = f"whole-{len(options)}"
    folder = workplace / "resumed" / name
    if not folder.exists():
        train(*options, f"tracking.experiment={name}", f"hydra.run.dir={folder}")
    return folder, run_of(workplace, name)


STAGES: dict[str, tuple[object, str]] = {
    "before the first step": (network_run, "train_step"),
    "metrics": (conclude, "log_final"),
    "bundle": (conclude, "write_bundle"),
    "model": (Recorder, "model"),
    "note": (advice, "write_note"),
    "status": (Recorder, "_put_series"),
}
WITH_FILES = ("model",)
"""Tables and the exported model take longer than the training."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed_at_any_stage_is_completed(
    stage: str,
    train: Train,
    workplace: Path,
    sudden: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = stage.replace(" ", "-")
    folder = workplace / "resumed" / name
    owner, function = STAGES[stage]
    options = FAST if stage in WITH_FILES else (*FAST, BARE)
    whole_folder, whole = undisturbed(train, workplace, options)
    capsys.readouterr()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, function, killed)
        train(*options, f"tracking.experiment={name}", f"hydra.run.dir={folder}")
    first_line = session._first_line

    def first_line_held(run: NetworkRun) -> str:
        with pytest.raises(UserError, match="another process is writing this run"):
            run_folder.lock(run.folder / "tracking")
        return first_line(run)

    with monkeypatch.context() as patch:
        patch.setattr(session, "_first_line", first_line_held)
        train(f"resume={folder}")
    run_folder.lock(folder / "tracking").release()
    shown = capsys.readouterr().out
    assert ("it has no checkpoint yet" in shown) == (stage == "before the first step")
    assert ("after its last epoch" in shown) == (stage != "before the first step")

    run = run_of(workplace, name)
    assert run.info.status == "FINISHED"
    assert same(folder, whole_folder)
    assert points(workplace, run) == points(workplace, whole)
    assert files(workplace, run) == files(workplace, whole)
    names = ("einthoven.overrides", "mlflow.note.content", "einthoven.concluded")
    assert all(run.data.tags[tag] for tag in names)
    assert run.data.params == whole.data.params
    if stage in WITH_FILES:
        client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
        outputs = client.get_run(run.info.run_id).outputs.model_outputs
        names_of_models = sorted(client.get_logged_model(output.model_id).name for output in outputs)
        assert names_of_models == ["checkpoint-best", "checkpoint-last", "model"]

    with pytest.raises(SystemExit):
        train(f"resume={folder}")
    assert "is complete; there is nothing to resume" in capsys.readouterr().err


def test_a_run_that_has_written_nothing_is_started_again(
    train: Train, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "resumed" / "nothing"
    options = (*FAST, BARE, "tracking.experiment=nothing", f"hydra.run.dir={folder}")
    for stage in ("write_config", "write_trained_data"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(start, stage, killed)
            train(*options)
        with pytest.raises(SystemExit):
            train(f"resume={folder}")
        assert "start it again" in capsys.readouterr().err
    train(*options)
    assert run_of(workplace, "nothing").info.status == "FINISHED"


def test_what_a_complete_run_has_not_sent_is_sent(
    train: Train, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "resumed" / "unsent"
    train(*FAST, BARE, "tracking.experiment=unsent", f"hydra.run.dir={folder}")
    before = points(workplace, run_of(workplace, "unsent"))
    (folder / "tracking" / "entries.sent").write_text("0")
    train(f"resume={folder}")
    assert "The rest of it has been sent: run" in capsys.readouterr().out
    assert points(workplace, run_of(workplace, "unsent")) == before


def test_ctrl_c_at_the_end_of_a_run_says_how_it_is_completed(
    train: Train, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "resumed" / "stopped"
    interrupts = []

    def interrupted(*args: object) -> None:
        interrupts.append(args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(conclude, "write_bundle", interrupted)
        # The second Ctrl-C, while the run is closed.
        patch.setattr(Recorder, "_put_series", interrupted)
        train(*FAST, BARE, "tracking.experiment=stopped", f"hydra.run.dir={folder}")
    assert (ended.value.code, len(interrupts)) == (130, 2)
    assert f"train resume={folder.relative_to(workplace)}" in capsys.readouterr().out
    assert run_of(workplace, "stopped").info.status == "KILLED"
    train(f"resume={folder}")
    assert run_of(workplace, "stopped").info.status == "FINISHED"


@pytest.mark.parametrize("model", ["logistic", "decision_tree"])
def test_a_cross_validation_is_resumed_at_its_fold_and_step(
    model: str,
    train: Train,
    workplace: Path,
    sudden: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_network = model == "logistic"
    options = [f"model={model}", BARE, "folds=cv", "data.folds.train=[1,2,3]"]
    # Five steps an epoch: the kill is in the second fold.
    options += ["trainer.epochs=2", "trainer.batch_size=2", "trainer.checkpoint_minutes=0"] if is_network else []
    # A fold that is complete is judged by its averaged weights, too.
    options += ["trainer.ema=0.5"] if is_network else []
    experiments = [f"cv-{model}-{kind}" for kind in ("whole", "cut")]
    folders = [workplace / "resumed" / name for name in experiments]
    train(*options, f"tracking.experiment={experiments[0]}", f"hydra.run.dir={folders[0]}")
    capsys.readouterr()

    set_tag = MlflowClient.set_tag
    writers: set[str] = set()

    def note_writer(client: MlflowClient, run_id: str, key: str, value: Any) -> None:
        writers.add(threading.current_thread().name.partition("-")[0])
        set_tag(client, run_id, key, value)

    # If two threads set a tag that a run does not have yet, MLflow refuses one of them.
    monkeypatch.setattr(MlflowClient, "set_tag", note_writer)
    evaluations: list[object] = []
    steps: list[object] = []

    def step(*args: Any, **kwargs: Any) -> Any:
        steps.append(args)
        if len(steps) == 13:
            raise Killed
        return train_step(*args, **kwargs)

    conclude_session = session.advice.write_note

    def write_note(*args: Any) -> None:
        evaluations.append(args)
        if len(evaluations) == 2:
            raise Killed
        conclude_session(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if is_network:
            patch.setattr(network_run, "train_step", step)
        else:
            patch.setattr(session.advice, "write_note", write_note)
        train(*options, f"tracking.experiment={experiments[1]}", f"hydra.run.dir={folders[1]}")
    capsys.readouterr()

    # The folder of a fold can come from a stranger, too.
    link = folders[1] / "fold-1" / "link"
    link.symlink_to(workplace)
    with pytest.raises(SystemExit):
        train(f"resume={folders[1]}")
    assert "fold-1: link is a link" in capsys.readouterr().err
    link.unlink()
    train(f"resume={folders[1]}")
    if is_network:
        assert "The run continues after step 2, in epoch 1 of 2." in capsys.readouterr().out

    before, after = (runs_of(workplace, name) for name in experiments)
    assert [run.info.status for run in after] == ["FINISHED"] * 4
    by_name = {run.info.run_name: run for run in before}
    for run in after:
        assert points(workplace, run) == points(workplace, by_name[run.info.run_name])
    if is_network:
        for fold in (1, 2, 3):
            assert same(folders[0] / f"fold-{fold}", folders[1] / f"fold-{fold}")
    assert writers == {"tracking"}
    (parent,) = [run for run in after if run.info.run_name.startswith("cv ")]
    assert "| pooled |" in parent.data.tags["mlflow.note.content"]
    tables = {entry["path"] for entry in json.loads(parent.data.tags["mlflow.loggedArtifacts"])}
    assert tables == {"classes.json", "results.json"}
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in after if run is not parent)
    with pytest.raises(SystemExit):
        train(f"resume={folders[1]}")
    assert "this cross-validation is complete" in capsys.readouterr().err


def test_an_interrupted_cross_validation_names_its_own_folder(
    train: Train, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: NetworkRun, name: str, recorder: object) -> None:
        raise KeyboardInterrupt

    folder = workplace / "resumed" / "cv-hint"
    monkeypatch.setattr(NetworkRun, "save", interrupted)
    with pytest.raises(SystemExit):
        train(*FAST, BARE, "folds=cv", "data.folds.train=[1,2]", f"hydra.run.dir={folder}")
    hints = [line for line in capsys.readouterr().out.splitlines() if "This continues it: " in line]
    assert len(hints) == 1
    assert hints[0].endswith(f"train resume={folder.relative_to(workplace)}")


# ---------------------------------------------------------------- the store of a run


@pytest.fixture
def project(corpus: Path, mlflow_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with its own store and one run, ``run``. The working folder is another one."""
    place = tmp_path / "project"
    place.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(conclude, "pictures", lambda *_: {})
    own = (f"tracking.uri=sqlite:///{place}/mlflow.db", f"hydra.run.dir={place}/run", "data=ptbxl")
    folds = ("data.folds.train=[2,3,4]", "data.folds.val=[5,6,7]", "data.folds.test=[1,8,9,10]")
    cli.main(["train", *own, f"data.root={corpus}", "data.cache=data", *FAST, *folds])
    # As a user types it: relative to the working folder.
    ids = json.loads((place / "run" / "tracking" / "run.json").read_text())
    (place / "run" / "tracking" / "run.json").write_text(json.dumps({**ids, "uri": "sqlite:///mlflow.db"}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return place


def evaluate_elsewhere(project: Path, folder: Path) -> MlflowRun:
    """Evaluate the run of a project from a folder where nothing may be written. Return the run from the store."""
    # The next command is another process, in which MLflow does not remember the old place.
    utils._artifact_repos_cache.clear()
    cli.main(["evaluate", f"run={project}/run", "resamples=20"])
    assert not list(folder.iterdir())
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs(["1"])
    assert run.info.artifact_uri.startswith(f"{project}/")
    pictures = {entry.path for entry in client.list_artifacts(run.info.run_id, "figures")}
    assert "figures/reliability.png" in pictures
    return run


def contents(project: Path) -> dict[Path, tuple[int, bytes]]:
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in project.rglob("*") if file.is_file()}


def test_a_run_uses_the_store_and_the_data_of_its_project_from_any_folder_in_a_copy_and_after_a_move(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    was_moved = "/mlflow.db was moved or copied: the files that it knew in"
    shutil.copytree(project, tmp_path / "copy")
    before = contents(project)
    capsys.readouterr()
    evaluate_elsewhere(tmp_path / "copy", elsewhere)
    assert f"{tmp_path}/copy{was_moved} {project}/mlruns are those in" in capsys.readouterr().err
    assert contents(project) == before

    run = evaluate_elsewhere(project, elsewhere)
    assert "test/evaluate/macro_auroc" in run.data.metrics
    assert was_moved not in capsys.readouterr().err
    after = contents(project)
    assert all(after[file] == before[file] for file in before if "packs" in file.parts)

    project.rename(tmp_path / "moved")
    evaluate_elsewhere(tmp_path / "moved", elsewhere)
    assert f"{tmp_path}/moved{was_moved} {project}/mlruns are those in" in capsys.readouterr().err
    assert not project.exists()
    client = MlflowClient(f"sqlite:///{tmp_path}/moved/mlflow.db")
    assert len(client.get_metric_history(run.info.run_id, "test/evaluate/macro_auroc")) == 2
    cli.main(["report", f"{tmp_path}/moved/run"])
    cli.main(["sync", f"{tmp_path}/moved/run"])
    assert [path.name for path in elsewhere.iterdir()] == ["report.html"]


def test_a_run_without_its_store_is_refused_before_any_work_and_sent_again_by_sync(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (before,) = client.search_runs(["1"])
    lost = {
        path.relative_to(project / "mlruns").parts[-1] for path in (project / "mlruns").rglob("*") if path.is_file()
    }
    (project / "mlflow.db").rename(project / "lost.db")
    shutil.rmtree(project / "mlruns")
    for arguments in (["train", "resume=run"], ["evaluate", "run=run"], ["report", "run"]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        message = capsys.readouterr().err
        assert "mlflow.db does not exist" in message
        assert "sync run" in message
        assert not (project / "mlflow.db").exists()

    cli.main(["sync", "run"])
    assert "made anew" in capsys.readouterr().out
    again = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (sent,) = again.search_runs(["1"])
    assert (sent.data.metrics, sent.data.params) == (before.data.metrics, before.data.params)
    assert (sent.info.status, sent.info.run_name) == (before.info.status, before.info.run_name)

    # The files that were only in the lost store are made again.
    cli.main(["train", "resume=run"])
    (complete,) = again.search_runs(["1"])
    assert complete.data.metrics == before.data.metrics
    assert complete.info.status == "FINISHED"
    location = again.get_experiment(complete.info.experiment_id).artifact_location.removeprefix("file://")
    found = {path.name for path in Path(location).rglob("*") if path.is_file()}
    assert found == lost, location
