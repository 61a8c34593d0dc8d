"""Recipes of training, judged by cross-validation on folds 1-9 of PTB-XL: which option makes the model better?

    python bench/bench_recipes.py PTBXL_ROOT [--groups | --folds] [--seeds 0,1,2] [--only NAME ...]

`bench/recipes.yaml` names the recipes. Each record is predicted by a model that was not trained on its fold.

    --groups     hold out the folds 1-3, 4-6 and 7-9 in turn: three trainings, to screen recipes (the default)
    --folds      hold out each fold in turn, as `einthoven train folds=cv` does: nine trainings, for finalists

Other options:

    --results FOLDER   predictions (default: docs/results/recipes)
    --cache FOLDER     packed records (default: data)
    --again            train again what another version of the package has trained
    --table            train nothing, and print the table
    --against NAME     recipe that the others are compared with (default: default)
    --mean A+B ...     rows for the mean probabilities of recipes; A@0+A@1 for those of two seeds of a recipe
    --figure FILE      draw the differences

Each training writes one file with the predictions of the records that it has not seen. What is there is not trained
again, so several processes share the work and a killed one continues. A recipe whose options have changed is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import yaml
from filelock import FileLock, Timeout
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from recipe_results import (
    FOLDS,
    HELD_OUT,
    Held,
    Prediction,
    changes,
    is_same_code,
    mean_of,
    pool,
    read,
    read_records,
    write,
)
from recipe_table import draw_figure, print_tables

from einthoven.errors import UserError
from einthoven.runs.identity import code_hash, git_commit
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.options import hashed_options, logged_options, plain_options
from einthoven.runs.read_base import with_base
from einthoven.runs.run import Run
from einthoven.runs.start import assemble_run
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.conf_folders import conf_folder

HERE = Path(__file__).resolve().parent
DEFAULT = "default"
"""The recipe without options."""


@dataclass(frozen=True)
class Source:
    """Where the records are.

    Attributes
    ----------
    root, cache : Path
        Folder of PTB-XL; folder for packed records.
    """

    root: Path
    cache: Path


def compose_recipe(source: Source, overrides: list[str], held: Held, seed: int) -> DictConfig:
    """Return the configuration of a recipe that is tested on the held-out folds and trained on the others."""
    train = [fold for fold in FOLDS if fold not in held.folds]
    fixed = ["data=ptbxl", "task=superdiagnostic", "diagnostics=none"]
    folds = [f"data.folds.train={train}", "data.folds.val=[]", f"data.folds.test={list(held.folds)}"]
    places = [f"data.root={source.root}", f"data.cache={source.cache}"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [*fixed, *overrides, *folds, *places, f"seed={seed}"], return_hydra_config=True)
    # The name of a run reads the choices of the command line.
    HydraConfig.instance().set_config(config)
    without_hydra = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    assert isinstance(without_hydra, DictConfig)
    # The sentences about a recipe are no part of the table.
    with contextlib.redirect_stdout(io.StringIO()):
        return with_base(without_hydra, overrides)


def options_of(config: DictConfig) -> dict[str, object]:
    """Return the options that the results of a recipe depend on, without seed and folds."""
    options = hashed_options(logged_options(plain_options(config)))
    return {name: value for name, value in options.items() if name != "seed" and not name.startswith("data.folds.")}


def train(config: DictConfig) -> tuple[Run, float]:
    """Train a model, and return it with the minutes of a processor that this has taken."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = assemble_run(config, Path(folder))
        if isinstance(run, NetworkRun):
            # Only the predictions at the end are of interest: no checkpoints, and no measurements after an epoch.
            quick = mock.patch.multiple(run, save=lambda *_: None, _validate=dict)
            with quick, run.training(Unrecorded()) as fit:
                fit()
        else:
            run.fit()
    return run, (time.process_time() - began) / 60


