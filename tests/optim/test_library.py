"""Every optimizer of the pytorch-optimizer package: it trains, is saved and continued, or one sentence refuses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.library import library, shrunk
from einthoven.training.checkpoint import _flatten_state, _restore_state

package = pytest.importorskip("pytorch_optimizer", reason="needs einthoven[optimizers]")

REFUSED = {  # two of each kind of reason
    "a2grad": "no learning rate",
    "alig": "optimizer.options.lr",
    "adahessian": "one gradient a step",
    "sophiah": "one gradient a step",
    "lomo": "cannot be built",
    "adammini": "cannot be built",
    "lorarite": "cannot train this model",
    "spectralsphere": "only supports 2D",
    "adashift": "a deque in",
    "scion": "a LMONorm in",
    "kron": "a dtype in",
    "aggmo": "the key 0.0",
    "bsam": "num_data",
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))


def step(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    """A step of the loop: one gradient, from a closure that returns a loss without a graph."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 2, 8, generator=generator)
    y = torch.randint(3, (8,), generator=generator)

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimizer.step(closure)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(package.get_supported_optimizers()))
def test_every_name_works_or_is_refused_before_training(name: str) -> None:
    model = network()
    try:
        optimizer = library(model, name=name, options={})
    except UserError as error:
        assert "optimizer." in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 250
        return
    assert name not in REFUSED
    assert all(group["initial_lr"] == group["lr"] for group in optimizer.param_groups)
    for seed in range(2):
        step(model, optimizer, seed)
    tensors, structure = _flatten_state({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    state = _restore_state(tensors, json.loads(json.dumps(structure)))
    resumed = network()
    resumed.load_state_dict(state["model"])
    continued = library(resumed, name=name, options={})
    continued.load_state_dict(state["optimizer"])
    step(model, optimizer, 2)
    step(resumed, continued, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_the_sentence_says_why(name: str) -> None:
    with pytest.raises(UserError, match=REFUSED[name]):
        library(network(), name=name, options={})


class Unsaved(torch.optim.SGD):
    """Keeps what no checkpoint holds, from its third step on."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps > 2:
            self.param_groups[0]["seen"] = {1, 2}
        return super().step(closure)


class Forgetful(torch.optim.SGD):
    """Multiplies its learning rate by the number of its steps, which it does not save."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        self.param_groups[0]["lr"] = 1e-3 * self.steps
        return super().step(closure)


class Crashing(torch.optim.SGD):
    """Fails at its tenth step, in several lines."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps == 10:
            raise ZeroDivisionError("no such basis\nat line 3")
        return super().step(closure)


class Impatient(torch.optim.SGD):
    """Moves the weights before it asks for the gradient, and leaves them there."""

    def step(self, closure: Any = None) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(0.01)
        return super().step(closure)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Impatient, "before it asks for the gradient"),
        (Unsaved, "a set in"),
        (Forgetful, "the next step differs"),
        (Crashing, r"\(no such basis\)"),
    ],
)
def test_what_a_later_version_may_bring_is_found_by_trying(
    kind: type[Optimizer], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "load_optimizer", lambda name: kind)
    with pytest.raises(UserError, match=sentence):
        library(network(), name="adopt", options={})


def test_trying_changes_neither_the_model_nor_the_random_numbers() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    library(model, name="adopt", options={})
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: nn.Linear(4000, 3), [(2, 3), (2,)]),
        (lambda: nn.Conv1d(12, 64, 7), [(4, 3, 2), (4,)]),
        (lambda: nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 5)), [(1, 2), (1,), (2, 1), (2,)]),
    ],
)
def test_a_shrunk_model_keeps_which_sizes_are_equal(
    make: Callable[[], nn.Module], shapes: list[tuple[int, ...]]
) -> None:
    assert [tuple(p.shape) for p in shrunk(make()).parameters()] == shapes
