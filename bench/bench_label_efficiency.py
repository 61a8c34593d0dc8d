"""Label efficiency: how many labelled patients does a start from a base model save?

    python bench/bench_label_efficiency.py PTBXL_ROOT FOLDER [START=BASE:FOLDS ...]

Trains the five superclasses on 5, 10, 25 and 100 % of the labelled patients, and judges each model on a fold that
neither it nor its base has seen. Each START is a name with a base model and the folds that it may be judged on, as in
``generator=outputs/a:1,2,3,4 generator=outputs/b:5,6,7,8,9``. `scratch` (no base) is always trained. All starts see the
same patients, and have the network of the base. Below 100 % the patients are drawn several times.

Every result is one line of FOLDER/results.csv. A second call continues there. Options, before the starts:

    --folds 1,5,9     judge on these folds only (default: 1 to 9)
    --shares 5,100    percent of the patients (default: 5, 10, 25, 100)
    --draws 5         draws below 100 %
    --table           train nothing, print the table
    --figure FILE     also draw the figure
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from einthoven import cli
from einthoven.evaluation.metrics import macro_auroc
from einthoven.runs.finished import read_finished

FOLDS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
SHARES = (5, 10, 25, 100)
KEYS = ["share", "draw", "fold"]
COLUMNS = ["start", "share", "draw", "fold", "patients", "records", "auroc"]
NETWORK = "model.channels=[32,64,64]"
STEPS = 400
"""Least number of optimizer steps. Few records are passed more often."""
EPOCHS = 30
BATCH = 32
LEARNING_RATE = {"scratch": "optimizer.lr=4e-3"}
FINE_TUNING = "optimizer.lr=1e-3"
"""Learning rates: that of the default recipe from scratch, a quarter of it from a base."""
FAST = ("diagnostics=none", "tracking.artifacts=false", "tracking.offline=true", "trainer.device=cpu")


def write_table(root: Path, folder: Path, fold: int, share: int, draw: int) -> tuple[int, int]:
    """Write a corpus whose fold 1 has the drawn patients, and whose fold 2 is judged. Return patients and records."""
    table = pd.read_csv(root / "ptbxl_database.csv")
    others = table[(table.strat_fold != fold) & table.strat_fold.isin(FOLDS)]
    patients = np.sort(others.patient_id.unique())
    rng = np.random.default_rng([fold, draw])
    drawn = rng.permutation(patients)[: math.ceil(len(patients) * share / 100)]
    train = others[others.patient_id.isin(drawn)].assign(strat_fold=1)
    test = table[table.strat_fold == fold].assign(strat_fold=2)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pd.concat([train, test]).to_csv(folder / "ptbxl_database.csv", index=False)
    shutil.copy(root / "scp_statements.csv", folder)
    (folder / "records100").symlink_to((root / "records100").resolve())
    return len(drawn), len(train)


def train(corpus: Path, run: Path, records: int, start: str, base: str | None, cache: Path) -> float:
    """Train on fold 1 of a corpus, and return the macro AUROC on its fold 2."""
    steps_per_epoch = max(records // BATCH, 1)
    epochs = max(EPOCHS, math.ceil(STEPS / steps_per_epoch))
    network = [NETWORK] if base is None else [f"init_from={base}", "trainer.finetune=full"]
    options = [
        "data=ptbxl",
        f"data.root={corpus}",
        f"data.cache={cache}",
        "data.folds.train=[1]",
        "data.folds.val=[]",
        "data.folds.test=[2]",
        f"trainer.epochs={epochs}",
        LEARNING_RATE.get(start, FINE_TUNING),
        f"hydra.run.dir={run}",
        *network,
        *FAST,
    ]
    shutil.rmtree(run, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["train", *options])
        finished, _ = read_finished(run, "run", {"val": None, "test": None})
        predictions = finished.evaluate("test")
    return float(macro_auroc(predictions.y, predictions.p))


def measure(
    root: Path, folder: Path, starts: Sequence[tuple[str, str | None, set[int]]], args: argparse.Namespace
) -> None:
    """Train what results.csv does not have."""
    results = folder / "results.csv"
    if not results.exists():
        pd.DataFrame(columns=COLUMNS).to_csv(results, index=False)
    known = pd.read_csv(results)
    finished = set(known[["start", "share", "draw", "fold"]].itertuples(index=False, name=None))
    # First one draw of everything, so that a table that is not complete compares all starts.
    for draw in range(args.draws):
        for fold in args.folds:
            for share in args.shares:
                wanted = [s for s in starts if fold in s[2] and (s[0], share, draw, fold) not in finished]
                if not wanted or (share == 100 and draw > 0):
                    continue
                corpus = folder / "corpus"
                patients, records = write_table(root, corpus, fold, share, draw)
                for start, base, _ in wanted:
                    auroc = train(corpus, folder / "run", records, start, base, folder / "cache")
                    row = [start, share, draw, fold, patients, records, auroc]
                    pd.DataFrame([row], columns=COLUMNS).to_csv(results, mode="a", header=False, index=False)
                    print(
                        f"{start} {share} % draw {draw} fold {fold}: {records} records, AUROC {auroc:.4f}", flush=True
                    )


def read_complete(folder: Path) -> pd.DataFrame:
    """Read the results of each share, draw and fold that all starts have, so that the starts are paired."""
    results = pd.read_csv(folder / "results.csv")
    starts = results.groupby(KEYS).start.transform("nunique")
    return results[starts == results.start.nunique()]


def print_table(results: pd.DataFrame) -> None:
    """Print mean ± sd over draws of the mean over folds, and the difference to scratch on the same patients."""
    scratch = results[results.start == "scratch"].set_index(KEYS).auroc
    print("| patients | start | models | macro AUROC | difference to scratch, 95 % interval |\n|---|---|---|---|---|")
    for (share, start), rows in results.groupby(["share", "start"]):
        auroc = rows.set_index(KEYS).auroc
        by_draw = auroc.groupby("draw").mean()
        spread = f" ± {by_draw.std(ddof=1):.3f}" if len(by_draw) > 1 else ""
        difference = "" if start == "scratch" else _interval(auroc - scratch.loc[auroc.index])
        print(f"| {share} % | {start} | {len(rows)} | {auroc.mean():.3f}{spread} | {difference} |")


def draw_figure(results: pd.DataFrame, path: Path) -> None:
    """Draw the macro AUROC against the share of the patients, mean and sd over the folds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
    for color, (start, rows) in zip(colors, results.groupby("start", sort=False), strict=False):
        auroc = rows.groupby("share").auroc.agg(["mean", "std"])
        axes.errorbar(auroc.index, auroc["mean"], auroc["std"], marker="o", capsize=3, color=color, label=start)
    axes.set_xscale("log")
    axes.set_xticks(results["share"].unique(), [f"{share} %" for share in results["share"].unique()])
    axes.minorticks_off()
    axes.set_xlabel("labelled patients")
    axes.set_ylabel("macro AUROC of the held-out fold")
    axes.legend(title="start")
    figure.savefig(path, dpi=110)


