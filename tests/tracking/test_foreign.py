"""The folder of a run from a stranger is sent nowhere that its reader has not chosen, and only with its own files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from einthoven import cli, trust
from einthoven.commands import report
from einthoven.errors import UserError
from einthoven.predict.export import write_program
from einthoven.tracking import sync as sync_module
from einthoven.tracking.addresses import require_run
from einthoven.tracking.concluded import is_concluded
from einthoven.tracking.foreign import check_entries
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.sync import sync


@pytest.fixture
def run(tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was written offline, with a file, and its folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    folder = tmp_path / "run"
    recorder = Recorder("sqlite:///mlflow.db", "e", "r", folder=folder, tags={}, offline=True)
    recorder.text("of the run", "note.txt")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.safetensors").touch()
    recorder.file(folder / "checkpoints" / "last.safetensors", "checkpoints")
    recorder.finish()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    return folder


def rewrite(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "tracking" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_a_run_has_left_is_its_own(run: Path) -> None:
    check_entries(run)
    assert sync(run).endswith("in sqlite:///mlflow.db")


@pytest.mark.parametrize("line", ['{"status": {}}', '{"status": []}', '{"tags": []}', '{"tags"'])
def test_a_damaged_end_of_a_run_is_one_sentence(run: Path, line: str) -> None:
    assert not is_concluded(run)
    with (run / "tracking" / "entries.jsonl").open("a") as entries:
        entries.write(f"{line}\n")
    with pytest.raises(UserError, match="damaged; expected the entries of a run"):
        is_concluded(run)


def test_no_other_file_of_the_reader_becomes_a_store(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "notes.db"
    other.touch()
    ids = {"uri": f"sqlite:///{other}", "run_id": "a", "experiment_id": "1"}
    (run / "tracking" / "run.json").write_text(json.dumps(ids))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(UserError, match=f"add --trust sqlite:///{other} "):
        require_run(run)
    assert other.stat().st_size == 0 and not list(tmp_path.glob(".notes*"))


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("http://example.org", "http://example.org"),
        ("mysql+pymysql://u:p@example.org/x", "mysql+pymysql://u:…@example.org/x"),
        ("sqlite:////nowhere/at/all/x.db", "sqlite:////nowhere/at/all/x.db"),
        ("not an address", "not an address"),
    ],
)
def test_a_store_of_a_stranger_is_not_asked(run: Path, monkeypatch: pytest.MonkeyPatch, uri: str, named: str) -> None:
    (run / "tracking" / "run.json").write_text(json.dumps({"uri": uri, "run_id": "a", "experiment_id": "1"}))
    asked: list[str] = []

    def reach(uri: str) -> None:
        asked.append(uri)
        raise UserError("no answer")

    monkeypatch.setattr(sync_module, "reach", reach)
    for verb in (lambda: sync(run), lambda: report.main([str(run)])):
        with pytest.raises(UserError) as error:
            verb()
        assert f"add --trust {named} " in str(error.value) and str(run) in str(error.value)
    assert not asked
    with trust.trusting([uri]), pytest.raises(UserError, match="no answer"):
        sync(run)
    assert asked == [uri]


FILES = [
    {"path": "../../secret/key", "place": "", "table": False, "staged": False},
    {"path": "../../secret/key", "place": "", "table": False, "staged": True},
    {"path": "/etc/passwd", "place": "", "table": False, "staged": False},
    {"path": "files/x", "place": "", "table": False, "staged": True},  # all that is staged would be removed
    {"path": "files/../../checkpoints/last.safetensors", "place": "", "table": False, "staged": True},
    {"path": "x\0", "place": "", "table": False, "staged": False},
    {"path": "a/" * 5000, "place": "", "table": False, "staged": False},
    {"path": ["files/0/x"], "place": "", "table": False, "staged": True},
    {"place": "", "table": False, "staged": True},
]


@pytest.mark.parametrize("kind", ["file", "model"])
@pytest.mark.parametrize("content", FILES, ids=lambda content: str(content)[:40])
def test_no_file_of_the_reader_is_sent_or_removed(run: Path, kind: str, content: dict[str, Any]) -> None:
    if kind == "model":
        content = {**content, "staged": True, "params": {}, "metrics": [], "dataset": [], "register": None}
    with (run / "tracking" / "files.jsonl").open("a") as file:
        file.write(json.dumps({kind: content}) + "\n")
    with pytest.raises(UserError, match=r"files\.jsonl: names the file .* not one of this run"):
        sync(run)
    assert (run.parent / "secret" / "key").exists() and (run / "checkpoints" / "last.safetensors").exists()


@pytest.fixture
def run_with_model(run: Path) -> Path:
    """The folder of a run whose unsent model asks to be registered."""
    program = run.parent / "program.pt2"
    write_program(MeanOfLeads(), 12, 50, program)
    recorder = Recorder("sqlite:///mlflow.db", "e", "r", folder=run.parent / "with_model", tags={}, offline=True)
    recorder.model(program, 50, ("a",), ("I",) * 12, 100.0, register="ecg", alias="champion")
    recorder.finish()
    return run.parent / "with_model"


class MeanOfLeads(nn.Module):
    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return signal.mean(dim=(1, 2))[:, None].sigmoid()


def test_a_model_of_a_stranger_is_registered_only_where_the_reader_trusts_the_name(
    run_with_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for trusted in ((), ("models:/ecg",), ("models:/other@champion",)):
        with (
            trust.trusting(trusted),
            pytest.raises(UserError, match=r"files\.jsonl: asks .* add --trust models:/ecg@champion to the command"),
        ):
            sync(run_with_model)
    cli.main(["sync", str(run_with_model), "--trust", "models:/ecg@champion"])
    client = MlflowClient("sqlite:///mlflow.db")
    version = client.get_model_version_by_alias("ecg", "champion")
    assert version.run_id in capfd.readouterr().out
    check_entries(run_with_model)  # what has been sent needs no trust


def append_requirement(model: Path) -> None:
    with (model / "requirements.txt").open("a") as file:
        file.write("\nhttps://example.org/package.tar.gz")


def name_other_loader(model: Path) -> None:
    text = (model / "MLmodel").read_text()
    (model / "MLmodel").write_text(text.replace("loader_module: einthoven_served", "loader_module: os"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "its loader": lambda model: (model / "code" / "einthoven_served.py").write_text("print('hello')"),
    "its MLmodel": name_other_loader,
    "its requirements.txt": append_requirement,
    "the file code/other.py": lambda model: (model / "code" / "other.py").touch(),
    "the file conda.yaml": lambda model: (model / "conda.yaml").unlink(),
}


@pytest.mark.parametrize("difference", CHANGES)
def test_a_model_with_code_of_a_stranger_is_not_sent(run_with_model: Path, difference: str) -> None:
    (model,) = (run_with_model / "tracking" / "files").glob("*/model")
    with trust.trusting(["models:/ecg@champion"]):
        check_entries(run_with_model)
        CHANGES[difference](model)
        with pytest.raises(UserError, match=rf"has not exported \({difference} differs\); add --trust {model} "):
            sync(run_with_model)
        with trust.trusting([str(model)]):
            check_entries(run_with_model)


def test_the_place_in_a_spool_is_the_beginning_of_an_entry(run: Path) -> None:
    (run / "tracking" / "files.sent").write_text("5")
    with pytest.raises(UserError, match=r"files\.jsonl: damaged"):
        sync(run)


def test_a_folder_with_a_model_is_not_sent_as_a_file(run: Path) -> None:
    (run / "checkpoints" / "MLmodel").touch()
    for path in ("../checkpoints", "../checkpoints/MLmodel"):
        content = {"path": path, "place": "model", "table": False, "staged": False}
        (run / "tracking" / "files.jsonl").write_text(json.dumps({"file": content}) + "\n")
        with pytest.raises(UserError, match="not one of this run"):
            sync(run)


@pytest.mark.parametrize("location", ["s3://example", "/nowhere/else", "file:///nowhere/else", "../elsewhere"])
def test_files_go_to_no_place_of_a_stranger(run: Path, location: str) -> None:
    rewrite(run, "entries.jsonl", '"artifact_location": null', f'"artifact_location": "{location}"')
    with pytest.raises(UserError, match=f"add --trust {location} "):
        sync(run)


@pytest.mark.parametrize("line", ["{", "3", "[1]", '{"run": 3}', '{"run": []}', "[" * 100_000, '{"run": ' * 5000])
def test_entries_that_are_none_are_one_sentence(run: Path, line: str) -> None:
    with (run / "tracking" / "entries.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"entries\.jsonl: damaged"):
        sync(run)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uri": 3, "run_id": "", "experiment_id": ""}', "[" * 100_000])
def test_a_run_that_is_none_is_one_sentence(run: Path, text: str) -> None:
    (run / "tracking" / "run.json").write_text(text)
    for verb in (lambda: sync(run), lambda: report.main([str(run)])):
        with pytest.raises(UserError, match=r"run\.json: damaged"):
            verb()


@pytest.mark.parametrize("verb", ["sync", "report"])
def test_links_are_refused_before_anything_is_read(run: Path, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    (run / "tracking" / "series.bin").unlink(missing_ok=True)
    (run / "tracking" / "series.bin").symlink_to(run.parent / "secret" / "key")
    with pytest.raises(SystemExit) as ending:
        cli.main([verb, str(run)])
    assert ending.value.code == 2
    assert "series.bin is a link or no ordinary file" in capfd.readouterr().err
