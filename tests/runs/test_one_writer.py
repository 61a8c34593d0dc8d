"""A second process that wants to write into the folder of a run gets one sentence, and changes nothing there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from einthoven import cli
from einthoven.runs import start as module
from einthoven.tracking import run_folder

Train = Callable[..., None]


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A folder that looks like that of a run with a checkpoint; nothing in it can be read."""
    folder = tmp_path / "run"
    for name in ("config.yaml", "checkpoints/last.safetensors", "tracking/entries.jsonl", "tracking/lock"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("" if name == "tracking/lock" else name)
    (folder / "tracking" / "run.json").write_text('{"uri": "sqlite:///mlflow.db", "run_id": "", "experiment_id": ""}')
    return folder


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


FAST = ("model=logistic", "trainer.epochs=1", "tracking.artifacts=false", "diagnostics=none")
VERBS: dict[str, Callable[[Train, Path], None]] = {
    "train": lambda train, folder: train(*FAST, f"hydra.run.dir={folder}"),
    "train fitted": lambda train, folder: train("model=decision_tree", f"hydra.run.dir={folder}"),
    "cv": lambda train, folder: train(*FAST, "folds=cv", "data.folds.train=[1,2]", f"hydra.run.dir={folder}"),
    "resume": lambda train, folder: train(f"resume={folder}"),
    "evaluate": lambda train, folder: cli.main(["evaluate", f"run={folder}"]),
    "sync": lambda train, folder: cli.main(["sync", str(folder)]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_refused_before_it_writes_anything(
    train: Train,
    workplace: Path,
    held: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    monkeypatch.chdir(workplace)
    before = contents(held)
    with run_folder.writing(held), pytest.raises(SystemExit) as ending:
        VERBS[verb](train, held)
    err = capfd.readouterr().err.strip()
    assert ending.value.code == 2 and "\n" not in err
    assert f"{held}: another process is writing this run" in err
    assert contents(held) == before


@pytest.mark.parametrize("verb", ["train", "train fitted", "cv"])
def test_a_new_training_does_not_replace_a_trained_run(
    train: Train, held: Path, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    if verb == "cv":  # which may be deleted after a run has ended
        shutil.rmtree(held / "tracking")
    before = contents(held)
    with pytest.raises(SystemExit) as ending:
        VERBS[verb](train, held)
    err = capfd.readouterr().err.strip()
    assert ending.value.code == 2 and "\n" not in err
    assert f"{held}: holds a trained run already" in err and f"resume={held}" in err
    assert contents(held) == before


def test_a_run_whose_folder_is_taken_and_was_not_named_gets_the_next_one(
    train: Train, workplace: Path, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that begin in the same second have one default name, as have those of two sweeps."""
    monkeypatch.setattr(module, "is_named_by_user", lambda: False)
    before = contents(held)
    with module.claim_folder(held) as (second, _):
        assert second == held.with_name("run-2")
        (second / "config.yaml").write_text("seed: 0")
        with module.claim_folder(held) as (third, _):
            assert third == held.with_name("run-3")
    assert contents(held) == before and not held.with_name("run-3").exists()
    with module.claim_folder(held) as (again, _):  # which holds no trained model
        assert again == held.with_name("run-2")


def test_a_new_training_does_not_replace_one_fold_of_a_cross_validation_or_what_was_not_sent(
    train: Train, held: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (held / "fold-1").mkdir()
    (held / "checkpoints").rename(held / "fold-1" / "checkpoints")
    with pytest.raises(SystemExit):
        VERBS["train"](train, held)
    assert "holds a trained run already" in capfd.readouterr().err
    (held / "fold-1" / "checkpoints" / "last.safetensors").unlink()
    before = contents(held)
    with pytest.raises(SystemExit):
        VERBS["train"](train, held)
    assert "has not been sent to its store" in capfd.readouterr().err
    assert contents(held) == before  # its config.yaml, too
