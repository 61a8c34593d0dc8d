"""Runs of pretext tasks: no label is read, wrong options are refused, the end of a run says what comes next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from einthoven import cli
from einthoven.contracts import Batch
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.store.splits import DeviceSplit
from einthoven.errors import UserError
from einthoven.runs.network.pretraining import check_patients, pair_batches, pair_by_patient
from einthoven.runs.network.representation import representation_metrics
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results.pretraining_figures import reconstruction_figures
from einthoven.training import checkpoint
from small_runs import killed_after_epoch
from two_steps import CONF, Bench, a_model, composed, two_steps

TASKS = ("contrastive", "cpc", "masked", "vae")
SMALL = (*a_model("conv_attention"), "trainer.window=null", "trainer.stride=null")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("pretraining"), patch)


def weights(run: NetworkRun) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def of_corpus(corpus: Path, *overrides: str) -> DictConfig:
    """A tiny run on the records of a corpus."""
    config = composed(*overrides).copy()
    OmegaConf.set_readonly(config, False)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config.data = compose("train", overrides=["data=ptbxl", f"data.root={corpus}"]).data
    return config


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_never_read(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(f"task={task}", *SMALL, "augment=views")
    trained = []
    for refuses in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if refuses:
                patch.setattr(Synthetic, "labels", _no_labels_here)
                patch.setattr(Synthetic, "label_sets", property(_no_labels_here))
            run = Bench(tmp_path, patch).assembled(config)
            two_steps(run)
            trained.append(weights(run))
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert run.data.labels.matrix.shape == (60, 0) and run.data.labels.classes == ()


def _no_labels_here(*_: object, **__: object) -> None:
    raise AssertionError("a label was read")


@pytest.mark.parametrize("task", TASKS)
def test_wrong_labels_change_nothing(
    task: str, write_corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    for codes in (None, "no codes"):
        corpus = write_corpus(tmp_path / f"corpus-{codes is None}", records=24)
        if codes is not None:
            table = pd.read_csv(corpus / "ptbxl_database.csv")
            table["scp_codes"] = codes
            table.to_csv(corpus / "ptbxl_database.csv", index=False)
        run = Bench(tmp_path / "runs", monkeypatch).assembled(of_corpus(corpus, f"task={task}", *SMALL))
        two_steps(run)
        trained.append(weights(run))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


@pytest.mark.parametrize("task", TASKS)
def test_an_epoch_has_losses_and_the_encoder_of_a_classifier(bench: Bench, task: str) -> None:
    run = bench.assembled(composed(f"task={task}", *SMALL))
    metrics = two_steps(run)
    assert {"train/loss", "val/loss", run.monitor, "watch/grad/norm/stem"} <= metrics.keys()
    assert {"watch/act/collapsed", "watch/act/uniformity", "watch/act/alignment"} <= metrics.keys()
    assert 1 <= metrics["watch/act/effective_rank"] <= 16 and 0 <= metrics["watch/act/alignment"] <= 4
    assert ("watch/act/latent_kl/32" in metrics) == ("watch/act/active_latents" in metrics) == (task == "vae")
    assert not any(name.startswith(("watch/diag/entropy", "val/calibration")) for name in metrics)
    classifier = bench.assembled(composed("task=superdiagnostic", *SMALL))
    state = classifier.model.state_dict()
    encoder = {name: value.shape for name, value in state.items() if not name.startswith("network.head")}
    pretrained = {name: value.shape for name, value in run.model.state_dict().items()}
    assert encoder.items() <= pretrained.items()
    # The last matrix tells the number of outputs, from which the network is built again.
    matrices = [name for name, shape in pretrained.items() if name.startswith("network.") and len(shape) == 2]
    assert matrices[-1].startswith("network.head")


@pytest.mark.parametrize("task", TASKS)
def test_a_probe_reads_labels_if_it_is_asked_to(bench: Bench, task: str) -> None:
    cache = f"data.cache={bench.folder}/cache"
    run = bench.assembled(composed(f"task={task}", *SMALL, cache, "diagnostics.probe_auroc=1"))
    assert 0.2 < two_steps(run)["val/probe_auroc"] <= 1
    assert run.data.labels.classes == ()


def test_a_probe_without_both_labels_is_refused_before_the_training(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("einthoven.runs.network.representation.ROWS", 1)
    cache = f"data.cache={bench.folder}/cache"
    reason = r"diagnostics.probe_auroc: no class .* among the 1 training records and among the 1 validation records"
    with pytest.raises(UserError, match=reason):
        bench.assembled(composed("task=contrastive", *SMALL, cache, "diagnostics.probe_auroc=1"))


def test_windows_are_views_and_one_record_has_not_collapsed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.assembled(composed("task=masked", *SMALL))
    metrics = representation_metrics(run, run.task)
    assert {"watch/act/collapsed", "watch/act/effective_rank", "watch/act/uniformity"} < metrics.keys()
    # The first and the last window of a record differ.
    assert 1e-6 < metrics["watch/act/alignment"] < 4
    monkeypatch.setattr("einthoven.runs.network.representation.ROWS", 1)
    assert representation_metrics(run, run.task).keys() == {"watch/act/alignment"}


DRAWN = {"masked": {"reconstructions"}, "vae": {"generated", "reconstructions"}}


@pytest.mark.parametrize(("task", "names"), DRAWN.items())
def test_reconstructed_and_generated_signals_are_drawn(bench: Bench, task: str, names: set[str]) -> None:
    run = bench.assembled(composed(f"task={task}", *SMALL))
    figures = reconstruction_figures(run, "val")
    assert figures.keys() == names
    for draw in figures.values():
        assert len(draw().axes[0].lines) > 12


@pytest.mark.parametrize("task", TASKS)
def test_evaluations_of_the_same_weights_are_equal(bench: Bench, task: str) -> None:
    run = bench.assembled(composed(f"task={task}", *SMALL, "augment=views"))
    first = run.evaluate("val")
    torch.manual_seed(99)
    second = run.evaluate("val")
    np.testing.assert_array_equal(first.p, second.p)
    assert first.p.shape == (len(run.data.rows["val"]), len(run.task.score_names)) and first.y.shape[1] == 0


def pairs(patients: list[int], rows: list[int], seed: int, batches: int = 1, first: int = 0) -> list[list[int]]:
    """The partner of each row in batches of the same rows; record k has the constant signal k."""
    signals = np.arange(len(patients), dtype=np.int16)[:, None, None] * np.ones((1, 2, 8), np.int16)
    split = DeviceSplit.load(signals, np.arange(len(patients)), np.zeros((len(patients), 0)), torch.device("cpu"))
    index = torch.tensor(rows)
    batch = Batch(split.take(index, 8), torch.zeros(len(rows), 0), index, torch.ones(len(rows), dtype=torch.bool))
    pair = pair_by_patient(split, np.array(patients))
    partners = []
    for paired in pair_batches([batch] * batches, pair, seed, epoch=0, first=first):
        assert torch.equal(paired.x[:, 0], batch.x)
        partners.append((paired.x[:, 1, 0, 0] * 1000).round().int().tolist())
    return partners


def test_partners_are_other_records_of_the_same_patient() -> None:
    patients = [7, 3, 7, 9, 7, 3]
    seen = {row: {pairs(patients, [row], seed)[0][0] for seed in range(40)} for row in range(6)}
    assert seen == {0: {2, 4}, 1: {5}, 2: {0, 4}, 3: {3}, 4: {0, 2}, 5: {1}}
    # Each batch of an epoch has pairs of its own, also after a resume within the epoch.
    first, second = pairs([1] * 20, list(range(20)), seed=0, batches=2)
    assert first != second
    assert pairs([1] * 20, list(range(20)), seed=0, first=1) == [second]


def test_pairs_of_patients_train_and_need_patients_with_several_records(bench: Bench, corpus: Path) -> None:
    options = ("task=contrastive", "task.pairs=patient", *SMALL)
    run = bench.assembled(of_corpus(corpus, *options))
    two_steps(run)
    assert run.evaluate("val").p.shape[1] == 3
    with pytest.raises(UserError, match=r"task.pairs=patient: each of the 3 training records is of another patient"):
        check_patients(np.array([2, 5, 1]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("loss=focal",), "loss=focal: it is a loss of classes, and this task reads no labels"),
        (("loss=mse",), "loss=mse: it compares signals"),
        (("trainer.sampler=balanced",), "trainer.sampler=balanced: task=contrastive reads no labels"),
        (("trainer.aggregate=max",), "trainer.aggregate=max"),
        (("augment=mixup",), "augment: mixup blends records and their labels"),
        (("augment=cutmix",), "augment: cutmix blends records and their labels"),
        (("trainer.micro_batch=8",), "trainer.micro_batch=8: task=contrastive compares the records"),
        (("trainer.batch_size=1",), "trainer.batch_size=1"),
        (("diagnostics.noise_scale=5",), "diagnostics.noise_scale=5"),
        (("task=masked", "augment=random_crop"), "augment: random_crop changes the length of a record"),
        (("task=vae", "loss=cross_entropy"), "loss=cross_entropy: it is a loss of classes"),
        (
            ("task=cpc", "loss=nt_xent"),
            "loss=nt_xent: it is a loss of two views of a record; expected task=contrastive",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_refused_before_data_are_read(
    options: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("einthoven.runs.data.data_loading.load_data", _no_labels_here)
    with pytest.raises(UserError) as refusal:
        task = () if options[0].startswith("task=") else ("task=contrastive",)
        NetworkRun(composed(*task, *options), tmp_path)
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_model_of_features_refuses_a_pretraining(bench: Bench) -> None:
    with pytest.raises(UserError, match="task=contrastive: this model is fitted to classes"):
        bench.train(composed("task=contrastive", "model=forest"))


def same_tensors(a: Path, b: Path) -> bool:
    """Whether two checkpoints are equal, apart from the histograms, which only a run with artifacts keeps."""
    only_in_pictures = re.compile(r"/kept/(weights|gradients|activations|probabilities)/")
    states = []
    for path in (a, b):
        state = checkpoint._flatten_state(checkpoint.load(path)[0])[0]
        states.append({name: value for name, value in state.items() if not only_in_pictures.search(name)})
    first, second = states
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_is_resumed_to_the_bit_and_says_what_comes_next(
    train: Callable[..., None], workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("task=contrastive", "task.pairs=patient", *SMALL, "trainer.epochs=2", "trainer.batch_size=16")
    options = (*options, "tracking.experiment=pretraining")
    train(*options, "hydra.run.dir=pre/whole", pictures=True)
    shown = capsys.readouterr().out
    assert re.search(r"init_from=\S*pre/whole", shown) and "train a classifier from these weights" in shown
    assert "There is no bundle: a pretraining" in shown

    with killed_after_epoch(1):
        train(*options, "hydra.run.dir=pre/cut", "tracking.artifacts=false")
    train("resume=pre/cut")
    files = [workplace / "pre" / name / "checkpoints" / "last.safetensors" for name in ("whole", "cut")]
    assert same_tensors(*files)

    # What belongs on the page of the run, and what does not.
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("pretraining").experiment_id
    (run,) = [r for r in client.search_runs([experiment]) if r.data.tags["folder"] == "pre/whole"]
    table = client.load_table(experiment, "predictions/val.parquet", run_ids=[run.info.run_id])
    assert {"loss", "mutual_information", "partner_found"} <= set(table.columns)
    assert table["loss"].mean() == pytest.approx(run.data.metrics["val/loss"], abs=1e-5)
    assert run.data.metrics["val/loss_low"] <= run.data.metrics["val/loss"] <= run.data.metrics["val/loss_high"]
    pictures = {Path(file.path).stem for file in client.list_artifacts(run.info.run_id, "figures")}
    assert {"loss", "ecg_best_1", "ecg_worst_1", "attention"} <= pictures
    models = {client.get_logged_model(output.model_id).name for output in run.outputs.model_outputs}
    assert models == {"checkpoint-best", "checkpoint-last"} and run.data.tags["task"] == "contrastive"

    # A pretraining has nothing to evaluate.
    capsys.readouterr()
    for command in (["evaluate", "run=pre/whole"], ["predict", "pre/whole", "x.dat"]):
        with pytest.raises(SystemExit):
            cli.main(command)
        error = capsys.readouterr().err
        assert "pre/whole: is a pretraining (contrastive)" in error and re.search(r"init_from=\S*pre/whole", error)
        assert error.count("\n") == 1

    # The task of another package is not known by its name.
    monkeypatch.setattr("einthoven.predict.model_folder.PRETEXT_TASKS", ())
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "run=pre/whole"])
    assert "run=pre/whole: its task=contrastive predicts no classes" in capsys.readouterr().err


def test_held_out_folds_are_pooled(train: Callable[..., None], workplace: Path) -> None:
    options = ("task=vae", "model=logistic", "trainer.epochs=1", "trainer.batch_size=8", "tracking.artifacts=false")
    train(*options, "folds=cv", "data.folds.train=[1,2]", "tracking.experiment=pretraining-cv")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("pretraining-cv").experiment_id])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    evidence = [run.data.metrics["val/elbo"] for run in found if run is not parent]
    assert min(evidence) <= parent.data.metrics["val/elbo"] <= max(evidence)
