from __future__ import annotations

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from mlflow import MlflowClient

from einthoven.errors import UserError
from einthoven.tracking import beside, metrics, run_folder, spool
from einthoven.tracking import recorder as recorder_module
from einthoven.tracking.artifact_address import artifact_address
from einthoven.tracking.closing import closing
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.series import Point, SeriesFile
from einthoven.tracking.sync import sync
from einthoven.tracking.unsent import collect_unsent
from full_disk import full_disk


@pytest.fixture
def uri(tmp_path: Path, mlflow_db: Path) -> str:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def open_run(uri: str, **options: object) -> Recorder:
    folder = Path(uri.removeprefix("sqlite:///")).parent / "run"
    return Recorder(uri, "experiment", "run", folder=folder, tags={"a": "b"}, **options)  # type: ignore[arg-type]


def kill(recorder: Recorder) -> None:
    """Leave a recorder as the end of its process would: nothing more is sent, and the folder is free."""
    recorder._entries.close()
    recorder._files.close()
    recorder._lock.release()


def test_every_step_arrives_once_with_its_value(uri: str) -> None:
    recorder = open_run(uri, interval=7)
    observed: list[Point] = []
    recorder.observe = observed.extend
    for step in range(1, 31):
        recorder.log_metrics(step, {"train/loss": torch.tensor(1.0 / step), "watch/optim/lr": 0.1 * step})
    recorder.finish()
    history = MlflowClient(uri).get_metric_history(recorder.run_id, "train/loss")
    assert [m.step for m in sorted(history, key=lambda m: m.step)] == list(range(1, 31))
    assert recorder.history["train/loss"][1] == pytest.approx([1.0 / step for step in range(1, 31)])
    assert recorder.latest["watch/optim/lr"] == pytest.approx(3.0)
    # Whoever observes the recorder gets each value once, in the order of the steps.
    losses = [(point.step, point.value) for point in observed if point.metric == "train/loss"]
    assert losses == [(step, pytest.approx(1.0 / step)) for step in range(1, 31)]
    assert MlflowClient(uri).get_run(recorder.run_id).info.status == "FINISHED"


