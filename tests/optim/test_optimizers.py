from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.groups import check_learns, parameter_groups
from einthoven.optim.mixture import Mixture, optimizer_name
from einthoven.optim.muon import hidden_matrices, muon
from einthoven.optim.optimizers import adagrad, adam, adamw, lion, nadam, rmsprop, schedule_free_adamw, sgd
from einthoven.optim.sam import sam

FACTORIES = [sgd, adamw, muon]
CLASSES = 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(4, 8, 5, padding=2)
        self.norm = nn.BatchNorm1d(8)
        self.positions = nn.Parameter(torch.zeros(8, 16))
        self.hidden = nn.Linear(8, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x))) + self.positions
        logits: Tensor = self.head(torch.relu(self.hidden(x.mean(-1))))
        return logits


def make_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def make_closure(model: nn.Module, optimizer: Optimizer, seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 4, 16, generator=generator)
    y = torch.randint(CLASSES, (8,), generator=generator)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return loss

    return closure


def train(model: nn.Module, optimizer: Optimizer, seeds: range) -> list[float]:
    return [optimizer.step(make_closure(model, optimizer, seed)).item() for seed in seeds]


class Weights(nn.Module):
    """Bare parameters whose gradients a test sets by hand."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(tensor) for tensor in tensors])


def test_first_step_of_adam_is_lr_times_sign() -> None:
    model = Weights(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    (weight,) = model.parameters()
    before = weight.detach().clone()
    weight.grad = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)) * 100
    adamw(model, lr=0.01, weight_decay=0.0).step()
    torch.testing.assert_close(before - weight.detach(), 0.01 * weight.grad.sign())


def test_adamw_decays_by_lr_times_decay() -> None:
    model = Weights(torch.full((2, 2), 3.0), torch.full((2,), 3.0))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    adamw(model, lr=0.1, weight_decay=0.5).step()
    matrix, bias = model.parameters()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 3.0 * (1 - 0.1 * 0.5)))
    assert torch.equal(bias.detach(), torch.full((2,), 3.0))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_iterates_of_a_quadratic(nesterov: bool) -> None:
    # On f(w) = c w^2 / 2 the pair (velocity, w) evolves by a fixed 2x2 matrix: iterates in closed form.
    lr, momentum, curvature = 0.1, 0.9, 2.0
    model = Weights(torch.tensor([5.0], dtype=torch.float64))
    (weight,) = model.parameters()
    optimizer = sgd(model, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=0.0)
    # v' = m v + c w;  w' = w - lr v'  or, Nesterov,  w - lr (c w + m v')
    velocity_row = torch.tensor([momentum, curvature], dtype=torch.float64)
    look_ahead = momentum * velocity_row + torch.tensor([0.0, curvature], dtype=torch.float64)
    weight_row = torch.tensor([0.0, 1.0], dtype=torch.float64) - lr * (look_ahead if nesterov else velocity_row)
    transition = torch.stack([velocity_row, weight_row])
    start = torch.tensor([0.0, 5.0], dtype=torch.float64)
    for k in range(1, 31):
        weight.grad = curvature * weight.detach()
        optimizer.step()
        expected = (torch.linalg.matrix_power(transition, k) @ start)[1]
        assert weight.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)


def test_sgd_without_momentum_is_plain_descent() -> None:
    model = Weights(torch.tensor([5.0]))
    (weight,) = model.parameters()
    weight.grad = torch.tensor([2.0])
    sgd(model, lr=0.5, momentum=0.0).step()
    assert weight.item() == 4.0


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (8, 4, 5)])
def test_muon_update_is_nearly_orthogonal(shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Module(), nn.Linear(4, 2))
    weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    model[0].register_parameter("weight", weight)
    before = weight.detach().clone()
    optimizer = muon(model, lr=0.02, weight_decay=0.0)
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    update = (before - weight.detach()).flatten(1) / 0.02
    adjusted = update / (0.2 * math.sqrt(max(update.shape)))
    values = torch.linalg.svdvals(adjusted)
    assert values.min() >= 0.5 and values.max() <= 1.5
    # The adjustment: root mean square of an AdamW step, about 0.2 for a wide or tall matrix.
    assert 0.1 < update.square().mean().sqrt() < 0.3


@pytest.mark.parametrize(("factory", "name"), [(muon, "Muon and AdamW"), (sgd, "SGD")])
def test_an_optimizer_has_a_name_that_a_reader_knows(factory: Callable[..., Optimizer], name: str) -> None:
    assert optimizer_name(factory(make_net(), lr=0.1)) == name


def test_muon_moves_convolutions_and_leaves_the_rest_to_adamw() -> None:
    model = make_net()
    assert {id(p) for p in hidden_matrices(model)} == {id(model.stem.weight), id(model.hidden.weight)}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = muon(model, lr=0.01, weight_decay=0.0)
    train(model, optimizer, range(1))
    moved = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    assert all(float(delta.abs().max()) > 0 for delta in moved.values())
    values = torch.linalg.svdvals(moved["stem.weight"].flatten(1)) / (0.01 * 0.2 * math.sqrt(20))
    assert values.min() >= 0.5 and values.max() <= 1.5
    # AdamW's first step: lr * sign(gradient), wherever the gradient is not tiny.
    torch.testing.assert_close(moved["head.bias"].abs(), torch.full((CLASSES,), 0.01), rtol=1e-3, atol=0)


def test_every_trainable_parameter_appears_once() -> None:
    model = make_net()
    model.norm.weight.requires_grad_(False)
    expected = sorted(id(p) for p in model.parameters() if p.requires_grad)
    for factory in FACTORIES:
        optimizer = factory(model)
        assert sorted(id(p) for group in optimizer.param_groups for p in group["params"]) == expected


def test_no_decay_below_two_dimensions() -> None:
    model = make_net()
    for groups in [
        parameter_groups(model, 0.3),
        *(f(model, weight_decay=0.3).param_groups for f in FACTORIES),
    ]:
        for group in groups:
            for parameter in group["params"]:
                assert group["weight_decay"] == (0.3 if parameter.ndim >= 2 else 0.0)


@pytest.mark.parametrize("factory", FACTORIES)
def test_zero_gradients_decay_weights_and_leave_biases_alone(factory: Callable[..., Optimizer]) -> None:
    model = make_net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    factory(model, lr=0.1, weight_decay=0.5).step()
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert torch.equal(parameter.detach(), before[name])
        elif factory is not sgd:
            torch.testing.assert_close(parameter.detach(), before[name] * 0.95)
        else:  # decay goes into the gradient; Nesterov's first step is (1 + momentum) times it
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.1 * 0.5 * 1.9))


@pytest.mark.parametrize("factory", FACTORIES)
def test_schedule_reaches_the_update(factory: Callable[..., Optimizer]) -> None:
    model = make_net()
    optimizer = factory(model, lr=0.05)
    train(model, optimizer, range(2))
    before = [p.detach().clone() for p in model.parameters()]
    for group in optimizer.param_groups:
        assert group["initial_lr"] == 0.05
        group["lr"] = group["initial_lr"] * 0.0
    train(model, optimizer, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("factory", FACTORIES)
def test_learns(factory: Callable[..., Optimizer]) -> None:
    model = make_net()
    optimizer = factory(model, lr=0.2 if factory is sgd else 0.02)
    losses = [train(model, optimizer, range(1))[0] for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("factory", FACTORIES)
def test_state_dict_continues_bit_for_bit(factory: Callable[..., Optimizer]) -> None:
    model = make_net()
    optimizer = factory(model, lr=0.02)
    train(model, optimizer, range(5))
    model_state, optimizer_state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    expected = train(model, optimizer, range(5, 10))

    resumed = make_net(seed=9)
    resumed_optimizer = factory(resumed, lr=0.5)
    train(resumed, resumed_optimizer, range(20, 22))  # state that the loaded one must replace
    resumed.load_state_dict(model_state)
    resumed_optimizer.load_state_dict(optimizer_state)
    assert train(resumed, resumed_optimizer, range(5, 10)) == expected
    for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_mixture_equals_its_parts() -> None:
    whole, parts = make_net(), make_net()
    both = Mixture(
        [
            torch.optim.SGD(whole.stem.parameters(), lr=0.1, momentum=0.9),
            torch.optim.AdamW([p for n, p in whole.named_parameters() if not n.startswith("stem")], lr=0.01),
        ]
    )
    first = torch.optim.SGD(parts.stem.parameters(), lr=0.1, momentum=0.9)
    second = torch.optim.AdamW([p for n, p in parts.named_parameters() if not n.startswith("stem")], lr=0.01)
    for seed in range(4):
        both.step(make_closure(whole, both, seed))
        parts.zero_grad()
        make_closure(parts, first, seed)()
        first.step()
        second.step()
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)


def test_mixture_evaluates_the_closure_once_with_gradients_on() -> None:
    model = make_net()
    optimizer = muon(model)
    inner = make_closure(model, optimizer, 0)
    calls: list[bool] = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        return inner()

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert calls == [True]
    assert loss.item() > 0


def test_mixture_follows_a_model_whose_memory_was_replaced() -> None:
    model = make_net()
    optimizer = muon(model, lr=0.01)
    train(model, optimizer, range(2))
    for parameter in model.parameters():  # what Module.to(device) does
        parameter.data = parameter.data.clone()
    before = model.stem.weight.detach().clone()
    train(model, optimizer, range(2, 3))
    assert not torch.equal(before, model.stem.weight)


@pytest.mark.parametrize("factory", FACTORIES)
def test_parameters_without_gradient_stay(factory: Callable[..., Optimizer]) -> None:
    model = make_net()
    before = [p.detach().clone() for p in model.parameters()]
    factory(model, lr=1.0).step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m: sgd(m, lr=-1.0), "lr"),
        (lambda m: sgd(m, momentum=1.0), "momentum"),
        (lambda m: adamw(m, betas=(0.9, 1.0)), "betas"),
        (lambda m: adamw(m, betas=(0.9,)), "betas"),
        (lambda m: adamw(m, weight_decay=float("nan")), "weight_decay"),
        (lambda m: muon(m, adamw_lr=-0.1), "adamw_lr"),
        (lambda m: muon(m, weight_decay=float("inf")), "weight_decay"),
        (lambda m: adamw(m, eps=1e300), "eps"),
        (lambda m: sam(m, base=sgd, rho=float("nan")), "rho"),
    ],
)
def test_refuses_options_out_of_range(call: Callable[[nn.Module], Optimizer], name: str) -> None:
    with pytest.raises(UserError, match=name):
        call(make_net())


@pytest.mark.parametrize("factory", [*FACTORIES, adagrad, adam, lion, nadam, rmsprop, schedule_free_adamw])
@pytest.mark.parametrize("lr", [-1.0, float("nan"), float("inf"), 1e300])
def test_every_optimizer_refuses_a_learning_rate_out_of_range(factory: Callable[..., Optimizer], lr: float) -> None:
    with pytest.raises(UserError, match="optimizer: lr must be"):
        factory(make_net(), lr=lr)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: adamw(m, lr=0.0),
        lambda m: sgd(m, lr=-0.0, weight_decay=0.1),
        lambda m: muon(m, lr=0.01, adamw_lr=0.0),
        lambda m: sam(m, base=lambda model: adam(model, lr=0.0)),
    ],
)
def test_a_learning_rate_of_zero_trains_nothing_and_is_refused(make: Callable[[nn.Module], Optimizer]) -> None:
    with pytest.raises(UserError, match="weights never move"):
        check_learns(make(make_net()))
    assert check_learns(sgd(make_net(), lr=1e-30)).param_groups


def test_muon_refuses_a_linear_model() -> None:
    with pytest.raises(UserError, match="hidden matrices"):
        muon(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))


def test_refuses_a_frozen_model() -> None:
    with pytest.raises(ValueError, match="no trainable parameter"):
        adamw(nn.ReLU())
