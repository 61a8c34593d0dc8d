from __future__ import annotations

import json
import os
import re
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

import einthoven
from composing import composed
from einthoven.report.gallery import describe_picture
from einthoven.runs import network_run
from einthoven.runs.base.read_base import read_base
from einthoven.runs.config.settings import read_settings
from einthoven.runs.folder.base_model import read_kept_base
from einthoven.runs.folds.cross_validation import hold_out
from einthoven.training import checkpoint
from einthoven.training.step import train_step
from small_runs import killed_after_epoch

SRC = Path(einthoven.__file__).parent
FAST = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=8")
BARE = "tracking.artifacts=false"  # of pictures, tables and exported models, which take longer than the training


def runs(workplace: Path, experiment: str) -> list[MlflowRun]:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def table_of(run: MlflowRun, workplace: Path, path: str) -> pd.DataFrame:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    table: pd.DataFrame = client.load_table(run.info.experiment_id, path, run_ids=[run.info.run_id])
    return table


def damage(file: Path) -> None:
    """Flip one bit of a file."""
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def same_tensors(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same numbers, to the last bit."""
    first, second = (checkpoint._flatten_state(checkpoint.load(path)[0])[0] for path in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def same_metrics(first: MlflowRun, second: MlflowRun) -> bool:
    """Whether two runs have the same metrics, to the last bit. Speed and memory differ."""
    names = {name for name in first.data.metrics | second.data.metrics if not name.startswith("system/")}
    return all(first.data.metrics[name] == second.data.metrics[name] for name in names)


def test_a_training_step_is_six_calls_of_this_package_away_from_the_shell(
    train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def step(*args: object, **kwargs: object) -> None:
        files = [Path(frame.filename) for frame in traceback.extract_stack()]
        calls.extend(str(file.relative_to(SRC)) for file in files if file.is_relative_to(SRC))
        raise KeyboardInterrupt

    monkeypatch.setattr(network_run, "train_step", step)
    with pytest.raises(SystemExit):
        train(*FAST, BARE, "tracking.experiment=stack")
    verb = "commands/train.py"  # its main, and the job that Hydra calls
    assert [*calls, "train_step"] == ["cli.py", verb, verb, "runs/train_one.py", "training/loop.py", "train_step"]


@pytest.fixture
def default_run(train: Callable[..., None], workplace: Path) -> MlflowRun:
    """One run of the default model, made once."""
    if not (workplace / "default").exists():
        train(
            "trainer.epochs=2",
            "trainer.batch_size=8",
            "diagnostics.predictions=1",
            "hydra.run.dir=default",
            "tracking.experiment=default",
            pictures=True,
        )
    (run,) = runs(workplace, "default")
    return run


def test_a_run_has_every_metric_by_its_name(default_run: MlflowRun) -> None:
    names = set(default_run.data.metrics)
    stages = {f"watch/grad/norm/{stage}" for stage in ("stem", "conv", "attention", "pool", "head")}
    assert (
        names
        >= {
            "train/loss",
            "watch/optim/lr",
            "watch/grad/norm",
            "watch/grad/vanishing",
            "watch/diag/entropy",
            "watch/diag/kl_prior",
        }
        | stages
    )
    assert names >= {f"{split}/{name}" for split in ("val", "test") for name in ("macro_auroc", "loss", "fmax")}
    assert names >= {"watch/diag/kl_drift", "test/macro_auroc_low", "test/macro_auroc_high"}
    assert any(name.startswith("val/auroc/") for name in names)
    assert all(np.isfinite(value) for value in default_run.data.metrics.values())


def test_the_default_run_of_ptbxl_starts_from_generated_ecgs(default_run: MlflowRun, workplace: Path) -> None:
    base = read_kept_base(workplace / "default")
    assert base.sha256 == read_base("synthetic").sha256
    assert default_run.data.tags["init_from"] == f"synthetic ({base.sha256})"
    assert float(default_run.data.params["optimizer.lr"]) == 1e-3


def test_losses_and_scores_come_first_in_the_order_of_mlflow(default_run: MlflowRun, workplace: Path) -> None:
    """As MLflow sorts its charts: by what stands before the last slash; without a slash behind all others."""
    # MLflow shows the metrics of `system/` on a page of their own.
    names = [name for name in default_run.data.metrics if not name.startswith("system/")]
    sections = sorted({name.rpartition("/")[0] for name in names})
    front = ["test", "test/auroc", "train", "val", "val/auroc", "val/calibration_gap"]
    assert sections[: len(front)] == front and sorted(sections, key=str.casefold) == sections
    assert all(section.startswith("watch/") for section in sections[len(front) :]) and "" not in sections
    # A table of a comparison sorts by the whole name.
    assert all(not name.startswith("watch/") for name in sorted(names)[: -sum(n.startswith("watch/") for n in names)])
    # What is measured once stands at step 0, where MLflow draws a bar instead of a line with one dot.
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    for name in names:
        steps = {point.step for point in client.get_metric_history(default_run.info.run_id, name)}
        assert len(steps) > 1 or steps == {0} or name.startswith("watch/"), name


def test_loss_is_entropy_of_the_labels_and_divergence(default_run: MlflowRun, workplace: Path) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    series = {}
    for name in ("train/loss", "watch/diag/entropy_labels", "watch/diag/kl_labels"):
        series[name] = {m.step: m.value for m in client.get_metric_history(default_run.info.run_id, name)}
    measured = series["watch/diag/kl_labels"]
    assert measured.keys() == series["train/loss"].keys() and len(measured) > 3
    for step, divergence in measured.items():
        total = series["watch/diag/entropy_labels"][step] + divergence
        assert total == pytest.approx(series["train/loss"][step], rel=1e-5)


def test_a_run_tells_its_configuration_but_no_folder(default_run: MlflowRun, corpus: Path) -> None:
    assert default_run.data.params["optimizer.lr"]
    assert default_run.data.params["data.root"] == f"…/{corpus.name}"
    tags = default_run.data.tags
    assert tags["task"] == "superdiagnostic"
    assert {"data.fingerprint", "config.hash", "device", "precision"} <= set(tags)
    own = {k: v for k, v in tags.items() if not k.startswith("mlflow.log")}
    assert str(corpus.parent) not in f"{default_run.data.params} {own}"
    assert {i.dataset.digest for i in default_run.inputs.dataset_inputs} == {tags["data.fingerprint"]}


def test_a_run_keeps_pictures_predictions_and_checkpoints(default_run: MlflowRun, workplace: Path) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    files = {
        Path(file.path).name: file.file_size
        for folder in ("figures", "predictions", "checkpoints")
        for file in client.list_artifacts(default_run.info.run_id, folder)
    }
    pictures = {"loss.png", "schedule.png", "pca_scree.png", "roc_val.png", "roc_test.png"}
    pictures |= {"ecg_best_1.png", "ecg_worst_2.png", "explanations.png"}
    pictures |= {"gradient_flow.png", "updates.png", "information.png", "labels.png", "attention.png"}
    pictures |= {"weights.png", "gradients.png", "activations.png", "probabilities.png"}
    assert set(files) >= pictures | {"val.parquet", "test.parquet", "last.safetensors", "best.safetensors"}
    assert all(files[name] > 10_000 for name in pictures)


def test_the_folder_of_a_run_has_its_results_as_plain_files(default_run: MlflowRun, workplace: Path) -> None:
    folder = workplace / "default"
    listed = re.findall(r"^\| `([^`]+)` \| .+ \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert {name.rstrip("/") for name in listed} | {"README.md"} == {path.name for path in folder.iterdir()}

    results = json.loads((folder / "metrics.json").read_text())
    metrics = results["metrics"]
    assert metrics["test/macro_auroc"] == pytest.approx(default_run.data.metrics["test/macro_auroc"])
    assert results["result"].startswith(f"Macro AUROC {metrics['test/macro_auroc']:.3f} (")
    history = pd.read_csv(folder / "history.csv").query("metric == 'train/loss'")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    points = client.get_metric_history(default_run.info.run_id, "train/loss")
    assert dict(zip(history["step"], history["value"], strict=True)) == {m.step: m.value for m in points}
    logged = table_of(default_run, workplace, "predictions/test.parquet")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "predictions" / "test.csv"), logged, check_dtype=False)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["hash"].startswith(default_run.data.tags["data.fingerprint"])
    assert dataset["splits"]["test"]["records"] == len(logged)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] and environment["code.hash"] == default_run.data.tags["code.hash"]


def test_the_note_shows_the_curves_and_a_gallery_shows_every_picture(default_run: MlflowRun, workplace: Path) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    run_id = default_run.info.run_id
    result, picture, *_ = default_run.data.tags["mlflow.note.content"].split("\n\n")
    assert result.startswith("**Macro AUROC ")
    assert picture.endswith(f"](get-artifact?path=figures/note.png&run_uuid={run_id})")
    gallery = Path(client.download_artifacts(run_id, "index.html")).read_text()
    pictures = [Path(file.path) for file in client.list_artifacts(run_id, "figures")]
    assert pictures
    for path in pictures:
        # The small picture of the note repeats a larger one.
        is_shown = f"<figcaption>{describe_picture(path.stem)}. File: figures/{path.name}" in gallery
        assert is_shown == (path.stem != "note")
        assert (workplace / "default" / path).exists()


def test_the_exported_model_takes_millivolts_and_gives_the_probabilities_of_the_run(
    default_run: MlflowRun, workplace: Path, load_model: Callable[[MlflowRun], Any]
) -> None:
    model = load_model(default_run)
    predictions = table_of(default_run, workplace, "predictions/test.parquet")
    classes = [c.removesuffix("_label") for c in predictions if c.endswith("_label")]
    signals = _signals_of(workplace, default_run, predictions["ecg_id"].tolist())
    p = model.predict(signals)
    assert p.shape == (len(predictions), len(classes)) and len(predictions) > 2
    expected = predictions[[f"{name}_probability" for name in classes]].to_numpy()
    np.testing.assert_allclose(p, expected, atol=1e-4)


def _signals_of(
    workplace: Path, run: MlflowRun, ecg_ids: list[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    from einthoven.data.store.open_store import open_store

    stores = [open_store(path) for path in (workplace / "data" / "stores").iterdir() if path.is_dir()]
    (store,) = [each for each in stores if each.fingerprint.startswith(run.data.tags["data.fingerprint"])]
    rows = [store.table["ecg_id"].tolist().index(ecg_id) for ecg_id in ecg_ids]
    return (store.signals[rows] * 1e-3).astype(np.float32)


def test_two_runs_with_one_seed_agree_and_another_seed_differs(train: Callable[..., None], workplace: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("trainer.epochs=1", "trainer.batch_size=8", f"seed={seed}", f"hydra.run.dir=same/{folder}", BARE)
    files = [workplace / "same" / folder / "checkpoints" / "last.safetensors" for folder in "abc"]
    assert same_tensors(files[0], files[1])
    assert not same_tensors(files[0], files[2])


@pytest.mark.parametrize(("optimizer", "damaged"), [("adamw", False), ("muon", True)])
def test_a_killed_run_resumes_to_the_same_bits(
    train: Callable[..., None],
    workplace: Path,
    optimizer: str,
    damaged: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = ("model.channels=[16,32]", "trainer.epochs=3", "trainer.batch_size=8")
    options = (*small, BARE, f"optimizer={optimizer}", f"tracking.experiment={optimizer}")
    whole, cut = f"resume/{optimizer}-whole", f"resume/{optimizer}-cut"
    train(*options, f"hydra.run.dir={whole}")

    with killed_after_epoch(2):
        train(*options, f"hydra.run.dir={cut}")
    if damaged:  # the run goes back to its first epoch, with all that it has written
        damage(workplace / cut / "checkpoints" / "last.safetensors")
    train(f"resume={cut}")
    shown = capsys.readouterr()
    assert f"The run continues after epoch {1 if damaged else 2} of 3." in shown.out
    assert ("previous.safetensors, is used instead" in shown.err) == damaged

    assert same_tensors(*(workplace / folder / "checkpoints" / "last.safetensors" for folder in (whole, cut)))
    first, second = runs(workplace, optimizer)
    assert same_metrics(first, second)
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    steps = [len(client.get_metric_history(run.info.run_id, "train/loss")) for run in (first, second)]
    assert steps[0] == steps[1] > 0


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_within_an_epoch_resumes_to_the_same_bits(
    train: Callable[..., None],
    workplace: Path,
    signal_number: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = ("model.channels=[16,32]", "trainer.epochs=2", "trainer.batch_size=4", "diagnostics.cosine=2")
    options = (*small, BARE, "optimizer=schedule_free_adamw", f"tracking.experiment=stopped{code}")
    whole, cut = f"stopped/{code}-whole", f"stopped/{code}-cut"
    train(*options, f"hydra.run.dir={whole}")

    steps: list[int] = []

    def step(*args: Any, **kwargs: Any) -> Any:
        steps.append(len(steps))
        if len(steps) == 8:
            os.kill(os.getpid(), signal_number)
        return train_step(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(network_run, "train_step", step)
        train(*options, f"hydra.run.dir={cut}")
    assert stopped.value.code == code
    shown = capsys.readouterr()
    assert "This continues it: einthoven train resume=" in shown.out
    assert f"{cut}\n" in shown.out
    # The step is finished, and nothing after it is begun.
    notes = checkpoint.load_notes(workplace / cut / "checkpoints")
    assert (len(steps), notes["position"]["step"], notes["position"]["epoch"]) == (8, 8, 1)
    assert runs(workplace, f"stopped{code}")[0].info.status == "KILLED"

    train(f"resume={cut}")
    assert same_tensors(*(workplace / folder / "checkpoints" / "last.safetensors" for folder in (whole, cut)))
    second, first = runs(workplace, f"stopped{code}")
    assert second.info.status == first.info.status == "FINISHED"
    assert same_metrics(first, second)
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    series = []
    for run in (first, second):
        path = client.download_artifacts(run.info.run_id, "series/metrics.parquet")
        rows = pd.read_parquet(path)[["metric", "step", "value"]]
        assert not rows.duplicated(["metric", "step"]).any()
        rows = rows[~rows.metric.astype(str).str.startswith("system/")]
        series.append(rows.sort_values(["metric", "step"], ignore_index=True))
    pd.testing.assert_frame_equal(*series)


def test_a_plateau_is_resumed_with_what_it_has_seen(train: Callable[..., None], workplace: Path) -> None:
    plateau = ("schedule=plateau", "schedule.patience=0", "schedule.threshold=1.0", "tracking.experiment=plateau")
    options = (
        *FAST,
        BARE,
        "trainer.epochs=4",
        *plateau,
    )  # nothing improves by 1: a reduction at every evaluation but one
    train(*options, "hydra.run.dir=plateau/whole")
    with killed_after_epoch(2):
        train(*options, "hydra.run.dir=plateau/cut")
    train("resume=plateau/cut")
    files = [workplace / "plateau" / folder / "checkpoints" / "last.safetensors" for folder in ("whole", "cut")]
    assert same_tensors(*files)
    first, second = runs(workplace, "plateau")
    assert first.data.metrics["watch/optim/lr"] == second.data.metrics["watch/optim/lr"] == pytest.approx(4e-3 * 0.3**2)


def test_resume_takes_no_other_option(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str], workplace: Path
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train("resume=somewhere", "seed=3")
    assert exit_.value.code == 2
    assert "leave out seed=3" in capsys.readouterr().err


def test_single_label_keeps_records_with_one_label_and_says_how_many_it_dropped(
    train: Callable[..., None], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*FAST, "task.single_label=true", "tracking.experiment=single")
    (run,) = runs(workplace, "single")
    assert "records have exactly one label." in capsys.readouterr().out
    assert 0 <= run.data.metrics["val/accuracy"] <= 1
    table = table_of(run, workplace, "predictions/val.parquet")
    np.testing.assert_allclose(table.filter(like="_probability").sum(axis=1), 1, atol=1e-5)
    assert (table.filter(like="_label").sum(axis=1) == 1).all()


def test_a_sweep_is_a_parent_with_children_and_a_table(train: Callable[..., None], workplace: Path) -> None:
    train(*FAST, BARE, "-m", "optimizer=sgd,adamw", "seed=0,1", "tracking.experiment=sweep")
    found = runs(workplace, "sweep")
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 4 and parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    for optimizer in ("sgd", "adamw"):
        own = [c.data.metrics["val/macro_auroc"] for c in children if c.data.params["optimizer"] == optimizer]
        assert f"| optimizer={optimizer} | 2 | {np.mean(own):.4f} ± {np.std(own, ddof=1):.4f} |" in note
    assert parent.data.metrics["val/macro_auroc"] >= np.mean([c.data.metrics["val/macro_auroc"] for c in children])
    parts = {"model": "logistic", "schedule": "cosine", "augment": "default"}
    assert parent.data.params.items() >= {**parts, "optimizer": "sgd,adamw", "seed": "0,1"}.items()
    for child in children:
        assert child.data.params.items() >= parts.items() and child.data.params["seed"] in ("0", "1")


def test_cross_validation_pools_predictions_that_were_out_of_fold(
    train: Callable[..., None], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "cv-pooled"
    train(*FAST, "folds=cv", "data.folds.train=[1,2,3]", "tracking.experiment=cv", f"hydra.run.dir={folder}")
    found = runs(workplace, "cv")
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    tables = [table_of(run, workplace, "predictions/val.parquet") for run in found if run is not parent]
    assert len(tables) == 3
    ids = [set(table["ecg_id"]) for table in tables]
    assert sum(map(len, ids)) == len(set.union(*ids)) > 10
    from sklearn.metrics import roc_auc_score

    y, p = (np.concatenate([t.filter(like=kind).to_numpy() for t in tables]) for kind in ("_label", "_probability"))
    pooled = roc_auc_score(y, p, average="macro")
    assert parent.data.metrics["val/macro_auroc"] == pytest.approx(pooled, abs=1e-6)
    of_folds = [run.data.metrics["val/macro_auroc"] for run in found if run is not parent]
    assert parent.data.metrics["val/macro_auroc_fold_mean"] == pytest.approx(np.mean(of_folds), abs=1e-6)
    assert parent.data.metrics["val/macro_auroc_fold_sd"] == pytest.approx(np.std(of_folds, ddof=1), abs=1e-6)
    printed = capsys.readouterr().out
    assert f"{np.mean(of_folds):.4f} ± {np.std(of_folds, ddof=1):.4f}" in printed
    parts = {"model": "logistic", "optimizer": "adamw", "schedule": "cosine", "augment": "default", "seed": "0"}
    assert all(run.data.params.items() >= parts.items() for run in found)

    # The pooled table is in the folder and among the artifacts.
    together = table_of(parent, workplace, "predictions/val.parquet")
    written = pd.read_parquet(folder / "out_of_fold.parquet")
    pd.testing.assert_frame_equal(together[written.columns], written, check_dtype=False)
    by_id = pd.concat(tables).set_index("ecg_id").sort_index()
    own_columns = [name for name in by_id if name.endswith(("_label", "_probability"))]
    pd.testing.assert_frame_equal(written.set_index("ecg_id").sort_index()[own_columns], by_id[own_columns])
    fold_of = {frozenset(part["ecg_id"]): fold for fold, part in written.groupby("fold")}
    assert set(fold_of) == {frozenset(part) for part in ids} and set(fold_of.values()) == {1, 2, 3}
    assert written.groupby("patient")["fold"].nunique().max() == 1
    for name in ("NORM", "MI"):
        auroc = roc_auc_score(written[f"{name}_label"], written[f"{name}_probability"])
        assert f"{auroc:.4f} (" in printed


def test_weights_of_the_best_epoch_are_reported_where_asked_for(train: Callable[..., None], workplace: Path) -> None:
    train(*FAST, BARE, "trainer.epochs=6", "trainer.select=best", "tracking.experiment=best")
    (run,) = runs(workplace, "best")
    history = MlflowClient(f"sqlite:///{workplace}/mlflow.db").get_metric_history(run.info.run_id, "val/macro_auroc")
    assert run.data.metrics["val/macro_auroc"] == max(m.value for m in history)


def test_windows_shorter_than_the_record(train: Callable[..., None], workplace: Path) -> None:
    train(*FAST, BARE, "trainer.window=2.5", "trainer.aggregate=max", "tracking.experiment=window")
    (run,) = runs(workplace, "window")
    assert run.data.params["model.parameters"] == str(8 * 250 * 5 + 5)


def test_gradient_descent_of_all_records_with_an_l1_penalty(train: Callable[..., None], workplace: Path) -> None:
    full = ("optimizer=gradient_descent", "trainer.batch_size=null", "trainer.micro_batch=8", "penalty=l1_proximal")
    train("model=logistic", BARE, "trainer.epochs=3", *full, "penalty.strength=0.01", "tracking.experiment=full")
    (run,) = runs(workplace, "full")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 3  # a step an epoch
    assert 0 < run.data.metrics["watch/weight/zeros"] < 1


def test_single_records_are_for_models_that_can_take_them(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train("trainer.batch_size=1", "trainer.epochs=1", "tracking.experiment=one")
    assert "a batch or a micro batch holds one record" in capsys.readouterr().err
    train("model=logistic", BARE, "trainer.batch_size=1", "trainer.epochs=1", "tracking.experiment=one")


@pytest.mark.parametrize("option", ["model.heads=0", "model.window=-1", "model.dropout=2", "model.channels=[-32,64]"])
def test_options_of_which_no_network_can_be_made_are_refused_in_a_sentence(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit) as error:
        train(option)
    assert error.value.code == 2
    told = capsys.readouterr().err
    assert "model" in told and option.split("=")[0].split(".")[1] + "=" in told


@pytest.mark.parametrize("mark", ["", "++"])
def test_margins_of_the_training_records_need_a_cross_validation(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str], mark: str
) -> None:
    with pytest.raises(SystemExit) as error:
        train(*FAST, f"{mark}diagnostics.log_odds=true", "data.root=/nowhere")
    assert error.value.code == 2
    assert "diagnostics.log_odds=true: has no effect without a cross-validation" in capsys.readouterr().err


def test_all_diagnostics_have_margins_in_a_cross_validation_only() -> None:
    assert not read_settings(composed("train", "diagnostics=full")).diagnostics.log_odds
    config = composed("train", "diagnostics=full", "folds=cv")
    assert read_settings(config).diagnostics.log_odds
    # The run of a fold is no cross-validation, and measures for one.
    fold = read_settings(hold_out(config, [1, 2], 1))
    assert fold.diagnostics.log_odds and not fold.folds.cross_validate


@pytest.mark.parametrize("stride", ["1", "0.25", "30"])
def test_a_stride_without_windows_is_refused_before_any_data_are_read(
    stride: str, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train(*FAST, f"trainer.stride={stride}", "data.root=/nowhere")
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.count("\n") == 1
    assert f"trainer.stride={stride}: has no effect with trainer.window=null" in error
