from __future__ import annotations

import copy
import errno
import math
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.muon import muon
from einthoven.optim.optimizers import adamw, sgd
from einthoven.training import checkpoint


def same(a: Any, b: Any) -> bool:
    """Equality in value and type, for tensors bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Conv1d(8, 8, 3),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> list[float]:
    """Draws data and dropout from the global generator, so that its state matters."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(6, 3, 20)), torch.randint(4, (6,)))
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


FACTORIES: list[Callable[[nn.Module], Optimizer]] = [
    sgd,
    adamw,
    muon,
    lambda model: torch.optim.Adam(model.parameters(), amsgrad=True),
    lambda model: torch.optim.RMSprop(model.parameters(), momentum=0.9),
]


@pytest.mark.parametrize("factory", FACTORIES, ids=["sgd", "adamw", "muon", "amsgrad", "rmsprop"])
def test_training_continues_bit_for_bit(factory: Callable[[nn.Module], Optimizer], tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = make_model()
    optimizer = factory(model)
    train(model, optimizer, 4)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    checkpoint.save(tmp_path / "last.safetensors", state, {"step": 4})
    expected = train(model, optimizer, 4)

    torch.manual_seed(99)
    resumed = make_model()
    resumed_optimizer = factory(resumed)
    loaded, meta = checkpoint.load(tmp_path / "last.safetensors")
    resumed.load_state_dict(loaded["model"])
    resumed_optimizer.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["rng"])
    assert meta == {"step": 4}
    assert train(resumed, resumed_optimizer, 4) == expected
    assert same(dict(resumed.state_dict()), dict(model.state_dict()))


NESTED: dict[str, Any] = {
    "betas": (0.9, 0.999),
    "state": {0: {"step": torch.tensor(3.0), "none": None}, 1: {}, 12: {"on": True, "count": 2**130}},
    "1": torch.arange(3, dtype=torch.uint8),
    1: torch.arange(3, dtype=torch.int16),
    "empty": [torch.zeros(0, 4), [], (), {}],
    "floats": [0.1, -0.0, math.inf, math.nan, 5e-324, 1.0],
    "text": "µV \n \"quoted\" {'tensor': 1}",
    "looks like ours": {"tensor": "1", "dict": []},
    "types": [torch.tensor([True]), torch.ones(2, dtype=torch.bfloat16), torch.ones((), dtype=torch.float64)],
    "a/b": torch.zeros(1),
    "__metadata__": torch.zeros(1),
    "a": {"b": torch.ones(1)},
}


def test_nested_state_is_restored_exactly(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x.safetensors", NESTED, {"epoch": 3, "name": "µ", "best": -math.inf})
    tensors, meta = checkpoint.load(tmp_path / "x.safetensors")
    assert same(tensors, NESTED)
    assert math.copysign(1, tensors["floats"][1]) == -1
    assert meta == {"epoch": 3, "name": "µ", "best": -math.inf}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    scalars | st.lists(st.floats(width=32), max_size=3).map(lambda v: torch.tensor(v, dtype=torch.float32)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


def equal_nan(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.numpy().tobytes() == b.numpy().tobytes() and a.shape == b.shape
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(equal_nan(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal_nan, a, b))
    return same(a, b)


@settings(deadline=None)
@given(tree=trees)
def test_any_tree_is_restored(tree: Any) -> None:
    tensors, structure = checkpoint.flatten_state(tree)
    assert equal_nan(tree, checkpoint.restore_state(tensors, structure))


def test_ordered_dict_and_tied_weights(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(4, 4))
    state = OrderedDict(a=weight, b=weight, row=weight[1], transposed=weight.t())
    checkpoint.save(tmp_path / "x.safetensors", state, {})
    loaded, _ = checkpoint.load(tmp_path / "x.safetensors")
    assert list(loaded) == ["a", "b", "row", "transposed"]
    for name, value in state.items():
        assert torch.equal(loaded[name], value) and not loaded[name].requires_grad
    loaded["a"].zero_()
    assert torch.equal(loaded["b"], weight)


def test_flattening_takes_a_copy() -> None:
    weight = torch.ones(3)
    tensors, _ = checkpoint.flatten_state({"w": weight})
    weight.zero_()
    assert tensors["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("bad", [{1, 2}, np.float64(1), np.ones(2), b"x", 1j, torch.Size([1]), {1.5: 0}, object()])
def test_refuses_what_it_cannot_restore(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="outer/inner"):
        checkpoint.save(tmp_path / "x.safetensors", {"outer": {"inner": bad}}, {})
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "x.safetensors", {}, {"inner": object()})
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(UserError, match=r"no checkpoint at .*last\.safetensors"):
        checkpoint.load(path)
    checkpoint.save(path, {"w": torch.ones(1000)}, {})
    whole = path.read_bytes()
    for length in (0, 4, 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"last\.safetensors is damaged or not a checkpoint"):
            checkpoint.load(path)
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(UserError, match=r"last\.safetensors .*not a checkpoint of einthoven"):
        checkpoint.load(path)


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, {"step": 1}, {})

    def disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, {"step": 2}, {})
    assert checkpoint.load(path)[0] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


KILLED_WHILE_SAVING = """
import os, signal, sys, torch
from einthoven.training import checkpoint
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save(sys.argv[1], {"w": torch.zeros(100_000), "step": 2}, {})
"""


def test_a_kill_during_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "last.safetensors"
    checkpoint.save(path, {"w": torch.ones(5), "step": 1}, {})
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(path.parent.iterdir())) == 2  # the unfinished file lies beside it...
    assert checkpoint.load(path)[0]["step"] == 1
    checkpoint.save(path, {"step": 3}, {})
    assert list(path.parent.iterdir()) == [path]  # ...until the next save takes its name
    assert checkpoint.load(path)[0] == {"step": 3}


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last.safetensors", {"w": torch.ones(2)}, {})
    (tmp_path / "other").touch()
    assert (tmp_path / "last.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, {"w": torch.ones(5000)}, {})
    loaded, _ = checkpoint.load(path)
    expected = copy.deepcopy(loaded)
    path.write_bytes(b"")
    assert same(loaded, expected)
