"""Training steps per second of the default model in bf16 over those in fp32, on this machine's default device.

    python bench/bench_precision.py

Interleaved runs on one random batch of 32x12x1000; the ratio is what `trainer.precision=auto` rests on.
"""

from __future__ import annotations

import statistics
import time

import torch

from einthoven.losses.classification import binary_cross_entropy
from einthoven.models.conv_attention import ConvAttention
from einthoven.training.precision import choose_autocast, choose_device

ROUNDS, STEPS = 5, 5


def seconds_per_step(precision: str, device: torch.device) -> float:
    torch.manual_seed(0)
    model = ConvAttention(12, 5).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    _, autocast = choose_autocast(precision, device)
    x, y = torch.randn(32, 12, 1000, device=device), torch.rand(32, 5, device=device).round()

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            loss = binary_cross_entropy(model(x).float(), y).mean()
        loss.backward()
        optimizer.step()

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    wait()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    wait()
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    device = choose_device("auto")
    times: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(ROUNDS):
        for precision, found in times.items():
            found.append(seconds_per_step(precision, device))
    fp32, bf16 = (statistics.median(found) for found in times.values())
    print(f"{device}: fp32 {32 / fp32:,.0f} records/s, bf16 {32 / bf16:,.0f} records/s, ratio {fp32 / bf16:.2f}")


if __name__ == "__main__":
    main()
