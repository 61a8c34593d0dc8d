"""Training steps of the networks: speed, ceiling, and ratios to an earlier version and to plain code of peers.

    python bench/bench_models.py [NETWORK ...] [--before FOLDER] [--peer PYTHON] [--compile] [--rounds N] [--isa AVX2]

A step is forward, binary cross-entropy with 5 classes, backward and AdamW, on one random batch of 32x12x1000 and one of
128x12x250, float32. Note that conv_attention reads 250 samples of a record in a training step.

- `before`: the same step of the sources in FOLDER, for example of `git archive TAG | tar x -C FOLDER`.
- `peer`: the same network in plain torch (`plain_networks.py`), with AdamW of torch. For conv_attention, it is the
  default network of torch-ecg. `--peer` names a Python that has torch and torch-ecg; without it, this peer is skipped.
- `compiled` (with `--compile`): the same step with `trainer.compile=true`, in the column `to compiled`: above 1 if the
  code as it is written is faster. `first` is the processor time of its first step, with that of the compiler.
- `floor` is the time of the operations of a step at the speed of a matrix product of 1024x1024, measured in the same
  rounds. `share` is floor / time. It exceeds 1 if convolutions are faster than this product.
- `--isa AVX2` limits torch, oneDNN and MKL to the instructions of a processor without AVX-512.

Each version and each peer is a process of its own. They take turns, and each ratio is the median over the rounds. With
one thread, times are processor times, which other processes change less. With several threads, they are wall times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

NETWORKS = ["conv_attention", "xresnet1d101", "inception1d", "resnet1d_wang"]
PLAIN = NETWORKS[1:]
SIZES = [(32, 1000), (128, 250)]
SIDE = 1024
HERE = Path(__file__).resolve().parent


class Worker:
    """A process that takes steps of one network."""

    def __init__(self, python: str, kind: str, network: str, source: Path | None, variables: dict[str, str]) -> None:
        environment = {**os.environ, **variables}
        if source is not None:
            environment["PYTHONPATH"] = str(source)
        self._process = subprocess.Popen(
            [python, str(HERE / "model_worker.py"), kind, network],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def ask(self, line: str) -> list[float]:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return [float(word) for word in self._read().split()]

    def peak_mebibytes(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._process.args)} has failed.")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--peer")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--isa", choices=["AVX2"])
    options = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    variables = {"OMP_NUM_THREADS": str(threads)}
    if options.isa:
        variables |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    print(f"{threads} threads, {options.rounds} rounds, {options.isa or 'all'} instructions")
    if not options.peer:
        print("conv_attention has no peer: name a Python that has torch-ecg with --peer.")
    print(
        f"{'network':<16}{'batch':>9}{'parameters':>12}{'records/s':>11}{'GFLOP':>7}{'floor ms':>10}{'share':>7}"
        f"{'to before':>11}{'to peer':>9}{'to compiled':>13}{'first s':>9}{'MiB':>7}{'before':>8}"
    )
    for network in options.networks:
        measure(network, options, variables, 1 if threads == 1 else 0)


def measure(network: str, options: argparse.Namespace, variables: dict[str, str], clock: int) -> None:
    workers = {"now": Worker(sys.executable, "package", network, HERE.parent / "src", variables)}
    if options.before:
        workers["before"] = Worker(sys.executable, "package", network, options.before / "src", variables)
    if options.compile:
        # Without its pool of processes, the time of the compiler is that of the worker and its children.
        compiling = variables | {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        workers["compiled"] = Worker(sys.executable, "compiled", network, HERE.parent / "src", compiling)
    if network in PLAIN:
        workers["peer"] = Worker(sys.executable, "plain", network, None, variables)
    elif network == "conv_attention" and options.peer:
        workers["peer"] = Worker(options.peer, "torch_ecg", network, None, variables)
    for batch, samples in SIZES:
        parameters, operations = workers["now"].ask(f"count {samples}")
        operations *= batch
        # Short steps are repeated, so that the clock is exact enough.
        number = max(1, round(1e10 / operations))
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        rates = []
        first = {name: worker.ask(f"{batch} {samples} 1")[2] for name, worker in workers.items()}
        for turn in range(options.rounds):
            # Every second round goes the other way round, so that a slow change of the machine cancels.
            for name in list(workers)[:: 1 if turn % 2 else -1]:
                seconds[name].append(workers[name].ask(f"{batch} {samples} {number}")[clock])
            rates.append(2 * SIDE**3 / workers["now"].ask("matmul")[clock])
        floors = [operations / rate for rate in rates]
        line = f"{network:<16}{f'{batch}x{samples}':>9}{int(parameters):>12,}"
        line += f"{batch / statistics.median(seconds['now']):>11.0f}{operations / 1e9:>7.1f}"
        line += f"{1000 * statistics.median(floors):>10.0f}{ratio(floors, seconds['now']):>7.2f}"
        for name, width in (("before", 11), ("peer", 9), ("compiled", 13)):
            line += f"{ratio(seconds[name], seconds['now']):>{width}.2f}" if name in workers else f"{'-':>{width}}"
        line += f"{first['compiled']:>9.0f}" if options.compile else f"{'-':>9}"
        line += f"{workers['now'].peak_mebibytes():>7.0f}"
        line += f"{workers['before'].peak_mebibytes():>8.0f}" if options.before else f"{'-':>8}"
        print(line, flush=True)
    for worker in workers.values():
        worker.end()


def ratio(first: list[float], second: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
