from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from einthoven.errors import UserError
from einthoven.terminal.hydra_command import HydraCommand
from einthoven.tracking.parent_run import PARENT


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A command that a launcher has pickled in the folder `here`, in a process that then is in the folder `there`."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(PARENT, "parent of the sweep")
    monkeypatch.chdir(tmp_path / "here")
    content = pickle.dumps(HydraCommand("train", ["seed=0"], variables=[PARENT]))
    monkeypatch.delenv(PARENT)
    monkeypatch.chdir(tmp_path / "there")
    return content


def test_a_job_in_another_process_has_the_folder_and_the_parent_of_its_command(sent: bytes, tmp_path: Path) -> None:
    pickle.loads(sent)
    assert Path.cwd() == tmp_path / "here"
    assert os.environ.pop(PARENT) == "parent of the sweep"


def test_a_mistake_in_another_process_is_carried_back(sent: bytes) -> None:
    copy = pickle.loads(sent)
    os.environ.pop(PARENT)
    with pytest.raises(UserError, match="no such folder"), copy.job_errors():
        raise UserError("data.root=nowhere: no such folder")
    # In its own process, the command goes on with the other jobs, and shows the sentence at its end.
    command = HydraCommand("prepare", [])
    with command.job_errors():
        raise UserError("data.root=nowhere: no such folder")
    with pytest.raises(UserError, match="no such folder"), command.errors():
        pass


def test_a_machine_that_does_not_have_the_folder_says_so(sent: bytes, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "here")
    copy = pickle.loads(sent)
    os.environ.pop(PARENT)
    with pytest.raises(UserError, match=r"here: a machine of the cluster cannot open the working folder"):
        copy.trust_config({})
