"""Errors of the operating system and of tracking stores, as one sentence."""

from __future__ import annotations

import sqlite3

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from einthoven import cli
from einthoven.errors import store_sentence

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
