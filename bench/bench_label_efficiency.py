"""Label efficiency: how many labelled patients does a start from a base model save?

    python bench/bench_label_efficiency.py PTBXL_ROOT FOLDER [START=BASE ...]

Trains the five superclasses on 5, 10, 25 and 100 % of the labelled patients, and judges each model on folds that
neither it nor its base has seen. Each START is a name with the folder of its base. ``{judged}`` in it stands for the
judged folds, as in ``generator=bases/without_{judged}`` with the folders ``bases/without_1-4`` and
``bases/without_5-9``. `scratch` (no base) and `random` (a random encoder with a linear
probe) need no base. All starts see the same patients, and have the same network. Below 100 % the patients are drawn
several times.

Every result is one line of FOLDER/results.csv, and the predictions of the judged records are in FOLDER/predictions. A
second call continues there. Options:

    --judged 1-4 5-9    groups of folds to judge, each by models of the other folds (default: each of the folds 1 to 9)
    --from 1-3          draw the patients from these folds only (default: all other folds of 1 to 9)
    --shares 5,100      percent of the patients (default: 5, 10, 25, 100)
    --draws 5           draws below 100 %
    --first-draw 0      number of the first draw
    --steps 400         least number of optimizer steps of a training; few records are passed more often
    --tune OPTION       an option of `train` for the starts with a base, or NAME:OPTION for one start (repeatable)
    --table             train nothing, print the table
    --figure FILE       also draw the figure
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from label_efficiency_table import COLUMNS, KEYS, draw_figure, print_table, read_complete
from omegaconf import OmegaConf

from einthoven import cli
from einthoven.contracts import Predictions
from einthoven.data.store.batches import evaluation_batches
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.probes import fit_linear_probe
from einthoven.models.encoder import embed
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network_run import NetworkRun
from einthoven.terminal.conf_folders import conf_folder

FOLDS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
DRAWN, JUDGED, UNUSED = 1, 2, 3
"""Folds of the tables that are written."""
NETWORK = "model.channels=[32,64,64]"
EPOCHS = 30
BATCH = 32
LEARNING_RATE = "optimizer.lr=4e-3"
FINE_TUNING = "optimizer.lr=1e-3"
"""Learning rates: that of the default recipe from scratch, a quarter of it from a base."""
FAST = ("diagnostics=none", "tracking.artifacts=false", "tracking.offline=true", "trainer.device=cpu")


def write_table(
    root: Path, folder: Path, judged: list[int], drawn_from: list[int], share: int, draw: int
) -> tuple[int, int]:
    """Write a corpus with the drawn patients in one fold and the judged ones in another. Return patients and records.

    The other records stay in a third fold, so that all tables share one packed store.
    """
    table = pd.read_csv(root / "ptbxl_database.csv")
    is_judged = table.strat_fold.isin(judged)
    patients = np.sort(table[table.strat_fold.isin(drawn_from)].patient_id.unique())
    rng = np.random.default_rng([*judged, draw])
    drawn = rng.permutation(patients)[: math.ceil(len(patients) * share / 100)]
    is_drawn = table.strat_fold.isin(drawn_from) & table.patient_id.isin(drawn)
    table["strat_fold"] = np.select([is_judged, is_drawn], [JUDGED, DRAWN], UNUSED)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table.to_csv(folder / "ptbxl_database.csv", index=False)
    shutil.copy(root / "scp_statements.csv", folder)
    (folder / "records100").symlink_to((root / "records100").resolve())
    return len(drawn), int(is_drawn.sum())


def data_options(folder: Path) -> list[str]:
    """Return the options that read the corpus of `write_table`."""
    return ["data=ptbxl", f"data.root={folder / 'corpus'}", f"data.cache={folder / 'cache'}"]


def train(folder: Path, records: int, start: str, base: str | None, args: argparse.Namespace) -> Predictions:
    """Train on the drawn patients, and return the predictions of the judged records."""
    steps_per_epoch = max(records // BATCH, 1)
    epochs = max(EPOCHS, math.ceil(args.steps / steps_per_epoch))
    tuned = [option.removeprefix(f"{start}:") for option in args.tune]
    ours = [option for option in tuned if ":" not in option]
    recipe = ["init_from=null", NETWORK, LEARNING_RATE]
    if base is not None:
        recipe = [f"init_from={base}", "trainer.finetune=full", FINE_TUNING, *ours]
    run = folder / "run"
    folds = [f"data.folds.train=[{DRAWN}]", "data.folds.val=[]", "data.folds.test=[]"]
    options = [*data_options(folder), *folds, f"trainer.epochs={epochs}", *recipe, f"hydra.run.dir={run}", *FAST]
    shutil.rmtree(run, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["train", *_without_repeats(options)])
        finished, _ = read_finished(run, "run", {"val": None, "test": [JUDGED]})
        return finished.evaluate("test")


def _without_repeats(options: list[str]) -> list[str]:
    """Return options, each name once: the last value counts."""
    return list({option.partition("=")[0]: option for option in options}.values())


def probe_random(folder: Path, draw: int) -> Predictions:
    """Fit a linear probe to a random encoder on the drawn patients, and return the predictions of the judged records.

    The number of the draw is the seed of the weights.
    """
    folds = [f"data.folds.train=[{DRAWN}]", "data.folds.val=[]", f"data.folds.test=[{JUDGED}]"]
    options = [*data_options(folder), *folds, NETWORK, f"seed={draw}", "trainer.device=cpu"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", options, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    run = NetworkRun(config, folder / "random")
    run.model.eval()
    embeddings = {}
    with torch.no_grad():
        for split, records in run.data.splits.items():
            batches = evaluation_batches(records, size=128)
            embeddings[split] = np.concatenate([embed(run.model, b.x)[b.valid].double().numpy() for b in batches])
    labels = run.data.record_labels("train")
    probe = fit_linear_probe(embeddings["train"], labels, run.data.patients("train"))
    logits = probe.logits(embeddings["test"])
    return Predictions(run.data.record_labels("test").astype(float), 1 / (1 + np.exp(-logits)))


def measure(root: Path, folder: Path, starts: dict[str, str | None], args: argparse.Namespace) -> None:
    """Train what results.csv does not have."""
    results = folder / "results.csv"
    if not results.exists():
        pd.DataFrame(columns=COLUMNS).to_csv(results, index=False)
    finished = set(pd.read_csv(results)[["start", *KEYS]].itertuples(index=False, name=None))
    (folder / "predictions").mkdir(exist_ok=True)
    # First one draw of everything, so that a table that is not complete compares all starts.
    for draw in range(args.first_draw, args.first_draw + args.draws):
        for judged, folds in args.judged.items():
            drawn_from = args.drawn_from or [fold for fold in FOLDS if fold not in folds]
            for share in args.shares:
                wanted = [start for start in starts if (start, share, draw, judged) not in finished]
                if not wanted or (share == 100 and draw > 0):
                    continue
                patients, records = write_table(root, folder / "corpus", folds, drawn_from, share, draw)
                for start in wanted:
                    began = time.perf_counter()
                    base = starts[start]
                    if start == "random":
                        predictions = probe_random(folder, draw)
                    else:
                        filled = None if base is None else base.format(judged=judged)
                        predictions = train(folder, records, start, filled, args)
                    auroc = float(macro_auroc(predictions.y, predictions.p))
                    np.save(folder / "predictions" / f"{start}_{share}_{draw}_{judged}.npy", predictions.p)
                    _save_judged(root, folder, judged, folds, predictions)
                    row = [start, share, draw, judged, patients, records, auroc]
                    pd.DataFrame([row], columns=COLUMNS).to_csv(results, mode="a", header=False, index=False)
                    seconds = time.perf_counter() - began
                    print(
                        f"{start} {share} % draw {draw} folds {judged}: {records} records, AUROC {auroc:.4f}, "
                        f"{seconds:.0f} s",
                        flush=True,
                    )


def _save_judged(root: Path, folder: Path, judged: str, folds: list[int], predictions: Predictions) -> None:
    """Save the labels and the patients of the judged records, once."""
    file = folder / "predictions" / f"judged_{judged}.npz"
    if file.exists():
        return
    options = [*data_options(folder), f"data.folds.train=[{JUDGED}]", "data.folds.val=[]", "data.folds.test=[]"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [*options, NETWORK, "trainer.device=cpu"])
    data = NetworkRun(config, folder / "random").data
    if not np.array_equal(data.record_labels("train"), predictions.y):
        raise SystemExit(f"{file}: the judged records are in another order than their predictions")
    np.savez(file, y=predictions.y, patient=data.patients("train"))


def parse_folds(text: str) -> list[int]:
    """Return the folds of ``1-4`` or ``3``."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def parse_numbers(text: str) -> list[int]:
    """Return the numbers of ``5,10``."""
    return [int(number) for number in text.split(",")]


def parse_start(text: str) -> tuple[str, str | None]:
    """Return name and base of ``NAME=BASE``, ``scratch`` or ``random``."""
    name, is_named, base = text.partition("=")
    if not is_named and name not in ("scratch", "random"):
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=BASE, scratch or random")
    return name, str(Path(base).resolve()) if is_named else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("starts", nargs="*", type=parse_start)
    parser.add_argument("--judged", nargs="+", default=[str(fold) for fold in FOLDS])
    parser.add_argument("--from", dest="drawn_from", type=parse_folds)
    parser.add_argument("--shares", type=parse_numbers, default=[5, 10, 25, 100])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first-draw", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--tune", action="append", default=[], metavar="OPTION")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_intermixed_args()
    args.judged = {text: parse_folds(text) for text in args.judged}
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not args.table:
        measure(args.root.resolve(), folder, dict(args.starts), args)
    results = read_complete(folder)
    print_table(results, folder / "predictions")
    if args.figure:
        draw_figure(results, args.figure)


if __name__ == "__main__":
    main()
