"""Runs with trainer.compile=true are the runs without it, up to rounding."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from einthoven import cli
from einthoven.errors import UserError
from einthoven.runs import network_run
from einthoven.runs.network.compiling import training_passes
from einthoven.runs.network_run import NetworkRun
from einthoven.training import batch_norm, checkpoint, compiled, distributed
from einthoven.training.compiled import CompiledPasses
from einthoven.training.step import train_step
from small_runs import sentence
from two_steps import Bench, Notes, a_model, composed, train

COMPILE = "trainer.compile=true"
LAST = Path("checkpoints/last.safetensors")
# Parts of 12 and 11 records; dropout; hooks in every other step.
STEPS = ("trainer.batch_size=23", "trainer.micro_batch=12", "diagnostics.activations=2", "trainer.epochs=2")


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    folder = tmp_path / "eager"
    folder.mkdir()
    use_backend(monkeypatch, "eager")
    return Bench(folder, monkeypatch)


def use_backend(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """Trace the model as inductor would, which takes seconds for each network to make code of it."""
    torch._dynamo.reset()
    monkeypatch.setattr(network_run, "training_passes", partial(training_passes, backend=backend))


def trained(bench: Bench, *options: str) -> tuple[NetworkRun, Notes]:
    run = bench.assembled(composed(*options))
    notes = Notes()
    train(run, notes)
    return run, notes


@pytest.mark.parametrize(
    "options",
    [
        a_model("conv_attention"),
        ("model=mlp", "model.width=8", "model.depth=1", "trainer.ema=0.8", "optimizer=sam"),
        ("task=contrastive", "trainer.micro_batch=null"),
    ],
    ids=["attention", "batch norm, EMA, SAM", "contrastive"],
)
def test_a_compiled_run_equals_the_eager_run(options: tuple[str, ...], bench: Bench) -> None:
    eager, expected = trained(bench, *STEPS, *options)
    with counted_calls() as calls:
        of_compiled_run, found = trained(bench, *STEPS, *options, COMPILE)
    # Steps with hooks run as written, all others run compiled code.
    assert calls["compiled"] > 0
    assert calls["as written"] > 0
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    assert found.latest.keys() == expected.latest.keys()
    for name, value in expected.latest.items():
        if name.startswith(("watch/act/", "watch/grad/", "val/loss")):
            assert found.latest[name] == pytest.approx(value, rel=1e-3), name
    expected_state = eager.model.state_dict()
    assert of_compiled_run.model.state_dict().keys() == expected_state.keys()
    for name, value in of_compiled_run.model.state_dict().items():
        torch.testing.assert_close(value, expected_state[name], rtol=1e-3, atol=1e-4)
    names, _ = checkpoint._flatten_state(checkpoint.load(bench.folder / LAST)[0])
    assert not any("_orig_mod" in name for name in names)
    assert "forward" not in of_compiled_run.model.__dict__


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count the passes of compiled code and of code as it is written."""
    counts: Counter[str] = Counter()
    run = CompiledPasses._run

    def count(passes: CompiledPasses, *inputs: Any) -> Any:
        has_hooks = any(module._forward_hooks for module in passes._parts)
        counts["as written" if has_hooks else "compiled"] += 1
        return run(passes, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledPasses, "_run", count)
        yield counts


