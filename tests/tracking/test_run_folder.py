"""One process at a time writes into the folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from einthoven.errors import UserError
from einthoven.tracking import run_folder


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
