"""Mistakes on the command line: one sentence on stderr, exit code 2, nothing half-written."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from rich.console import Console

import einthoven
from einthoven import cli
from einthoven.atomic import PARTIAL
from einthoven.runs import train_one
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.usage import HELP, VERB_HELP

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder, and what Hydra and the command line keep for the process put back."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "argv", ["einthoven"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    handlers = logging.getLogger().handlers[:]
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Runs a command that must fail: gives its sentence, having looked at all that is asked of a refusal."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ending:
            cli.main(list(arguments))
        err = capfd.readouterr().err
        assert ending.value.code == 2
        assert err.startswith("einthoven: error: ") and err.endswith(("\n",))
        sentence = err.removeprefix("einthoven: error: ").strip()
        assert "\n" not in sentence and "Traceback" not in err
        assert sentence[-1] in ".…"
        assert_nothing_half_written(tmp_path / "work")
        return sentence

    return run


def assert_nothing_half_written(work: Path) -> None:
    assert not list(work.rglob(f"{PARTIAL}*"))
    assert all((store / "store.json").exists() for store in work.glob("data/stores/*"))
    assert not list(work.rglob("*.safetensors")) and not list(work.rglob("config.yaml"))
    if (work / "mlflow.db").exists():
        with sqlite3.connect(work / "mlflow.db") as database:
            assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)


@pytest.fixture
def mine(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the corpus that the test may damage."""
    return shutil.copytree(corpus, tmp_path / "mine")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optimizer=admw"], "optimizer=admw: unknown; did you mean adamw"),
        (["model=xresnet1d10"], "did you mean xresnet1d101"),
        (["experiment=nothing"], "experiment=nothing: unknown"),
        (["trainer.epochs=abc"], "trainer.epochs"),
        (["trainer.epoch=3"], "trainer.epoch: unknown; did you mean epochs"),
        (["trainr.epochs=3"], "did you mean trainer"),
        (["epochs=3"], "epochs: unknown; this is a value of a part: expected trainer.epochs."),
        (["lr=0.1"], "lr: unknown; this is a value of a part: expected optimizer.lr."),
        (["optimizer.lrr=0.1"], "optimizer.lrr: unknown; did you mean lr"),
        (["+optimizer.lrr=0.1"], "optimizer.lrr: unknown; did you mean lr"),
        (["+epochs=3"], "+epochs=3: unknown; there are"),
        (["seed=${nothing}"], "nothing"),
        (["optimizer.lr=fast"], "optimizer.lr=fast: expected a number"),
        (["epochs"], "epochs"),
        (["trainer.epochs=[1"], "trainer.epochs"),
        (["trainer.epochs=0"], "trainer.epochs=0: expected"),
        (["trainer.precision=fp8"], "trainer.precision=fp8: expected"),
        (["trainer.device=tpu"], "trainer.device=tpu"),
        (["seed=-1"], "seed=-1: expected"),
        (["data.folds.train=[1,2,9]"], "fold 9 is in both train and val"),
        (["data.folds.train=all"], "data.folds.train"),
        (["data.folds.train=[]"], "data.folds.train=[] holds no labelled record"),
        (["data.fs=250"], "data.fs=250"),
        (["trainer.window=60"], "trainer.window=60"),
        (["task.labels=super"], "super"),
        (["folds=cv", "data.folds.train=[1]"], "cross-validation needs two folds"),
        (["folds=cv", "trainer.select=best"], "trainer.select=last"),
        (["resume=/nowhere"], "resume=/nowhere"),
        (["resume=/nowhere", "seed=1"], "seed=1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_sentence(corpus: Path, refused: Refused, arguments: list[str], expected: str) -> None:
    assert expected in refused("train", "data=ptbxl", f"data.root={corpus}", *arguments)


def test_data_that_are_not_there(refused: Refused) -> None:
    assert "data.root=/nowhere: no such folder" in refused("train", "data=ptbxl", "data.root=/nowhere")
    assert "data.root" in refused("train", "data=ptbxl")
    assert "data.root=/nowhere: no such folder" in refused("prepare", "data=ptbxl", "data.root=/nowhere")


def test_an_empty_table(mine: Path, refused: Refused) -> None:
    (mine / "ptbxl_database.csv").write_text("")
    for verb in ("train", "prepare"):
        assert "ptbxl_database.csv: empty" in refused(verb, "data=ptbxl", f"data.root={mine}")


def test_a_truncated_signal(mine: Path, refused: Refused) -> None:
    file = mine / "records100" / "00000" / "00007_lr.dat"
    file.write_bytes(file.read_bytes()[:-100])
    assert "00007_lr.dat: truncated" in refused("train", "data=ptbxl", f"data.root={mine}")


def test_a_damaged_store(corpus: Path, refused: Refused) -> None:
    cli.main(["prepare", "data=ptbxl", f"data.root={corpus}"])
    (signals,) = Path("data").rglob("signals.i16")
    signals.write_bytes(b"\0" * 100)
    assert "a damaged pack" in refused("train", "data=ptbxl", f"data.root={corpus}")


def test_a_patient_in_two_splits(mine: Path, refused: Refused) -> None:
    table = mine / "ptbxl_database.csv"
    table.write_text(table.read_text().replace(",8.0,", ",0.0,"))  # a patient of fold 9 becomes one of fold 1
    assert "records in both train and val" in refused("train", "data=ptbxl", f"data.root={mine}")


def test_a_cache_that_cannot_be_written(corpus: Path, refused: Refused) -> None:
    Path("data").write_text("a file stands where the folder should be")
    assert "data.cache names a folder" in refused("train", "data=ptbxl", f"data.root={corpus}")


def test_an_unknown_verb_and_group(refused: Refused) -> None:
    assert "did you mean train" in refused("trian")
    assert "seed=1: expected the command first, as in einthoven prepare seed=1." in refused("seed=1", "prepare")
    assert "did you mean optimizer" in refused("list", "optimiser")
    assert "port" in refused("ui", "prt=1")


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        (["optimizer=sgd,adamx"], "optimizer=adamx: unknown; did you mean"),
        (["optimizer=glob(zz*)"], "no value; expected one or more"),
        (["optimizer.lr=interval(0, 1)"], "expected values, as in seed=0,1,2"),
        (["seed=range(1, 3, 0)"], "a range in steps of 0"),
        (["seed=0,{"], "cannot be read as OPTION=VALUE"),
        (["hydra/sweeper=tpe", "optimizer.lr=interval(1, 0)"], "expected the smaller number first"),
        (["hydra/sweeper=tpe", "optimizer.lrr=interval(0, 1)"], "optimizer.lrr: unknown; did you mean lr"),
        (["hydra/sweeper=tpe", "hydra.sweeper.trials=0"], "trials=0: expected a whole number"),
        (["resume=a,b"], "resume continues one run"),
        (["resume=a", "seed=0,1"], "resume continues one run"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused_before_anything_is_written(
    sweep: list[str], expected: str, refused: Refused
) -> None:
    assert expected in refused("train", "-m", *sweep)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("several", [[], ["-m", "optimizer=sgd,adamx"]])
def test_a_refused_run_leaves_no_folder_but_those_that_were_there(several: list[str], refused: Refused) -> None:
    Path("kept/before").mkdir(parents=True)
    mistake = ["data=ptbxl", "data.root=/nowhere", *several]
    refused("train", *mistake, "hydra.run.dir=kept/new/run", "hydra.sweep.dir=kept/new/sweep")
    refused("train", *mistake, "hydra.run.dir=kept/before", "hydra.sweep.dir=kept/before")
    refused("train", *mistake)
    assert [str(path) for path in Path().rglob("*")] == ["kept", "kept/before"]


def test_a_run_that_is_interrupted_before_it_writes_anything_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: object, folder: Path, overrides: list[str]) -> None:
        assert folder.is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(train_one, "train_one", interrupted)
    with pytest.raises(SystemExit) as ending:
        cli.main(["train"])
    assert ending.value.code == cli.INTERRUPTED and capfd.readouterr().err == "einthoven: interrupted\n"
    assert not list(Path().iterdir())


def test_every_verb_has_a_module_and_a_help_text() -> None:
    modules = sorted(path.stem for path in Path(einthoven.__file__).with_name("commands").glob("[!_]*.py"))
    assert sorted(cli.VERBS) == sorted(VERB_HELP) == modules
    assert all(f"  {verb} " in HELP for verb in cli.VERBS)
    # A terminal of the usual width breaks no line.
    assert max(len(line) for text in (HELP, *VERB_HELP.values()) for line in text.splitlines()) <= 80


WRONG = """
train model=null                         | model=null: expected an option of model
train model=                             | model=: unknown; there are
train ~model                             | ~model: einthoven train needs this part
train model=mlp,logistic                 | several values; expected one, or a sweep
train =1                                 | no name of an option
train data.folds=null                    | data.folds=None: expected
train trainer.epochs=99999999999999999999 | at most 64 bits
train again=maybe                        | again=maybe: expected true or false
train --experimental-rerun x             | --experimental-rerun: unknown
train calibration=none                   | einthoven train has no part calibration
train --config-dir conf model=broken     | conf/model/broken.yaml: not a readable yaml
train --config-dir conf model=junk       | conf/model/junk.yaml: not a readable yaml
train --config-dir conf model=list       | model: the yaml of this option has no _target_
train --config-dir conf model=empty      | model: the yaml of this option has no _target_
train init_from=empty                    | neither a run nor a bundle
train init_from=badbundle                | not the JSON that is expected
train resume=badrun                      | no config.yaml there
train task=distill task.teacher=[1]      | task.teacher[0]=1: expected text
evaluate run=run calibration=null        | calibration=null: expected an option of calibration
evaluate run=                            | run=: no value; expected a path
evaluate run=badrun                      | no checkpoints/last.safetensors there
evaluate run=[a]                         | run: cannot convert
probe run=x model=mlp                    | einthoven probe has no part model
probe run=x task=heart_rate              | task=heart_rate: chooses a loss
prepare task=columns                     | einthoven prepare has no part task; expected data
prepare seed=1                           | seed: unknown; this is a value of a part: expected data.seed
prepare data=null                        | data=null: expected an option of data
prepare data.shards=0                    | data.shards=0: expected a number of parts
predict ''                               | a word of the command is empty
predict badbundle x.hea                  | badbundle/bundle.json
predict x.hea --seed -1                  | seed=-1: expected a whole number
predict empty                            | this folder holds no record
explain x.hea --output a.txt              | a.txt: expected a file name that ends in .png, .svg, .pdf
explain x.hea --config-dir conf --method broken | conf/explanation/broken.yaml: not a readable yaml
explain x.hea --config-dir conf --method notarget | conf/explanation/notarget.yaml: has no _target_
embed x.hea                              | required: --output
embed badbundle x.hea --output x.csv     | badbundle/bundle.json
export a b c                             | 3 words given
doctor ''                                | a word of the command is empty
list --config-dir conf model             | conf/model/junk.yaml: not a readable yaml
list --config-dir conf schedule --plot   | conf/schedule/broken.yaml: not a readable yaml
list --plt                               | list: --plt: unknown; did you mean --plot
sync junk.bin                            | no tracking/run.json there
sync --all                               | sync: --all: unknown
ui port=99999999                         | port=99999999: expected a whole number from 1 to 65535
ui uri=junk.bin                          | MLflow keeps no runs in folders
report x uri=junk.bin                    | MLflow keeps no runs in folders
report x --foo                           | report: --foo: unknown
"""
"""Command lines with a mistake, and a part of the sentence about it."""


@pytest.fixture
def junk() -> None:
    """Files and folders that are not what a command expects."""
    noise = bytes(range(256))
    Path("junk.bin").write_bytes(noise)
    for folder in ("empty", "badrun/checkpoints", "badbundle", "conf/model", "conf/explanation", "conf/schedule"):
        Path(folder).mkdir(parents=True)
    Path("badrun/config.yml").write_bytes(noise)
    Path("badbundle/bundle.json").write_bytes(noise)
    Path("conf/model/junk.yaml").write_bytes(noise)
    Path("conf/model/list.yaml").write_text("- 1\n")
    Path("conf/model/empty.yaml").touch()
    Path("conf/explanation/notarget.yaml").write_text("a: 1\n")
    for group in ("model", "explanation", "schedule"):
        Path(f"conf/{group}/broken.yaml").write_text("a: [1,\n b: }\n")


@pytest.mark.usefixtures("junk")
@pytest.mark.parametrize("line", WRONG.strip().splitlines(), ids=lambda line: line.split(" | ")[0].strip())
def test_a_wrong_command_is_answered_with_a_sentence(line: str, refused: Refused) -> None:
    typed, expected = line.split(" | ")
    assert expected.strip() in refused(*shlex.split(typed))


def test_a_mistake_in_a_sweep_is_told_of_each_run_and_closes_the_parent(
    corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(["train", "-m", "data=ptbxl", f"data.root={corpus}", "trainer.epochs=0", "seed=0,1"])
    *each, last = capfd.readouterr().err.splitlines()
    assert ending.value.code == 2 and len(each) == 2 and all("trainer.epochs=0" in line for line in each)
    assert last.startswith("einthoven: error: 2 of 2 runs failed")
    assert [path.name for path in Path("outputs").glob("*/*/*")] == ["multirun.yaml"], "no folder of a run"


def test_prepare_says_what_is_there(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cli.main(["prepare", "data=ptbxl", f"data.root={corpus}"])
    shown = capfd.readouterr().out
    assert "holds 48 records with 12 leads and 1000 samples at 100 Hz" in shown and "superdiagnostic" in shown


@pytest.mark.parametrize(("arguments", "exit_code"), [("list optimizers", 0), ("--help", cli.BROKEN_PIPE)])
def test_a_reader_that_ends_causes_no_error(arguments: str, exit_code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "einthoven", *arguments.split()]
    process = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (process.returncode, process.stderr) == (exit_code, b"")


def test_help_version_and_list(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        cli.main(arguments)
        assert "usage: einthoven COMMAND" in capfd.readouterr().out
    cli.main(["--version"])
    assert capfd.readouterr().out.strip() == einthoven.__version__
    cli.main(["list", "optimizer"])
    shown = capfd.readouterr().out
    assert "adamw" in shown and "muon" in shown and "one_cycle" not in shown


def test_list_takes_plurals_names_sources_and_draws_schedules(capfd: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", "optimizers", "augmentations"])
    shown = capfd.readouterr().out
    assert "Loshchilov and Hutter" not in shown and "adamw" in shown and "augment" in shown
    cli.main(["list", "optimizer", "adamw", "losses"])
    shown = capfd.readouterr().out
    assert "Loshchilov and Hutter" in shown and "    weight_decay: " in shown and " focal " in shown
    cli.main(["list", "schedules", "--plot"])
    shown = capfd.readouterr().out
    curve = next(line for line in shown.splitlines() if line.startswith(" linear"))
    blocks = ["▁▂▃▄▅▆▇█".index(c) for c in curve if c in "▁▂▃▄▅▆▇█"]
    top = blocks.index(max(blocks))
    assert blocks[:top] == sorted(blocks[:top]) and blocks[top:] == sorted(blocks[top:], reverse=True)
    assert Path("schedules.png").stat().st_size > 20_000


def test_each_option_is_one_line_that_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["list", "model"])
    whole = capsys.readouterr().out.splitlines()
    options = [line for line in whole if line.startswith(" ")]
    assert len(options) == len(list((conf_folder() / "model").glob("*.yaml"))) and max(map(len, options)) > 80
    narrow = Console(file=StringIO(), force_terminal=True, width=60, color_system=None)
    monkeypatch.setattr("einthoven.commands.list.console", narrow)
    cli.main(["list", "model"])
    assert isinstance(narrow.file, StringIO)
    cut = [line for line in narrow.file.getvalue().splitlines() if line.startswith(" ")]
    assert len(cut) == len(options) and max(map(len, cut)) == 60 and cut[0].endswith("…")


def test_an_ecg_is_drawn_under_every_augmentation(capfd: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", "augmentations", "--plot"])
    assert "augmentations.png" in capfd.readouterr().out
    assert Path("augmentations.png").stat().st_size > 100_000


def test_only_schedules_and_augmentations_are_drawn(refused: Refused) -> None:
    assert "einthoven list schedules --plot" in refused("list", "models", "--plot")
