"""A process of `bench_models.py` that takes training steps of one network when it is told to.

    python bench/model_worker.py (package | compiled | plain | torch_ecg) NETWORK

A line of the input is `BATCH SAMPLES STEPS`, or `matmul`. The answer is three numbers: seconds and processor seconds of
a step, and processor seconds of the first step of this size, with those of a compiler. The answer to `count SAMPLES` is
the number of parameters, and the operations of a step for one record. `compiled` is the package with `trainer.compile`.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable

PACKAGE = ("package", "compiled")
SIDE = 1024
CLASSES = 5


def main() -> None:
    kind, network = sys.argv[1:]
    if kind in PACKAGE:
        from einthoven import machine

        # Versions before this function existed leave the memory as it is.
        if hasattr(machine, "keep_freed_memory"):
            machine.keep_freed_memory()
    import torch

    torch.manual_seed(0)
    matrices = torch.randn(2, SIDE, SIDE)
    steps: dict[tuple[int, int], Callable[[], None]] = {}
    first_seconds: dict[tuple[int, int], float] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "matmul":
            measure(lambda: torch.mm(matrices[0], matrices[1]), 5, 0.0)
            continue
        if line.startswith("count"):
            _, samples = line.split()
            model = build(kind, network, int(samples))
            print(sum(p.numel() for p in model.parameters()), count_operations(model, int(samples)), flush=True)
            continue
        batch, samples, number = map(int, line.split())
        if (batch, samples) not in steps:
            steps[batch, samples] = stepper(build(kind, network, samples), kind, batch, samples)
            before = processor_seconds()
            steps[batch, samples]()
            first_seconds[batch, samples] = processor_seconds() - before
        measure(steps[batch, samples], number, first_seconds[batch, samples])


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for, such as a compiler."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(work: Callable[[], object], number: int, first: float) -> None:
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(number):
        work()
    print((time.perf_counter() - start) / number, (time.process_time() - cpu_start) / number, first, flush=True)


def build(kind: str, network: str, samples: int):
    import torch

    torch.manual_seed(0)
    if kind == "plain":
        from plain_networks import NETWORKS

        return NETWORKS[network](CLASSES)
    if kind == "torch_ecg":
        warnings.simplefilter("ignore")
        from torch_ecg.model_configs import ECG_CRNN_CONFIG
        from torch_ecg.models import ECG_CRNN

        return ECG_CRNN([str(number) for number in range(CLASSES)], 12, ECG_CRNN_CONFIG)
    from hydra import compose, initialize_config_dir

    from einthoven.build import build as build_part
    from einthoven.terminal.conf_folders import conf_folder

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides=[f"model={network}"])
    factory = build_part(config.model)
    sized = {"samples": samples} if "samples" in inspect.signature(factory.func).parameters else {}
    return factory(in_channels=12, num_classes=CLASSES, **sized)


def stepper(model, kind: str, batch: int, samples: int) -> Callable[[], None]:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    # The package has its own factory of AdamW. The default of torch is what a plain training loop uses.
    if kind in PACKAGE:
        from einthoven.optim.optimizers import adamw

        optimizer = adamw(model, lr=1e-3)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = torch.randn(batch, 12, samples), torch.rand(batch, CLASSES).round()
    passes = contextlib.nullcontext
    if kind == "compiled":
        from einthoven.training.compiled import CompiledPasses

        passes = CompiledPasses(model, "forward", contextlib.nullcontext)

    def step() -> None:
        optimizer.zero_grad()
        with passes():
            loss = binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()

    return step


def count_operations(model, samples: int) -> float:
    """Floating-point operations of a forward and a backward pass of one record, by torch's own counter."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # Tensors of the device `meta` have no values, so that nothing is computed.
    model = model.to("meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 12, samples, device="meta")).sum().backward()
    return counter.get_total_flops() / 2


if __name__ == "__main__":
    main()
