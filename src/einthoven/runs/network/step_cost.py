"""What the steps of a run cost: the meter of every run, and the profile of some steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from einthoven.contracts import Batch
from einthoven.data.store.batches import mix
from einthoven.diagnostics.layers import LayerCost, layer_costs
from einthoven.errors import UserError
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.display import say
from einthoven.tracking.recorder import Recorder
from einthoven.training.meter import StepMeter, count_flops, matmul_rate
from einthoven.training.precision import choose_autocast
from einthoven.training.profile import SKIPPED_STEPS, StepProfile

PROFILE = "profile"
"""Folder of the profile in the folder of a run, and among its artifacts."""


def meter_of(run: NetworkParts) -> StepMeter:
    """Return the meter of a run. Operations are counted on two records, and the ceiling is measured in milliseconds."""
    records = min(2, run.batch_size)
    flops = count_flops(run.model, run.task, first_batch(run, records), run.autocast)
    processes = run.processes.size
    return StepMeter(
        run.batch_size,
        flops * run.batch_size // records,
        processes * _ceiling(run.device, run.precision),
        run.device,
        run.steps_per_epoch,
    )


@cache
def _ceiling(device: torch.device, precision: str) -> float:
    """Return the rate of a product of matrices. A process measures it once."""
    return matmul_rate(device, choose_autocast(precision, device)[1])


def first_batch(run: NetworkParts, records: int) -> Batch:
    """Return a batch of the first training records, without augmentation."""
    split = run.data.splits["train"]
    rows = torch.arange(records, device=run.device)
    y = split.labels[rows]
    # A mask (B, C, T) is cropped like its signal.
    if y.ndim == 3:
        y = y[..., : run.window]
    batch = Batch(split.take(rows, run.window), y, rows, torch.ones(records, dtype=torch.bool, device=run.device))
    pair = run.pair("train")
    return batch if pair is None else pair(batch, torch.Generator().manual_seed(mix(run.settings.seed, 0, 0)))


def refuse_long_profile(steps: int | None, total_steps: int) -> None:
    """Refuse to profile more steps (``trainer.profile``) than a new run has."""
    most = total_steps - SKIPPED_STEPS
    if steps is not None and steps > most:
        raise UserError(
            f"trainer.profile={steps}: this run has {total_steps} steps, and the first {SKIPPED_STEPS} are not "
            f"profiled; expected at most {max(most, 0)}, or null."
        )


def profile_of(run: NetworkParts, remaining_steps: int) -> StepProfile | None:
    """Return the profile that the options of a run ask for; None if they ask for none.

    A run that is resumed near its end has no steps left to profile, and it may have its profile already.
    """
    steps = run.settings.trainer.profile
    if steps is None or run.processes.rank > 0 or steps > remaining_steps - SKIPPED_STEPS:
        return None
    return StepProfile(steps, run.folder / PROFILE, run.device)


def finish_profile(run: NetworkParts, recorder: Recorder | Unrecorded) -> None:
    """Measure the layers, and log all files of the profile of a run, if it has one."""
    folder = run.folder / PROFILE
    # A training that stopped early may have ended before its profile began.
    if run.settings.trainer.profile is None or run.processes.rank > 0 or not folder.exists():
        return
    # Records without partners: a pretext task passes both records of a pair through the model.
    rows = torch.arange(run.batch_size, device=run.device)
    x = run.data.splits["train"].take(rows, run.window)
    run.model.train()
    (folder / "layers.txt").write_text(format_layers(layer_costs(run.model, x, run.autocast)))
    run.model.eval()
    say(f"The profile is in {folder}: layers.txt, operations.txt and trace.json.")
    if isinstance(recorder, Recorder) and run.settings.tracking.artifacts:
        for file in sorted(folder.iterdir()):
            recorder.file(file, PROFILE)


def format_layers(costs: Sequence[LayerCost]) -> str:
    """Return a table of the layers of a model as text."""
    rows = [("layer", "kind", "output", "parameters", "MFLOP", "forward ms", "backward ms")]
    for cost in costs:
        shape = "x".join(map(str, cost.shape))
        mflop = f"{cost.flops / 1e6:.2f}"
        times = (f"{cost.forward_ms:.3f}", f"{cost.backward_ms:.3f}")
        rows.append((cost.name, cost.kind, shape, f"{cost.parameters:,}", mflop, *times))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        texts = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join([*texts, *numbers]))
    return "\n".join(lines) + "\n"
