"""One bad entry does not take other entries with it: a call that MLflow refuses is halved until that entry is alone."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST

from einthoven.tracking.delivery import Delivery
from einthoven.tracking.run_folder import describe_unsent
from einthoven.tracking.spool import RefusedError, Spool


class FakeClient:
    """Takes what MLflow would, and refuses a whole call for one bad name."""

    def __init__(self, bad: Sequence[str] = (), error: int = INVALID_PARAMETER_VALUE) -> None:
        self.bad, self.error = set(bad), error
        self.metrics: list[tuple[str, float]] = []
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.calls = 0

    def _refuse(self, names: Sequence[str]) -> None:
        self.calls += 1
        if bad := self.bad.intersection(names):
            raise MlflowException(f"no {min(bad)}", self.error)

    def log_batch(self, run_id: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
        self._refuse([each.key for each in (*metrics, *params)])
        self.metrics += [(each.key, each.value) for each in metrics]
        self.params |= {each.key: each.value for each in params}

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self._refuse([name])
        self.tags[name] = value

    def get_metric_history(self, run_id: str, name: str) -> list[Any]:
        self._refuse([name])
        return [SimpleNamespace(value=v, timestamp=0, step=0) for key, v in self.metrics if key == name]


def delivery(folder: Path, client: Any, uri: str = "sqlite:///mlflow.db") -> Delivery:
    made = Delivery(folder, uri)
    made.write_ids("run", "0")
    made._client = client
    return made


def points(*names: str) -> dict[str, Any]:
    return {"metrics": [[name, 0.5, 0, 0] for name in names]}


def refused(send: Delivery, *entries: dict[str, Any], doubtful: bool = False) -> list[tuple[str, Any]]:
    with pytest.raises(RefusedError) as error:
        send(entries, doubtful)
    return list(error.value.refused)


def test_the_bad_names_of_a_thousand_metrics_are_set_aside_in_few_calls(tmp_path: Path) -> None:
    names = [f"m{k}" for k in range(1000)]
    client = FakeClient(["m3", "m500", "m501"])
    send = delivery(tmp_path, client)
    found = refused(send, points(*names))
    assert [(reason, entry["metrics"][0][0]) for reason, entry in found] == [
        (f"no {name}", name) for name in ("m3", "m500", "m501")
    ]
    assert {name for name, _ in client.metrics} == set(names) - client.bad and len(client.metrics) == 997
    assert client.calls < 60
    # Later values of these names are set aside without a call of their own.
    before = client.calls
    assert len(refused(send, points("m3", "m4"), points("m500"))) == 2
    assert client.calls == before + 1 and ("m4", 0.5) in client.metrics


def test_all_values_of_a_bad_name_are_kept(tmp_path: Path) -> None:
    send = delivery(tmp_path, FakeClient(["bad"]))
    rows = [["bad", 1.0, 0, 1], ["good", 2.0, 0, 1], ["bad", 3.0, 0, 2]]
    assert refused(send, {"metrics": rows}) == [("no bad", {"metrics": [rows[0], rows[2]]})]


def test_parameters_and_tags_are_divided_too(tmp_path: Path) -> None:
    client = FakeClient(["p7", "t1"])
    send = delivery(tmp_path, client)
    found = refused(
        send,
        {"params": {f"p{k}": str(k) for k in range(250)}},
        {"tags": {f"t{k}": str(k) for k in range(3)}},
        points("m"),
    )
    assert found == [("no p7", {"params": {"p7": "7"}}), ("no t1", {"tags": {"t1": "1"}})]
    assert len(client.params) == 249 and client.tags == {"t0": "0", "t2": "2"} and client.metrics == [("m", 0.5)]


def test_a_run_that_is_gone_is_not_asked_for_again_and_again(tmp_path: Path) -> None:
    client = FakeClient(["m0"], RESOURCE_DOES_NOT_EXIST)
    found = refused(delivery(tmp_path, client), points(*(f"m{k}" for k in range(100))))
    assert client.calls == 1 and len(found) == 100


def test_a_store_that_fails_refuses_nothing(tmp_path: Path) -> None:
    client = FakeClient(["m0"], INTERNAL_ERROR)
    with pytest.raises(MlflowException):
        delivery(tmp_path, client)([points("m0", "m1")], False)
    assert client.calls == 1


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -math.inf])
def test_what_may_be_a_repetition_is_not_sent_twice(tmp_path: Path, value: float) -> None:
    stored = max(min(value, 1.7976931348623157e308), -1.7976931348623157e308) if not math.isnan(value) else value
    client = FakeClient(["bad"])
    client.metrics = [("m", stored)]
    found = refused(delivery(tmp_path, client), {"metrics": [["m", value, 0, 0], ["bad", 1.0, 0, 0]]}, doubtful=True)
    assert len(client.metrics) == 1 and found[0][1] == {"metrics": [["bad", 1.0, 0, 0]]}


def test_a_database_takes_all_but_the_bad_entries(tmp_path: Path, mlflow_db: Path) -> None:
    """With the real store: names, values and parameters that it refuses."""
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "seed", "0")
    (tmp_path / "tracking").mkdir()
    send = Delivery(tmp_path / "tracking", uri)
    send.write_ids(run_id, "0")
    spool = Spool(tmp_path / "tracking" / "entries.jsonl", send)
    bad = ["x" * 260, "AF//RBBB", ".", "b/", "../a", "a\nb", "ST>1"]
    good = [f"val/auroc/C{k}" for k in range(200)]
    values = [math.nan, math.inf, -math.inf, 0.5]
    spool.put(points(*good[:100], *bad, *good[100:]))
    spool.put({"params": {"model": "mlp", "seed": "1", "a//b": "x", "optimizer": "adamw"}})  # seed was 0
    spool.put({"tags": {"task": "all", "b/": "x", "device": "cpu"}})
    spool.put({"metrics": [["val/loss", value, step, step] for step, value in enumerate(values)]})
    spool.start()
    assert spool.drain(30.0)
    spool.close()
    run = client.get_run(run_id)
    assert set(run.data.metrics) == {*good, "val/loss"}
    steps = [point.step for point in client.get_metric_history(run_id, "val/loss")]
    assert sorted(steps) == [0, 1, 2, 3]
    assert run.data.params == {"seed": "0", "model": "mlp", "optimizer": "adamw"}
    assert {"task", "device"} <= set(run.data.tags) and "b/" not in run.data.tags
    assert len(spool.refused) == len(bad) + 2 + 1
    (sentence,) = describe_unsent(uri, tmp_path, spool)
    assert f"refused {len(bad) + 3} entries of this run (metrics {'x' * 59}…: " in sentence
    assert sentence.endswith("*.refused.") and "\n" not in sentence
    assert not [thread for thread in threading.enumerate() if thread.name == "tracking-entries"]