def test_a_run_is_finished_after_its_files_have_arrived(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log_artifact = MlflowClient.log_artifact
    statuses = []

    def log_slowly(client: MlflowClient, run_id: str, *args: object) -> None:
        # The metrics and the status travel by another thread, which has time to overtake the file.
        time.sleep(0.5)
        log_artifact(client, run_id, *args)
        statuses.append(client.get_run(run_id).info.status)

    monkeypatch.setattr(MlflowClient, "log_artifact", log_slowly)
    recorder = open_run(uri)
    recorder.text("a", "a.txt")
    recorder.text("b", "b.txt")
    recorder.finish()
    assert statuses == ["RUNNING", "RUNNING"]
    assert MlflowClient(uri).get_run(recorder.run_id).info.status == "FINISHED"


def test_a_run_that_hurries_sends_what_it_has_at_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_PAUSE", 60.0)
    recorder = open_run(uri)
    recorder.params({"optimizer": "adamw"})
    recorder.hurry()
    deadline = time.monotonic() + 30.0
    while recorder._entries.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert MlflowClient(uri).get_run(recorder.run_id).data.params == {"optimizer": "adamw"}
    recorder.finish()


def test_nothing_is_moved_before_a_flush_and_all_at_once_then(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, stacks = open_run(uri, interval=10), []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: (stacks.append(len(tensors)), stack(tensors))[1])
    for step in range(1, 10):
        recorder.log_metrics(step, {"a": torch.tensor(0.0), "b": torch.tensor(1.0)})
    assert stacks == []
    recorder.log_metrics(10, {"a": torch.tensor(0.0), "b": torch.tensor(1.0)})
    assert stacks == [20]
    recorder.finish()


@pytest.mark.parametrize("cores", [1, 2])
def test_pictures_that_are_written_beside_other_work_have_the_same_pixels(
    cores: int, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "usable_cores", lambda: cores)
    figures = {}
    pixels = {}
    for name, dpi in (("page", 72), ("plot", 150)):
        figures[name] = Figure(figsize=(3, 2), dpi=dpi, layout="constrained")
        figures[name].subplots().set_title(name)
        figures[name].savefig(tmp_path / f"{name}.png")
        pixels[name] = imread(tmp_path / f"{name}.png")
        assert pixels[name].shape == (2 * dpi, 3 * dpi, 4)
    recorder = open_run(uri)
    with recorder.figures(figures):
        recorder.text("beside", "text.txt")
    recorder.finish()
    client = MlflowClient(uri)
    assert {file.path for file in client.list_artifacts(recorder.run_id)} == {"figures", "text.txt"}
    for name in figures:
        logged = client.download_artifacts(recorder.run_id, f"figures/{name}.png", str(tmp_path))
        np.testing.assert_array_equal(imread(logged), pixels[name])
    assert not list(tmp_path.rglob(".einthoven-partial-*"))


def test_a_continued_run_writes_no_step_twice(uri: str) -> None:
    first = open_run(uri)
    for step in range(1, 11):
        first.log_metrics(step, {"train/loss": float(step)})
        if step == 6:
            first.flush()
            position = first.position
    first.flush()
    kill(first)
    second = open_run(uri, run_id=first.run_id, position=position)
    for step in range(7, 21):
        second.log_metrics(step, {"train/loss": float(step)})
    second.finish()
    history = MlflowClient(uri).get_metric_history(first.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(step, float(step)) for step in range(1, 21)]
    assert second.history["train/loss"][0] == list(range(1, 21))


@pytest.mark.parametrize("without_folder", [False, True])
def test_results_that_are_added_to_a_finished_run_do_not_move_its_end(
    uri: str, without_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_run(uri)
    first.log_metrics(1, {"train/loss": 1.0})
    first.finish()
    client = MlflowClient(uri)
    end = client.get_run(first.run_id).info.end_time
    monkeypatch.setattr(recorder_module, "_now_ms", lambda: end + 3_600_000)
    if without_folder:
        shutil.rmtree(first._run_folder / "tracking")
    for _ in range(2):
        again = open_run(uri, run_id=first.run_id)
        again.log_metrics(2, {"test/loss": 1.0})
        again.finish()
        info = client.get_run(first.run_id).info
        assert (info.status, info.end_time) == ("FINISHED", end)
    stopped = open_run(uri, run_id=first.run_id)
    stopped.finish("KILLED")
    open_run(uri, run_id=first.run_id).finish()  # a run that goes on after that ends later
    assert client.get_run(first.run_id).info.end_time == end + 3_600_000


def test_more_metrics_than_one_call_takes(uri: str) -> None:
    recorder = open_run(uri, interval=10_000)
    for step in range(1, 1101):
        recorder.log_metrics(step, {"a": 1.0, "b": 2.0})
    recorder.finish()
    assert len(MlflowClient(uri).get_metric_history(recorder.run_id, "b")) == 1100


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_run_that_breaks_off_is_closed_as_such(uri: str, error: BaseException, status: str) -> None:
    recorder = open_run(uri)
    with pytest.raises(type(error)), closing(recorder):
        recorder.log_metrics(1, {"a": 1.0})
        raise error
    run = MlflowClient(uri).get_run(recorder.run_id)
    assert (run.info.status, run.data.metrics) == (status, {"a": 1.0})


def test_a_run_whose_thread_still_waits_for_the_store_is_not_opened_again_in_this_process(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(uri.removeprefix("sqlite:///")).parent / "run"
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        if has_begun.is_set():
            may_end.wait(30)
        has_begun.set()
        raise ConnectionError("no answer")

    monkeypatch.setattr(Delivery, "__call__", wait)
    monkeypatch.setattr(spool, "_LAST_WAIT", 0.01)
    try:
        with run_folder.writing(folder) as lock:
            recorder = open_run(uri, patience=0.1, lock=lock)
            recorder.tags({"a": "b"})
            assert has_begun.wait(10)
            recorder.finish()
        with pytest.raises(UserError, match="another process is writing this run"):
            open_run(uri, run_id=recorder.run_id)
    finally:
        may_end.set()


def test_a_full_disk_ends_the_run_with_a_sentence_and_leaves_what_was_written(
    uri: str, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("256k")
    recorder = Recorder(uri, "experiment", "run", folder=disk / "run", tags={}, interval=10)
    with pytest.raises(UserError, match="No space left on device; the run ends here") as full, closing(recorder):
        for step in range(1, 100_000):
            recorder.log_metrics(step, {"train/loss": float(step), "watch/optim/lr": 0.1})
    assert f"resume={disk / 'run'}" in str(full.value)
    client = MlflowClient(uri)
    run = client.get_run(recorder.run_id)
    history = sorted(m.step for m in client.get_metric_history(recorder.run_id, "train/loss"))
    assert run.info.status == "FAILED" and history == list(range(1, len(history) + 1)) and len(history) > 1000
    kept = [p.step for p in SeriesFile(disk / "run" / "tracking").after({}) if p.metric == "train/loss"]
    assert kept[: len(history)] == history and recorder.unsent == []


def test_a_run_that_starts_offline_is_sent_later(uri: str) -> None:
    recorder = open_run(uri, offline=True)
    for step in range(1, 11):
        recorder.log_metrics(step, {"train/loss": 1.0 / step})
    recorder.text("a", "a.txt")
    recorder.finish()
    client, folder = MlflowClient(uri), recorder._run_folder
    assert recorder.run_id == "" and client.get_experiment_by_name("experiment") is None
    with pytest.raises(UserError, match="has not been sent"):
        open_run(uri)
    for _ in range(2):  # the second time there is nothing left to do
        with collect_unsent() as unsent:
            run_id = sync(folder).split()[1]
        assert unsent == []
        (run,) = client.search_runs([client.get_experiment_by_name("experiment").experiment_id])
        assert (run.info.run_id, run.info.status, run.data.tags["a"]) == (run_id, "FINISHED", "b")
        assert len(client.get_metric_history(run_id, "train/loss")) == 10
        assert {f.path for f in client.list_artifacts(run_id)} == {"a.txt", "series"}


def test_the_status_of_a_run_that_is_sent_later_comes_last(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = open_run(uri, offline=True)
    recorder.log_metrics(1, {"train/loss": 1.0})
    recorder.text("a", "a.txt")
    recorder.finish()
    files_at_end: list[set[str]] = []
    set_terminated = MlflowClient.set_terminated

    def look(client: MlflowClient, run_id: str, *others: Any) -> None:
        files_at_end.append({file.path for file in client.list_artifacts(run_id)})
        set_terminated(client, run_id, *others)

    monkeypatch.setattr(MlflowClient, "set_terminated", look)
    sync(recorder._run_folder)
    assert files_at_end == [{"a.txt", "series"}]


def test_a_killed_run_is_closed_as_such_when_it_is_sent(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = open_run(uri)
    recorder.log_metrics(1, {"train/loss": 1.0})
    recorder.flush()
    with pytest.raises(UserError, match="another process"):
        sync(recorder._run_folder)
    kill(recorder)
    sync(recorder._run_folder)
    run = MlflowClient(uri).get_run(recorder.run_id)
    assert (run.info.status, run.data.metrics) == ("KILLED", {"train/loss": 1.0})


def test_a_long_run_is_thinned_in_the_store_and_whole_in_its_artifact_across_a_kill(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "POINTS", 20)
    values = {step: math.sin(step) for step in range(1, 201)}

    def train(recorder: Recorder, first: int, last: int) -> None:
        for step in range(first, last + 1):
            recorder.log_metrics(step, {"train/loss": values[step]} | ({"val/loss": step} if step % 40 == 0 else {}))

    first = open_run(uri, steps=200, interval=7)
    train(first, 1, 63)
    first.flush()
    position = first.position
    train(first, 64, 95)
    first.flush()
    kill(first)
    second = open_run(uri, run_id=first.run_id, position=position, steps=200, interval=7)
    train(second, 64, 200)
    second.finish()
    client = MlflowClient(uri)
    found = sorted((m.step, m.value) for m in client.get_metric_history(first.run_id, "train/loss"))
    assert [step for step, _ in found] == list(range(10, 201, 10))
    for step, value in found:
        assert value == pytest.approx(sum(values[s] for s in range(step - 9, step + 1)) / 10)
    assert second.history["train/loss"] == ([s for s, _ in found], [v for _, v in found])
    rare = client.get_metric_history(first.run_id, "val/loss")
    assert sorted((m.step, m.value) for m in rare) == [(step, float(step)) for step in range(40, 201, 40)]
    table = pq.read_table(client.download_artifacts(first.run_id, "series/metrics.parquet")).to_pylist()
    assert {r["step"]: r["value"] for r in table if r["metric"] == "train/loss"} == values
    assert len(table) == 205


def test_an_interval_that_an_interruption_cuts_is_one_point_after_the_run_is_continued(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "POINTS", 5)
    first = open_run(uri, steps=50)
    for step in range(1, 34):
        first.log_metrics(step, {"train/loss": float(step)})
    first.flush()
    position = first.position
    first.finish("KILLED")
    second = open_run(uri, run_id=first.run_id, position=position, steps=50)
    for step in range(34, 51):
        second.log_metrics(step, {"train/loss": float(step)})
    second.finish()
    found = MlflowClient(uri).get_metric_history(first.run_id, "train/loss")
    expected = [(10, 5.5), (20, 15.5), (30, 25.5), (40, 35.5), (50, 45.5)]
    assert sorted((m.step, m.value) for m in found) == expected


def test_a_run_without_its_folder_continues_from_what_the_store_has(uri: str) -> None:
    first = open_run(uri)
    for step in range(1, 6):
        first.log_metrics(step, {"train/loss": float(step)})
    first.params({"a": 1})
    first.finish("KILLED")
    shutil.rmtree(first._folder)
    second = open_run(uri, run_id=first.run_id)
    second.params({"a": 2, "b": 3})
    second.log_metrics(5, {"train/loss": 5.0})
    second.log_metrics(6, {"train/loss": 6.0})
    second.finish()
    run = MlflowClient(uri).get_run(first.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"a": "1", "b": "3"})
    assert [m.step for m in MlflowClient(uri).get_metric_history(first.run_id, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert second.unsent == []


def test_a_long_note_goes_on_in_a_file(uri: str) -> None:
    recorder = open_run(uri)
    picture = f"![curves]({artifact_address('figures/a b.png')})"
    recorder.note("\n".join(["line 0 µ", picture, *(f"line {k} µ" for k in range(1, 2000))]))
    recorder.finish()
    client = MlflowClient(uri)
    note = client.get_run(recorder.run_id).data.tags["mlflow.note.content"]
    address = f"get-artifact?path=figures/a%20b.png&run_uuid={recorder.run_id}"
    assert note.startswith(f"line 0 µ\n![curves]({address})\nline 1 µ")
    assert note.endswith("µ\n\n… the rest is in `note.md`.")
    # The file lies beside the folder of the figures.
    file = Path(client.download_artifacts(recorder.run_id, "note.md")).read_text()
    assert file.startswith("line 0 µ\n![curves](figures/a%20b.png)\nline 1 µ") and file.endswith("line 1999 µ")


def test_a_note_whose_first_line_is_too_long_is_cut(uri: str) -> None:
    recorder = open_run(uri)
    recorder.note(9000 * "x")
    recorder.finish()
    note = MlflowClient(uri).get_run(recorder.run_id).data.tags["mlflow.note.content"]
    assert note == 5000 * "x" + "\n\n… the rest is in `note.md`."


def test_a_continued_run_has_each_row_of_its_series_once(uri: str) -> None:
    first = open_run(uri)
    first.log_metrics(0, {"data/chance": 0.5})
    for step in range(1, 6):
        first.log_metrics(step, {"train/loss": float(step)})
    first.flush()
    position = first.position
    kill(first)
    second = open_run(uri, run_id=first.run_id, position=position)
    # A run measures its data again when it is continued.
    second.log_metrics(0, {"data/chance": 0.5})
    second.log_metrics(6, {"train/loss": 6.0})
    second.log_metrics(0, {"test/loss": 1.0})
    second.finish()
    path = MlflowClient(uri).download_artifacts(first.run_id, "series/metrics.parquet")
    rows = [(row["metric"], row["step"]) for row in pq.read_table(path).to_pylist()]
    assert rows == [("data/chance", 0), *(("train/loss", step) for step in range(1, 7)), ("test/loss", 0)]


def test_a_run_that_was_killed_while_it_was_created_is_created_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The store has created the run, and the process ends before it can note the id.
    write_ids = Delivery.write_ids

    def killed(self: Delivery, run_id: str, experiment_id: str) -> None:
        if run_id:
            raise SystemExit
        write_ids(self, run_id, experiment_id)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Delivery, "write_ids", killed)
        open_run(uri)
    (created,) = MlflowClient(uri).search_runs(["1"])
    continued = open_run(uri, run_id="")
    continued.finish()
    (run,) = MlflowClient(uri).search_runs(["1"])
    assert run.info.run_id == created.info.run_id == continued.run_id
    assert run.info.status == "FINISHED"


def test_ctrl_c_at_any_moment_leaves_a_folder_that_can_be_continued(tmp_path: Path) -> None:
    for number in range(15):
        folder = tmp_path / str(number)
        recorder = Recorder("sqlite:///none.db", "e", "r", folder=folder, tags={}, interval=1, offline=True)
        timer = threading.Timer(0.0014 * number, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt), closing(recorder):
            timer.start()
            for step in range(1, 100_000):
                recorder.log_metrics(step, {f"metric {step % 7}": float(step), f"rare {step // 40}": float(step)})
        points = list(SeriesFile(folder / "tracking").after({}))
        steps = [point.step for point in points if point.metric.startswith("metric")]
        assert steps == list(range(1, len(steps) + 1))
        for point in points:
            assert point.value == point.step
            assert point.metric in (f"metric {point.step % 7}", f"rare {point.step // 40}")
        statuses = [entry for entry in recorder._entries._path.read_text().splitlines() if "status" in entry]
        assert len(statuses) == 1
        assert "KILLED" in statuses[0]


@pytest.mark.parametrize("kind", ["text", "arrays", "table", "series"])
def test_a_file_that_does_not_fit_on_the_disk_is_one_sentence_that_names_the_folder(uri: str, kind: str) -> None:
    recorder = open_run(uri, offline=True)
    numbers = np.random.default_rng(0).normal(size=1000)
    actions: dict[str, Callable[[], None]] = {
        "text": lambda: recorder.text("a" * 10_000, "a.txt"),
        "arrays": lambda: recorder.arrays({"a": numbers}),
        "table": lambda: recorder.table({"a": numbers.tolist()}, "a.json"),
        "series": lambda: [recorder.log_metrics(step, {"a": 0.1}) for step in range(1000)] and recorder.flush(),
    }
    with pytest.raises(UserError, match=r"run/tracking: .*the run ends here.*train resume="), full_disk():
        actions[kind]()
    kill(recorder)
