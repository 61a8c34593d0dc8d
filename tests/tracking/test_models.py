from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor, nn

from einthoven.predict.export import write_program
from einthoven.tracking.recorder import Recorder


class Probabilities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)

    def forward(self, signal: Tensor) -> Tensor:
        return self.linear(signal.mean(dim=2)).sigmoid()


def test_the_model_of_a_run_is_linked_to_its_metrics_and_registered(
    tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files_of_the_user = ("uv.lock", "pyproject.toml")
    for name in files_of_the_user:
        (tmp_path / name).write_text("")
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    place = str(tmp_path / "elsewhere")
    network = Probabilities()
    example = np.random.default_rng(0).normal(size=(2, 12, 50)).astype(np.float32)
    program = tmp_path / "program.pt2"
    write_program(network, 12, 50, program)
    runs = []
    for seed in (0, 1):
        recorder = Recorder(
            uri, "models", "run", folder=tmp_path / f"run{seed}", tags={}, artifact_location=place
        )  # the second run finds the experiment made
        recorder.params({"seed": seed})
        recorder.dataset("ptbxl", "0123456789abcdef", "here", {"records": 2}, "test")
        recorder.log_metrics(1, {"train/loss": 0.5, "val/macro_auroc": 0.7})
        recorder.log_metrics(2, {"val/macro_auroc": 0.8, "test/macro_auroc": 0.75})
        recorder.flush(everything=True)
        recorder.model(program, 50, ("a", "b", "c"), ("I",) * 12, 100.0, step=2, register="ecg", alias="champion")
        recorder.checkpoint("last", "checkpoints/last.safetensors", 2)
        recorder.checkpoint("best", "checkpoints/best.safetensors", 1)
        recorder.finish()
        runs.append(recorder)
    assert [recorder.unsent for recorder in runs] == [[], []]
    client = MlflowClient(uri)
    for seed, recorder in enumerate(runs):
        run = client.get_run(recorder.run_id)
        steps = {}
        models = {}
        for output in run.outputs.model_outputs:
            model = client.get_logged_model(output.model_id)
            models[model.name] = model
            steps[model.name] = output.step
        assert steps == {"model": 2, "checkpoint-last": 2, "checkpoint-best": 1}
        model = models["model"]
        assert (model.name, str(model.status), model.source_run_id) == ("model", "READY", recorder.run_id)
        assert model.params == {"seed": str(seed)} and model.artifact_location.startswith(place)
        linked = {(m.key, m.value, m.step, m.dataset_name, m.dataset_digest) for m in model.metrics}
        data = ("ptbxl", "0123456789ab")
        assert linked == {("val/macro_auroc", 0.8, 2, *data), ("test/macro_auroc", 0.75, 2, *data)}
        # A checkpoint has the metrics of its own step.
        for name, value, step in (("last", 0.8, 2), ("best", 0.7, 1)):
            checkpoint = models[f"checkpoint-{name}"]
            assert checkpoint.params == {"file": f"checkpoints/{name}.safetensors", "step": str(step)}
            assert [(m.key, m.value, m.step) for m in checkpoint.metrics] == [("val/macro_auroc", value, step)]
        assert [m.step for m in client.get_metric_history(recorder.run_id, "val/macro_auroc")] == [1, 2]
        files = {Path(info.path).name for info in client.list_logged_model_artifacts(model.model_id)}
        assert "MLmodel" in files and files.isdisjoint(files_of_the_user)
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
        assert loaded.metadata.run_id == recorder.run_id and loaded.metadata.metadata["classes"] == ["a", "b", "c"]
        with torch.no_grad():
            np.testing.assert_allclose(loaded.predict(example[:1]), network(torch.from_numpy(example[:1])), atol=1e-6)
    champion = client.get_model_version_by_alias("ecg", "champion")
    assert (champion.version, champion.run_id) in (("2", runs[1].run_id), (2, runs[1].run_id))
    assert not list((tmp_path / "run0" / "tracking" / "files").iterdir())  # what has arrived takes no room
