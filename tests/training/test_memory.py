"""A step whose memory runs out equals the step with smaller micro-batches from its start."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_distributed import PLAIN
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.diagnostics.noise import NoiseScale
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.models.frontend import Classifier, Frontend
from einthoven.optim.optimizers import sgd
from einthoven.optim.penalties import Penalty
from einthoven.optim.sam import sam
from einthoven.runs.network.validation import Validation
from einthoven.tasks.contrastive import Contrastive
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step
from intervals import intervals
from two_steps import Bench, Notes, composed, train

RECORDS = 12
ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
IN_CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
ON_A_CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes")


class Limited(nn.Module):
    """Fails for more than some records, after its first layers have changed their running statistics."""

    def __init__(self, limit: int | None, error: BaseException) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(3, 6, 5), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 46, 4))
        self.limit = limit
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        if self.limit is not None and len(x) > self.limit:
            raise self.error
        outputs: Tensor = self.head(features)
        return outputs


def steps(
    limit: int | None,
    micro_batch: MicroBatch,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    error: BaseException,
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    torch.manual_seed(0)
    model = Classifier(Frontend(3), Limited(limit, error))
    x = torch.randn(RECORDS, 3, 50)
    y = (torch.rand(RECORDS, 4) > 0.5).float()
    batch = Batch(x, y, torch.arange(RECORDS), torch.ones(RECORDS, dtype=torch.bool))
    made = optimizer(model)
    every = intervals(activations=1, dead=1, predictions=1, gradients=1)
    diagnose = StepDiagnostics(model, PLAIN, made, every, autocast=contextlib.nullcontext)
    measured = []
    with diagnose.attach_hooks():
        for seed in range(2):
            metrics = train_step(
                model,
                PLAIN,
                batch,
                made,
                augment=lambda x, y, generator: (x, y),
                generator=torch.Generator().manual_seed(seed),
                autocast=contextlib.nullcontext,
                clip_norm=1.0,
                penalty=Penalty(),
                diagnose=diagnose,
                micro_batch=micro_batch,
            )
            measured.append(dict(metrics))
    return measured, model.state_dict()


def plain(model: nn.Module) -> torch.optim.Optimizer:
    return sgd(model, lr=0.1, momentum=0.9)


def twice(model: nn.Module) -> torch.optim.Optimizer:
    return sam(model, base=plain)


@pytest.mark.parametrize(
    "error", [ON_A_GPU, IN_CUBLAS, ON_A_CPU, MemoryError()], ids=["GPU", "cuBLAS", "CPU", "Python"]
)
@pytest.mark.parametrize("optimizer", [plain, twice])
def test_the_step_begins_again_with_smaller_parts(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer], error: BaseException
) -> None:
    said: list[str] = []
    halved = MicroBatch(records=RECORDS, smallest=2, say=said.append)
    found, state = steps(4, halved, optimizer, error)
    expected, expected_state = steps(None, MicroBatch(3), optimizer, error)
    assert halved.size == 3
    assert [set(metrics) for metrics in found] == [set(metrics) for metrics in expected]
    for a, b in zip(found, expected, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(torch.equal(state[name], expected_state[name]) for name in state)
    (sentence,) = said
    assert "at most 3 records pass through the model at once" in sentence


@pytest.mark.parametrize(
    "micro_batch",
    [MicroBatch(), MicroBatch(records=RECORDS, smallest=4), MicroBatch(1, records=RECORDS)],
    ids=["must not", "batch norm", "one record"],
)
def test_what_cannot_be_halved_further_is_a_sentence(micro_batch: MicroBatch) -> None:
    with pytest.raises(UserError, match=r"memory ran out .* Expected a smaller trainer\.micro_batch"):
        steps(0, micro_batch, plain, ON_A_CPU)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        steps(4, MicroBatch(records=RECORDS), plain, RuntimeError("shapes do not fit"))


def test_a_run_says_it_once_and_is_resumed_with_the_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    config = composed("trainer.batch_size=12", "diagnostics.noise_scale=1")
    run = bench.assembled(config)
    forward = type(run.model).forward

    def limited(model: nn.Module, x: Tensor) -> Tensor:
        if model.training and torch.is_grad_enabled() and len(x) > 3:
            raise ON_A_CPU
        return forward(model, x)

    monkeypatch.setattr(type(run.model), "forward", limited)
    notes = Notes()
    train(run, notes)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("The memory was not enough") == 1
    assert "watch/grad/noise_scale" in notes.latest
    resumed = bench.assembled(config)
    resumed.load()
    assert resumed.micro_batch.size == 3
    # The gradient noise is compared between the same parts as before.
    assert resumed.diagnose._noise.parts == 4


@pytest.mark.parametrize("way", ["compared records", "several processes"])
def test_parts_that_must_stay_as_they_are_are_not_halved(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("task=contrastive",) if way == "compared records" else ()
    run = Bench(tmp_path, monkeypatch).assembled(composed("trainer.batch_size=12", *options))
    if way == "several processes":
        run.processes = SimpleNamespace(size=2)  # type: ignore[assignment]
    assert run._make_micro_batch()._can_halve() is False


def test_an_evaluation_continues_with_fewer_records_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Bench(tmp_path, monkeypatch).assembled(composed("trainer.stride=2.5"))
    expected = run.evaluate("train")
    forward = type(run.model).forward
    passed: list[int] = []
    half = run.evaluation_size // 2

    def limited(model: nn.Module, x: Tensor) -> Tensor:
        # A record has four windows.
        if len(x) > 4 * half:
            raise ON_A_CPU
        passed.append(len(x) // 4)
        return forward(model, x)

    monkeypatch.setattr(type(run.model), "forward", limited)
    capsys.readouterr()
    found = run.evaluate("train")
    assert max(passed) == half
    assert run.evaluation_batch.size == half
    assert run.micro_batch.size is None
    (sentence,) = capsys.readouterr().out.splitlines()
    assert sentence.startswith("The memory was not enough for an evaluation.") and f"at most {half} records" in sentence
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_allclose(found.p, expected.p, rtol=1e-5)
    np.testing.assert_allclose(found.windows, expected.windows, rtol=1e-5)


def test_an_evaluation_of_one_record_that_needs_too_much_memory_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Bench(tmp_path, monkeypatch).assembled(composed())
    monkeypatch.setattr(type(run.model), "forward", raise_out_of_memory)
    with pytest.raises(UserError, match=r"memory ran out in an evaluation that passes 1 records .* Expected"):
        run.evaluate("val")


def raise_out_of_memory(*_: object) -> Tensor:
    raise ON_A_CPU


@pytest.mark.parametrize(
    ("option", "owner", "method", "sentence"),
    [
        ("diagnostics.noise_scale=1", NoiseScale, "update", "in the diagnostics of a step"),
        ("diagnostics.attention_entropy=1", Validation, "_measure_model", "in the diagnostics of an epoch"),
        ("task=contrastive", Contrastive, "scores", "in an evaluation"),
    ],
    ids=["noise scale", "attention", "pretext"],
)
def test_other_memory_that_runs_out_is_a_sentence(
    option: str, owner: type, method: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Bench(tmp_path, monkeypatch).assembled(composed("trainer.batch_size=12", option))
    monkeypatch.setattr(owner, method, raise_out_of_memory)
    with pytest.raises(UserError, match=f"memory ran out {sentence}. Expected .* memory.") as refusal:
        train(run, Notes())
    assert "\n" not in str(refusal.value)
