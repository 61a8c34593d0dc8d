"""Files of runs, brought from an MLflow store to this machine."""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from einthoven.errors import UserError
from einthoven.tracking.server import client

DEFAULT_URI = "sqlite:///mlflow.db"


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

    uri = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI)
    if uri == DEFAULT_URI and not Path("mlflow.db").exists():
        raise UserError(f"{address}: no mlflow.db in this folder; MLFLOW_TRACKING_URI names another store.")
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
            raise UserError(
                f"{address}: no bundle in {folder}/ of run {run}; einthoven evaluate run=FOLDER puts one there."
            )
        place = mkdtemp(prefix="einthoven-bundle-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        return Path(tracking.download_artifacts(run, folder, place))
    except MlflowException as error:
        raise UserError(f"{address}: {' '.join(str(error.message).split())} (in {uri}).") from None
