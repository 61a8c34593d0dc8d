"""Speed, operations and memory of steps."""

from __future__ import annotations

import contextlib
import copy
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.models import convolution
from einthoven.models.convolution import TimeConvolution
from einthoven.training import meter
from einthoven.training.meter import StepMeter, count_flops, matmul_rate, peak_memory
from two_steps import Bench, Notes, composed, train

CPU = torch.device("cpu")


def a_batch(records: int = 2) -> Batch:
    torch.manual_seed(0)
    y = torch.zeros(records, 1)
    return Batch(torch.randn(records, 3, 20), y, torch.arange(records), torch.ones(records, dtype=torch.bool))


class Squares:
    """The mean square of the outputs."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        outputs = model(batch.x)
        return outputs.square().mean(), outputs

    def goal(self, batch: Batch) -> Tensor:
        return batch.y

    def activation(self, outputs: Tensor, /) -> Tensor:
        return outputs


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_rates_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)

    def batches() -> Iterator[Batch]:
        for _ in range(4):
            clock.now += 0.5
            yield a_batch()

    measured = StepMeter(records=12, flops=6_000, ceiling=8_000.0, device=CPU, steps_per_epoch=4)
    reports = []
    for epoch in range(2):
        for number, _ in enumerate(measured.timed(batches())):
            clock.now += 1.5
            reports.append(measured.after_step(4 * epoch + number + 1))
            # Checkpoints and evaluations do not count.
            clock.now += 1000.0
    assert [bool(report) for report in reports] == [False, False, False, True] * 2
    for report in (reports[3], reports[7]):
        assert report["system/records_per_s"] == pytest.approx(12 / 2.0)
        assert report["system/data_wait_ms"] == pytest.approx(500.0)
        assert report["system/gflops"] == pytest.approx(6_000 / 2.0 / 1e9)
        assert report["system/share_of_ceiling"] == pytest.approx(3_000 / 8_000)
        assert "system/gpu_memory_mb" not in report


def test_a_long_epoch_has_a_report_every_fifty_steps() -> None:
    measured = StepMeter(records=1, flops=0, ceiling=1.0, device=CPU, steps_per_epoch=120)
    steps = []
    for number, _ in enumerate(measured.timed([a_batch()] * 120), start=1):
        report = measured.after_step(number)
        steps += [number] if report else []
        assert "system/gflops" not in report
    assert steps == [50, 100, 120]


def test_operations_have_their_closed_form_and_the_model_does_not_change() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 16, 7))
    before = copy.deepcopy(model.state_dict())
    batch = a_batch()
    state = torch.get_rng_state()
    found = count_flops(model, Squares(), batch, contextlib.nullcontext)
    # Forward, gradient of the weights, and gradient of the input, which the first layer does not need.
    convolution = 2 * 2 * 8 * 16 * 3 * 5
    linear = 2 * 2 * (8 * 16) * 7
    assert found == 2 * convolution + 3 * linear
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("processor", ["AVX2", "AVX512"])
def test_operations_are_the_same_on_each_processor(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    monkeypatch.setattr(convolution, "FEWEST_CHANNELS", 2)
    model = nn.Sequential(nn.Unflatten(1, (3, 1)), TimeConvolution(3, 8, (1, 5)))
    assert count_flops(model, Squares(), a_batch(), contextlib.nullcontext) == 2 * 2 * 2 * 8 * 16 * 3 * 5


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_operations_of_a_model_that_cannot_be_copied() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv1d(3, 8, 5)))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    assert count_flops(model, Squares(), a_batch(), contextlib.nullcontext) == 2 * 2 * 2 * 8 * 16 * 3 * 5


def test_the_ceiling_is_a_rate_of_this_machine() -> None:
    assert 1e8 < matmul_rate(CPU) < 1e14


def test_the_peak_of_memory_grows_with_an_array() -> None:
    before = peak_memory()
    assert before == 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    array = torch.ones(60_000_000)
    assert peak_memory() >= before
    assert peak_memory() >= array.numel() * array.element_size()


def test_every_run_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    train(Bench(tmp_path, monkeypatch).assembled(composed()), notes)
    assert {name for name in notes.latest if name.startswith("system/")} == {
        "system/records_per_s",
        "system/data_wait_ms",
        "system/gflops",
        "system/share_of_ceiling",
        "system/memory_mb",
    }
    assert 0 < notes.latest["system/share_of_ceiling"] < 2
