"""The task of masks: its loss and metrics, what it refuses, and a run of one epoch with its delineator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from einthoven import cli
from einthoven.contracts import Batch
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.masks import mask_labels, refuse_without_masks
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.synthetic import generate
from einthoven.errors import UserError
from einthoven.functional.delineation import MASKS
from einthoven.losses.classification import cross_entropy
from einthoven.losses.overlap import dice_cross_entropy
from einthoven.predict.delineator import load_delineator
from einthoven.predict.model_folder import find_bundle
from einthoven.predict.sealed_folder import WEIGHTS
from einthoven.runs.evaluation.encoder import read_encoder
from einthoven.tasks.delineation import Delineation
from small_runs import killed_after_epoch
from two_steps import Bench, composed

SMALL = ("task=delineation", "model=unet1d", "model.channels=[4,8,8]", "trainer.window=null", "trainer.stride=null")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("delineation"), patch)


def test_masks_are_those_of_the_generator_and_follow_a_cut(tmp_path: Path) -> None:
    source = Synthetic(records=4, seed=3, noise=1.0, fs=100, cache=tmp_path, seconds=4.0)
    labels = mask_labels(source, source.open())
    bits = generate(4, seed=3).masks[100][:, :400]
    assert labels.classes == MASKS == ("P", "QRS", "T")
    for k, bit in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(labels.matrix[:, k], (bits & bit) > 0)
    (source.root / "masks100.npy").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"masks100.npy: cannot be read.*generated again"):
        source.masks(source.open().table)


def test_data_without_masks_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="task=delineation: PTBXL has no masks of the waves; expected data=synthetic"):
        refuse_without_masks(PTBXL(tmp_path, 100, tmp_path))


def test_loss_and_metrics_are_those_of_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.zeros(3, 3, 400)
    y[:, 0, 30:40] = y[:, 1, 50:60] = y[:, 2, 80:100] = 1
    logits = 6 * y - 3 + torch.randn(y.shape, generator=generator)
    task = Delineation(fs=100.0)
    valid = torch.tensor([True, True, False])
    loss, outputs = task.loss(lambda x: x, Batch(logits, y, torch.arange(3), valid))  # type: ignore[arg-type]
    torch.testing.assert_close(loss, dice_cross_entropy(logits, y)[:2].mean())
    p = task.activation(outputs.double()).numpy()
    metrics = task.metrics(y.double().numpy(), p, MASKS)
    assert metrics["loss"] == pytest.approx(float(dice_cross_entropy(logits.double(), y.double()).mean()))
    coefficients = [f1_score(y[:, k].numpy().ravel(), p[:, k].ravel() >= 0.5) for k in range(3)]
    assert [metrics[f"dice/{name}"] for name in MASKS] == pytest.approx(coefficients)
    assert metrics["dice"] == pytest.approx(np.mean(coefficients))
    assert abs(metrics["bias_ms/qrs_onset"]) < 10 and metrics["missed/p"] <= 1
    # QRS begins 10, 20 and 60 ms late: the mean is 30 ms, and the variance (20² + 10² + 30²) / 2.
    late = y.double().numpy()
    for record, samples in enumerate((1, 2, 6)):
        late[record, 1, 50 : 50 + samples] = 0
    boundaries = task.metrics(y.double().numpy(), late, MASKS)
    assert boundaries["bias_ms/qrs_onset"] == pytest.approx(30)
    assert boundaries["sd_ms/qrs_onset"] == pytest.approx(np.sqrt(700))
    perfect = task.metrics(y.double().numpy(), y.double().numpy(), MASKS)
    assert perfect["dice"] == 1 and perfect["bias_ms/t_end"] == perfect["sd_ms/t_end"] == perfect["invented/p"] == 0
    # A wave that neither mask has is right; one that only one mask has is wrong.
    masks = y.double().numpy()
    masks[1:, 0] = 0
    found = masks.copy()
    found[2, 2] = 0
    assert task.record_errors(masks, found) == pytest.approx([0, 0, 1 / 3])


def test_training_masks_without_a_wave_are_told_or_refused() -> None:
    y = np.zeros((2, 3, 10), np.uint8)
    with pytest.raises(UserError, match="nothing can be learned"):
        Delineation(fs=100.0).notes(y, MASKS)
    y[:, 1:, 3] = 1
    assert Delineation(fs=100.0).notes(y, MASKS) == ["P: no training record has it, so that it cannot be learned."]
    with pytest.raises(UserError, match="loss"):
        Delineation(fs=100.0, objective=cross_entropy)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=mlp",), "task=delineation: asks for a value for each sample, and the model MLP.*model=unet1d"),
        (("model=forest",), "the model RandomForest gives values of whole records"),
        (("task=superdiagnostic", "loss=cross_entropy"), "model: UNet1d gives a value for each sample"),
        (("task=heart_rate", "loss=mse"), "model: UNet1d gives a value for each sample"),
        (("loss=cross_entropy",), "loss"),
        (("trainer.window=2.5",), r"trainer.window=2.5: a mask is as long as its record"),
        (("trainer.sampler=balanced",), "trainer.sampler=balanced: counts classes"),
        (("trainer.aggregate=max",), "trainer.aggregate=max"),
        (("pca=time",), "pca=time"),
        (("augment=mixup",), "augment: after mixup, the masks would no longer fit"),
        (("augment=cutmix", "augment.allow_changes=true"), "augment: after cutmix"),
        (("augment=time_shift", "augment.allow_changes=true"), "augment: after time_shift"),
        (("augment=resized_crop", "augment.allow_changes=true"), "augment: after resized_crop"),
    ],
)
def test_what_does_not_go_together_is_one_sentence_before_training(
    bench: Bench, overrides: tuple[str, ...], reason: str
) -> None:
    given = {override.partition("=")[0] for override in overrides}
    # The width of the U-Net is no option of another model.
    kept = [option for option in SMALL if option.partition("=")[0] not in given]
    kept = [option for option in kept if "model" not in given or not option.startswith("model.")]
    with pytest.raises(UserError, match=reason) as refusal:
        bench.assembled(composed(*kept, *overrides))
    assert "\n" not in str(refusal.value)


def test_a_run_of_one_epoch_ends_with_a_delineator_and_pictures(
    workplace: Path,
    load_model: Callable[[MlflowRun], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    uri = f"sqlite:///{workplace}/mlflow.db"
    cli.main(
        [
            *("train", "task=delineation", "data.records=40", "model.channels=[4,8]", "trainer.epochs=1"),
            *("trainer.batch_size=8", "hydra.run.dir=waves", "tracking.experiment=waves", f"tracking.uri={uri}"),
        ]
    )
    assert "einthoven.predict.delineator.load_delineator('waves')" in capsys.readouterr().out
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("waves").experiment_id])
    metrics = run.data.metrics
    assert {"train/loss", "val/dice", "val/dice/P", "val/dice/QRS", "test/dice/T", "test/dice_low"} <= set(metrics)
    assert not {"watch/diag/kl_drift", "val/macro_auroc"} & set(metrics)
    pictures = {Path(file.path).stem for file in client.list_artifacts(run.info.run_id, "figures")}
    assert {"delineation_val", "delineation_test", "loss", "ecg_best_1", "ecg_worst_1"} <= pictures
    assert "explanations" not in pictures
    assert client.list_artifacts(run.info.run_id, "delineator")

    # The delineator and the exported model give the same probabilities, one for each sample.
    signals = (generate(2, seed=9).signals[100] * 1e-3).astype(np.float32)
    p = load_delineator(workplace / "waves").probabilities(signals, 100)
    with pytest.raises(UserError, match="its network UNet1d has no head, so that it has no embeddings"):
        read_encoder(str(workplace / "waves"))
    exported = load_model(run).predict(signals)
    assert p.shape == exported.shape == (2, 3, 1000)
    np.testing.assert_allclose(p, exported, atol=1e-4)

    with pytest.raises(SystemExit):
        cli.main(["evaluate", "run=waves"])
    assert "it has a delineator instead of a bundle" in capsys.readouterr().err
    with pytest.raises(UserError, match="has a delineator instead of a bundle"):
        find_bundle(workplace / "waves")


def test_a_killed_run_is_resumed_to_the_bit(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pictures: None
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("train", "task=delineation", "data.records=40", "model.channels=[4,8]", "trainer.epochs=2")
    options = (*options, "trainer.batch_size=8", f"tracking.uri=sqlite:///{workplace}/mlflow.db")
    cli.main([*options, "hydra.run.dir=whole"])
    with killed_after_epoch(1):
        cli.main([*options, "hydra.run.dir=cut"])
    assert not (tmp_path / "cut" / "delineator").exists()
    cli.main(["train", "resume=cut"])
    whole, cut = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    weights = [(tmp_path / name / "delineator" / WEIGHTS).read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
