"""What `experiment=ptbxl_full` costs on all of PTB-XL, on paper: operations, steps, and hours on several devices.

    python bench/full_cost.py PTBXL_ROOT [OPTION=VALUE ...]

It needs a part of PTB-XL only: the operations of a training step and of the evaluation of a record are counted on its
first records, and multiplied with the published numbers of records (version 1.0.3). It trains nothing and needs no GPU.
The time of the CPU follows from the records per second that docs/performance.md measured. The time of a GPU is the
larger one of two limits: the launches of the operators of a step, 5 µs each, and its operations at the peak of the
vendor. Evaluation of the validation records after each epoch is included, the pictures at the end are not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from bench_launches import LAUNCH_US, count_calls, on_gpu
from bench_pretraining import assembled
from torch.utils.flop_counter import FlopCounterMode

from einthoven.runs.network.step_cost import first_batch
from einthoven.runs.network_run import NetworkRun
from einthoven.training.meter import count_flops

RECORDS = {"train": 17_084, "val": 2_146, "test": 2_158}
"""Records of PTB-XL 1.0.3 with a superclass, by docs/protocol.md."""
CPU_RATES = (730, 1_158)
"""Records per second of the default model on two idle cores, the lowest and the highest of docs/performance.md."""
PEAKS_TFLOPS = {"NVIDIA H200": 67.0, "NVIDIA A100": 19.5, "NVIDIA RTX 4090": 82.6}
"""Operations per second in float32 without tensor cores, by the data sheets of the vendor."""


def count_evaluation(run: NetworkRun) -> int:
    """Return the operations of the prediction of one record."""
    x = run.data.splits["train"].take(torch.arange(1), run.data.splits["train"].samples)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run.model.eval()(x)
    return int(counter.get_total_flops())


def main() -> None:
    """Print the table."""
    root, *overrides = sys.argv[1:]
    options = ["experiment=ptbxl_full", f"data.root={root}", "data.allow_missing=true"]
    with tempfile.TemporaryDirectory() as folder:
        run = assembled("superdiagnostic", Path(folder), "cpu", [*options, f"data.cache={folder}", *overrides])
        batch_size = run.batch_size
        with on_gpu():
            training_flops = count_flops(run.model, run.task, first_batch(run, 2), run.autocast) // 2
            evaluation_flops = count_evaluation(run)
        launches = count_calls(run).counts.total()
        parameters = sum(parameter.numel() for parameter in run.model.parameters())
        epochs = run.settings.trainer.epochs

    steps = epochs * (RECORDS["train"] // batch_size)
    passes = steps * batch_size
    evaluated = epochs * RECORDS["val"] + RECORDS["test"]
    total = passes * training_flops + evaluated * evaluation_flops
    evaluation_share = evaluated * evaluation_flops / (passes * training_flops)
    name = type(run.model.network).__name__
    print(f"{name}, {parameters:,} parameters; {epochs} epochs of {RECORDS['train']:,} records")
    print(f"{steps:,} steps of {batch_size} records, {launches} launches each; {evaluated:,} records evaluated")
    print(f"{training_flops / 1e6:.0f} MFLOP per trained record, {evaluation_flops / 1e6:.0f} per evaluated record")
    print(
        f"{total / 1e15:.3f} PFLOP in all, of which the evaluation is {evaluation_share / (1 + evaluation_share):.0%}"
    )
    print("\n| device | limit | minutes |\n|---|---|---|")
    for rate in CPU_RATES:
        minutes = passes * (1 + evaluation_share) / rate / 60
        print(f"| two CPU cores | {rate:,} records/s, measured | {minutes:.0f} |")
    launch_s = launches * LAUNCH_US * 1e-6
    for device, peak in PEAKS_TFLOPS.items():
        arithmetic_s = batch_size * training_flops / peak / 1e12
        limit = "launches" if launch_s > arithmetic_s else "operations"
        minutes = steps * max(launch_s, arithmetic_s) * (1 + evaluation_share) / 60
        print(
            f"| {device} | {limit}: {1000 * launch_s:.1f} ms, operations {1000 * arithmetic_s:.2f} ms | {minutes:.1f} |"
        )


if __name__ == "__main__":
    main()
