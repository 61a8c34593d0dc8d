"""What tracking costs a long run: 100,000 steps of 20 metrics into a sqlite store.

    python bench/bench_tracking.py [--steps 100000] [--metrics 20]

Nothing is trained: steps follow each other as quickly as they can be recorded, as scalar tensors. Counted is everything
that the training waits for (record, flush, the end of the run with its artifact), as time on the clock and of the
processor, and the processor time of the threads that send meanwhile. What is recorded is compared with the artifact,
value by value. The naive way, one call of `log_metric` a value, is timed on 1,000 calls and extrapolated.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from einthoven.tracking.metrics import POINTS
from einthoven.tracking.recorder import SERIES, Recorder
from einthoven.tracking.server import client

NAIVE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        client(uri).search_experiments()  # the migrations of an empty store are no part of a run
        naive = naive_seconds(uri) / NAIVE * options.steps * options.metrics
        names = [f"group/metric_{k}" for k in range(options.metrics)]
        values = torch.randn(options.steps, options.metrics)
        recorder = Recorder(uri, "bench", "bench", folder=Path(folder) / "run", tags={}, steps=options.steps)
        others = time.process_time() - time.thread_time()
        recording, busy = 0.0, 0.0
        for step in range(options.steps):
            measured = dict(zip(names, values[step].unbind(), strict=True))
            start, start_busy = time.perf_counter(), time.thread_time()
            recorder.log_metrics(step + 1, measured)
            recording, busy = recording + time.perf_counter() - start, busy + time.thread_time() - start_busy
        start, start_busy = time.perf_counter(), time.thread_time()
        recorder.finish()
        end, busy = time.perf_counter() - start, busy + time.thread_time() - start_busy
        others = time.process_time() - time.thread_time() - others
        store = client(uri)
        points = [len(store.get_metric_history(recorder.run_id, name)) for name in names]
        file = Path(store.download_artifacts(recorder.run_id, SERIES))
        table = pq.read_table(file)
        print(f"{options.steps:,} steps of {options.metrics} metrics: {options.steps * options.metrics:,} values")
        waited = recording + end
        print(f"  the run waits:    {waited:6.1f} s ({recording:.1f} s while recording, {end:.1f} s at its end)")
        print(f"  processor:        {busy + others:6.1f} s ({busy:.1f} s of the run, {others:.1f} s of other threads)")
        print(f"  log_metric:       {naive:6.0f} s, extrapolated from {NAIVE:,} calls: {naive / waited:.0f} times that")
        print(f"  points in store:  {max(points):,} a metric at most (limit {POINTS:,})")
        print(f"  artifact:         {table.num_rows:,} rows, {file.stat().st_size / 1e6:.1f} MB")
        assert max(points) <= POINTS
        check(table, names, values)
        print("  every value in the artifact is the one that was recorded")


def naive_seconds(uri: str) -> float:
    """Seconds that single calls take."""
    store = client(uri)
    run_id = store.create_run("0").info.run_id
    start = time.perf_counter()
    for step in range(NAIVE):
        store.log_metric(run_id, "a", float(step), step=step)
    return time.perf_counter() - start


def check(table: object, names: list[str], values: torch.Tensor) -> None:
    """Compare the artifact with what was recorded."""
    frame = table.to_pandas()  # type: ignore[attr-defined]
    for k, name in enumerate(names):
        own = frame[frame["metric"] == name].sort_values("step")
        assert np.array_equal(own["step"], np.arange(1, len(values) + 1))
        assert np.array_equal(own["value"].to_numpy(), values[:, k].double().numpy())


if __name__ == "__main__":
    main()
