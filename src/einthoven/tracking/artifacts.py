"""Files of runs, brought from an MLflow store to this machine."""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

from einthoven.errors import UserError
from einthoven.tracking.server import client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

DEFAULT_URI = "sqlite:///mlflow.db"


def usual_uri() -> str:
    """Address of the store of ``MLFLOW_TRACKING_URI``, or of ``mlflow.db`` in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI)


def usual_store(asked_for: str) -> str:
    """Address of the store of ``MLFLOW_TRACKING_URI``, or of ``mlflow.db`` in this folder.

    Parameters
    ----------
    asked_for : str
        What needs it, for the sentence.

    Raises
    ------
    UserError
        If there is neither.
    """
    uri = usual_uri()
    if uri == DEFAULT_URI and not Path("mlflow.db").exists():
        raise UserError(f"{asked_for}: no mlflow.db in this folder; MLFLOW_TRACKING_URI names another store.")
    return uri


def files(tracking: MlflowClient, run: MlflowRun, folder: str) -> list[str]:
    """Paths of the files of a run in one of its folders, ``.`` for the uppermost."""
    found = tracking.list_artifacts(run.info.run_id, None if folder == "." else folder)
    return [file.path for file in found if not file.is_dir]


def content(tracking: MlflowClient, run: MlflowRun, path: str) -> bytes | None:
    """What a file of a run holds; None if the run has none of that path."""
    if path not in files(tracking, run, str(PurePosixPath(path).parent)):
        return None
    with TemporaryDirectory() as place:
        return Path(tracking.download_artifacts(run.info.run_id, path, place)).read_bytes()


def downloaded_bundle(address: str, description: str) -> Path:
    """Folder of the bundle of a run (``runs:/ID``), or of the run of a model (``models:/NAME/VERSION``, ``@ALIAS``).

    The store is that of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in this folder.

    Parameters
    ----------
    address : str
    description : str
        Name of the file that makes a folder a bundle.

    Raises
    ------
    UserError
        If there is no such run or model, or no bundle with it.
    """
    from mlflow.exceptions import MlflowException

    uri = usual_store(address)
    tracking = client(uri)
    kind, _, rest = address.partition(":/")
    name, _, version = rest.strip("/").partition("/")
    try:
        if kind == "models":
            if name.startswith("m-"):
                run = tracking.get_logged_model(name).source_run_id
            elif "@" in name:
                run = tracking.get_model_version_by_alias(*name.split("@", 1)).run_id
            elif version.isdigit():
                run = tracking.get_model_version(name, version).run_id
            else:
                raise UserError(f"{address}: expected models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-….")
        else:
            run = name
        if not run:
            raise UserError(f"{address}: this model comes of no run.")
        folder = version if kind == "runs" and version else "bundle"
        if not any(Path(f.path).name == description for f in tracking.list_artifacts(run, folder)):
            quantity = tracking.get_run(run).data.params.get("task.target")
            if quantity is not None:
                raise UserError(f"{address}: predicts {quantity}, and a quantity has no bundle.")
            raise UserError(
                f"{address}: no bundle in {folder}/ of run {run}; einthoven evaluate run=FOLDER puts one there."
            )
        place = mkdtemp(prefix="einthoven-bundle-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        return Path(tracking.download_artifacts(run, folder, place))
    except MlflowException as error:
        raise UserError(f"{address}: {' '.join(str(error.message).split())} (in {uri}).") from None
