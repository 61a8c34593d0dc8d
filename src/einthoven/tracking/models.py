"""The exported model of a run: written to a folder, and sent from there to the tracking store and its registry."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from einthoven.atomic import temporary_folder
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.tracking import served
from einthoven.tracking.places import is_trusted_address

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

NAME = "model"

# The name of the loader in the folder of a model. No other package has this name.
_LOADER = "einthoven_served"

# The files that `export` writes, and the entry of MLmodel that says how they are loaded.
_ENVIRONMENT_FILES = ("conda.yaml", "python_env.yaml", "requirements.txt")
_FILES = {
    "MLmodel",
    f"code/{_LOADER}.py",
    "data/data/model.pt2",
    "data/data/shape.json",
    "input_example.json",
    "serving_input_example.json",
    *_ENVIRONMENT_FILES,
}
_FLAVOR = {
    "code": "code",
    "data": "data/data",
    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    "loader_module": _LOADER,
    "streamable": False,
}
_ENVIRONMENT_LINE = re.compile(
    r"(channels|dependencies|build_dependencies):|name: mlflow-env|- conda-forge|- -r requirements\.txt|- pip:"
    r"|(- python=|python: )[0-9.]+|(- )?(pip|setuptools|wheel|mlflow|mlflow-skinny|torch|numpy)([<=]=[0-9a-z.]+)?"
)
_TEXT_LIMIT = 1 << 20  # bytes


def export(
    program: Path,
    samples: int,
    classes: tuple[str, ...],
    leads: tuple[str, ...],
    fs: float,
    path: Path,
    *,
    runs_along_time: bool = False,
) -> None:
    """Write a model in MLflow's format: mV (n, L, T) to probabilities (n, K) or (n, K, T). No part of it is pickled.

    The folder of the model contains its loader, a copy of `einthoven.tracking.served`. So a server of the model needs
    only torch, NumPy and MLflow. The program is a ``.pt2`` for records of T samples at `fs` Hz. The output has a value
    for each sample if it `runs_along_time`, as masks do.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    any_number = -1
    output_shape = (any_number, len(classes), samples) if runs_along_time else (any_number, len(classes))
    # MLflow would copy the uv project of the working folder into the model. The files are those of the user.
    os.environ.setdefault("MLFLOW_LOG_UV_FILES", "false")
    with temporary_folder() as place:
        data = place / "data"
        data.mkdir()
        shutil.copyfile(program, data / "model.pt2")
        (data / "shape.json").write_text(json.dumps({"leads": len(leads), "samples": samples}))
        code = place / f"{_LOADER}.py"
        shutil.copyfile(served.__file__, code)
        mlflow.pyfunc.save_model(
            path,
            loader_module=_LOADER,
            data_path=str(data),
            code_paths=[str(code)],
            # The example is not the record of a patient.
            input_example=np.zeros((1, len(leads), samples), dtype=np.float32),
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(np.float32), (any_number, len(leads), samples))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), output_shape)]),
            ),
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
            metadata={"classes": list(classes), "leads": list(leads), "fs": fs, "units": "mV"},
        )


def check_exported(path: Path) -> None:
    """Refuse the folder of a model if it could run code that this package did not write.

    Whoever serves a model runs its loader and installs its requirements. So the loader must be `served.py`, and the
    requirements must be packages that `export` names. Links are refused elsewhere (`einthoven.files.check_ordinary`).
    """
    import yaml  # type: ignore[import-untyped]

    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    difference = ""
    if files != _FILES:
        difference = f"the file {min(files ^ _FILES)}"
    elif read_file(path / "code" / f"{_LOADER}.py", _TEXT_LIMIT) != Path(served.__file__).read_bytes():
        difference = "its loader"
    else:
        try:
            description = yaml.safe_load(read_file(path / "MLmodel", _TEXT_LIMIT))
            flavor = dict(description["flavors"]["python_function"])
            flavor.pop("python_version", None)
            has_own_flavor = flavor == _FLAVOR and len(description["flavors"]) == 1
            has_type_hints = description["is_signature_from_type_hint"] or description["type_hint_from_example"]
            if has_type_hints or not has_own_flavor:
                difference = "its MLmodel"
            for name in _ENVIRONMENT_FILES:
                lines = read_file(path / name, _TEXT_LIMIT).decode().splitlines()
                if not all(_ENVIRONMENT_LINE.fullmatch(line.strip()) for line in lines):
                    difference = f"its {name}"
        except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
            difference = "its MLmodel"
    if difference and not is_trusted_address(path.resolve()):
        raise UserError(
            f"{path}: a model that this version of einthoven has not exported ({difference} differs); add "
            f"--trust {path.resolve()} to the command if you trust its author and want to send it."
        )


def send_model(client: MlflowClient, run_id: str, experiment_id: str, path: Path, content: Mapping[str, Any]) -> None:
    """Send an exported model: a LoggedModel of the run with its metrics and parameters, and a registered version.

    A step that an earlier attempt has done is not repeated. The folder may be missing if an earlier attempt has sent
    it. The content is the entry of the spool, as `Recorder.model` writes it.
    """
    model = _logged_model(client, run_id, experiment_id, NAME, content["params"])
    if path.exists():
        _write_ids(path, model, run_id)
        client.log_model_artifacts(model.model_id, str(path))
    _link(client, run_id, model.model_id, content)
    if content["register"]:
        _register(client, content["register"], content["alias"], model, run_id)


def send_checkpoint(client: MlflowClient, run_id: str, experiment_id: str, content: Mapping[str, Any]) -> None:
    """Make a checkpoint a LoggedModel of the run, with its step and metrics. Its file is an artifact of the run.

    A step that an earlier attempt has done is not repeated. The content is the entry that `Recorder.checkpoint` writes.
    """
    model = _logged_model(client, run_id, experiment_id, f"checkpoint-{content['name']}", content["params"])
    _link(client, run_id, model.model_id, content)


def _link(client: MlflowClient, run_id: str, model_id: str, content: Mapping[str, Any]) -> None:
    """Link a model to the run, its step, its metrics and its data."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if outputs is None or model_id not in [output.model_id for output in outputs.model_outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=content.get("step", 0))])

    # The run has these metrics already and drops them. The call links them to the model and its data.
    metrics = []
    for name, value, time, step in content["metrics"]:
        metrics.append(Metric(name, value, time, step, model_id, *content["dataset"]))
    client.log_batch(run_id, metrics=metrics)


def _logged_model(
    client: MlflowClient, run_id: str, experiment_id: str, name: str, params: Mapping[str, str]
) -> LoggedModel:
    """Return the LoggedModel of a run with a name; create it if there is none."""
    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{name}'")
    if models:
        return models[0]
    return client.create_logged_model(experiment_id, name, source_run_id=run_id, params=dict(params))


def _write_ids(path: Path, model: LoggedModel, run_id: str) -> None:
    """Write the ids of the LoggedModel and its run into the exported model."""
    from mlflow.models import Model

    description = Model.load(str(path))
    description.run_id = run_id
    description.model_id = model.model_id
    description.model_uuid = model.model_id
    description.artifact_path = model.artifact_location
    description.save(str(path / "MLmodel"))


def _register(client: MlflowClient, name: str, alias: str | None, model: LoggedModel, run_id: str) -> None:
    """Make a model a version of a registered model, and set its alias."""
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
