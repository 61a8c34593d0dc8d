"""Steps without a finite loss and gradient: nothing moves, they are counted, and ten in a row end the training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import composing
from einthoven.build import build
from einthoven.contracts import Batch, Position, TaskKind
from einthoven.diagnostics.information import PriorKL
from einthoven.diagnostics.noise import NoiseScale
from einthoven.errors import UserError
from einthoven.optim.optimizers import adamw, sgd
from einthoven.optim.penalties import L1, Penalty, ProximalL1
from einthoven.optim.sam import sam
from einthoven.terminal.conf_folders import conf_folder
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.guard import Guard
from einthoven.training.loop import fit
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step
from two_steps import Bench, Notes, composed
from two_steps import train as train_run

OPTIONS = sorted(path.stem for path in (conf_folder() / "optimizer").glob("*.yaml"))


def optimizer_of(option: str) -> Any:
    if option == "library":
        pytest.importorskip("pytorch_optimizer", reason="needs einthoven[optimizers]")
    return build(composing.composed("train", f"optimizer={option}").optimizer)


class Task:
    """Cross-entropy; what a test wants to go wrong is done to the loss."""

    kind = TaskKind.QUANTITY

    def __init__(self, spoil: Callable[[Tensor, nn.Module], Tensor] = lambda loss, model: loss) -> None:
        self.spoil = spoil

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.x)
        return self.spoil(nn.functional.cross_entropy(logits.float(), batch.y[:, 0].long()), model), logits

    def goal(self, batch: Batch) -> Tensor:
        return batch.y

    def activation(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(-1)


def batch(seed: int, value: float | None = None) -> Batch:
    """A batch; with a value, one sample of one record has it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 2, 12, generator=generator)
    if value is not None:
        x[3, 1, 5] = value
    y = (torch.arange(8) % 2)[:, None].float()
    return Batch(x, y, torch.arange(8) + 100 * seed, torch.ones(8, dtype=torch.bool))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 4, 3), nn.Flatten(), nn.Linear(32, 2)
    )


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    guard: Guard | None = None,
    task: Task | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    return train_step(
        model,
        task or Task(),
        batch,
        optimizer,
        guard=guard,
        **{
            "augment": lambda x, y, generator: (x, y),
            "generator": torch.Generator().manual_seed(0),
            "autocast": contextlib.nullcontext,
            "clip_norm": 1.0,
            "penalty": Penalty(),
            **options,
        },
    )


def state(model: nn.Module) -> dict[str, Tensor]:
    """Weights and running statistics; a batch normalization also counts its batches, the spoiled one, too."""
    return {k: v.clone() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert all(torch.equal(a[name], b[name]) for name in a)


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in tensors(item)]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


# ---------------------------------------------------------------- one step


@pytest.mark.parametrize("option", OPTIONS)
def test_on_the_cpu_a_training_goes_on_as_if_the_bad_batch_had_not_been_there(option: str) -> None:
    factory = optimizer_of(option)
    expected = network()
    optimizer = factory(expected)
    for seed in range(3):
        step(expected, optimizer, batch(seed))

    model = network()
    optimizer = factory(model)
    for number in (batch(7, math.nan), batch(0), batch(8, math.inf), batch(1), batch(9, math.nan), batch(2)):
        step(model, optimizer, number)
    assert_same(state(model), state(expected))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("first", [True, False])
def test_without_asking_the_device_weights_stay_and_the_state_stays_finite(option: str, first: bool) -> None:
    model = network()
    optimizer = optimizer_of(option)(model)
    guard = Guard(model, waits=False)
    if not first:
        step(model, optimizer, batch(0), guard)
    before = state(model)
    step(model, optimizer, batch(1, math.nan), guard)
    assert not guard.finite
    assert_same(before, state(model))
    assert all(t.isfinite().all() for t in tensors(optimizer.state_dict()["state"]))
    step(model, optimizer, batch(2), guard)
    assert guard.finite
    assert all(t.isfinite().all() for t in state(model).values())
    assert any(not torch.equal(before[name], value) for name, value in state(model).items())


