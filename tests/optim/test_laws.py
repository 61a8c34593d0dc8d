"""What each optimizer does, against closed forms and plain float64 recurrences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.data.store.batches import training_batches
from einthoven.data.store.splits import DeviceSplit
from einthoven.errors import UserError
from einthoven.optim.library import library
from einthoven.optim.muon import muon
from einthoven.optim.optimizers import adagrad, adam, adamw, lion, nadam, rmsprop, schedule_free_adamw, sgd
from einthoven.optim.sam import sam


class Weights(nn.Module):
    """Matrices whose gradients a test sets by hand."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(tensor) for tensor in tensors])


def quadratic() -> tuple[Tensor, Tensor]:
    """Curvatures and start of f(w) = Σ c w² / 2."""
    return torch.tensor([[0.5, 1.0, 3.0]], dtype=torch.float64), torch.tensor([[2.0, -1.0, 4.0]], dtype=torch.float64)


def descend(factory: Callable[[nn.Module], Optimizer], steps: int) -> tuple[list[Tensor], Optimizer, nn.Module]:
    """Iterates on the quadratic."""
    curvature, start = quadratic()
    model = Weights(start.clone())
    (weight,) = model.parameters()
    optimizer = factory(model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (curvature * weight**2).sum() / 2
        loss.backward()
        return loss

    iterates = []
    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[arg-type]
        iterates.append(weight.detach().clone())
    return iterates, optimizer, model


def test_gradient_descent_contracts_each_direction_by_its_curvature() -> None:
    curvature, start = quadratic()
    iterates, _, _ = descend(lambda m: sgd(m, lr=0.2, momentum=0.0, weight_decay=0.0), 20)
    for k, found in enumerate(iterates, 1):
        torch.testing.assert_close(found, (1 - 0.2 * curvature) ** k * start, rtol=1e-12, atol=1e-15)


def test_the_noise_of_the_gradient_falls_as_one_over_the_root_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    signals = torch.randint(-1000, 1000, (4096, 1, 4), generator=generator, dtype=torch.int16)
    labels = torch.randn(4096, 1, generator=generator)
    split = DeviceSplit(signals, labels)

    def gradients(size: int) -> Tensor:
        found = []
        for batch in training_batches(split, size=size, window=4, seed=0, epoch=0):
            weight = torch.zeros(4, requires_grad=True)
            ((batch.x.flatten(1) @ weight - batch.y[:, 0]) ** 2).mean().backward()
            found.append(weight.grad)
        return torch.stack(found)  # type: ignore[arg-type]

    whole = gradients(4096)[0]
    noise = {size: (gradients(size) - whole).square().mean().sqrt() for size in (1, 4, 16, 64)}
    for size in (4, 16, 64):
        expected = noise[1] / math.sqrt(size) * math.sqrt(1 - size / 4096)  # drawn without replacement
        assert float(noise[size] / expected) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize(
    ("factory", "size"),
    [
        (lambda m: adam(m, lr=0.01, weight_decay=0.0), 1.0),
        (lambda m: adamw(m, lr=0.01, weight_decay=0.0), 1.0),
        (lambda m: adagrad(m, lr=0.01, weight_decay=0.0), 1.0),
        (lambda m: lion(m, lr=0.01, weight_decay=0.0), 1.0),
        (lambda m: rmsprop(m, lr=0.01, weight_decay=0.0), 1 / math.sqrt(1 - 0.99)),
    ],
    ids=["adam", "adamw", "adagrad", "lion", "rmsprop"],
)
def test_the_first_step_is_a_sign(factory: Callable[[nn.Module], Optimizer], size: float) -> None:
    curvature, start = quadratic()
    iterates, _, _ = descend(factory, 1)
    torch.testing.assert_close(start - iterates[0], 0.01 * size * (curvature * start).sign(), rtol=1e-6, atol=0)


def test_nadam_looks_ahead_of_adam() -> None:
    """The first step of algorithm 8 of Dozat 2016, with its momentum β (1 - 0.96^(t/250) / 2) at step t."""
    _, start = quadratic()
    iterates, _, _ = descend(lambda m: nadam(m, lr=0.01, weight_decay=0.0), 1)
    now, after = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    length = (1 - now) / (1 - now) + after * (1 - 0.9) / (1 - now * after)
    torch.testing.assert_close(start - iterates[0], 0.01 * length * start.sign(), rtol=1e-6, atol=0)


def test_adagrad_sums_all_squares() -> None:
    curvature, w = quadratic()
    total = torch.zeros_like(w)
    iterates, _, _ = descend(lambda m: adagrad(m, lr=0.3, weight_decay=0.0, eps=0.0), 10)
    for found in iterates:
        gradient = curvature * w
        total += gradient**2
        w = w - 0.3 * gradient / total.sqrt()
        torch.testing.assert_close(found, w, rtol=1e-10, atol=0)


def test_lion_is_its_algorithm() -> None:
    curvature, w = quadratic()
    momentum = torch.zeros_like(w)
    iterates, _, _ = descend(lambda m: lion(m, lr=0.1, betas=(0.8, 0.95), weight_decay=0.3), 40)
    for found in iterates:
        gradient = curvature * w
        w = w - 0.1 * ((0.8 * momentum + 0.2 * gradient).sign() + 0.3 * w)
        momentum = 0.95 * momentum + 0.05 * gradient
        torch.testing.assert_close(found, w, rtol=1e-9, atol=1e-12)


def test_schedule_free_is_its_three_sequences() -> None:
    curvature, z = quadratic()
    x, square, total, first, second = z.clone(), torch.zeros_like(z), 0.0, 0.9, 0.99
    rates = [0.02, 0.05, 0.1, 0.1, 0.05, *[0.1] * 20]
    model = Weights(z.clone())
    (weight,) = model.parameters()
    optimizer = schedule_free_adamw(model, lr=0.1, betas=(first, second), weight_decay=0.2)
    for t, lr in enumerate(rates, 1):
        y = (1 - first) * z + first * x
        torch.testing.assert_close(weight.detach(), y, rtol=1e-9, atol=1e-12)
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = curvature * weight.detach()
        optimizer.step()
        gradient = curvature * y
        square = second * square + (1 - second) * gradient**2
        z = z - lr * (gradient / ((square / (1 - second**t)).sqrt() + 1e-8) + 0.2 * y)
        total += lr**2
        x = x + lr**2 / total * (z - x)
    optimizer.eval()  # type: ignore[attr-defined]
    torch.testing.assert_close(weight.detach(), x, rtol=1e-9, atol=1e-12)
    optimizer.eval()  # type: ignore[attr-defined]  # once is enough
    torch.testing.assert_close(weight.detach(), x, rtol=1e-9, atol=1e-12)
    optimizer.train()  # type: ignore[attr-defined]
    torch.testing.assert_close(weight.detach(), (1 - first) * z + first * x, rtol=1e-9, atol=1e-12)


def test_the_average_of_schedule_free_is_not_told_without_its_first_beta() -> None:
    with pytest.raises(UserError, match="schedule_free_adamw"):
        schedule_free_adamw(nn.Linear(3, 2), betas=(0.0, 0.99))


def test_sam_steps_with_the_gradient_of_the_worst_point_nearby() -> None:
    curvature, start = quadratic()
    iterates, _, _ = descend(
        lambda m: sam(m, base=lambda m: sgd(m, lr=0.1, momentum=0.0, weight_decay=0.0), rho=0.5), 1
    )
    gradient = curvature * start
    worst = start + 0.5 * gradient / gradient.norm()
    torch.testing.assert_close(iterates[0], start - 0.1 * curvature * worst, rtol=1e-9, atol=0)


def test_sam_leaves_the_statistics_of_the_first_pass() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))
    twin = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))
    twin.load_state_dict(model.state_dict())
    x = torch.randn(16, 4)
    optimizer = sam(model, base=lambda m: sgd(m, lr=0.1), rho=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    told = optimizer.step(closure)  # type: ignore[arg-type]
    assert told is not None and told.item() == twin(x).square().mean().item()
    for name, buffer in twin.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])
    with pytest.raises(TypeError, match="closure"):
        optimizer.step()