def test_a_resumed_run_is_compiled_and_has_the_same_bits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (*STEPS, COMPILE, "trainer.checkpoint_minutes=0")
    trained(bench, *options)
    whole_folder = bench.folder
    bench.folder = whole_folder.parent / "cut"
    bench.folder.mkdir()
    steps: list[int] = []

    def step(*args: Any, **kwargs: Any) -> Any:
        steps.append(len(steps))
        if len(steps) > 3:
            raise Killed
        return train_step(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(network_run, "train_step", step)
        trained(bench, *options)
    torch._dynamo.reset()
    resumed = bench.assembled(composed(*options))
    resumed.load()
    assert resumed.position.step == 3
    with counted_calls() as calls:
        train(resumed, Notes())
    assert calls["compiled"] > 0
    first, second = (
        checkpoint._flatten_state(checkpoint.load(folder / LAST)[0])[0] for folder in (whole_folder, bench.folder)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_memory_that_runs_out_in_compiled_code_halves_the_micro_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def limited(graph: Any, inputs: Any) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            if any(isinstance(value, Tensor) and value.ndim == 3 and len(value) > 12 for value in values):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return graph(*values)

        return call

    options = ("trainer.batch_size=23", "trainer.epochs=2", "diagnostics=none")
    _, expected = trained(bench, *options, "trainer.micro_batch=11")
    use_backend(monkeypatch, limited)
    run, found = trained(bench, *options, COMPILE)
    assert run.micro_batch.size == 11
    assert "at most 11 records pass through the model at once" in capsys.readouterr().out
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)


@pytest.fixture
def inductor_bench(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    use_backend(monkeypatch, "inductor")
    return bench


# A bias before a batch norm has a gradient of rounding errors, which AdamW would make large.
MLP = ("model=mlp", "model.width=4", "model.depth=1", "optimizer=sgd")
TINY = (*MLP, "trainer.epochs=2", "diagnostics=none", "trainer.batch_size=23")


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler, and g++ is not here")
def test_inductor_computes_what_eager_mode_computes(inductor_bench: Bench) -> None:
    eager, expected = trained(inductor_bench, *TINY)
    of_compiled_run, found = trained(inductor_bench, *TINY, COMPILE)
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    for a, b in zip(of_compiled_run.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_models_that_were_compiled_before_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep compiles any number of models in one process."""
    monkeypatch.setattr(compiled, "RECOMPILE_LIMIT", 2)
    with torch._dynamo.config.patch(recompile_limit=2):
        for width in range(1, 5):
            model = nn.Sequential(nn.Linear(3, width))
            with CompiledPasses(model, "forward", nullcontext, "eager")():
                assert model(torch.ones(1, 3)).shape == (1, width)


NO_COMPILER = {"cpp.cxx": ("/missing/g++",)}


def test_a_missing_compiler_is_a_sentence(inductor_bench: Bench) -> None:
    words = r"trainer\.compile=true: .* cannot be compiled here .*C\+\+ compiler"
    with inductor.patch(NO_COMPILER), pytest.raises(UserError, match=words) as refusal:
        trained(inductor_bench, *TINY, COMPILE)
    assert "\n" not in str(refusal.value)


def test_a_missing_compiler_is_said_before_any_record_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    with inductor.patch(NO_COMPILER), pytest.raises(SystemExit) as exit_:
        cli.main(["train", COMPILE, "data=ptbxl", "data.root=/nowhere"])
    assert "trainer.compile=true" in sentence(exit_.value, capsys)
    # There is no run yet, neither in its folder nor in the tracking store.
    assert not list(tmp_path.rglob("config.yaml"))
    assert not (tmp_path / "mlflow.db").exists()


def test_an_unsupported_python_is_a_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("torch.compile is not supported on Python 3.15+")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(UserError, match=r"trainer\.compile=true: .*not supported on Python 3\.15\+"):
        trained(bench, *TINY, COMPILE)


def test_a_pass_with_hooks_runs_as_it_is_written() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    calls: list[str] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            calls.append("compiled")
            return graph(*values)

        return call

    torch._dynamo.reset()
    passes = CompiledPasses(model, "forward", torch.no_grad, backend)
    x = torch.ones(1, 3)
    with passes():
        model(x)
    handle = model[0].register_forward_hook(lambda *_: calls.append("hook"))
    with passes():
        model(x)
    handle.remove()
    with passes():
        model(x)
    model(x)
    assert calls == ["compiled", "hook", "compiled"]


def test_the_share_of_a_process_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both processes have the same records, so that their sums are twice those of one process.
    monkeypatch.setattr(distributed, "all_gather", lambda parts, own: [part.copy_(own) for part in parts])
    monkeypatch.setattr(batch_norm, "all_reduce", lambda tensor: tensor.mul_(2))
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    passes = CompiledPasses(model, "forward", nullcontext, backend)
    processes = distributed.ConnectedProcesses(0, 2)
    x = torch.randn(4, 3).repeat(2, 1)
    outputs = []
    for context in (nullcontext, passes, passes, passes):
        torch.manual_seed(1)
        with processes.share(model), context():
            outputs.append(model(x))
    assert len(graphs) == 1
    for found in outputs[1:]:
        torch.testing.assert_close(found, outputs[0])
