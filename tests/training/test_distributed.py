"""Two processes that train together equal one process. The oracle is the same code in one process, without messages."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from einthoven.augment.mix import Mixup
from einthoven.contracts import ONE_PROCESS, Batch, Processes
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend
from einthoven.optim.optimizers import sgd
from einthoven.optim.penalties import L2
from einthoven.optim.sam import sam
from einthoven.schema import Diagnostics
from einthoven.tasks.classification import Classification
from einthoven.training.averaging import WeightAverage
from einthoven.training.batch_norm import recompute_statistics
from einthoven.training.collectives import LostProcessError
from einthoven.training.connection import Meeting
from einthoven.training.distributed import ConnectedProcesses
from einthoven.training.evaluate import evaluate
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step

STEPS = 3
RECORDS = 13  # not a multiple of the number of processes


class Spread(Classification):
    """A loss in which each record is compared with all others of the batch."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, logits = super().loss(model, batch)
        return loss + torch.cdist(logits, logits).mean(), logits


def task(kind: type[Classification] = Classification) -> Classification:
    return kind(
        labels="superdiagnostic",
        single_label=False,
        keep_unlabelled=False,
        min_likelihood=0.0,
        shuffle_labels=False,
        temperature=1.0,
    )


PLAIN = task()

CASES: dict[str, dict[str, Any]] = {
    "batch norm": {},
    "layer norm": {"norm": "layer"},
    "micro-batches": {"micro_batch": 7},
    "SAM": {"optimizer": lambda model: sam(model, base=lambda m: sgd(m, lr=0.05, weight_decay=0.0))},
    "a loss that compares records": {"task": task(Spread)},
}


def train(
    processes: Processes,
    *,
    norm: str = "batch",
    micro_batch: int | None = None,
    optimizer: Callable[[nn.Module], Any] = lambda model: sgd(model, lr=0.05, weight_decay=0.0),
    task: Classification = PLAIN,
) -> dict[str, Tensor]:
    """A few steps with dropout, skipped branches, random windows and mixup. What the steps measure, and predictions."""
    torch.manual_seed(0)
    network = ConvAttention(3, 4, fs=100, channels=[8, 8], heads=2, window=0.6, norm=norm)
    model = Classifier(Frontend(3), network)
    x = torch.randn(40, 3, 100)
    y = (torch.rand(40, 4) > 0.5).float()
    made = optimizer(model)
    never = dict.fromkeys((field.name for field in fields(Diagnostics)), None)
    measured_kinds = dict.fromkeys(("activations", "dead", "noise_scale", "predictions", "gradients"), 1)
    every = Diagnostics(**{**never, "probe_records": 1, "landscape": False, **measured_kinds})  # type: ignore[arg-type]
    diagnose = StepDiagnostics(model, task, made, every, autocast=contextlib.nullcontext, parts=2, processes=processes)
    generator = torch.Generator()
    measured: dict[str, list[Tensor]] = {}

    def recompute() -> None:
        with processes.share(model):
            recompute_statistics(model, [x[:RECORDS], x[20:31]], model, seed=5)

    average = WeightAverage(model, decay=0.5, first_step=1, interval=1, recompute=recompute)
    with diagnose.attach_hooks():
        for step in range(STEPS):
            index = torch.randperm(40, generator=generator.manual_seed(100 + step))[:RECORDS]
            generator.manual_seed(step)
            metrics = train_step(
                model,
                task,
                Batch(x[index], y[index], index, torch.ones(RECORDS, dtype=torch.bool)),
                made,
                augment=Mixup(),
                generator=generator,
                autocast=contextlib.nullcontext,
                clip_norm=math.inf,
                penalty=L2(0.01),
                diagnose=diagnose,
                micro_batch=MicroBatch(micro_batch),
                processes=processes,
            )
            for name, value in metrics.items():
                measured.setdefault(name, []).append(value.double())
            average.after_step(step + 1)
    found = {name: torch.stack(values) for name, values in measured.items()}

    rows = torch.arange(RECORDS)
    batches = [Batch(x[:RECORDS], y[:RECORDS], rows, rows < RECORDS - 1)]
    options = {"window": 60, "stride": 20, "aggregate": "mean", "autocast": contextlib.nullcontext}
    with processes.share(model):
        found["predictions"] = torch.from_numpy(evaluate(model, task, batches, **options).p)  # type: ignore[arg-type]
    found["weights"] = torch.cat([p.detach().flatten() for p in model.parameters()])
    found["running statistics"] = torch.cat([b.double().flatten() for b in model.buffers()])
    with average.applied():
        found["averaged model"] = torch.cat([t.double().flatten() for t in model.state_dict().values()])
    return found


class NoStore:
    """The store of a torchrun that has ended."""

    def refuse(self, *_: str) -> None:
        raise dist.DistNetworkError("failed to recv, got 0 bytes")

    set = compare_set = refuse


def test_a_run_may_end_after_the_other_processes_and_torchrun() -> None:
    meeting = Meeting(NoStore(), 0, 2)  # type: ignore[arg-type]
    meeting.end()
    meeting.leave()
    with pytest.raises(LostProcessError):
        meeting.tell_folder(Path("run"))


def _train_as_one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {name: train(ConnectedProcesses(rank, 2), **options) for name, options in CASES.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two processes has measured in each case."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "OMP_NUM_THREADS", "1")
        spawn(_train_as_one_of_two, (str(folder),), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case: str, together: list[dict[str, dict[str, Tensor]]]) -> None:
    alone = train(ONE_PROCESS, **CASES[case])
    first, second = (found[case] for found in together)
    assert first.keys() == alone.keys()
    assert {"train/loss", "watch/grad/norm", "watch/grad/noise_scale", "watch/act/dead/conv"} <= alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5, equal_nan=True, msg=name)
    # The processes never exchange weights, so that these must not drift apart.
    assert torch.equal(first["weights"], second["weights"])
