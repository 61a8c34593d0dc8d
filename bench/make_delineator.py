"""Make the delineator that comes with the package: a U-Net, trained on the masks of the embedded generator.

    python bench/make_delineator.py [FOLDER_OF_A_RUN]

Trains the run that `OPTIONS` describes (or takes its folder), rounds its parameters to half precision, and judges the
rounded network on generated patients of other seeds. Writes src/einthoven/assets/delineator, and prints its size, its
figures and its SHA-256.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_delineation import HELD_OUT_SEEDS, held_out_metrics

from einthoven import cli
from einthoven.predict.delineator import FOLDER, PACKAGED, load_delineator

RECORDS = 6000
DATA_SEED = 20
OPTIONS = ["task=delineation", f"data.records={RECORDS}", f"data.seed={DATA_SEED}", "trainer.epochs=14", "seed=0"]


def main(given: str | None) -> None:
    with TemporaryDirectory() as scratch:
        run = Path(given) if given else Path(scratch) / "run"
        if given is None:
            store = f"tracking.uri=sqlite:///{scratch}/mlflow.db"
            cli.main(["train", *OPTIONS, store, f"hydra.run.dir={run}", f"data.cache={scratch}/data"])

        # Save it once so that the figures are those of the rounded weights, and once more with the figures.
        rounded = Path(scratch) / "rounded"
        load_delineator(run).save(rounded, half=True)
        delineator = load_delineator(rounded)
        metrics = held_out_metrics(delineator)
        provenance = {
            **delineator.provenance,
            "metrics": metrics,
            "judged_on": f"generated records of the seeds {' and '.join(map(str, HELD_OUT_SEEDS))}, with lost leads",
        }
        replace(delineator, provenance=provenance).save(PACKAGED, half=True)
    size = sum(file.stat().st_size for file in PACKAGED.iterdir())
    print(f"src/einthoven/assets/{FOLDER}: {size:,} bytes; {load_delineator().sha256}")
    print(delineator.notice)
    for name, value in metrics.items():
        print(f"  {name:22} {value:9.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
