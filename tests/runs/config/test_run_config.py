"""A run folder from a stranger: nothing that its config.yaml names is run, and each fault is one sentence."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from composing import composed
from einthoven import cli, trust
from einthoven.errors import UserError
from einthoven.runs.config.options import plain_options
from einthoven.runs.config.run_config import read_config, with_current_names
from einthoven.runs.config.settings import check_settings
from einthoven.runs.folder.trained_run import check_trained

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def written() -> str:
    """What a run writes."""
    config = composed("train", "tracking.run_name=x", "tracking.experiment=y", "optimizer=sam")
    return OmegaConf.to_yaml(OmegaConf.create(plain_options(config)))


@pytest.fixture
def folder(tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder, as far as it is read before anything is built; a module that tells when it is imported."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.safetensors").touch()
    (run / "config.yaml").write_text(written)
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('pwned').touch()\ndef f(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "of the environment")
    return run


def test_what_a_run_writes_is_read(folder: Path, written: str) -> None:
    read = read_config(folder, "run")
    assert OmegaConf.to_container(read) == {**yaml.safe_load(written), "resume": None}
    check_settings(read)  # and can be built


EVIL = {"_target_": "os.mkdir", "path": "pwned"}
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

CHANGES: dict[str, Change] = {  # what a stranger does to the configuration of a run
    "a function of Python": lambda c: c.update(penalty=EVIL),
    "a function of Python by way of this package": lambda c: c.update(
        schedule={"_target_": "einthoven.cli.os.mkdir", "path": "pwned"}
    ),
    "another function of this package": lambda c: c["penalty"].update(_target_="einthoven.optim.penalties.annotations"),
    "a function of torch": lambda c: c["model"].update(_target_="torch.nn.functional.relu"),
    "code from the folder": lambda c: c["model"].update(_target_="evil.f"),
    "in a mapping": lambda c: c["augment"]["transforms"].update(more=EVIL),
    "in a list": lambda c: c["model"].update(channels=[32, [EVIL]]),
    "in the mapping of a list": lambda c: c["model"].update(channels=[{"a": {"b": EVIL}}]),
    "in an optimizer of an optimizer": lambda c: c["optimizer"].update(base=EVIL),
    "beside the parts": lambda c: c.update(more=EVIL),
    "in a group of numbers": lambda c: c["trainer"].update(epochs=EVIL),
    "in the folds": lambda c: c["data"]["folds"].update(train=EVIL),
    "in the part of an optional choice": lambda c: c.update(analysis=EVIL),
    "at the top": lambda c: c.update(EVIL),
    "with its arguments bound": lambda c: c.update(penalty={**EVIL, "_partial_": True}),
    "a truth that is a text": lambda c: c["model"].update(_partial_="${oc.env:SECRET}"),
    "a truth that is a list": lambda c: c["model"].update(_partial_=[1]),
    "with arguments in order": lambda c: c["penalty"].update(_args_=[EVIL]),
    "not built before": lambda c: c["optimizer"].update(_recursive_=False),
    "converted": lambda c: c["optimizer"].update(_convert_="object"),
    "a list of names": lambda c: c["penalty"].update(_target_=["os.mkdir"]),
    "a mapping for a name": lambda c: c["penalty"].update(_target_=EVIL),
    "no name": lambda c: c["penalty"].update(_target_=None),
    "a name out of parts": lambda c: c["penalty"].update(_target_="${hydra:runtime.cwd}.f"),
    "the environment": lambda c: c["tracking"].update(run_name="${oc.env:SECRET}"),
    "a resolver that decodes": lambda c: c.update(seed="${oc.decode:'[1]'}"),
    "a reference": lambda c: c.update(penalty="${optimizer}"),
    "a reference in a key": lambda c: c["model"].update({"${seed}": 1}),
    "an open value": lambda c: c.update(seed="???"),
    "no model": lambda c: c.pop("model"),
    "a model that is a number": lambda c: c.update(model=3),
    "a model without a name": lambda c: c["model"].pop("_target_"),
    "no folds": lambda c: c["data"].pop("folds"),
}

VALUES: dict[str, Change] = {  # what a stranger would have read, written or asked on the machine of the reader
    "a server gets the results": lambda c: c["tracking"].update(uri="http://example.org:5000"),
    "a database gets the results": lambda c: c["tracking"].update(uri="postgresql://u:p@example.org/runs"),
    "a cloud gets the results": lambda c: c["tracking"].update(uri="databricks"),
    "a file is made elsewhere": lambda c: c["tracking"].update(uri="sqlite:////nowhere/at/all/mlflow.db"),
    "a file above is made": lambda c: c["tracking"].update(uri="sqlite:///../mlflow.db"),
    "a file by address": lambda c: c["tracking"].update(uri="sqlite:///file:/nowhere/mlflow.db?uri=true"),
    "no address": lambda c: c["tracking"].update(uri=None),
    "no address at all": lambda c: c["tracking"].pop("uri"),
    "a bucket gets the files": lambda c: c["tracking"].update(artifact_location="s3://example"),
    "a folder gets the files": lambda c: c["tracking"].update(artifact_location="/nowhere/else"),
    "packs are written elsewhere": lambda c: c["data"].update(cache="/tmp"),
    "packs are written above": lambda c: c["data"].update(cache="../elsewhere"),
    "packs of a source are written elsewhere": lambda c: c["data"].update(sources={"a": {"cache": "/tmp"}}),
    "folds are written elsewhere": lambda c: c["data"].update(root=".", fold_file="/nowhere/at/all/.profile"),
    "folds are written above": lambda c: c["data"].update(root="..", fold_file="folds.csv"),
    "folds become a program": lambda c: c["data"].update(root=".", fold_file="conftest.py"),
    "folds of a source become a program": lambda c: c["data"].update(sources={"a": {"root": ".", "fold_file": "x.py"}}),
    "records come from elsewhere": lambda c: c["data"].update(download=True, root="x", mirrors=["http://example.org"]),
    "records are brought elsewhere": lambda c: c["data"].update(download=True, root="/nowhere/at/all"),
}

TEXTS = {  # what stands in the file instead
    "nothing": "",
    "a list": "[1, 2]",
    "a text": "model",
    "not YAML": "model: [",
    "a tag of Python": "penalty: !!python/object/apply:os.mkdir [pwned]\n",
    "a tag of YAML": "penalty: !!set {a, b}\n",
    "a tag of one's own": "penalty: !evil f\n",
    "an anchor": "penalty: &a 1\n",
    "the billion laughs": LAUGHS,
    "merged": "base: &base {_target_: os.mkdir}\npenalty: {<<: *base}\n",
    "deep": "a: " + "[" * 100_000,
    "deep mappings": "".join(f"{' ' * k}a:\n" for k in range(300)),
    "a very long number": "seed: " + "9" * 10_000,
    "a list as a key": "? [1, 2]\n: 1\n",
    "a key twice": "seed: 1\nseed: 2\n",
    "large": "# " + "x" * 300_000,
    "zeros": "\0" * 1000,
    "two documents": "seed: 1\n---\nseed: 2\n",
}


def refusal(folder: Path) -> str:
    """The sentence. Nothing has run."""
    with pytest.raises(UserError) as error:
        check_trained(folder, "run")
        check_settings(read_config(folder, "run"))
    assert not list(folder.parent.glob("pwned*")) and not Path("pwned").exists() and "evil" not in sys.modules
    sentence = str(error.value)
    assert "of the environment" not in sentence
    assert str(folder) in sentence and "\n" not in sentence and len(sentence) < 600
    return sentence


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_that_a_configuration_names_is_run(folder: Path, written: str, change: Change) -> None:
    config = yaml.safe_load(written)
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sentence = refusal(folder)
    assert "expected" in sentence or "add --trust evil" in sentence


@pytest.mark.parametrize("change", VALUES.values(), ids=VALUES)
def test_a_stranger_does_not_choose_what_is_written_or_asked(folder: Path, written: str, change: Change) -> None:
    config = yaml.safe_load(written)
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sentence = refusal(folder)
    assert "--trust" in sentence or "working folder" in sentence


def test_places_of_ones_own_are_accepted(folder: Path, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(written)
    cache = folder.parent / "elsewhere" / "data"
    (cache / "stores").mkdir(parents=True)
    work = folder.parent / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    config["data"]["cache"] = str(cache)
    folds = folder.parent / "folds.txt"
    folds.touch()
    config["data"] |= {"root": str(folder.parent), "fold_file": "folds.txt"}
    with sqlite3.connect(folder.parent / "runs.db") as database:
        database.execute("create table experiments (name)")
    config["tracking"]["uri"] = f"sqlite:///{folder.parent}/runs.db"  # it holds runs already
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    read_config(folder, "run")
    config["tracking"] |= {"uri": "http://u:secret@here:5000", "artifact_location": "s3://mine"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"http://u:…@here:5000.*add --trust http://u:…@here:5000") as error:
        read_config(folder, "run")
    assert "secret" not in str(error.value)
    with trust.trusting(["http://u:…@here:5000", "s3://mine"]):
        read_config(folder, "run")
    with trust.trusting(["http://u:…@here", "s3://mine"]), pytest.raises(UserError, match="add --trust http"):
        read_config(folder, "run")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:secret@here:5000")
    with trust.trusting(["s3://mine"]):
        read_config(folder, "run")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_file_that_no_run_writes_is_one_sentence(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text)
    refusal(folder)


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "config.yaml").write_bytes(b"seed: \xff\xfe")
    assert "not text in UTF-8" in refusal(folder)


def link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/passwd")


def link_folder(path: Path) -> None:
    path.symlink_to(path.parent.parent)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("config.yaml", link),
        ("tracking/entries.jsonl", link),
        ("checkpoints/last.safetensors", link),
        ("model_card.md", link),
        ("tracking", link_folder),
        ("bundle", link_folder),
        ("checkpoints/pipe", os.mkfifo),
    ],
)
def test_links_and_pipes_are_refused(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    path = folder / name
    if name.startswith("tracking/"):
        path.parent.mkdir()
    make(path)
    assert f"{name} is a link or no ordinary file" in refusal(folder)


def test_a_folder_without_a_configuration(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    assert "config.yaml: cannot be read (No such file or directory)" in refusal(folder)


def test_code_of_ones_own_takes_trust(folder: Path, written: str) -> None:
    config = yaml.safe_load(written)
    config["penalty"] = {"_target_": "evil.f", "_convert_": "all"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "add --trust evil" in refusal(folder)
    with trust.trusting(["evil"]):
        assert read_config(folder, "run").penalty._target_ == "evil.f"


@pytest.mark.parametrize("arguments", [["evaluate", "run=run"], ["train", "resume=run"]])
def test_every_verb_that_reads_a_run_refuses_it(
    folder: Path, written: str, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(written)
    config["penalty"] = EVIL
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    lines = capfd.readouterr().err.splitlines()
    assert ending.value.code == 2 and not Path("pwned").exists()
    assert lines == [
        f"einthoven: error: {arguments[1]}: config.yaml: penalty._target_=os.mkdir: "
        "expected a penalty of einthoven.optim.penalties or einthoven.optim.base_penalties."
    ]


def test_a_run_of_version_0_1_with_a_probe_is_read(tmp_path: Path) -> None:
    nested = {"probe": {"_target_": "einthoven.commands.interpolation.Interpolation", "run": "a"}, "seed": 0}
    flat = {"probe._target_": "einthoven.commands.interpolation.Interpolation", "probe.run": "a", "seed": 0}
    target = "einthoven.runs.comparison.interpolation.Interpolation"
    assert with_current_names(nested) == {"analysis": {"_target_": target, "run": "a"}, "seed": 0}
    assert with_current_names(flat) == {"analysis._target_": target, "analysis.run": "a", "seed": 0}


def test_options_that_no_longer_exist_are_left_out() -> None:
    assert with_current_names({"advice": {"top_errors": 3, "loss_rise": 0.1}}) == {"advice": {"loss_rise": 0.1}}
    assert with_current_names({"advice.top_errors": 3, "advice.loss_rise": 0.1}) == {"advice.loss_rise": 0.1}
