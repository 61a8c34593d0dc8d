"""What a fine-tuned model keeps of its base: AUROC on old and on new records against the strength of kl_to_base.

    python bench/bench_kl_to_base.py [FOLDER]

The base learns generated ECGs. It is fine-tuned on a few ECGs of another generator: other patients, and more noise. The
table and the figure show the macro AUROC on the test records of both generators, mean ± sd over three seeds, without a
penalty (strength 0) and with several strengths. Runs are written below FOLDER (a temporary folder by default). About
five minutes on one core.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven import cli
from einthoven.evaluation.metrics import macro_auroc
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.network_parts import NetworkParts

SEEDS = (0, 1, 2)
STRENGTHS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
OLD = ("data.records=1000", "data.seed=0", "data.noise=1.0")
OLD_FOLDS = ("data.folds.train=[1,2,3,4,5,6]", "data.folds.val=[]", "data.folds.test=[7,8,9,10]")
NEW = ("data.records=1000", "data.seed=1", "data.noise=4.0")
NEW_FOLDS = ("data.folds.train=[1]", "data.folds.val=[]", "data.folds.test=[5,6,7,8,9,10]")
SMALL = ("model=conv_attention", "model.channels=[16,32]", "model.heads=2", "model.window=null")
FAST = ("augment=none", "diagnostics=none", "tracking.artifacts=false", "trainer.device=cpu", "tracking.offline=true")
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "kl_to_base.png"


def train(folder: Path, *options: str) -> Path:
    """Train, and return the folder of the run. What it prints is shown only if it fails."""
    shown = io.StringIO()
    if not (folder / "bundle").exists():
        with contextlib.redirect_stdout(shown):
            cli.main(["train", *FAST, *options, f"hydra.run.dir={folder}"])
    return folder


def finished(folder: Path) -> NetworkParts:
    """Read a run with its data and its weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        return read_finished(folder, "run", {"val": None, "test": None})[0]


def auroc(data_of: NetworkParts, weights_of: NetworkParts) -> float:
    """Return the macro AUROC of the weights of one run on the test records of another."""
    data_of.model.load_state_dict(weights_of.model.state_dict())
    predictions = data_of.evaluate("test")
    return float(macro_auroc(predictions.y, predictions.p))


def measure(folder: Path, seed: int) -> NDArray[np.float64]:
    """Return the AUROC on old and new records for each strength, after that of the base: (1 + strengths, 2)."""
    base = train(folder / f"base-{seed}", *OLD, *OLD_FOLDS, *SMALL, "trainer.epochs=12", f"seed={seed}")
    rows = []
    for strength in (None, *STRENGTHS):
        run = base
        if strength is not None:
            penalty = ("penalty=kl_to_base", f"penalty.strength={strength}") if strength else ("penalty=none",)
            training = ("optimizer.lr=4e-3", "trainer.epochs=30", f"seed={seed}")
            options = (f"init_from={base}", *NEW, *NEW_FOLDS, *penalty, *training)
            run = train(folder / f"tuned-{seed}-{strength}", *options)
        tuned = finished(run)
        new = finished(folder / f"tuned-{seed}-{strength}") if strength is not None else None
        rows.append((auroc(finished(base), tuned), np.nan if new is None else auroc(new, tuned)))
    # The base on the new records
    rows[0] = (rows[0][0], auroc(finished(folder / f"tuned-{seed}-{STRENGTHS[0]}"), finished(base)))
    return np.array(rows)


def draw(values: NDArray[np.float64]) -> None:
    """Draw the AUROC (seeds, 1 + strengths, 2) against the strength."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    names = ["base", *(f"{strength:g}" for strength in STRENGTHS)]
    for column, (label, color) in enumerate((("old records", "#0072B2"), ("new records", "#D55E00"))):
        mean, sd = values[..., column].mean(axis=0), values[..., column].std(axis=0, ddof=1)
        axes.errorbar(range(len(names)), mean, sd, marker="o", capsize=3, color=color, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("strength of kl_to_base (base: before fine-tuning)")
    axes.set_ylabel("macro AUROC on test records")
    axes.legend()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main(folder: Path) -> None:
    values = np.stack([measure(folder, seed) for seed in SEEDS])
    print("| strength | old records | new records |\n|---|---|---|")
    for row, name in enumerate(["the base", "0 (no penalty)", *(f"{strength:g}" for strength in STRENGTHS[1:])]):
        cells = [f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in values[:, row].T]
        print(f"| {name} | {' | '.join(cells)} |")
    draw(values)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