def test_sam_takes_any_base_and_its_state() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 1))
    optimizer = sam(model, base=muon)
    state = optimizer.state_dict()
    assert len(optimizer.param_groups) == len(muon(model).param_groups) and all(
        "initial_lr" in g for g in state["param_groups"]
    )
    averaged = sam(model, base=schedule_free_adamw)
    assert hasattr(averaged, "eval") and not hasattr(optimizer, "eval")


def test_coupled_decay_is_divided_away_and_decoupled_decay_is_not() -> None:
    """Without a loss, Adam's decay alone decides the sign, whatever its size; AdamW's takes its share of the weight."""
    start = torch.tensor([[4.0, -0.5]], dtype=torch.float64)
    for decay in (0.01, 0.5):
        moved = {}
        for factory in (adam, adamw, nadam, rmsprop, sgd):
            model = Weights(start.clone())
            (weight,) = model.parameters()
            weight.grad = torch.zeros_like(weight)
            factory(model, lr=0.1, weight_decay=decay).step()
            moved[factory] = start - weight.detach()
        torch.testing.assert_close(moved[adam], 0.1 * start.sign(), rtol=1e-4, atol=0)
        torch.testing.assert_close(moved[rmsprop], start.sign(), rtol=1e-4, atol=0)
        torch.testing.assert_close(moved[adamw], 0.1 * decay * start)
        torch.testing.assert_close(moved[nadam], 0.1 * decay * start)
        torch.testing.assert_close(moved[sgd], 0.1 * decay * start * 1.9)  # Nesterov's first step


