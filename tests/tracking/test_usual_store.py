"""Which store a command uses: that of its option, of the environment variable, or a file; and where its files are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from composing import composed
from einthoven import cli
from einthoven.errors import UserError
from einthoven.runs.config.options import write_config
from einthoven.runs.config.run_config import read_config
from einthoven.tracking.addresses import read_ids, write_ids
from einthoven.tracking.server import connect, experiment_id

VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.mark.parametrize(
    ("variable", "options", "expected"),
    [
        (None, (), "sqlite:///mlflow.db"),
        ("http://here:5000", (), "http://here:5000"),
        ("http://here:5000", ("tracking.uri=sqlite:///own.db",), "sqlite:///own.db"),
    ],
)
def test_an_option_wins_then_the_variable_then_the_default(
    variable: str | None, options: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    assert composed("train", *options).tracking.uri == expected


def test_a_training_says_that_its_store_comes_from_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "http://me:secret@here:5000")
    for option, is_said in (((), True), (("tracking.uri=sqlite:///own.db",), False)):
        with pytest.raises(SystemExit):
            cli.main(["train", *option, "trainer.epochs=0"])
        output = capsys.readouterr().out
        assert ("tracking store: http://me:…@here:5000 (from MLFLOW_TRACKING_URI)" in output) == is_said
        assert "secret" not in output


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(SystemExit):
        cli.main(["train", "trainer.epochs=0"])
    assert "tracking store" not in capsys.readouterr().out and VARIABLE not in os.environ


@pytest.mark.parametrize("uri", ["postgresql://me:s/cret@host/runs", "postgresql://host/runs?user=me&password=s/cret"])
def test_the_password_of_the_variable_is_not_in_the_folder_of_a_run(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, uri)
    write_config(composed("train"), tmp_path)
    (tmp_path / "tracking").mkdir()
    write_ids(tmp_path / "tracking", uri, "", "")
    for file in ("config.yaml", "tracking/run.json"):
        assert "cret" not in (tmp_path / file).read_text()
    assert read_ids(tmp_path)["uri"] == uri
    (tmp_path / "tracking" / "run.json").rename(tmp_path / "run.json")
    assert read_config(tmp_path, "resume").tracking.uri == uri
    (tmp_path / "run.json").rename(tmp_path / "tracking" / "run.json")

    # Without the variable, the command says what is missing, before it connects.
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UserError, match=f"expected this address, with its password, in {VARIABLE}"):
        read_config(tmp_path, "resume")

    # An address that an option names stays as it is: no variable could complete it.
    write_ids(tmp_path / "tracking", uri, "", "")
    assert read_ids(tmp_path)["uri"] == uri


def test_a_store_that_is_opened_leaves_the_variable_of_the_user(
    mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"sqlite:///{mlflow_db.with_name('other.db')}"
    for value in (None, "http://here:5000"):
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        for uri in (other, f"sqlite:///{mlflow_db}"):
            connect(uri)
            assert os.environ.get(VARIABLE) == value


def test_the_files_of_runs_are_beside_their_store_and_not_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    client = connect(f"sqlite:///{tmp_path}/project/mlflow.db")
    number = experiment_id(client, "new")
    for name in ("0", number):
        assert client.get_experiment(name).artifact_location == f"{tmp_path}/project/mlruns/{name}"
