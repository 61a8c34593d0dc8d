"""Options against the default recipe, one changed at a time, on real records: the `Measured:` lines of `conf/`.

    python bench/bench_options.py PTBXL_ROOT [--only PART/OPTION ...] [--write]

Every run trains on folds 1-7 of the PTB-XL records under PTBXL_ROOT for 8 epochs and is judged on fold 8 (macro AUROC
of the five superclasses, weights of the last epoch), with the seeds 0, 1 and 2; folds 9 and 10 are not looked at.
Runs that are done stand in ``bench/results/options.csv`` and are not done again, so several processes may share the
work and a killed one goes on; all of them take about an hour on two cores. ``--write`` puts the figures into the yamls.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from torch import Tensor

from einthoven.runs.network_run import NetworkRun
from einthoven.terminal.conf_folders import conf_folder

RESULTS = Path(__file__).parent / "results" / "options.csv"
SEEDS = (0, 1, 2)
EPOCHS = 8
DEFAULT = "model/conv_attention"
# Options of the default recipe, whose figure is that of the default run.
IN_DEFAULT = (
    "augment/default",
    "init/default",
    "loss/cross_entropy",
    "optimizer/adamw",
    "pca/leads",
    "schedule/cosine",
)
OPTIONS = {
    "model": ("logistic", "mlp", "xresnet1d18"),
    "optimizer": ("sgd", "muon", "adam", "nadam", "lion", "schedule_free_adamw", "sam"),
    "schedule": ("constant", "linear", "one_cycle", "step", "warmup_stable_decay"),
    "pca": ("none", "whiten"),
    "init": ("he", "orthogonal", "lsuv", "pca_patches"),
    "augment": ("none", "noise", "mixup", "randaugment", "time_mask"),
    "loss": ("focal", "asymmetric"),
}


class Silent:
    """A recorder that keeps nothing: what is measured here is the final AUROC."""

    run_id, position = "", 0
    latest: Mapping[str, float] = {}

    def record(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        pass

    def flush(self) -> None:
        pass


def macro_auroc(root: str, overrides: list[str], seed: int) -> float:
    folds = ["data.folds.train=[1,2,3,4,5,6,7]", "data.folds.val=[8]", "data.folds.test=[]"]
    data = ["data=ptbxl", f"data.root={root}", *folds]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose(
            "train", [*data, f"trainer.epochs={EPOCHS}", f"seed={seed}", *overrides], return_hydra_config=True
        )
    HydraConfig.instance().set_config(config)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    with tempfile.TemporaryDirectory() as folder:
        run = NetworkRun(config, Path(folder))
        run.train(Silent())  # type: ignore[arg-type]
        found = run.evaluate("val", "fp32")
    return run.task.metrics(found.y, found.p, run.data.labels.classes)["macro_auroc"]


def done() -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = defaultdict(dict)
    if RESULTS.exists():
        with RESULTS.open() as file:
            for option, seed, value in csv.reader(file):
                if value:
                    found[option][int(seed)] = float(value)
    return found


def claim(option: str, seed: int, value: str = "") -> bool:
    """Note a run as begun (or, with its value, as done); False if another process has begun it."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if not value and any(row[:2] == [option, str(seed)] for row in csv.reader(file)):
            return False
        csv.writer(file).writerow([option, seed, value])
    return True


def line(values: Mapping[int, float], default: Mapping[int, float]) -> str:
    def shown(figures: Mapping[int, float]) -> str:
        return f"{statistics.mean(figures.values()):.3f} ± {statistics.stdev(figures.values()):.3f}"

    where = f"macro AUROC, PTB-XL ecg_id < 2000, folds 1-7 -> 8, {EPOCHS} epochs, {len(values)} seeds"
    beside = "" if values is default else f"; default recipe {shown(default)}"
    return f"# Measured: {shown(values)} ({where}{beside})"


def write(option: str, text: str) -> None:
    path = conf_folder() / f"{option}.yaml"
    lines = [each for each in path.read_text().splitlines() if not each.startswith("# Measured:")]
    head = next(n for n, each in enumerate(lines) if not each.startswith("#"))
    path.write_text("\n".join([*lines[:head], text, *lines[head:]]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    every = [DEFAULT, *(f"{part}/{name}" for part, names in OPTIONS.items() for name in names)]
    chosen = [option for option in every if arguments.only is None or option in arguments.only]
    for seed in SEEDS:
        for option in chosen:
            part, name = option.split("/")
            if not (conf_folder() / part / f"{name}.yaml").exists() or not claim(option, seed):
                continue
            value = macro_auroc(arguments.root, [f"{part}={name}"], seed)
            claim(option, seed, f"{value:.6f}")
            print(f"{option:32} seed {seed}  {value:.4f}", flush=True)
    found = done()
    if len(found[DEFAULT]) < len(SEEDS):
        return
    for option in chosen:
        if len(found[option]) == len(SEEDS):
            text = line(found[option], found[DEFAULT])
            print(f"{option:32} {text.removeprefix('# Measured: ')}")
            if arguments.write:
                for same in (option, *(IN_DEFAULT if option == DEFAULT else ())):
                    write(same, text)


if __name__ == "__main__":
    main()
