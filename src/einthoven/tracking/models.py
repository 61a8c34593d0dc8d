"""The exported model: written to a folder, and from there to the tracking store and its registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from einthoven.tracking import served

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

NAME = "model"
_LOADER = "einthoven_served"  # a name that no other package has


def export(
    program: Path,
    samples: int,
    classes: tuple[str, ...],
    leads: tuple[str, ...],
    fs: float,
    path: Path,
) -> None:
    """Write a model in MLflow's format: raw mV (n, L, T) in, probabilities (n, K) out; no part of it is pickled.

    It is loaded by `einthoven.tracking.served`, which lies in the model's folder: who serves it needs torch, NumPy and
    MLflow alone.

    Parameters
    ----------
    program : Path
        The exported program (``.pt2``).
    samples : int
        Of a record, T.
    classes, leads : tuple of str
        What the columns of the output and the rows of a record are; both go into the model's metadata.
    fs : float
        Sampling frequency that the model expects, in Hz.
    path : Path
        Folder that is made.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    n = -1
    with TemporaryDirectory() as place:
        data, code = Path(place) / "data", Path(place) / f"{_LOADER}.py"
        data.mkdir()
        shutil.copyfile(program, data / "model.pt2")
        shape = {"leads": len(leads), "samples": samples}
        (data / "shape.json").write_text(json.dumps(shape))
        shutil.copyfile(served.__file__, code)
        mlflow.pyfunc.save_model(
            path,
            loader_module=_LOADER,
            data_path=str(data),
            code_paths=[str(code)],
            input_example=np.zeros((1, len(leads), samples), dtype=np.float32),  # and no record of a patient
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(np.float32), (n, len(leads), samples))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (n, len(classes)))]),
            ),
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
            metadata={"classes": list(classes), "leads": list(leads), "fs": fs, "units": "mV"},
        )


def send_model(client: MlflowClient, run_id: str, experiment_id: str, path: Path, content: Mapping[str, Any]) -> None:
    """Send an exported model: a LoggedModel of the run with its metrics and parameters, registered if asked for.

    Each step is left out where an earlier attempt has done it.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

    model = _logged_model(client, run_id, experiment_id, content["params"])
    if path.exists():
        _sign(path, model, run_id)
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if outputs is None or model.model_id not in [output.model_id for output in outputs.model_outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    # The run has these metrics already, and drops what it has: this links them to the model and to its data.
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, value, time, step, model.model_id, *content["dataset"])
            for name, value, time, step in content["metrics"]
        ],
    )
    if content["register"]:
        _register(client, content["register"], content["alias"], model, run_id)


def _logged_model(client: MlflowClient, run_id: str, experiment_id: str, params: Mapping[str, str]) -> LoggedModel:
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{NAME}'")
    if found:
        return found[0]
    return client.create_logged_model(experiment_id, NAME, source_run_id=run_id, params=dict(params))


def _sign(path: Path, model: LoggedModel, run_id: str) -> None:
    """Write into the exported model which one it is."""
    from mlflow.models import Model

    description = Model.load(str(path))
    description.run_id, description.model_id, description.model_uuid = run_id, model.model_id, model.model_id
    description.artifact_path = model.artifact_location
    description.save(str(path / "MLmodel"))


def _register(client: MlflowClient, name: str, alias: str | None, model: LoggedModel, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model.model_id}"
    versions = [v for v in client.search_model_versions(f"name = '{name}'") if model.model_id in (v.model_id, v.source)]
    version = versions[0] if versions else client.create_model_version(name, source, run_id, model_id=model.model_id)
    if alias:
        client.set_registered_model_alias(name, alias, version.version)
