"""What a run logs: the loss is the entropy of the labels plus the divergence of the predictions from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from einthoven.tasks.classification import Classification
from two_steps import Bench, composed

MEASURED = ("diagnostics.predictions=1", "trainer.batch_size=20")
HARD = (
    (),
    ("task.temperature=2.5",),
    ("trainer.micro_batch=7",),
    ("penalty=l2", "penalty.strength=0.1"),
    ("optimizer=sam",),
    ("trainer.precision=bf16",),
    ("task=rhythm",),
    ("task.single_label=true", "task.temperature=0.5"),
)
SOFT = (
    ("loss.label_smoothing=0.1",),
    ("loss.label_smoothing=0.3", "task.temperature=2", "trainer.micro_batch=3"),
    ("loss.label_smoothing=0.1", "task.single_label=true"),
    ("augment=mixup",),
    ("augment=mixup", "task.single_label=true"),
    ("augment=cutmix", "loss.label_smoothing=0.05"),
)
OTHER = (
    ("loss=focal",),
    ("loss=focal", "loss.gamma=1", "task.single_label=true", "augment=mixup"),
    ("loss=asymmetric", "trainer.micro_batch=7"),
    ("loss.class_weight=balanced",),
    ("loss.class_weight=balanced", "task.single_label=true", "loss.label_smoothing=0.1"),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("identity"), patch)


@pytest.mark.parametrize("options", [*HARD, *SOFT], ids=" ".join)
def test_cross_entropy_is_entropy_plus_divergence(bench: Bench, options: tuple[str, ...]) -> None:
    metrics = bench.train(composed(*MEASURED, *options))
    assert "train/cross_entropy" not in metrics
    total = metrics["watch/diag/entropy_labels"] + metrics["watch/diag/kl_labels"]
    assert total == pytest.approx(metrics["train/loss"], rel=1e-5)
    if options in SOFT:
        assert metrics["watch/diag/entropy_labels"] > 0.01
    else:
        assert metrics["watch/diag/entropy_labels"] == 0


@pytest.mark.parametrize("options", OTHER, ids=" ".join)
def test_another_loss_has_the_cross_entropy_beside_it(bench: Bench, options: tuple[str, ...]) -> None:
    run = bench.assembled(composed(*MEASURED, *options))
    assert isinstance(run.task, Classification)
    metrics = bench.train(run.config)
    total = metrics["watch/diag/entropy_labels"] + metrics["watch/diag/kl_labels"]
    assert total == pytest.approx(metrics["train/cross_entropy"], rel=1e-6)
    assert metrics["train/loss"] != pytest.approx(total, rel=1e-3)
