"""The files of a store whose project was moved or copied, if the user has chosen their place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import connect


@pytest.mark.parametrize("place", ["files", "files/of/runs"])
def test_files_in_a_place_of_the_user_are_found_after_a_move_and_in_a_copy(
    place: str, tmp_path: Path, mlflow_db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(mlflow_db, project / "mlflow.db")
    recorder = Recorder(
        f"sqlite:///{project}/mlflow.db",
        "e",
        "run",
        folder=project / "run",
        tags={},
        artifact_location=f"{project}/{place}",
    )
    recorder.text("content", "a.txt")
    recorder.finish()
    shutil.copytree(project, tmp_path / "copy")
    project.rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        client = connect(f"sqlite:///{tmp_path}/{name}/mlflow.db")
        assert f"those in {tmp_path}/{name}/{place}." in capsys.readouterr().err
        run = client.get_run(recorder.run_id)
        assert run.info.artifact_uri.startswith(f"{tmp_path}/{name}/{place}/{recorder.run_id}")
        assert client.get_experiment(run.info.experiment_id).artifact_location == f"{tmp_path}/{name}/{place}"
        assert Path(client.download_artifacts(recorder.run_id, "a.txt")).read_text() == "content"
        connect(f"sqlite:///{tmp_path}/{name}/mlflow.db")
        assert not capsys.readouterr().err
