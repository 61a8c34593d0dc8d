"""`einthoven report` on runs of the small corpus: the figures of the page are those of the store."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from einthoven import cli
from einthoven.commands import report
from einthoven.errors import UserError
from einthoven.evaluation.comparison import paired_difference
from einthoven.runs.comparison.paired import LoggedPredictions, auroc_difference, read_predictions
from einthoven.tracking.runs import find_runs
from einthoven.tracking.sweep import history
from pages import assert_self_contained

SWEEP, NAME = "reported", "reported run"


@pytest.fixture
def store(workplace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace}/mlflow.db")


@pytest.fixture
def runs(train: Callable[..., None], workplace: Path, store: MlflowClient) -> list[MlflowRun]:
    """A parent run, a trained run below it, and one that differs from that in seed and probabilities; made once."""
    if not (workplace / SWEEP).exists():
        fast = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=8")
        train(
            *fast, f"hydra.run.dir={SWEEP}", f"tracking.experiment={SWEEP}", f"tracking.run_name={NAME}", pictures=True
        )
        place = store.get_experiment_by_name(SWEEP).experiment_id  # type: ignore[union-attr]
        (trained,) = store.search_runs([place])
        parent = store.create_run(place, run_name="the parent").info.run_id
        store.set_terminated(parent)
        store.set_tag(trained.info.run_id, "mlflow.parentRunId", parent)
        kept = {name: value for name, value in trained.data.tags.items() if not name.startswith("mlflow.")}
        other = bare(store, "the other", **kept | {"config.hash": "other", "mlflow.parentRunId": parent})
        for name, value in (trained.data.params | {"seed": "1"}).items():
            store.log_param(other, name, value)
        for split in ("val", "test"):
            columns = table(store, trained, split)
            held = {n: 1 - v if n.endswith("_probability") else v for n, v in columns.items()}
            # As an earlier version kept them.
            rows = np.stack(list(held.values()), axis=1).tolist()
            store.log_dict(other, {"columns": list(held), "data": rows}, f"predictions/{split}.json")
        (workplace / SWEEP / "made").write_text(f"{parent} {trained.info.run_id} {other}")
    return [store.get_run(run_id) for run_id in (workplace / SWEEP / "made").read_text().split()]


def table(store: MlflowClient, run: MlflowRun, split: str) -> dict[str, Any]:
    names = [file.path for file in store.list_artifacts(run.info.run_id, "predictions")]
    (name,) = [name for name in names if name.startswith(f"predictions/{split}.")]
    path = Path(store.download_artifacts(run.info.run_id, name))
    if path.suffix == ".json":
        held = json.loads(path.read_text())
        return dict(zip(held["columns"], np.array(held["data"]).T, strict=True))
    held = pq.read_table(path)
    return {name: held[name].to_numpy() for name in held.column_names}


def page_of(workplace: Path, *arguments: str) -> str:
    cli.main(["report", *arguments, f"output={workplace}/page.html", f"uri=sqlite:///{workplace}/mlflow.db"])
    return (workplace / "page.html").read_text()


def test_a_sweep_is_a_page_of_its_runs(workplace: Path, runs: list[MlflowRun], store: MlflowClient) -> None:
    parent, first, second = runs
    page = page_of(workplace, parent.info.run_id)
    text = "".join(assert_self_contained(page).text)
    assert all(run.info.run_id in text and str(run.info.run_name) in text for run in (first, second))
    a, b = (table(store, run, "test") for run in (first, second))
    classes = [name.removesuffix("_label") for name in a if name.endswith("_label")]
    y, p, q = (
        np.stack([held[f"{name}{end}"] for name in classes], axis=1)
        for held, end in ((a, "_label"), (a, "_probability"), (b, "_probability"))
    )
    expected = paired_difference(y, p, q, groups=a["patient"])
    assert f"{expected.difference:+.4f}" in text and f"{expected.p:.3f}" in text
    assert f"{expected.interval.low:+.4f} to {expected.interval.high:+.4f}" in text
    assert f"{first.data.metrics['test/macro_auroc']:.3f} (" in text
    changed = {n for n in first.data.params if first.data.params[n] != second.data.params[n]}
    assert changed == {"seed"} and "<code>seed</code>" in page.split("Results")[0]
    # Values are those that a user types.
    values = [line.split("</code>")[1] for line in page.split("<tr>") if "<code>trainer." in line]
    assert any("null" in value for value in values) and any("false" in value for value in values)
    assert not any(word in value for value in values for word in ("None", "True", "False"))
    assert set(history(store, first, ["val/loss", "nothing"])) == {"val/loss"}


def test_one_run_is_found_by_each_of_its_names(workplace: Path, runs: list[MlflowRun], store: MlflowClient) -> None:
    run_id = runs[1].info.run_id
    for name in (str(workplace / SWEEP), run_id, f"runs:/{run_id}", f"runs:/{run_id}/bundle", NAME, run_id[:10]):
        (found,) = find_runs(store, [name])
        assert found.info.run_id == run_id


def test_runs_with_the_same_name_are_listed_with_what_to_type(
    workplace: Path, runs: list[MlflowRun], store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = [bare(store, "three times", auroc=auroc) for auroc in (0.7, 0.8, 0.9)]
    with pytest.raises(UserError) as refused:
        find_runs(store, ["three times"])
    first, *lines = str(refused.value).splitlines()
    assert "3 runs in" in first and "have this name. Choose one by its id, for example: " in first
    # All of them, the newest first, with the result and an id that finds the run.
    assert [line.split()[-1] for line in lines] == ["0.900", "0.800", "0.700"]
    found = [find_runs(store, [line.split()[0]])[0].info.run_id for line in lines]
    assert found == same[::-1]
    typed = shlex.split(first.partition("for example: ")[2])
    assert typed[1:3] == ["report", lines[0].split()[0]] and typed[3] == f"uri={store.tracking_uri}"
    # In the folder of the store, its address is not needed, although that of the client is absolute.
    monkeypatch.chdir(workplace)
    with pytest.raises(UserError) as refused:
        find_runs(store, ["three times"])
    assert "uri=" not in str(refused.value)


def test_a_store_that_fails_is_not_told_as_another_store(
    workplace: Path, runs: list[MlflowRun], store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(run_id: str) -> None:
        raise MlflowException("database is locked\nin pages of words", TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(store, "get_run", locked)
    with pytest.raises(UserError, match=rf"^{workplace / SWEEP}: database is locked \(in sqlite:[^\n]*\)\.$"):
        find_runs(store, [str(workplace / SWEEP)])


def test_one_run_is_shown_with_its_pictures(workplace: Path, runs: list[MlflowRun]) -> None:
    page = page_of(workplace, runs[1].info.run_id)
    kinds = {str(image["src"]).split(";")[0] for image in assert_self_contained(page).all("img")}
    assert NAME in page and kinds == {"data:image/png", "data:image/svg+xml"}


def bare(store: MlflowClient, name: str, task: str = "superdiagnostic", auroc: float | None = 0.5, **tags: str) -> str:
    """A run that left nothing but a loss and, perhaps, a metric."""
    kept = {"task": task, "data.fingerprint": "f"} | tags
    run = store.create_run(store.get_experiment_by_name(SWEEP).experiment_id, run_name=name, tags=kept)  # type: ignore[union-attr]
    if auroc is not None:
        store.log_metric(run.info.run_id, "val/macro_auroc", auroc)
    store.log_metric(run.info.run_id, "val/loss", 1 - (auroc or 0.0))
    store.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def test_of_many_runs_the_first_and_the_best_are_shown_and_the_others_named(
    workplace: Path, runs: list[MlflowRun], store: MlflowClient
) -> None:
    many = [bare(store, f"many{k}", auroc=0.5 + 0.01 * k) for k in range(14)]
    page = page_of(workplace, *many)
    assert_self_contained(page)
    assert many[0] in page and many[13] in page and many[1] not in page and many[2] not in page
    assert "Left out: many1 (0.510), many2 (0.520)." in page
    assert "many0 kept no predictions of that split." in page


def test_of_many_runs_without_a_metric_to_choose_by_the_first_are_shown(
    workplace: Path, runs: list[MlflowRun], store: MlflowClient
) -> None:
    many = [bare(store, f"plain{k}", auroc=None) for k in range(14)]
    page = page_of(workplace, *many)
    assert all(run_id in page for run_id in many[:12]) and many[12] not in page and many[13] not in page
    assert "The first 12 of 14 runs, none of which has a metric to choose by. Left out: plain12, plain13." in page


def test_runs_with_nothing_to_show_are_told_and_left_out(
    workplace: Path, runs: list[MlflowRun], store: MlflowClient
) -> None:
    place = runs[0].info.experiment_id
    going = store.create_run(place, run_name="one going on").info.run_id
    failed = store.create_run(
        place, run_name="one that failed", tags={"error": "UserError: no such folder."}
    ).info.run_id
    store.set_terminated(failed, "FAILED")
    page = page_of(workplace, bare(store, "one that ended"), going, failed)
    store.set_terminated(going)
    assert "<h1>one that ended</h1>" in page and "one going on has not ended yet." in page
    assert "one that failed failed before it began (UserError: no such folder)." in page


def test_a_mistake_is_told_in_one_sentence(
    workplace: Path, runs: list[MlflowRun], store: MlflowClient, tmp_path: Path
) -> None:
    uri = f"uri=sqlite:///{workplace}/mlflow.db"
    one, other = bare(store, "of one task"), bare(store, "of another", task="rhythm")
    going = store.create_run(runs[0].info.experiment_id, run_name="going on").info.run_id
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "run.json").write_text('{"uri": "sqlite:///other.db", "run_id": "x", "experiment_id": ""}')
    for arguments, expected in (
        ([], "no run given"),
        (["nothing"], "nothing: no folder, id or name of a run"),
        ([str(tmp_path)], "is in sqlite:///other.db, not in"),
        ([str(workplace)], "no tracking/run.json there"),
        ([going], "going on has not ended yet"),
        ([one, other], "of different tasks, superdiagnostic (of one task), rhythm (of another)"),
        ([one, runs[0].info.run_id], "trained nothing itself"),
        ([one, "output=."], "expected the name of a file"),
        ([one, "output=nowhere/page.html"], "expected the name of a file"),
    ):
        with pytest.raises(UserError) as told:
            report.main([*arguments, uri, *([] if "output=" in str(arguments) else [f"output={tmp_path}/none.html"])])
        assert expected in str(told.value) and "\n" not in str(told.value) and str(told.value)[-1] in ".…"
    assert not list(tmp_path.glob("*.html"))


# ---------------------------------------------------------------- on the same records


def columns(y: np.ndarray[Any, Any], p: np.ndarray[Any, Any], ids: list[int], people: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {"record_id": ids, "patient": people}
    for k in range(y.shape[1]):
        found |= {f"c{k}_label": y[:, k].tolist(), f"c{k}_probability": p[:, k].tolist()}
    return found


def test_windows_are_made_records_and_records_put_in_order() -> None:
    y, p = np.array([[1.0], [1.0], [0.0]]), np.array([[0.2], [0.6], [0.5]])
    for aggregate, expected in (("mean", 0.4), ("max", 0.6)):
        found = read_predictions(columns(y, p, [9, 9, 3], [1, 1, 0]), aggregate)
        assert found is not None and found.patients is not None
        assert found.records.tolist() == [3, 9] and found.patients.tolist() == [0, 1]
        np.testing.assert_allclose(found.p[:, 0], [0.5, expected])
        np.testing.assert_array_equal(found.y[:, 0], [0, 1])
    assert read_predictions({"record_id": [1], "age": [50.0], "age_predicted": [51.0]}, "mean") is None


def test_runs_are_paired_whatever_the_order_of_their_rows_and_classes() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (40, 3)).astype(float)
    y[:, 2] = 0  # a class without both labels
    p, q = rng.random((2, 40, 3))
    ids, people, order = list(range(40)), [k // 2 for k in range(40)], rng.permutation(40)
    first = read_predictions(columns(y, p, ids, people), "mean")
    shuffled = columns(y[order], q[order], order.tolist(), [people[k] for k in order])
    other = read_predictions(dict(reversed(shuffled.items())), "mean")
    assert first is not None and other is not None
    found, expected = auroc_difference(first, other), paired_difference(y, p, q, groups=people)
    assert found.classes == 2 and found.interval == expected.interval
    assert (found.difference, found.p) == pytest.approx((expected.difference, expected.p))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"classes": ("a", "c")}, "their classes differ"),
        ({"records": np.arange(1, 5)}, "4 and 4, of which 3 are the same"),
        ({"y": np.ones((4, 2))}, "the labels of 4 of their 4 records differ"),
    ],
)
def test_what_is_not_the_same_is_not_compared(changed: dict[str, Any], expected: str) -> None:
    whole = LoggedPredictions(
        np.arange(4), None, ("a", "b"), np.tile([[0.0, 1.0], [1.0, 0.0]], (2, 1)), np.full((4, 2), 0.5)
    )
    with pytest.raises(UserError, match=expected):
        auroc_difference(whole, LoggedPredictions(**vars(whole) | changed))
