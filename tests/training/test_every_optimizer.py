"""Every option of conf/optimizer in the loop, as it is configured: it learns, and it resumes to the same bits."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from composing import composed
from einthoven.build import build
from einthoven.contracts import Batch, Diagnose, Position, TaskKind
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.models.frontend import Classifier, Frontend
from einthoven.optim.penalties import Penalty
from einthoven.terminal.conf_folders import conf_folder
from einthoven.training import checkpoint
from einthoven.training.accumulation import check_takes_one_record, count_parts, split_batch
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.loop import fit
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step
from intervals import intervals

OPTIONS = sorted(path.stem for path in (conf_folder() / "optimizer").glob("*.yaml"))


def optimizer_of(option: str, *overrides: str) -> Any:
    if option == "library":
        pytest.importorskip("pytorch_optimizer", reason="pytorch-optimizer is not installed: einthoven[optimizers]")
    return build(composed("train", f"optimizer={option}", *overrides).optimizer)


class Waves:
    """Which of two frequencies a signal has."""

    kind = TaskKind.QUANTITY

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.x)
        return (
            nn.functional.cross_entropy(logits, batch.y[:, 0].long(), reduction="none") * batch.valid
        ).mean(), logits

    def activation(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


STOP = 24
"""A step within the third epoch."""


def batches(epoch: int, first: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(epoch)
    made = []
    for _ in range(10):
        y = torch.arange(16) % 2
        phase = 2 * math.pi * torch.rand(16, 1, generator=generator)
        time = torch.arange(40) / 40
        x = torch.sin(2 * math.pi * (2 + 2 * y[:, None]) * time + phase)
        x = x + 0.3 * torch.randn(16, 40, generator=generator)
        made.append(Batch(x[:, None], y[:, None].float(), torch.arange(16), torch.ones(16, dtype=torch.bool)))
    return made[first:]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv1d(1, 12, 9, padding=4),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Conv1d(12, 12, 9, padding=4),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(12, 2),
    )


def loss_of(model: nn.Module) -> float:
    model.eval()
    with torch.no_grad():
        return sum(float(Waves().loss(model, batch)[0]) for batch in batches(1000, 0)) / 10


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, epochs: int, until: Path | None = None
) -> list[float]:
    """Train, or until a step within an epoch, whose checkpoint is written as a run does; the losses on the way."""
    seen: list[float] = []

    def save_step(position: Position) -> None:
        assert until is not None
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.save(until, state, {"epoch": position.epoch, "step": position.step})
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fit(
            model,
            optimizer,
            partial(
                train_step,
                model,
                Waves(),
                optimizer=optimizer,
                augment=lambda x, y, generator: (x, y),
                autocast=contextlib.nullcontext,
                clip_norm=1.0,
                penalty=Penalty(),
            ),
            batches,
            lambda step, total: min(1.0, (step + 1) / 10),
            Callbacks(
                log_metrics=lambda step, values: seen.extend(
                    [float(values["train/loss"])] if "train/loss" in values else []
                ),
                evaluate=lambda: {"val/loss": loss_of(model)},
                save=lambda position, best: None,
                is_save_due=lambda: until is not None and position.step == STOP,
                save_step=save_step,
            ),
            TrainingChecks(model, position),
            position=position,
            epochs=epochs,
            steps_per_epoch=10,
            step_seed=lambda epoch, step: 1000 * epoch + step,
            monitor="val/macro_auroc",
            patience=None,
        )
    return seen


@pytest.mark.parametrize("option", OPTIONS)
def test_it_learns_as_configured(option: str) -> None:
    model = network()
    before = loss_of(model)
    train(model, optimizer_of(option)(model), Position(), epochs=12)
    assert before > 0.6
    assert loss_of(model) < 0.15


@pytest.mark.parametrize("option", OPTIONS)
def test_it_resumes_to_the_same_bits(option: str, tmp_path: Path) -> None:
    factory = optimizer_of(option)
    whole = network()
    expected = train(whole, factory(whole), Position(), epochs=3)
    cut = network()
    assert train(cut, factory(cut), Position(), epochs=3, until=tmp_path / "last.safetensors") == expected[:STOP]

    resumed = network(seed=5)
    optimizer = factory(resumed)
    state, meta = checkpoint.load(tmp_path / "last.safetensors")
    resumed.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert train(resumed, optimizer, Position(meta["epoch"], meta["step"]), epochs=3) == expected[STOP:]
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_sam_takes_its_base_from_the_command_line() -> None:
    optimizer = optimizer_of("sam", "optimizer@optimizer.base=sgd", "optimizer.base.lr=0.07")(network())
    assert optimizer.param_groups[0]["initial_lr"] == 0.07 and optimizer.param_groups[0]["nesterov"]


def test_sam_sees_the_same_dropout_twice() -> None:
    masks: list[Tensor] = []
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(40, 2))
    model[1].register_forward_hook(lambda module, x, y: masks.append(y == 0))
    step(model, optimizer_of("sam")(model), batches(0, 0)[0])
    assert len(masks) == 2 and torch.equal(masks[0], masks[1])


# ---------------------------------------------------------------- how many records at once


class Outputs:
    """Tells the outputs of a step."""

    def before_update(self, batch: Batch, outputs: Tensor) -> dict[str, Tensor]:
        return {"outputs": outputs}

    def after_update(self, norm: Tensor, limit: float) -> dict[str, Tensor]:
        return {}


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    micro_batch: int | None = None,
    diagnose: Diagnose | None = None,
) -> dict[str, Tensor]:
    return train_step(
        model,
        Waves(),
        batch,
        optimizer,
        augment=lambda x, y, generator: (x, y),
        generator=torch.Generator().manual_seed(0),
        autocast=contextlib.nullcontext,
        clip_norm=math.inf,
        diagnose=diagnose or Outputs(),
        penalty=Penalty(),
        micro_batch=MicroBatch(micro_batch),
    )


@pytest.mark.parametrize("size", [1, 5, 8, 100])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(size: int) -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Conv1d(1, 3, 5), nn.Flatten(), nn.Linear(108, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    batch = batches(0, 0)[0]
    seen = [
        step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, micro)
        for model, micro in zip(models, (None, size), strict=True)
    ]
    torch.testing.assert_close(seen[0], seen[1])
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("records", "size", "smallest"), [(32, None, 32), (3, 2, 1), (32, 31, 16), (1, None, 1)])
def test_the_smallest_part_is_known_before_training(records: int, size: int | None, smallest: int) -> None:
    batch = Batch(torch.zeros(records, 1, 4), torch.zeros(records, 1), torch.arange(records), torch.ones(records) > 0)
    assert min(len(part.x) for part in split_batch(batch, size)) == records // count_parts(records, size) == smallest


def test_a_batch_norm_that_would_see_one_value_is_refused_and_one_over_time_is_not() -> None:
    over_time = network()
    state = {name: value.clone() for name, value in over_time.state_dict().items()}
    check_takes_one_record(over_time, torch.randn(1, 1, 40))
    assert all(torch.equal(value, state[name]) for name, value in over_time.state_dict().items())
    with pytest.raises(UserError, match="one value per channel"):
        check_takes_one_record(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(40)), torch.randn(1, 1, 40))


# ---------------------------------------------------------------- what is told of a step


class Bare(nn.Module):
    """Its first stage gives no single tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(x.mT)[0][:, -1])
        return logits


@pytest.mark.parametrize("option", ["adamw", "sam"])
@pytest.mark.parametrize("micro_batch", [None, 5])
def test_the_variance_of_activations_is_that_of_the_batch_where_a_step_starts(
    option: str, micro_batch: int | None
) -> None:
    model = Bare()
    optimizer = optimizer_of(option)(model)
    classifier = Classifier(Frontend(1), model)
    every = intervals(activations=1)
    diagnose = StepDiagnostics(classifier, Waves(), optimizer, every, autocast=contextlib.nullcontext)
    with diagnose.attach_hooks():
        for batch in batches(0, 0)[:3]:
            expected = model.eval()(batch.x).var()
            model.train()
            seen = step(model, optimizer, batch, micro_batch, diagnose=diagnose)
            assert {name for name in seen if name.startswith("watch/act/")} == {"watch/act/variance/head"}
            torch.testing.assert_close(seen["watch/act/variance/head"], expected)