def _interval(difference: pd.Series) -> str:
    """Return the mean of paired differences with the percentile bootstrap interval over folds."""
    by_fold = difference.groupby("fold").mean().to_numpy()
    rng = np.random.default_rng(0)
    means = rng.choice(by_fold, (10_000, len(by_fold))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{by_fold.mean():+.3f} ({low:+.3f} to {high:+.3f}), {len(by_fold)} folds"


def parse_start(text: str) -> tuple[str, str | None, set[int]]:
    """Return name, base and folds of ``NAME=BASE:FOLDS``."""
    name, _, rest = text.partition("=")
    base, _, folds = rest.rpartition(":")
    return name, str(Path(base).resolve()), {int(fold) for fold in folds.split(",")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("starts", nargs="*", type=parse_start)
    parser.add_argument("--folds", type=lambda text: [int(fold) for fold in text.split(",")], default=list(FOLDS))
    parser.add_argument("--shares", type=lambda text: [int(share) for share in text.split(",")], default=list(SHARES))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_intermixed_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not args.table:
        measure(args.root.resolve(), folder, [("scratch", None, set(FOLDS)), *args.starts], args)
    results = read_complete(folder)
    print_table(results)
    if args.figure:
        draw_figure(results, args.figure)


if __name__ == "__main__":
    main()