def judge(source: Source, overrides: list[str], held: Held, seed: int) -> Prediction:
    """Train a recipe without the held-out folds, and predict their records."""
    config = compose_recipe(source, overrides, held, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        run, minutes = train(config)
        predictions = run.evaluate("test")
    parameters = 0
    if isinstance(run, NetworkRun):
        parameters = sum(parameter.numel() for parameter in run.model.parameters())
    table = run.data.table("test")
    return Prediction(
        ecg_id=table["ecg_id"].to_numpy(),
        fold=table["strat_fold"].to_numpy(),
        p=predictions.p,
        classes=tuple(run.data.labels.classes),
        notes={
            "overrides": overrides,
            "options": options_of(config),
            "code": code_hash(),
            "commit": git_commit(),
            "parameters": parameters,
            "minutes": round(minutes, 2),
        },
    )


def judge_missing(source: Source, recipes: dict[str, list[str]], args: argparse.Namespace) -> None:
    """Train what has no predictions yet, seed by seed and recipe by recipe."""
    for seed in args.seeds:
        for name, overrides in recipes.items():
            for held in args.held:
                file = held.file(args.results, name, seed)
                file.parent.mkdir(parents=True, exist_ok=True)
                # Another process trains what is locked.
                lock = FileLock(file.with_suffix(".lock"))
                with contextlib.suppress(Timeout), lock.acquire(blocking=False):
                    options = options_of(compose_recipe(source, overrides, held, seed))
                    if is_judged(file, overrides, options, args.again):
                        continue
                    began = time.perf_counter()
                    prediction = judge(source, overrides, held, seed)
                    write(file, prediction)
                    print(
                        f"{name}, seed {seed}, without folds {held.name}: {len(prediction.ecg_id)} records, "
                        f"{prediction.notes['minutes']} processor minutes, {time.perf_counter() - began:.0f} s",
                        flush=True,
                    )


def is_judged(file: Path, overrides: list[str], options: dict[str, object], again: bool) -> bool:
    """Return whether a file has the predictions of a recipe as it is now. Say why not, if there is such a file."""
    if not file.exists():
        return False
    notes = read(file).notes
    changed = changes(notes, overrides, options)
    if changed:
        print(f"{file}: {changed}: judged again", flush=True)
        return False
    if again and not is_same_code(notes):
        print(f"{file}: trained by another version of the package: judged again", flush=True)
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--groups", dest="mode", action="store_const", const="groups", default="groups")
    mode.add_argument("--folds", dest="mode", action="store_const", const="folds")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--recipes", type=Path, default=HERE / "recipes.yaml")
    parser.add_argument("--results", type=Path, default=HERE.parent / "docs" / "results" / "recipes")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "data")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--against", default=DEFAULT)
    parser.add_argument("--mean", nargs="+", default=[])
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()

    recipes = yaml.safe_load(args.recipes.read_text())
    unknown = sorted({*(args.only or []), args.against} - set(recipes))
    if unknown:
        parser.error(f"{' '.join(unknown)}: not a recipe of {args.recipes}")
    chosen = {name: recipes[name] for name in args.only or recipes}
    source = Source(args.root.resolve(), args.cache.resolve())
    args.held = [Held(args.mode, folds) for folds in HELD_OUT[args.mode]]
    try:
        if not args.table:
            judge_missing(source, chosen, args)
        show(source, {args.against: recipes[args.against], **chosen}, args)
    except UserError as error:
        parser.error(str(error))


def show(source: Source, recipes: dict[str, list[str]], args: argparse.Namespace) -> None:
    """Print the tables of the recipes that have predictions, and draw the figure."""
    records = read_records(source.root)
    judged = {}
    for name, overrides in recipes.items():
        if not (args.results / name).is_dir():
            continue
        options = options_of(compose_recipe(source, overrides, args.held[0], 0))
        recipe = pool(args.results, records, name, args.mode, overrides, options)
        if recipe is not None:
            judged[name] = recipe
    if args.against not in judged:
        raise UserError(f"{args.results}: no predictions of {args.against}, which the others are compared with.")
    reference = judged[args.against]
    rows = [*judged.values(), *(mean_of(text, judged) for text in args.mean)]
    print_tables(records, rows, reference)
    commits = sorted(frozenset.union(*(recipe.commits for recipe in judged.values())))
    print(f"Trained by the package at {', '.join(commits)}.")
    if args.figure:
        draw_figure(records, rows, reference, args.figure)


if __name__ == "__main__":
    main()
