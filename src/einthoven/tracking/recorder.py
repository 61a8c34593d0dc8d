"""One MLflow run: buffered metrics, parameters, pictures, files, the exported model."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

PROBE = "probe.npz"
"""Artifact with the arrays that a probe found."""

_BATCH = 1000  # metrics that MLflow takes in one call
_NOT_IN_A_NAME = re.compile(r"[^\w./ :-]")  # what MLflow refuses in the name of a metric


def client(uri: str) -> MlflowClient:
    """A client of the tracking store, quietly: MLflow's own log lines do not belong in a progress display."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def experiment_id(mlflow_client: MlflowClient, name: str) -> str:
    """Number of the experiment with this name, which is made if there is none."""
    found = mlflow_client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the page opens on training runs, not on GenAI
    return str(mlflow_client.create_experiment(name, tags=kind))


_PATH = re.compile(
    r"""(?P<before>^|[\s=,:\[('"])      # where a value begins, or the path of an address such as sqlite:///
        (?://+|~?/|[A-Za-z]:[\\/])     # an absolute path, under Unix or Windows
        (?:[^\s,\])'"]*[\\/])?         # its folders
        (?P<name>[^\s,\])'"\\/]+)[\\/]?""",
    re.VERBOSE,
)


def without_folders(text: str) -> str:
    """Cut absolute paths down to their last part: where a user keeps files is not the run's business.

    Works on a value (``/home/me/ptb-xl`` -> ``…/ptb-xl``), on overrides (``data.root=/home/me/ptb-xl``) and on the
    text of an error. A value that as a whole is an absolute path may hold spaces.
    """
    if PurePosixPath(text).is_absolute() and not re.search(r"\s/", text):
        return f"…/{PurePosixPath(text).name}"
    return _PATH.sub(r"\g<before>…/\g<name>", text)


