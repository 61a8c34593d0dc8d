from __future__ import annotations

import copy
import errno
import json
import math
import os
import signal
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
    tensors, structure = checkpoint._flatten_state(tree)
    assert equal_nan(tree, checkpoint._restore_state(tensors, structure))


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
    tensors, _ = checkpoint._flatten_state({"w": weight})
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
        with pytest.raises(UserError, match=r"last\.safetensors is damaged"):
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


def run_in_a_process(work: Callable[[], object]) -> int:
    """Do something in a process of its own; its exit code, or less than 0 the signal that ended it."""
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_at(name: str, call: int) -> None:
    """Have this process killed by the n-th call of a function, before the function does anything."""
    owner: Any = os if name == "fsync" else Path
    function, calls = getattr(owner, name), iter(range(1, 100))

    def killing(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(owner, name, killing)


MOMENTS = [("fsync", 1), ("hardlink_to", 1), ("replace", 1), ("replace", 2), ("fsync", 2)]


@pytest.mark.parametrize(("name", "call"), MOMENTS, ids=[f"{name} {call}" for name, call in MOMENTS])
def test_a_kill_at_any_moment_leaves_two_whole_checkpoints(name: str, call: int, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    last, previous = folder / checkpoint.LAST, folder / checkpoint.PREVIOUS

    def save(step: int) -> None:
        checkpoint.save(last, {"w": torch.full((50_000,), float(step)), "step": step}, {}, previous=previous)

    def save_and_be_killed() -> None:
        kill_at(name, call)
        save(3)

    save(1)
    save(2)
    assert run_in_a_process(save_and_be_killed) == -signal.SIGKILL
    steps = [checkpoint.load(path)[0]["step"] for path in (previous, last)]
    assert steps in ([1, 2], [2, 2], [2, 3])
    state, _, note = checkpoint.load_last(folder)
    assert state["step"] == steps[1] and not note and bool((state["w"] == steps[1]).all())
    save(4)
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.LAST, checkpoint.PREVIOUS]
    assert [checkpoint.load(path)[0]["step"] for path in (previous, last)] == [steps[1], 4]


def test_without_hard_links_the_checkpoint_before_the_last_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    for step in (1, 2, 3):
        checkpoint.save(tmp_path / checkpoint.LAST, {"s": step}, {}, previous=tmp_path / checkpoint.PREVIOUS)
    assert checkpoint.load(tmp_path / checkpoint.LAST)[0] == {"s": 3}
    assert checkpoint.load(tmp_path / checkpoint.PREVIOUS)[0] == {"s": 2}
    # A kill between the two renames leaves no last checkpoint.
    (tmp_path / checkpoint.LAST).unlink()
    state, _, note = checkpoint.load_last(tmp_path)
    assert state == {"s": 2} and "no checkpoint at" in note and checkpoint.exists(tmp_path)


@pytest.fixture
def three_epochs(tmp_path: Path) -> Path:
    """A folder with the last checkpoint, of epoch 3, and the one before it."""
    for epoch in (1, 2, 3):
        state = {"w": torch.arange(300.0) * epoch, "list": [epoch, (0.5, None)]}
        meta = {"epoch": epoch, "name": "µ", "best": -math.inf}
        checkpoint.save(tmp_path / checkpoint.LAST, state, meta, previous=tmp_path / checkpoint.PREVIOUS)
    return tmp_path


def flip(path: Path, byte: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def test_every_flipped_bit_is_noticed(three_epochs: Path, tmp_path: Path) -> None:
    whole, changed = three_epochs / checkpoint.LAST, tmp_path / "changed.safetensors"
    size = whole.stat().st_size
    generator = np.random.default_rng(0)
    # All bits of the length, and a bit of every fifth byte: names, JSON, hash, numbers, padding.
    places = [(byte, bit) for byte in range(8) for bit in range(8)]
    places += [(int(byte), int(generator.integers(8))) for byte in range(8, size, 5)]
    for byte, bit in places:
        changed.write_bytes(whole.read_bytes())
        flip(changed, byte, bit)
        with pytest.raises(UserError, match=r"changed\.safetensors") as refusal:
            checkpoint.load(changed)
        assert "\n" not in str(refusal.value)
    assert len(places) > 350


def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(three_epochs: Path) -> None:
    flip(three_epochs / checkpoint.LAST, -1, 3)
    state, meta, note = checkpoint.load_last(three_epochs)
    assert meta["epoch"] == 2 and torch.equal(state["w"], torch.arange(300.0) * 2)
    assert note.count("\n") == 0 and "last.safetensors is damaged" in note and "previous.safetensors, is used" in note
    flip(three_epochs / checkpoint.PREVIOUS, 400, 0)
    with pytest.raises(UserError, match=r"last\.safetensors is damaged.*previous\.safetensors is damaged"):
        checkpoint.load_last(three_epochs)


def test_a_write_that_cannot_be_read_back_replaces_nothing(three_epochs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path: path.read_bytes() for path in three_epochs.iterdir()}
    fsync = os.fsync

    def damage(descriptor: int) -> None:
        os.pwrite(descriptor, b"?", 700)  # as a faulty disk or memory would
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", damage)
    with pytest.raises(OSError, match="not read back as it was written"):
        checkpoint.save(
            three_epochs / checkpoint.LAST, {"w": torch.ones(500)}, {}, previous=three_epochs / checkpoint.PREVIOUS
        )
    assert {path: path.read_bytes() for path in three_epochs.iterdir()} == files


def old_checkpoint(state: dict[str, Any], version: int = 1) -> bytes:
    """A checkpoint as version 0.1 of the package wrote it: without a hash."""
    flat, structure = checkpoint._flatten_state(state)
    header = json.dumps({"version": version, "structure": structure, "meta": {"epoch": 7}})
    return safetensors.torch.save(flat, metadata={"einthoven.checkpoint": header})


def test_checkpoints_of_the_version_without_a_hash_are_read(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(old_checkpoint({"w": torch.ones(3), "step": 2}))
    state, meta = checkpoint.load(path)
    assert same(state, {"w": torch.ones(3), "step": 2}) and meta == {"epoch": 7}
    # A checkpoint of the present version needs its hash.
    path.write_bytes(old_checkpoint({"w": torch.ones(3)}, version=2))
    with pytest.raises(UserError, match="SHA-256 is missing"):
        checkpoint.load(path)
    path.write_bytes(old_checkpoint({"w": torch.ones(3)}, version=3))
    with pytest.raises(UserError, match="has checkpoint version 3, expected 2 or 1"):
        checkpoint.load(path)


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
