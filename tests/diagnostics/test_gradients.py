from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.diagnostics.gradients import gradient_norms, gradient_norms_l1
from einthoven.diagnostics.stages import stages


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 4, 3)
        self.activation = nn.ReLU()
        self.body = nn.Sequential(nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.activation(self.stem(x))).mean(-1))
        return logits


def backward(network: nn.Module) -> None:
    x = torch.randn(5, 2, 30, generator=torch.Generator().manual_seed(0))
    network(x).square().sum().backward()


def make_net() -> Net:
    torch.manual_seed(0)
    return Net()


def brute(parameters: list[nn.Parameter]) -> np.ndarray:
    return np.concatenate([p.grad.double().numpy().ravel() for p in parameters if p.grad is not None])


def test_stages_are_the_children_with_parameters_in_order() -> None:
    network = make_net()
    found = stages(network)
    assert list(found) == ["stem", "body", "head"]
    assert {id(p) for s in found.values() for p in s} == {id(p) for p in network.parameters()}


def test_frozen_and_shared_parameters() -> None:
    network = make_net()
    network.body[0].weight = network.stem.weight
    for parameter in network.head.parameters():
        parameter.requires_grad_(False)
    found = stages(network)
    assert list(found) == ["stem", "body"]
    assert len(found["stem"]) == 2 and len(found["body"]) == 3


def test_parameters_of_the_network_itself_are_a_stage() -> None:
    assert list(stages(nn.Linear(2, 3))) == ["network"]
    network = make_net()
    network.token = nn.Parameter(torch.zeros(4))
    assert list(stages(network)) == ["network", "stem", "body", "head"]
    with pytest.raises(ValueError, match="ReLU has no trainable parameter"):
        stages(nn.ReLU())


def test_norms_equal_brute_force() -> None:
    network = make_net()
    backward(network)
    found = gradient_norms(parts := stages(network))
    for name, parameters in parts.items():
        assert found[f"watch/grad/norm/{name}"].item() == pytest.approx(np.linalg.norm(brute(parameters)), rel=1e-5)
    first, last = brute(parts["stem"]), brute(parts["head"])
    expected = np.sqrt(np.mean(first**2) / np.mean(last**2))
    assert found["watch/grad/vanishing"].item() == pytest.approx(expected, rel=1e-5)
    total = sum(value**2 for name, value in found.items() if name.startswith("watch/grad/norm/")) ** 0.5
    clipped = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    torch.testing.assert_close(total, clipped)


def test_a_missing_gradient_counts_as_zero() -> None:
    network = make_net()
    backward(network)
    network.stem.weight.grad = None
    network.body[0].weight.grad = network.body[0].bias.grad = None
    network.body[1].weight.grad = network.body[1].bias.grad = None
    found = gradient_norms(parts := stages(network))
    assert found["watch/grad/norm/body"].item() == 0.0
    rms_first = np.sqrt((brute(parts["stem"]) ** 2).sum() / sum(p.numel() for p in parts["stem"]))
    rms_last = np.sqrt(np.mean(brute(parts["head"]) ** 2))
    assert found["watch/grad/vanishing"].item() == pytest.approx(rms_first / rms_last, rel=1e-5)


def test_a_frozen_stage_is_not_measured() -> None:
    network = make_net()
    parts = stages(network)
    network.stem.requires_grad_(False)
    backward(network)
    assert gradient_norms(parts).keys() == {"watch/grad/norm/body", "watch/grad/norm/head"}
    assert gradient_norms_l1(parts).keys() == {"watch/grad/norm_l1/body", "watch/grad/norm_l1/head"}


def test_before_any_backward_pass_all_norms_are_zero() -> None:
    found = gradient_norms(stages(make_net()))
    assert [found[f"watch/grad/norm/{name}"].item() for name in ("stem", "body", "head")] == [0.0, 0.0, 0.0]


def test_measures_what_vanishes() -> None:
    # Sigmoids pass on at most a quarter of the gradient each.
    torch.manual_seed(0)
    deep = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Sigmoid()) for _ in range(10)))
    deep(torch.randn(16, 8)).sum().backward()
    assert gradient_norms(stages(deep))["watch/grad/vanishing"].item() < 1e-4