class Recorder:
    """Writes one run. `record` only buffers: device tensors stay where they are until `flush` moves them at once.

    Parameters
    ----------
    uri : str
        Tracking store, such as ``sqlite:///mlflow.db`` or ``http://…``.
    experiment, run_name : str
    tags : mapping
    parent : str, optional
        Run id of the parent run.
    run_id : str, optional
        Continue this run: what it already holds of a metric up to some step is not written twice.
    interval : int
        Recorded steps between two flushes.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run_name: str,
        *,
        tags: Mapping[str, str],
        parent: str | None = None,
        run_id: str | None = None,
        interval: int = 50,
    ) -> None:

        self._client = client(uri)
        self.uri, self.interval = uri, interval
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        self._buffer: list[tuple[int, int, dict[str, Tensor | float]]] = []
        self._written: dict[str, int] = {}
        if run_id is None:
            links = {"mlflow.parentRunId": parent} if parent else {}
            # beside its parent, whatever the sweep changes in the experiment's name
            place = (
                self._client.get_run(parent).info.experiment_id if parent else experiment_id(self._client, experiment)
            )
            run = self._client.create_run(place, tags={**tags, **links}, run_name=run_name)
        else:
            run = self._client.get_run(run_id)
            self._client.update_run(run_id, status="RUNNING")
            self._restore(run_id, run.data.metrics)
        self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id

    def _restore(self, run_id: str, names: Mapping[str, float]) -> None:
        for name in names:
            points = sorted(self._client.get_metric_history(run_id, name), key=lambda m: m.step)
            self.history[name] = ([m.step for m in points], [m.value for m in points])
            self._written[name] = points[-1].step

    def record(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Note metrics of a step. Tensors must be scalars; nothing waits for the device."""
        if values:
            self._buffer.append((step, int(time.time() * 1000), dict(values)))
        if len(self._buffer) >= self.interval:
            self.flush()

    def flush(self) -> None:
        """Move what is buffered to the host in one transfer, and send it."""
        from mlflow.entities import Metric

        tensors = [
            v.detach().float() for _, _, values in self._buffer for v in values.values() if isinstance(v, Tensor)
        ]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])  # sync: once per flush
        metrics = []
        for step, now, values in self._buffer:
            for given, value in values.items():
                name = _NOT_IN_A_NAME.sub("_", given)
                number = next(numbers) if isinstance(value, Tensor) else float(value)
                self.latest[name] = number
                if step > self._written.get(name, -1):
                    steps, series = self.history.setdefault(name, ([], []))
                    steps.append(step)
                    series.append(number)
                    metrics.append(Metric(name, number, now, step))
        self._buffer.clear()
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(self.run_id, metrics=metrics[first : first + _BATCH])
        self._written.update({m.key: m.step for m in metrics})

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters (once each)."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        new = [Param(k, str(v)[:6000]) for k, v in values.items() if k not in known]
        for first in range(0, len(new), 100):
            self._client.log_batch(self.run_id, params=new[first : first + 100])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in values.items():
            self._client.set_tag(self.run_id, key, value)

    def dataset(self, name: str, fingerprint: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """Log a dataset input: its name, fingerprint and size as used for `context` (training, validation, test)."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(
            name=name,
            digest=fingerprint[:12],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dict(profile)),
        )
        self._client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])

    def figure(self, figure: Figure, name: str) -> None:
        """Log a picture under ``figures/``."""
        self._client.log_figure(self.run_id, figure, f"figures/{name}.png", save_kwargs={"dpi": 150})

    def text(self, text: str, path: str) -> None:
        """Log a text file."""
        self._client.log_text(self.run_id, text, path)

    def table(self, columns: Mapping[str, list[Any]], path: str) -> None:
        """Log a table, shown by the MLflow page as such."""
        self._client.log_table(self.run_id, dict(columns), path)

    def file(self, path: Path, folder: str) -> None:
        """Log a file."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def arrays(self, found: Mapping[str, NDArray[Any]], name: str = PROBE) -> None:
        """Log named arrays in one file, which loads without pickle."""
        with TemporaryDirectory() as folder:
            np.savez_compressed(Path(folder) / name, **found)  # type: ignore[arg-type]  # the stub has names before them
            self._client.log_artifact(self.run_id, str(Path(folder) / name))

    def model(
        self,
        model: nn.Module,
        example: NDArray[np.float32],
        classes: tuple[str, ...],
        leads: tuple[str, ...],
        fs: float,
    ) -> None:
        """Log an exported model: raw mV (n, L, T) in, probabilities (n, K) out; loads without pickle.

        Parameters
        ----------
        example : ndarray of float32, shape (2, L, T)
            Two records: with one, the export would freeze the batch size at one.
        classes, leads : tuple of str
            What the columns of the output and the rows of a record are; both go into the model's metadata.
        fs : float
            Sampling frequency that the model expects, in Hz.
        """
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        n = -1
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (n, *example.shape[1:]))]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (n, len(classes)))]),
        )
        with mlflow.start_run(run_id=self.run_id):
            mlflow.pytorch.log_model(
                model,
                name="model",
                input_example=example,
                signature=signature,
                serialization_format="pt2",
                pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
                metadata={
                    "classes": list(classes),
                    "leads": list(leads),
                    "fs": fs,
                    "units": "mV",
                },
            )

    def finish(self, status: str = "FINISHED") -> None:
        """Flush, and close the run as FINISHED, FAILED or KILLED."""
        self.flush()
        self._client.set_terminated(self.run_id, status=status)


@contextmanager
def closing(recorder: Recorder) -> Iterator[Recorder]:
    """Finish the run however the block ends: FINISHED, KILLED on Ctrl-C, FAILED with the error as a tag."""
    try:
        yield recorder
    except KeyboardInterrupt:
        recorder.finish("KILLED")
        raise
    except BaseException as error:
        recorder.tags({"error": without_folders(f"{type(error).__name__}: {error}")[:4000]})
        recorder.finish("FAILED")
        raise
    recorder.finish()
