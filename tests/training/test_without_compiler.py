"""A training step needs no compiler, and moves the weights as with the wrappers of torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from einthoven.training.without_compiler import leave_compiler_out

STEP = """
import sys
import torch
from einthoven.runs.build_model import _check_memory
from einthoven.training.without_compiler import leave_compiler_out
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

leave_compiler_out()
_check_memory(nn.Linear, {"in_features": 3, "out_features": 2}, "", torch.device("cpu"))
model = nn.Linear(3, 2)
nn.init.normal_(model.weight)
with FlopCounterMode(display=False) as counter:
    loss = model(torch.ones(4, 3)).square().mean()
    loss.backward()
assert counter.get_total_flops() == 2 * 2 * 4 * 3 * 2
for name in ("SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop"):
    optimizer = getattr(torch.optim, name)(model.parameters())
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def test_a_step_does_not_import_the_compiler() -> None:
    answer = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


@pytest.mark.parametrize("differentiable", [False, True])
def test_only_a_differentiable_optimizer_records_its_step(differentiable: bool) -> None:
    leave_compiler_out()
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5, differentiable=differentiable)
    # The step changes the weight in place, which a recorded step may do to a copy only.
    copy = weight.clone() if differentiable else weight
    optimizer.param_groups[0]["params"] = [copy]
    copy.grad = torch.full((2,), 2.0)
    optimizer.step()
    assert copy.tolist() == [0.0, 0.0]
    assert (type(copy.grad_fn).__name__ == "AddBackward0") == differentiable
