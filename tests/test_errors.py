"""Errors of the operating system and of tracking stores, as one sentence."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from einthoven import cli
from einthoven.errors import store_sentence, system_sentence

FULL = sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "database or disk is full"),
        (OperationalError("INSERT INTO runs", {}, FULL), "database or disk is full"),
        (MlflowException("(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: x]"), "readonly"),
    ],
)
def test_an_error_of_a_store_is_one_sentence(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr("einthoven.commands.sync.main", fails)
    with pytest.raises(SystemExit) as ending:
        cli.main(["sync", "run"])
    printed = capsys.readouterr().err
    assert ending.value.code == cli.USER_ERROR and printed.count("\n") == 1
    assert printed.startswith("einthoven: error: the tracking store cannot be used (") and reason in printed
    assert "SQL" not in printed and "expected a store that can be read and written" in printed


def test_other_errors_are_no_errors_of_a_store() -> None:
    assert store_sentence(ValueError("database or disk is full")) is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left", "a.pdf"), "a.pdf: cannot be written (No space left); expected room"),
        (OSError(errno.ENOSPC, "No space left", "a", None, "b"), "b: cannot be written"),
        (OSError(errno.ENOSPC, "No space left"), "a file cannot be written (No space left); expected room on the disk"),
        (OSError(errno.EROFS, "Read-only", "/none/a"), "/none/a: cannot be written (Read-only); expected a place"),
        (OSError(None, "problem writing element 5", "a.npy"), "a.npy: cannot be written (problem writing element 5)"),
        (OSError(errno.ENOENT, "No such file", "a.csv"), "No such file: a.csv"),
        (OSError(errno.EEXIST, "File exists", "data"), "data: cannot be used (File exists); expected a folder"),
    ],
)
def test_an_error_of_the_operating_system_names_the_file(
    error: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert system_sentence(error).startswith(sentence)


def test_a_file_that_may_not_be_read_is_not_called_one_that_cannot_be_written(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    assert system_sentence(error) == f"Permission denied: {tmp_path}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_on_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as output:
        command = [sys.executable, "-m", "einthoven", "--help"]
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == cli.USER_ERROR and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("einthoven: error: a file cannot be written (No space left on device)")


@pytest.mark.parametrize(("status", "sentence"), [(401, "does not know this user"), (403, "does not allow this user")])
def test_a_server_with_users_names_the_variables_for_user_and_password(status: int, sentence: str) -> None:
    error = MlflowException(f"API request to endpoint /api/2.0 failed with error code {status} != 200. Response: ''")
    told = store_sentence(error)
    assert told is not None and sentence in told
    assert "MLFLOW_TRACKING_USERNAME" in told and "MLFLOW_TRACKING_PASSWORD" in told and "/api" not in told
