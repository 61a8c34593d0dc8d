"""How real the embedded ECGs are: a model trained on them alone, evaluated on real PTB-XL records.

    python bench/bench_realism.py RUN_FOLDER PTBXL_ROOT [FOLD ...]

RUN_FOLDER is that of a training on the embedded data (outputs/…); the folds default to 9. Prints the macro AUROC
with its interval, and the AUROC of each class.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import OmegaConf

from einthoven.evaluation.metrics import summary
from einthoven.runs.network_run import NetworkRun
from einthoven.terminal.conf_folders import conf_folder


def main(folder: Path, root: str, folds: list[int]) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    real = OmegaConf.load(conf_folder() / "data" / "ptbxl.yaml")
    others = [fold for fold in range(1, 11) if fold not in folds]
    real.root, real.folds = root, {**config.data.folds, "train": others, "val": folds, "test": []}
    config.data = real
    run = NetworkRun(config, folder)
    run.load_weights("last")  # the fitted frontend included: nothing of the real training folds is left in the model
    found = run.evaluate("val")
    figures = summary(found.y, found.p, run.data.labels.classes)
    interval = run.task.intervals(found.y, found.p, run.data.patients("val"), run.settings.seed)["macro_auroc"]
    print(f"{len(found.y)} real records of folds {folds}: macro AUROC {figures['macro_auroc']:.4f} {interval}")
    print("  ".join(f"{name} {figures[f'auroc/{name}']:.3f}" for name in run.data.labels.classes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [int(fold) for fold in sys.argv[3:]] or [9])
