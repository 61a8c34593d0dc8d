"""Runs whose model is an average of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import update_bn

from einthoven.data.store.batches import mix, training_batches
from einthoven.errors import UserError
from einthoven.predict.bundle import read_bundle
from einthoven.runs import network_run
from einthoven.runs.base.finetuning import FineTuning
from einthoven.runs.network import averaging
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results.bundle import write_bundle
from einthoven.training import checkpoint
from einthoven.training.step import train_step
from two_steps import Bench, Notes, composed, train

WANG = ("model=resnet1d_wang", "model.width=4", "trainer.batch_size=12", "trainer.epochs=3")
LAST = Path("checkpoints/last.safetensors")


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    folder = tmp_path / "whole"
    folder.mkdir()
    return Bench(folder, monkeypatch)


@pytest.mark.parametrize("option", ["trainer.ema=0.8", "trainer.swa=2"])
def test_a_run_is_resumed_to_the_same_bits(option: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(*WANG, option, "trainer.checkpoint_minutes=0", "diagnostics.activations=1")
    whole = bench.assembled(config)
    spent = Notes()
    train(whole, spent)

    # Killed in the third epoch, after a checkpoint within it.
    steps = 2 * whole.steps_per_epoch + 2
    calls: list[int] = []

    def step(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) > steps:
            raise Killed
        return train_step(*args, **kwargs)

    whole_folder = bench.folder
    bench.folder = whole_folder.parent / "cut"
    bench.folder.mkdir()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(network_run, "train_step", step)
        train(bench.assembled(config), Notes())
    resumed = bench.assembled(config)
    resumed.load()
    assert resumed.position.step == steps
    notes = Notes()
    train(resumed, notes)

    first, second = (
        checkpoint._flatten_state(checkpoint.load(folder / LAST)[0])[0] for folder in (whole_folder, bench.folder)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("val/loss", "val/raw/loss", "watch/act/variance/stem"):
        assert notes.latest.get(name) == spent.latest.get(name)


def test_the_averaged_weights_are_the_model_of_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.assembled(composed(*WANG, "trainer.swa=2"))
    # The raw weights at the ends of the epochs.
    ends: list[dict[str, torch.Tensor]] = []
    state_dict = averaging.WeightAverage.state_dict

    def spy(self: averaging.WeightAverage) -> dict[str, Any]:
        ends.append({name: value.clone() for name, value in run.model.state_dict().items()})
        return state_dict(self)

    monkeypatch.setattr(averaging.WeightAverage, "state_dict", spy)
    notes = Notes()
    train(run, notes)
    # The best epochs are saved, too.
    raw = [state for state, following in zip(ends, [*ends[1:], None], strict=True) if not same(state, following)]
    assert len(raw) == 3

    averaged = run.model.state_dict()
    names = [name for name, _ in run.model.named_parameters()]
    for name in names:
        torch.testing.assert_close(averaged[name], (raw[1][name] + raw[2][name]) / 2)
    state, _ = checkpoint.load(bench.folder / LAST)
    assert same(state["model"], averaged)
    assert same(state["average"]["raw"], raw[-1])
    write_bundle(run)
    bundle = read_bundle(bench.folder / "bundle")
    row = torch.arange(1)
    x = run.data.splits["val"].take(row, run.window)
    with torch.no_grad():
        torch.testing.assert_close(bundle.model.eval()(x), run.model.eval()(x), rtol=1e-4, atol=1e-5)

    # Both are evaluated.
    assert notes.latest["val/loss"] == pytest.approx(val_loss(run))
    run.model.load_state_dict(raw[-1])
    assert notes.latest["val/raw/loss"] == pytest.approx(val_loss(run))
    assert notes.latest["val/raw/loss"] != notes.latest["val/loss"]
    assert {name for name in notes.latest if name.startswith("val/raw/")} == {"val/raw/loss", "val/raw/macro_auroc"}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor] | None) -> bool:
    return b is not None and all(torch.equal(a[name], b[name]) for name in a)


def val_loss(run: NetworkRun) -> float:
    predictions = run.evaluate("val")
    metrics = run.task.metrics(predictions.y, predictions.p, run.data.labels.classes)
    return float(metrics["loss"])


def test_the_statistics_are_those_of_the_averaged_weights_on_training_batches(bench: Bench) -> None:
    run = bench.assembled(composed(*WANG, "trainer.ema=0.8", "augment=default"))
    train(run, Notes())
    found = {name: value.clone() for name, value in run.model.state_dict().items() if "running" in name}
    assert found

    seed = run.settings.seed
    inputs = []
    for number, batch in enumerate(
        training_batches(run.data.splits["train"], size=12, window=run.window, seed=seed, epoch=0)
    ):
        generator = torch.Generator().manual_seed(mix(seed, 0, number))
        inputs.append(run.augment(batch.x, batch.y, generator)[0])
    torch.manual_seed(mix(seed, 0, 0))
    update_bn(inputs, run.model)
    for name, value in run.model.state_dict().items():
        if name in found:
            np.testing.assert_array_equal(value, found[name], err_msg=name)


def test_batch_norms_that_a_fine_tuning_keeps_are_not_recomputed(bench: Bench) -> None:
    run = bench.assembled(composed(*WANG, "trainer.ema=0.8", "trainer.epochs=1"))
    run.finetuning = FineTuning(run.model, "full", freeze_norms=True)
    before = {name: value.clone() for name, value in run.model.state_dict().items() if "running" in name}
    weights = [p.detach().clone() for p in run.model.parameters()]
    train(run, Notes())
    after = run.model.state_dict()
    assert before and all(torch.equal(after[name], value) for name, value in before.items())
    assert not all(torch.equal(p, value) for p, value in zip(run.model.parameters(), weights, strict=True))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("trainer.ema=0.9", "optimizer=schedule_free_adamw"), "trainer.ema=0.9: the optimizer .* schedule-free"),
        (("trainer.ema=0.9", "trainer.swa=1"), "trainer.swa=1: expected null where trainer.ema"),
        (("trainer.swa=1", "trainer.patience=2"), "trainer.swa=1: expected null where trainer.patience"),
        (("trainer.swa=3",), r"trainer.swa=3: expected a number of epochs, 1 to trainer.epochs=2"),
        (("trainer.ema=1.0",), "trainer.ema=1.0: expected a decay between 0 and 1"),
    ],
)
def test_what_has_no_meaning_is_refused(overrides: tuple[str, ...], sentence: str, bench: Bench) -> None:
    with pytest.raises(UserError, match=sentence):
        bench.assembled(composed(*overrides))