class NoQuestion(TorchDispatchMode):
    """Fails where a value is taken from a tensor to the host, which waits on an accelerator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read on the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("option", ["adamw", "muon", "sam", "sgd", "lion"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_a_step_never_asks_the_device(option: str, value: float | None) -> None:
    model = network()
    optimizer = optimizer_of(option)(model)
    guard = Guard(model, waits=False)
    step(model, optimizer, batch(0), guard)
    with NoQuestion():
        step(model, optimizer, batch(1, value), guard)
    with pytest.raises(AssertionError, match="read on the host"), NoQuestion():
        step(model, optimizer, batch(1), Guard(model, waits=True))


def infinite_gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """A finite loss: the slope of the root is infinite at 0."""
    weight = next(model.parameters())
    return loss + (weight - weight.detach()).abs().sum().sqrt()


FAULTS: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "the loss is not a number": lambda loss, model: loss * math.nan,
    "the loss is infinite and its gradient is not": lambda loss, model: loss + math.inf,
    "the loss is finite and its gradient is not": infinite_gradient,
    "the gradient overflows when it is squared": lambda loss, model: loss * 1e30,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("clip_norm", [1.0, math.inf])
def test_every_kind_of_fault_is_skipped(fault: str, waits: bool, clip_norm: float) -> None:
    model = network()
    optimizer = adamw(model, lr=0.1)
    guard = Guard(model, waits=waits)
    step(model, optimizer, batch(0), guard)
    before = state(model)
    step(model, optimizer, batch(1), guard, Task(FAULTS[fault]), clip_norm=clip_norm)
    assert not guard.finite
    assert_same(before, state(model))
    assert all(t.isfinite().all() for t in tensors(optimizer.state_dict()["state"]))


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"micro_batch": MicroBatch(3)},
        {"autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16)},
        {"penalty": ProximalL1(0.1)},
        {"penalty": L1(3e38)},
    ],
)
def test_parts_of_a_batch_autocast_and_penalties_are_covered(waits: bool, options: dict[str, Any]) -> None:
    model = network()
    optimizer = sgd(model, lr=0.1)
    guard = Guard(model, waits=waits)
    before = state(model)
    step(model, optimizer, batch(1, math.nan), guard, **options)
    assert not guard.finite
    assert_same(before, state(model))


@pytest.mark.parametrize("waits", [True, False])
def test_a_second_gradient_of_sam_that_is_not_finite_leaves_the_weights_where_they_were(waits: bool) -> None:
    calls = []

    def second(loss: Tensor, model: nn.Module) -> Tensor:
        calls.append(1)
        return loss * (math.nan if len(calls) == 2 else 1.0)

    model = network()
    optimizer = sam(model, base=adamw, rho=0.5)
    before = state(model)
    guard = Guard(model, waits=waits)
    step(model, optimizer, batch(0), guard, Task(second))
    assert len(calls) == 2
    assert not guard.finite
    assert_same(before, state(model))


def test_the_guard_does_not_change_a_step() -> None:
    """Parameters of several types, one of them frozen, one without a gradient."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(24, 2)
            self.wide = nn.Parameter(torch.randn(24, dtype=torch.float64))
            self.unused = nn.Parameter(torch.randn(3))
            self.frozen = nn.Parameter(torch.randn(24), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.linear(x.flatten(1) * self.wide.float() * self.frozen)
            return y

    results = []
    for waits in (True, False):
        model = Mixed()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        guard = Guard(model, waits=waits)
        for seed in range(3):
            step(model, optimizer, batch(seed), guard)
        results.append(state(model))
    assert_same(*results)


def test_running_means_of_the_diagnostics_leave_a_bad_batch_out() -> None:
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    good, other = torch.tensor([[0.7, 0.2], [0.6, 0.9]]), torch.tensor([[0.5, 0.4], [0.2, 0.8]])
    bad = torch.full_like(good, math.nan)
    prior = PriorKL(horizon=3.0)
    first = prior.update(labels, good)
    torch.testing.assert_close(prior.update(labels, bad), first)
    assert torch.isfinite(prior.update(labels, other))
    spoiled = PriorKL(horizon=3.0)  # also where it is the first
    spoiled.update(labels, bad)
    torch.testing.assert_close(spoiled.update(labels, good), first)

    model = network()
    noise = NoiseScale(model, Task(), contextlib.nullcontext, parts=2)
    noise.update(batch(0, math.nan))
    expected = noise.update(batch(1))
    torch.testing.assert_close(noise.update(batch(2, math.nan)), expected)


# ---------------------------------------------------------------- a training


class Recorded:
    """What a training records and saves."""

    def __init__(self) -> None:
        self.saved: list[int] = []
        self.skipped: list[float] = []

    def record(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        if "watch/optim/skipped" in values:
            self.skipped.append(float(values["watch/optim/skipped"]))


def train(
    batches: Callable[[int], Iterable[Batch]], steps: int, model: nn.Module | None = None, **options: Any
) -> tuple[Position, Recorded]:
    recorded = Recorded()
    model = model or network()
    names = options.pop("names", lambda index: [f"E{i}" for i in index.tolist()])
    optimizer = options.pop("optimizer", None) or sgd(model, lr=0.01)
    start = Position()
    try:
        position = fit(
            model,
            optimizer,
            partial(
                train_step,
                model,
                Task(),
                optimizer=optimizer,
                augment=lambda x, y, generator: (x, y),
                autocast=contextlib.nullcontext,
                clip_norm=options.pop("clip_norm", math.inf),
                penalty=Penalty(),
            ),
            batches,
            options.pop("schedule", lambda step, total: 1.0),
            Callbacks(recorded.record, lambda: {}, lambda p, best: recorded.saved.append(p.epoch)),
            TrainingChecks(model, start, names),
            **{
                "position": start,
                "epochs": 5,
                "steps_per_epoch": steps,
                "step_seed": lambda epoch, step: epoch * 1000 + step,
                "monitor": "val/macro_auroc",
                "patience": None,
                **options,
            },
        )
    except UserError as error:
        error.add_note(f"saved {recorded.saved}")
        raise
    return position, recorded


def test_ten_in_a_row_end_the_training_with_the_records_of_the_batch() -> None:
    """The third epoch is spoiled from its second step on: no checkpoint of it is written."""

    def batches(epoch: int, first: int) -> list[Batch]:
        return [batch(k, math.nan if epoch == 2 and k > 0 else None) for k in range(20)]

    with pytest.raises(UserError) as stopped:
        train(batches, 20)
    sentence = str(stopped.value)
    # Steps 42 to 51 are ten; every tenth step is looked at.
    assert "in 10 steps in a row. The last of them was step 60" in sentence
    assert "(ecg_id E1900, E1901, E1902" in sentence and "E1907)" in sentence
    assert "training diverged" in sentence and "lower learning rate" in sentence
    assert stopped.value.__notes__ == ["saved [1, 2]"]


def test_a_long_batch_is_named_in_short() -> None:
    with pytest.raises(UserError, match=r"ecg_id 0, 1, .*, 31 and 68 more\)"):
        train(lambda epoch, first: [batch(0, math.nan)] * 10, 10, names=lambda index: list(range(100)))


def test_an_epoch_of_bad_steps_ends_the_training_however_short_it_is() -> None:
    with pytest.raises(UserError, match=r"in 1 step in a row\. The last of them was step 2") as stopped:
        train(lambda epoch, first: [batch(0, math.nan if epoch else None)], 1)
    assert stopped.value.__notes__ == ["saved [1]"]


def test_single_bad_steps_are_counted_and_the_training_goes_on() -> None:
    def batches(epoch: int, first: int) -> list[Batch]:
        return [batch(k, math.inf if k in (3, 7) else None) for k in range(9)]

    position, recorded = train(batches, 9)
    assert position.skipped == 10
    assert recorded.skipped == [2, 4, 6, 8, 10]
    assert recorded.saved == [1, 2, 3, 4, 5]


def test_nine_in_a_row_are_borne() -> None:
    def batches(epoch: int, first: int) -> list[Batch]:
        return [batch(k, math.nan if k < 9 else None) for k in range(10)]

    assert train(batches, 10, epochs=2)[0].skipped == 18


def test_a_healthy_training_has_no_such_metric() -> None:
    position, recorded = train(lambda epoch, first: [batch(0), batch(1)], 2)
    assert position.skipped == 0
    assert recorded.skipped == []


@pytest.mark.parametrize("lr", [1e38, 1e20])
def test_weights_that_are_not_finite_are_never_saved(lr: float) -> None:
    """A finite gradient times a huge learning rate: the loss of the only step of the epoch was fine."""
    model = network()
    with pytest.raises(UserError, match="training diverged") as stopped:
        train(lambda epoch, first: [batch(epoch)], 1, model, optimizer=sgd(model, lr=lr, weight_decay=1e3))
    assert stopped.value.__notes__ in (["saved []"], ["saved [1]"])
    assert lr < 1e38 or stopped.value.__notes__ == ["saved []"]


@pytest.mark.parametrize(
    "options",
    [{"schedule": lambda step, total: 1e-30}, {"clip_norm": 1e-30}, {"schedule": lambda step, total: 0.0}],
)
def test_a_training_that_moves_no_weight_is_an_error(options: dict[str, Any]) -> None:
    model = network()
    optimizer = sgd(model, lr=0.01, weight_decay=0.0, momentum=0.0)
    with pytest.raises(UserError, match="moved no weight in 10 steps"):
        train(lambda epoch, first: [batch(0), batch(1)], 2, model, optimizer=optimizer, **options)


def test_a_run_names_its_records_and_keeps_its_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second epoch on, the label of one record is not a number; all records are one batch."""
    made = Bench(tmp_path, monkeypatch).assembled(composed("trainer.epochs=20"))
    notes = Notes()
    made.settings.trainer.epochs = 1
    train_run(made, notes)
    good = (tmp_path / "checkpoints" / "last.safetensors").read_bytes()
    made.settings.trainer.epochs = 20
    made.data.splits["train"].labels[2] = math.nan
    with pytest.raises(UserError, match=r"in 1 step in a row\. The last of them was step 2") as stopped:
        train_run(made, notes)
    ecg_ids = made.data.labels.ecg_ids[made.data.rows["train"]].tolist()
    named = str(stopped.value).partition("(ecg_id ")[2].split(" and ")[0].split(", ")
    assert len(named) == 32
    assert set(map(int, named)) <= set(ecg_ids)
    assert (tmp_path / "checkpoints" / "last.safetensors").read_bytes() == good
    assert all(p.isfinite().all() for p in made.model.parameters())
