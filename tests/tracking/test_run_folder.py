"""One process at a time writes into the folder of a run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from einthoven.atomic import PARTIAL
from einthoven.errors import UserError
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import read_ids, require_store, write_ids


def test_a_folder_is_held_by_one_process_and_is_free_afterwards(tmp_path: Path) -> None:
    with run_folder.writing(tmp_path / "run"):
        with (
            pytest.raises(UserError, match=rf"^{tmp_path}/run: another process is writing this run"),
            run_folder.writing(tmp_path / "run"),
        ):
            raise AssertionError("two hold the folder")
        (tmp_path / "run" / "tracking" / "run.json").write_text("{}")
    with run_folder.writing(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "tracking" / "run.json").exists()


@pytest.mark.parametrize("error", [None, UserError("no"), KeyboardInterrupt()])
def test_a_folder_in_which_nothing_was_written_is_left_as_it_was(tmp_path: Path, error: BaseException | None) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    try:
        with run_folder.writing(tmp_path):
            assert (tmp_path / "tracking" / "lock").exists()
            if error is not None:
                raise error
    except (UserError, KeyboardInterrupt) as raised:
        assert raised is error
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_the_lock_of_a_run_that_has_written_stays(tmp_path: Path) -> None:
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "lock").touch()
    with run_folder.writing(tmp_path):
        pass
    assert (tmp_path / "tracking" / "lock").exists()


def test_the_address_of_a_server_does_not_change_with_the_place_of_the_run(tmp_path: Path) -> None:
    for place in ("project", "copy"):
        (tmp_path / place / "run" / "tracking").mkdir(parents=True)
    uri = "http://mlflow.example:5000"
    write_ids(tmp_path / "project" / "run" / "tracking", uri, "a" * 32, "1")
    ids = tmp_path / "project" / "run" / "tracking" / "run.json"
    (tmp_path / "copy" / "run" / "tracking" / "run.json").write_bytes(ids.read_bytes())
    assert read_ids(tmp_path / "copy" / "run") == {"uri": uri, "run_id": "a" * 32, "experiment_id": "1"}


def test_the_command_that_makes_a_lost_store_anew_trusts_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project" / "run" / "tracking").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    write_ids(Path("run/tracking"), "sqlite:///mlflow.db", "a" * 32, "1")
    for folder, trusted in (("project", ""), ("elsewhere", f"--trust sqlite:///{tmp_path}/project/mlflow.db")):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        run = tmp_path / "project" / "run"
        with pytest.raises(UserError, match=r"does not exist; expected that file, or .*einthoven sync") as refusal:
            require_store(run, read_ids(run)["uri"])
        assert trusted in str(refusal.value) and ("--trust" in str(refusal.value)) == bool(trusted)


def test_what_a_killed_process_has_left_in_a_run_is_deleted_when_the_run_is_opened(tmp_path: Path) -> None:
    places = [tmp_path, *(tmp_path / name for name in run_folder.FOLDERS)]
    for place in places:
        (place / f"{PARTIAL}0" / "content").mkdir(parents=True)
        # As another machine has left it two days ago.
        for path in (place / f"{PARTIAL}0" / "content", place / f"{PARTIAL}0"):
            os.utime(path, (time.time() - 2 * 86400,) * 2)
    with run_folder.writing(tmp_path):
        assert not list(tmp_path.rglob(f"{PARTIAL}*"))