pytorch_optimizer = "the package pytorch-optimizer is not installed: pip install einthoven[optimizers]"


@pytest.mark.parametrize(("name", "ours"), [("lion", lion), ("schedulefreeadamw", schedule_free_adamw)])
def test_ours_agree_with_those_of_the_library(name: str, ours: Callable[..., Optimizer]) -> None:
    pytest.importorskip("pytorch_optimizer", reason=pytorch_optimizer)
    options = {"betas": (0.9, 0.99), **({"weight_decouple": True} if name == "lion" else {})}

    def theirs(model: nn.Module) -> Optimizer:
        optimizer = library(model, name=name, lr=0.05, weight_decay=0.1, options=options)
        if hasattr(optimizer, "train"):
            optimizer.train()
        return optimizer

    first, _, _ = descend(theirs, 15)
    second, _, _ = descend(lambda m: ours(m, lr=0.05, betas=(0.9, 0.99), weight_decay=0.1), 15)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "adopd"}, "optimizer.name=adopd: expected"),
        ({"name": "adopd"}, "did you mean adopt or "),
        ({"name": "no such"}, "as its documentation lists them"),
        (
            {"name": "bnb_adamw8bit"},
            "optimizer.name=bnb_adamw8bit: cannot be used here (bitsandbytes",
        ),
        ({"name": "adopt", "options": {"betaz": 1}}, "optimizer.options.betaz: adopt takes"),
        ({"name": "adopt", "options": {"kwargs": 1}}, "optimizer.options.kwargs: adopt takes lr, betas"),
        ({"name": "adopt", "options": {"lr": 0.2}}, "optimizer.options.lr: expected optimizer.lr"),
        ({"name": "adopt", "lr": -1.0}, "lr must be"),
        ({"name": "adopt", "options": {"betas": (2.0, 0.9)}}, "optimizer.name=adopt: cannot be built"),
    ],
)
def test_the_library_refuses_in_one_sentence(options: dict[str, object], sentence: str) -> None:
    pytest.importorskip("pytorch_optimizer", reason=pytorch_optimizer)
    with pytest.raises(UserError) as refusal:
        library(nn.Linear(3, 2), **{"lr": 0.1, "weight_decay": 0.0, "options": {}, **options})  # type: ignore[arg-type]
    assert sentence in str(refusal.value) and len(str(refusal.value)) < 250


def test_the_library_takes_a_name_in_any_case() -> None:
    pytest.importorskip("pytorch_optimizer", reason=pytorch_optimizer)
    assert type(library(nn.Linear(3, 2), name="AdOPT", options={})).__name__ == "ADOPT"


def test_without_the_library_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=r"install einthoven\[optimizers\]"):
        library(nn.Linear(3, 2), name="adopt", options={})
