"""Recipes of training, judged by cross-validation on folds 1-9 of PTB-XL: which option makes the model better?

    python bench/bench_recipes.py PTBXL_ROOT [--groups | --folds] [--seeds 0,1,2] [--only NAME ...]

`bench/recipes.yaml` names the recipes. Each record is predicted by a model that was not trained on its fold.

    --groups     hold out the folds 1-3, 4-6 and 7-9 in turn: three trainings, to screen recipes (the default)
    --folds      hold out each fold in turn, as `einthoven train folds=cv` does: nine trainings, for finalists

Other options:

    --results FOLDER   predictions (default: docs/results/recipes)
    --cache FOLDER     packed records (default: data)
    --bases FOLDER     networks that recipes start from, one for each group of held-out folds (`bench/make_bases.py`)
    --runs FOLDER      trained teachers of other recipes (default: recipe_runs in the cache)
    --again            train again what another version of the package has trained
    --table            train nothing, and print the table of the records that have predictions
    --against NAME     recipe that the others are compared with (default: default)
    --mean A+B ...     rows for the mean probabilities of recipes; A@0+A@1 for those of two seeds of a recipe
    --options          print the options that a recipe has beside those of --against, in the place of the Brier score
    --csv FILE         write all figures, also the differences of each class with their intervals
    --figure FILE      draw the differences

Each training writes one file with the predictions of the records that it has not seen. What is there is not trained
again, so several processes share the work and a killed one continues. A recipe whose options have changed is.

A recipe may learn from other recipes: `task.teacher=[recipe:NAME,recipe:NAME@SEED]`. The teachers are trained without
the folds that are held out, too, with the same seed or with SEED. They are kept in --runs, so that several recipes
share them. Their predictions count as those of their recipes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import yaml
from filelock import FileLock, Timeout
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from recipe_bases import has_base, names_base, refuse_known, with_places
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
    with_predictions,
    write,
)
from recipe_table import differences, draw_figure, print_tables, write_csv

from einthoven.errors import UserError
from einthoven.predict.model_folder import BUNDLE
from einthoven.runs.base.read_base import with_base
from einthoven.runs.config.identity import code_hash, git_commit
from einthoven.runs.config.options import hashed_options, logged_options, plain_options
from einthoven.runs.feature_run import FeatureRun
from einthoven.runs.network.teachers import with_teachers
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results.bundle import write_bundle
from einthoven.runs.run import Run
from einthoven.runs.start import assemble_run, write_start
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.conf_folders import conf_folder
from einthoven.trust import trust

HERE = Path(__file__).resolve().parent
DEFAULT = "default"
"""What `einthoven train data=ptbxl` does with the official folds."""

RECIPE = "recipe:"
"""Start of a teacher that is a recipe."""

TRIED = "tried_models"
"""The module beside this one with networks that are no option of the package."""


@dataclass(frozen=True)
class Source:
    """Where the records, the recipes and the results are.

    Attributes
    ----------
    root, cache : Path
        Folder of PTB-XL; folder for packed records.
    results, runs : Path
        Folder of the predictions; folder of the trained teachers.
    recipes : mapping of str to list of str
        Name -> options.
    bases : Path or None
        Folder of the networks that recipes start from.
    """

    root: Path
    cache: Path
    results: Path = Path()
    runs: Path = Path()
    recipes: Mapping[str, list[str]] = field(default_factory=dict)
    bases: Path | None = None


def compose_recipe(source: Source, overrides: list[str], held: Held, seed: int) -> DictConfig:
    """Return the configuration of a recipe that is tested on the held-out folds and trained on the others."""
    train = [fold for fold in FOLDS if fold not in held.folds]
    fixed = ["data=ptbxl", "task=superdiagnostic", "diagnostics=none"]
    overrides = with_places(source.bases, overrides, held)
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


def options_of(source: Source, config: DictConfig) -> dict[str, object]:
    """Return the options that the results of a recipe depend on, and those of its teachers, without seed and folds.

    A base is among them by the hash of its weights, ``init_from_sha256``.
    """
    options = hashed_options(logged_options(plain_options(config)))
    own = {name: value for name, value in options.items() if name != "seed" and not name.startswith("data.folds.")}
    for teacher in recipes_of_teachers(config):
        name, _, _ = teacher.partition("@")
        if name not in source.recipes:
            raise UserError(f"task.teacher={RECIPE}{teacher}: not one of the recipes {', '.join(source.recipes)}.")
        own[f"{RECIPE}{name}"] = source.recipes[name]
    return own


def options_by_part(source: Source, overrides: list[str], held_out: list[Held]) -> dict[str, dict[str, object]]:
    """Return the options of a recipe for each group of held-out folds. They differ in the base, if it has one.

    They are empty for a group whose base is not there.
    """
    if not names_base(overrides):
        options = options_of(source, compose_recipe(source, overrides, held_out[0], 0))
        return {held.name: options for held in held_out}
    options_by_name: dict[str, dict[str, object]] = {}
    for held in held_out:
        is_there = source.bases is not None and has_base(source.bases, overrides, held)
        options_by_name[held.name] = options_of(source, compose_recipe(source, overrides, held, 0)) if is_there else {}
    return options_by_name


def recipes_of_teachers(config: DictConfig) -> list[str]:
    """Return the recipes that the teachers of a configuration name: ``NAME`` or ``NAME@SEED``."""
    teachers = config.task.get("teacher") or []
    return [str(teacher).removeprefix(RECIPE) for teacher in teachers if str(teacher).startswith(RECIPE)]


def with_trained_teachers(source: Source, config: DictConfig, held: Held, seed: int) -> DictConfig:
    """Return the configuration with the folders of its teachers. Those that are recipes are trained if need be."""
    if not recipes_of_teachers(config):
        return with_teachers(config)
    folders = []
    for teacher in map(str, config.task.teacher):
        name, _, own_seed = teacher.removeprefix(RECIPE).partition("@")
        is_recipe = teacher.startswith(RECIPE)
        folders.append(str(train_teacher(source, name, held, int(own_seed or seed))) if is_recipe else teacher)
    taught = config.copy()
    OmegaConf.update(taught, "task.teacher", folders)
    return with_teachers(taught)


def train_teacher(source: Source, name: str, held: Held, seed: int) -> Path:
    """Return the folder of a trained run of a recipe. If it is missing, train it, and write its predictions, too."""
    overrides = source.recipes[name]
    options = options_of(source, compose_recipe(source, overrides, held, seed))
    content = json.dumps([overrides, options], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    folder = source.runs / f"{name}_{held.mode}_{held.name}_seed{seed}_{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Another process may train the same teacher.
    with FileLock(f"{folder}.lock"):
        is_trained = (folder / BUNDLE).is_dir() or (folder / "checkpoints" / "fitted.skops").is_file()
        if not is_trained:
            prediction = judge(source, overrides, held, seed, folder)
            file = held.file(source.results, name, seed)
            if not is_judged(file, overrides, options, again=False):
                write(file, prediction)
    return folder


def train(config: DictConfig, held: Held, folder: Path | None, *, from_base: bool) -> tuple[Run, float]:
    """Train a model, and return it with the minutes of a processor that this has taken. Keep it in a folder, if any.

    `from_base` says that it starts from a base, which must not know the held-out folds.
    """
    began = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        run = assemble_run(config, folder or Path(temporary))
        if from_base:
            refuse_known(run, held)
        if isinstance(run, NetworkRun):
            # Only the predictions at the end are of interest: no checkpoints, and no measurements after an epoch.
            quick = mock.patch.multiple(run, save=lambda *_: None, _validate=dict)
            with quick, run.training(Unrecorded()) as fit:
                fit()
        else:
            run.fit()
    minutes = (time.process_time() - began) / 60
    if folder is not None:
        keep(run)
    return run, minutes


def keep(run: Run) -> None:
    """Write what a teacher needs into the folder of a run: its records and options, and then its model."""
    write_start(run, [])
    if isinstance(run, NetworkRun):
        sentence = write_bundle(run)
        if not (run.folder / BUNDLE).is_dir():
            raise UserError(f"{run.folder}: {sentence}")
    elif isinstance(run, FeatureRun):
        run.save()


def judge(source: Source, overrides: list[str], held: Held, seed: int, folder: Path | None = None) -> Prediction:
    """Train a recipe without the held-out folds, and predict their records. Keep the run in a folder, if any."""
    composed = compose_recipe(source, overrides, held, seed)
    options = options_of(source, composed)
    with contextlib.redirect_stdout(io.StringIO()):
        config = with_trained_teachers(source, composed, held, seed)
        run, minutes = train(config, held, folder, from_base=names_base(overrides))
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
            "options": options,
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
                file = held.file(source.results, name, seed)
                file.parent.mkdir(parents=True, exist_ok=True)
                # Another process trains what is locked.
                lock = FileLock(file.with_suffix(".lock"))
                with contextlib.suppress(Timeout), lock.acquire(blocking=False):
                    if not file.exists() and names_base(overrides) and not has_base(source.bases, overrides, held):
                        print(f"{name}, without folds {held.name}: its base is not complete: left out", flush=True)
                        continue
                    options = options_by_part(source, overrides, [held])[held.name]
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
    parser.add_argument("--bases", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--against", default=DEFAULT)
    parser.add_argument("--mean", nargs="+", default=[])
    parser.add_argument("--options", action="store_true")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()

    recipes = yaml.safe_load(args.recipes.read_text())
    unknown = sorted({*(args.only or []), args.against} - set(recipes))
    if unknown:
        parser.error(f"{' '.join(unknown)}: not a recipe of {args.recipes}")
    chosen = {name: recipes[name] for name in args.only or recipes}
    cache = args.cache.resolve()
    runs = args.runs.resolve() if args.runs else cache / "recipe_runs"
    bases = args.bases.resolve() if args.bases else None
    source = Source(args.root.resolve(), cache, args.results, runs, recipes, bases)
    args.held = [Held(args.mode, folds) for folds in HELD_OUT[args.mode]]
    trust([TRIED])
    try:
        if not args.table:
            judge_missing(source, chosen, args)
        show(source, {args.against: recipes[args.against], **chosen}, args)
    except UserError as error:
        parser.error(str(error))


def show(source: Source, recipes: dict[str, list[str]], args: argparse.Namespace) -> None:
    """Print the tables of the recipes that have predictions, write the CSV and draw the figure."""
    records = read_records(source.root)
    if args.table:
        records = with_predictions(records, args.results / args.against)
    judged = {}
    for name, overrides in recipes.items():
        if not (args.results / name).is_dir():
            continue
        options = options_by_part(source, overrides, args.held)
        recipe = pool(args.results, records, name, args.mode, overrides, options)
        if recipe is not None:
            judged[name] = recipe
    if args.against not in judged:
        raise UserError(f"{args.results}: no predictions of {args.against}, which the others are compared with.")
    reference = judged[args.against]
    rows = [*judged.values(), *(mean_of(text, judged) for text in args.mean)]
    by_recipe = differences(records, [recipe for recipe in rows if recipe is not reference], reference)
    options = more_options(recipes, args.against) if args.options else None
    print_tables(records, rows, reference, by_recipe, options)
    commits = sorted(frozenset.union(*(recipe.commits for recipe in judged.values())))
    print(f"Trained by the package at {', '.join(commits)}.")
    if args.csv:
        write_csv(records, rows, reference, by_recipe, args.csv)
    if args.figure:
        draw_figure(by_recipe, reference, args.figure)


def more_options(recipes: Mapping[str, list[str]], reference: str) -> dict[str, str]:
    """Return the options of each recipe that the reference does not have, as Markdown."""
    common = recipes[reference]
    return {name: ", ".join(f"`{o}`" for o in options if o not in common) for name, options in recipes.items()}


if __name__ == "__main__":
    main()
