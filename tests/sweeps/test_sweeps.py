from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from composing import composed
from einthoven import cli
from einthoven.runs import train_one as train_module
from einthoven.runs.network_run import NetworkRun
from einthoven.sweeps import child
from einthoven.tracking.sweep import children, overrides

SHORT = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=16", "trainer.device=cpu", "diagnostics=none")
LIGHT = (*SHORT, "tracking.artifacts=false", "data.folds.test=[]")
GRID = ("-m", "optimizer=sgd,adamw", "seed=0,1")


class Workshop:
    """A folder, its store, and `einthoven train` in it."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.folder, self.uri = folder, f"sqlite:///{folder}/mlflow.db"
        self.client = MlflowClient(self.uri)
        self.told = StringIO()  # of the sweep that went on
        self._data = ("data=ptbxl", f"data.root={corpus}", f"tracking.uri={self.uri}")

    def train(self, experiment: str, *overrides: str) -> int:
        """Exit code."""
        try:
            cli.main(["train", *self._data, *LIGHT, f"tracking.experiment={experiment}", *overrides])
        except SystemExit as ending:
            assert isinstance(ending.code, int)
            return ending.code
        return 0

    def parents(self, experiment: str) -> list[MlflowRun]:
        """Oldest first."""
        return [run for run in self.runs(experiment) if "mlflow.parentRunId" not in run.data.tags]

    def runs(self, experiment: str) -> list[MlflowRun]:
        place = self.client.get_experiment_by_name(experiment).experiment_id
        return list(self.client.search_runs([place], order_by=["attributes.start_time ASC"]))

    def below(self, parent: MlflowRun) -> list[MlflowRun]:
        return children(self.client, parent.info.run_id)

    def points(self, run: MlflowRun, metric: str) -> list[int]:
        return [point.step for point in self.client.get_metric_history(run.info.run_id, metric)]


@pytest.fixture(scope="module")
def workshop(workplace: Path, corpus: Path) -> Iterator[Workshop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        yield Workshop(workplace, corpus)


def note_of(run: MlflowRun) -> str:
    return str(run.data.tags["mlflow.note.content"])


def ids(runs: list[MlflowRun], status: str = "FINISHED") -> set[str]:
    return {run.info.run_id for run in runs if run.info.status == status}


def interrupt(workshop: Workshop, experiment: str, *sweep: str, run: int) -> None:
    """Stop a sweep by Ctrl-C in the middle of a run, counted from 1."""
    save, begun = NetworkRun.save, list[str]()

    def stopped(self: NetworkRun, name: str, recorder: object) -> None:
        save(self, name, recorder)  # type: ignore[arg-type]
        if name == "last" and self.position.epoch == 1:
            begun.append(name)
            if len(begun) == run:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkRun, "save", stopped)
        assert workshop.train(experiment, *sweep) == 130


@pytest.fixture(scope="module")
def interrupted(workshop: Workshop) -> list[MlflowRun]:
    """The runs of a sweep that was stopped by Ctrl-C in the middle of its third run."""
    interrupt(workshop, "interrupted", *GRID, run=3)
    return workshop.runs("interrupted")


@pytest.fixture(scope="module")
def continued(workshop: Workshop, interrupted: list[MlflowRun]) -> list[MlflowRun]:
    """The runs after the same command was given again."""
    with redirect_stdout(workshop.told):
        assert workshop.train("interrupted", *GRID) == 0
    return workshop.runs("interrupted")


def test_an_interrupted_sweep_leaves_what_it_had(interrupted: list[MlflowRun]) -> None:
    parent, *below = interrupted
    assert parent.info.status == "KILLED"
    assert [run.info.status for run in below] == ["FINISHED", "FINISHED", "KILLED"]


def test_the_same_command_goes_on_and_runs_nothing_twice(
    workshop: Workshop, interrupted: list[MlflowRun], continued: list[MlflowRun]
) -> None:
    parent, *below = continued
    assert parent.info.run_id == interrupted[0].info.run_id and parent.info.status == "FINISHED"
    assert len(below) == 4 and ids(below) == {run.info.run_id for run in below}
    assert {run.info.run_id for run in interrupted[1:]} < ids(below)  # the third was taken up, not begun anew
    assert [run.info.end_time for run in below[:2]] == [run.info.end_time for run in interrupted[1:3]]
    names = [f"optimizer={optimizer} seed={seed}" for optimizer in ("sgd", "adamw") for seed in (0, 1)]
    assert [run.info.run_name for run in below] == names
    steps = [workshop.points(run, "train/loss") for run in below]
    assert all(each == steps[0] == sorted(set(each)) for each in steps) and len(steps[0]) == 4
    assert {len(workshop.points(run, "val/macro_auroc")) for run in below} == {2}  # one for each epoch
    assert "4 runs: 2 trained, 2 trained earlier, 0 failed." in note_of(parent)


def test_the_parent_tells_the_best_and_shows_it(workshop: Workshop, continued: list[MlflowRun]) -> None:
    parent, *below = continued
    means = {
        name: np.mean(
            [run.data.metrics["val/macro_auroc"] for run in below if name in run.data.tags["einthoven.overrides"]]
        )
        for name in ("optimizer=sgd", "optimizer=adamw")
    }
    best = max(means, key=lambda name: means[name])
    assert parent.data.metrics["val/macro_auroc"] == pytest.approx(means[best])
    assert parent.data.tags["best"] == best and f"with `{best}`" in note_of(parent)
    table = workshop.client.load_table(parent.info.experiment_id, "runs.json", [parent.info.run_id])
    assert set(table["run"]) == ids(below)
    pictures = [file.path for file in workshop.client.list_artifacts(parent.info.run_id, "sweep")]
    assert pictures == ["sweep/parallel_coordinates.png"]  # one option has nothing to be compared with
    drawn = workshop.client.download_artifacts(parent.info.run_id, pictures[0], str(workshop.folder))
    assert min(matplotlib.image.imread(drawn).shape[:2]) > 300


def test_the_command_in_the_note_reaches_the_best_again(
    workshop: Workshop, continued: list[MlflowRun], corpus: Path
) -> None:
    noted = note_of(continued[0]).split("```")[1].strip()
    printed = workshop.told.getvalue()
    (typed,) = re.findall(r"^  train the best configuration again:\n    (einthoven train .*)$", printed, re.MULTILINE)
    assert str(corpus.parent) not in noted and f"data.root={corpus}" in typed
    assert [o.split("=")[0] for o in shlex.split(noted)] == [o.split("=")[0] for o in shlex.split(typed)]
    cli.main(shlex.split(typed.replace("experiment=interrupted", "experiment=repeated"))[1:])
    (parent,) = workshop.parents("repeated")
    assert parent.data.metrics["val/macro_auroc"] == continued[0].data.metrics["val/macro_auroc"]


def test_another_sweep_counts_what_is_finished_unless_told_to_run_it_again(
    workshop: Workshop, continued: list[MlflowRun]
) -> None:
    before = ids(continued)
    assert workshop.train("interrupted", "-m", "seed=0,1,2", "optimizer=sgd") == 0
    other = workshop.parents("interrupted")[-1]
    # A run that another sweep has trained has the options of this sweep, in their order.
    assert [overrides(run).split()[-2:] for run in workshop.below(other)] == [
        [f"seed={seed}", "optimizer=sgd"] for seed in (0, 1, 2)
    ]
    assert len(workshop.below(other)) == 3 and len(ids(workshop.below(other)) - before) == 1
    assert "3 runs: 1 trained, 2 trained earlier, 0 failed." in note_of(other)
    assert workshop.train("interrupted", "-m", "optimizer=sgd", "seed=2", "again=true") == 0
    newest = workshop.parents("interrupted")[-1]
    (anew,) = workshop.below(newest)
    assert anew.info.run_id not in ids(workshop.below(other)) and "again" not in anew.data.params


def test_changed_records_or_source_are_not_found_again(
    workshop: Workshop, continued: list[MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = continued[1]
    trained: list[int] = []
    monkeypatch.setattr(child, "train_one", lambda config, *rest: trained.append(config.seed) or {})
    for tag in ("data.fingerprint", "code.hash"):
        kept = finished.data.tags[tag]
        workshop.client.set_tag(finished.info.run_id, tag, "another")
        workshop.train("interrupted", "-m", "optimizer=sgd", "seed=0,1")
        workshop.client.set_tag(finished.info.run_id, tag, kept)
    assert trained == [0, 0]


def test_a_run_that_fails_is_marked_and_ends_nothing_but_itself(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ("-m", "trainer.window=2.5,99", "seed=0,1")
    training = NetworkRun.training

    def broken(self: NetworkRun, recorder: Any) -> Any:
        if self.settings.seed == 1:
            raise RuntimeError("out of luck")
        return training(self, recorder)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkRun, "training", broken)
        assert workshop.train("failing", *sweep) == 2
    told = capsys.readouterr().err
    assert "3 of 4 runs failed" in told.splitlines()[-1]
    (parent,) = workshop.parents("failing")
    below = workshop.below(parent)
    assert parent.info.status == "FAILED" and len(below) == 4
    failed = [run for run in below if run.info.status == "FAILED"]
    errors = sorted(run.data.tags["error"] for run in failed)
    assert errors[0] == "RuntimeError: out of luck" and all("trainer.window=99" in error for error in errors[1:])
    assert all(run.data.tags["error"].split(": ", 1)[1] in note_of(run) for run in failed)
    assert parent.data.tags["best"] == "trainer.window=2.5" and "failed: `" in note_of(parent)

    assert workshop.train("failing", *sweep) == 2  # the one that was out of luck, and what can never do
    (again,) = workshop.parents("failing")
    assert ids(workshop.below(again)) > ids(below) and len(ids(workshop.below(again))) == 2
    assert "4 runs: 1 trained, 1 trained earlier, 2 failed." in note_of(again)


def test_an_interrupted_run_without_metrics_is_taken_up_and_not_trained_again(workshop: Workshop) -> None:
    sweep = ("-m", "seed=0", "data.folds.val=[]")  # with no test records either, there is nothing to evaluate
    interrupt(workshop, "unjudged", *sweep, run=1)
    begun = workshop.runs("unjudged")
    assert workshop.train("unjudged", *sweep) == 0
    ended = workshop.runs("unjudged")
    assert len(ended) == 2 and ids(ended) == {run.info.run_id for run in begun}


def test_an_interrupted_run_that_is_taken_up_and_fails_is_recorded_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(workshop, "failing later", "-m", "seed=0", run=1)
    begun = workshop.runs("failing later")

    def broken(*args: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(NetworkRun, "training", broken)
    assert workshop.train("failing later", "-m", "seed=0") == 2
    ended = workshop.runs("failing later")
    assert [run.info.run_id for run in ended] == [run.info.run_id for run in begun]
    assert [run.data.tags["error"] for run in workshop.below(ended[0])] == ["RuntimeError: out of luck"]


def test_a_cross_validation_is_found_again_as_a_whole(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = ("-m", "folds=cv", "data.folds.train=[1,2]", "optimizer=sgd,adamw")
    assert workshop.train("folds", *sweep[:-1], "optimizer=sgd") == 0
    trained: list[str] = []
    monkeypatch.setattr(child, "train_one", lambda config, *rest: trained.append(config.optimizer._target_) or {})
    assert workshop.train("folds", *sweep) == 0
    assert [name.rpartition(".")[2] for name in trained] == ["adamw"]


def test_a_search_that_was_stopped_asks_for_the_same_runs(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeper = ("hydra/sweeper=tpe", "hydra.sweeper.startup=1", "hydra.sweeper.trials=3")
    search = ("-m", *sweeper, "optimizer.lr=tag(log, interval(1e-4, 1e-1))")
    calls: list[int] = []

    def stopped(*args: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args)

    train = child.train_one
    with monkeypatch.context() as patch:
        patch.setattr(child, "train_one", stopped)
        assert workshop.train("search", *search) == 130
    assert workshop.train("search", *search) == 0
    (parent,) = workshop.parents("search")
    assert "3 runs: 2 trained, 1 trained earlier, 0 failed." in note_of(parent)
    assert workshop.train("search whole", *search) == 0
    (whole,) = workshop.parents("search whole")
    rates = [[run.data.params["optimizer.lr"] for run in workshop.below(each)] for each in (parent, whole)]
    assert rates[0] == rates[1] and len(set(rates[0])) == 3


def test_two_processes_share_the_work_of_a_sweep(workshop: Workshop) -> None:
    assert workshop.train("parallel", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1") == 0
    (parent,) = workshop.parents("parallel")
    below = workshop.below(parent)
    assert len(workshop.runs("parallel")) == 3 and len(ids(below)) == 2 and parent.info.status == "FINISHED"
    for run in below:
        steps = workshop.points(run, "train/loss")
        assert steps == sorted(set(steps)) and len(workshop.points(run, "val/macro_auroc")) == 2


def test_a_process_that_is_lost_ends_the_sweep_with_a_sentence(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*args: object, **kwargs: object) -> None:
        raise TerminatedWorkerError("A worker process was killed.\n\nby the operating system")

    monkeypatch.setattr("joblib.Parallel.__call__", lost)
    assert workshop.train("lost", "-m", "hydra/launcher=joblib", "seed=0,1") == 2
    told = capsys.readouterr().err
    assert "a process of the sweep was lost: A worker process was killed." in told and "Traceback" not in told
    assert "by the operating system" in told, "what it was lost of may stand below the first line"
    assert "The same command continues it" in told
    assert [run.info.status for run in workshop.parents("lost")] == ["FAILED"]


def test_a_store_that_is_down_at_the_end_leaves_the_sweep_open(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:

        def refuse(*args: object) -> None:
            raise MlflowException("no connection")

        def break_down(*args: object) -> None:
            patch.setattr(MlflowClient, "set_terminated", refuse)
            refuse()

        patch.setattr("einthoven.sweeps.parent.conclude_sweep", break_down)
        assert workshop.train("down", "-m", "seed=0") == 2
    told = capsys.readouterr().err
    assert "the runs of the sweep have ended, but cannot be compared" in told and "(no connection)" in told
    assert "The same command continues it" in told and "UserWarning" not in told
    assert workshop.train("down", "-m", "seed=0") == 0
    (parent,) = workshop.parents("down")
    assert parent.info.status == "FINISHED" and "1 trained earlier" in note_of(parent)


def test_a_launcher_that_is_not_installed_names_what_to_install(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("hydra_plugins.hydra_ray_launcher") is not None:
        pytest.skip("the launcher of Ray is installed here")
    for launcher in ("ray", "ray_cluster"):
        assert workshop.train("none", "-m", f"hydra/launcher={launcher}", "seed=0,1") == 2
        told = capsys.readouterr().err
        assert "hydra/launcher=ray: its package is not installed; install einthoven[ray]." in told


def test_a_sweep_without_a_store_is_refused(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.train("offline", *GRID, "tracking.offline=true") == 2
    assert "a sweep compares runs in the store" in capsys.readouterr().err


def test_a_store_that_takes_no_parent_run_ends_the_sweep_in_one_sentence(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[object] = []  # without a parent
    monkeypatch.setattr(train_module, "train_one", lambda *run: begun.append(run))
    workshop.client.delete_experiment(workshop.client.create_experiment("deleted"))
    assert workshop.train("deleted", *GRID) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("einthoven: error: tracking.uri=sqlite:///") and "'active' state" in told
    assert not begun


def test_slurm_is_a_matter_of_configuration() -> None:
    config = composed("train", "hydra/launcher=slurm", "hydra.launcher.partition=gpu", with_hydra=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert launcher.partition == "gpu" and launcher.gpus_per_node == 1 and launcher.timeout_min == 240
