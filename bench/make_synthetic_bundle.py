"""Make the bundle of generated ECGs that comes with the package: the default network.

    python bench/make_synthetic_bundle.py [FOLDER_OF_A_RUN]

Trains

    einthoven train data=synthetic data.seed=1 data.records=16000 trainer.epochs=8 seed=0

or takes that run's folder, rounds its parameters to half precision, and has `einthoven evaluate` calibrate the rounded
network on fold 9 and judge it on fold 10. So the figures that the bundle carries are those of the weights in it.

Many different records, each read a few times, are better for real ECGs than few records that are read often. The
patients are others than those of `data=synthetic`, so that a run on the embedded data can start from this bundle.
Writes src/einthoven/predict/bundles/synthetic, and prints its size, its figures and its SHA-256.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from einthoven import cli
from einthoven.predict import SYNTHETIC_BUNDLE
from einthoven.predict.bundle import read_bundle
from einthoven.training import checkpoint

SEED = 0
OPTIONS = ["data.seed=1", "data.records=16000", "trainer.epochs=8"]


def main(given: str | None) -> None:
    with TemporaryDirectory() as scratch:
        store = f"tracking.uri=sqlite:///{scratch}/mlflow.db"
        run = Path(given) if given else Path(scratch) / "run"
        if given is None:
            cli.main(["train", "data=synthetic", f"seed={SEED}", *OPTIONS, store, f"hydra.run.dir={run}"])
        _round(run / "checkpoints" / "last.safetensors")
        cli.main(["evaluate", f"run={run}"])
        bundle = read_bundle(run / "bundle")
        bundle.save(SYNTHETIC_BUNDLE, half=True)
    size = sum(file.stat().st_size for file in SYNTHETIC_BUNDLE.iterdir())
    print(f"{SYNTHETIC_BUNDLE}: {size:,} bytes; {read_bundle(SYNTHETIC_BUNDLE).sha256}")
    print(bundle.notice)
    for name, value in bundle.provenance["metrics"].items():
        print(f"  {name:18} {value:.4f}")


def _round(file: Path) -> None:
    """Round the parameters of a checkpoint, but not its buffers: sums of many records keep their precision."""
    state, meta = checkpoint.load(file)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in state["model"].items():
        if name.startswith("network.") and not name.endswith(buffers):
            state["model"][name] = value.half().float()
    checkpoint.save(file, state, meta)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
