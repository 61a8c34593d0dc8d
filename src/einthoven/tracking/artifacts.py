"""Files of runs, downloaded from an MLflow store."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from einthoven.atomic import temporary_folder
from einthoven.errors import UserError
from einthoven.tracking.server import client
from einthoven.tracking.usual_store import usual_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun


def files(tracking: MlflowClient, run: MlflowRun, folder: str) -> list[str]:
    """Return the paths of the files in a folder of the artifacts of a run. ``.`` is the top folder."""
    artifacts = tracking.list_artifacts(run.info.run_id, None if folder == "." else folder)
    return [artifact.path for artifact in artifacts if not artifact.is_dir]


def content(tracking: MlflowClient, run: MlflowRun, path: str) -> bytes | None:
    """Return the content of an artifact of a run; None if the run has no such artifact."""
    if path not in files(tracking, run, str(PurePosixPath(path).parent)):
        return None
    with temporary_folder() as place:
        return Path(tracking.download_artifacts(run.info.run_id, path, str(place))).read_bytes()


def download_bundle(address: str, description: str) -> Path:
    """Download the bundle of a run (``runs:/ID``) or of a model (``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``).

    The store is `usual_store`. `description` is the name of the file that every bundle contains. Return a temporary
    folder.
    """
    from mlflow.exceptions import MlflowException

    uri = usual_store(address)
    tracking = client(uri)
    kind, _, rest = address.partition(":/")
    name, _, version = rest.strip("/").partition("/")
    try:
        run_id = _run_of_model(tracking, address, name, version) if kind == "models" else name
        if not run_id:
            raise UserError(f"{address}: no run has logged this model.")
        folder = version if kind == "runs" and version else "bundle"
        names = [Path(artifact.path).name for artifact in tracking.list_artifacts(run_id, folder)]
        if description not in names:
            quantity = tracking.get_run(run_id).data.params.get("task.target")
            if quantity is not None:
                raise UserError(f"{address}: predicts {quantity}, and a quantity has no bundle.")
            raise UserError(
                f"{address}: no bundle in {folder}/ of run {run_id}; einthoven evaluate run=FOLDER puts one there."
            )
        until_exit = ExitStack()
        atexit.register(until_exit.close)
        place = until_exit.enter_context(temporary_folder())
        return Path(tracking.download_artifacts(run_id, folder, str(place)))
    except MlflowException as error:
        raise UserError(f"{address}: {' '.join(str(error.message).split())} (in {uri}).") from None


def _run_of_model(tracking: MlflowClient, address: str, name: str, version: str) -> str | None:
    """Return the id of the run that logged a model."""
    if name.startswith("m-"):
        return tracking.get_logged_model(name).source_run_id
    if "@" in name:
        model, alias = name.split("@", 1)
        return tracking.get_model_version_by_alias(model, alias).run_id
    if version.isdigit():
        return tracking.get_model_version(name, version).run_id
    raise UserError(f"{address}: expected models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-….")
