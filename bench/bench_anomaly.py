"""How well a variational autoencoder that has seen no label finds planted faults: AUROC of its score.

    python bench/bench_anomaly.py [--epochs N] [--device cpu|cuda] [OPTION ...]

``task=vae`` is trained on the training folds. Each record of the last split is then spoilt in several ways, as
bench/bench_doctor.py does. The score of a record is its negative evidence lower bound. The AUROC compares spoilt with
untouched records: 0.5 is chance. Further options change the run, such as data=ptbxl data.root=/data/ptb-xl.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score
from torch import Tensor

from einthoven.contracts import Batch
from einthoven.data.store.batches import evaluation_batches
from einthoven.runs.network.pretraining import evaluate_pretext
from einthoven.runs.network_run import NetworkRun
from einthoven.terminal.conf_folders import conf_folder


class Silent:
    """A recorder that keeps only the last values."""

    run_id = ""
    position = 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}

    def log_metrics(self, step: int, values: dict[str, Tensor | float]) -> None:
        self.latest |= {name: float(value) for name, value in values.items()}

    def flush(self) -> None:
        pass


def exchange(x: Tensor, potentials: list[int]) -> Tensor:
    """Return the twelve leads (B, 12, T) with the limb electrodes RA, LA, LL in another order."""
    i, ii = x[:, 0], x[:, 1]
    electrodes = torch.stack([-(i + ii) / 3, (2 * i - ii) / 3, (2 * ii - i) / 3])[potentials]
    ra, la, ll = electrodes
    limb = [la - ra, ll - ra, ll - la, 1.5 * ra, 1.5 * la, 1.5 * ll]
    return torch.cat([torch.stack(limb, dim=1), x[:, 6:]], dim=1)


def with_v3(x: Tensor, values: Tensor | float) -> Tensor:
    changed = x.clone()
    changed[:, 8] = values
    return changed


def spoil(name: str, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return signals (B, 12, T) in mV with a fault."""
    noise = 0.15 * torch.randn(x[:, 8].shape, generator=generator).to(x.device)
    seconds = torch.arange(x.shape[2], device=x.device) / 100.0
    faults = {
        "untouched": lambda: x,
        "LA and RA exchanged": lambda: exchange(x, [1, 0, 2]),
        "RA and LL exchanged": lambda: exchange(x, [2, 1, 0]),
        "µV written as mV (×1000)": lambda: x * 1e3,
        "V3 flat": lambda: with_v3(x, 0.0),
        "V3 white noise of 0.15 mV": lambda: with_v3(x, noise),
        "V3 cut off at ±0.3 mV": lambda: with_v3(x, x[:, 8].clamp(-0.3, 0.3)),
        "aVR turned (-aVR)": lambda: torch.cat([x[:, :3], -x[:, 3:4], x[:, 4:]], dim=1),
        "mains of 0.1 mV in all leads": lambda: x + 0.1 * torch.sin(2 * torch.pi * 45.0 * seconds),
        "turned in time": lambda: x.flip(2),
    }
    return faults[name]()


FAULTS = (
    "LA and RA exchanged",
    "RA and LL exchanged",
    "µV written as mV (×1000)",
    "V3 flat",
    "V3 white noise of 0.15 mV",
    "V3 cut off at ±0.3 mV",
    "aVR turned (-aVR)",
    "mains of 0.1 mV in all leads",
    "turned in time",
)


def scores(run: NetworkRun, split: str, fault: str) -> NDArray[np.float64]:
    """Return the negative evidence lower bound of each record with a fault, in nats per value."""
    generator = torch.Generator().manual_seed(0)
    records = evaluation_batches(run.data.splits[split], size=64)
    batches = (Batch(spoil(fault, b.x, generator), b.y, b.index, b.valid) for b in records)
    found = evaluate_pretext(
        run.model, run.task, batches, window=run.window, stride=run.stride, autocast=run.autocast, seed=0
    )
    return -found.p[:, run.task.score_names.index("elbo")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    arguments, options = parser.parse_known_args()
    overrides = ["task=vae", f"trainer.epochs={arguments.epochs}", f"trainer.device={arguments.device}", *options]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    with tempfile.TemporaryDirectory() as folder:
        run = NetworkRun(config, Path(folder))
        run.save = lambda name, recorder: None  # type: ignore[method-assign]
        recorder = Silent()
        with run.training(recorder) as fit:  # type: ignore[arg-type]
            fit()
        measured = ("val/elbo", "val/kl", "val/r2", "watch/act/active_latents")
        print(", ".join(f"{name} {recorder.latest[name]:.3f}" for name in measured))
        split = list(run.data.splits)[-1]
        untouched = scores(run, split, "untouched")
        print(f"{len(untouched)} records of {split}; score: negative evidence lower bound")
        print(f"{'fault':30} AUROC")
        for fault in FAULTS:
            spoilt = scores(run, split, fault)
            labels = np.repeat([0, 1], [len(untouched), len(spoilt)])
            print(f"{fault:30} {roc_auc_score(labels, np.concatenate([untouched, spoilt])):.3f}")


if __name__ == "__main__":
    main()
