"""Train networks on generated ECGs that know nothing of the folds that they are judged on.

    python bench/make_bases.py PTBXL_ROOT FOLDER NAME [OPTION=VALUE ...] [--held-out 1-2-3 4-5-6 7-8-9]

`--held-out 1 2 3 4 5 6 7 8 9` makes those of `bench_recipes.py --folds`.

Some numbers of the generator are fitted to signals of PTB-XL. So a network that has learned generated ECGs has seen a
little of the folds 1-8. For each group of held-out folds, this script fits a copy of the generator without them, and
trains one network on 16,000 ECGs of it, with the options of the bundle `synthetic` and the given ones. `{held}` in an
option stands for the held-out folds, as in `init_from=FOLDER/truth_{held}`.

Writes the folders of the runs FOLDER/NAME_1-2-3, and so on. `bench/bench_recipes.py --bases FOLDER` judges recipes that
start from their bundles. FOLDER keeps the fitted numbers and the generated ECGs for a second call with another name. A
run that is complete is not trained again. Takes about 10 minutes of one core for each group.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from make_synthetic_bundle import OPTIONS, SEED
from recipe_results import HELD_OUT, Held

from einthoven.atomic import working_folder
from einthoven.data import fitted_on
from einthoven.data.synthetic import fitted
from einthoven.terminal.conf_folders import conf_folder
from einthoven.tracking.concluded import is_concluded

BENCH = Path(__file__).resolve().parent
PACKAGE = Path(fitted.FILE).parents[2]
FITTED_FILES = (fitted.FILE.relative_to(PACKAGE), fitted_on.FILE.relative_to(PACKAGE))
"""The files of the package that follow from the fit."""


def copy_package(folder: Path) -> Path:
    """Copy the package and its configuration, and return the folder of the copy of the package."""
    package = folder / "src" / PACKAGE.name
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(conf_folder(), folder / "conf", dirs_exist_ok=True)
    return package


def run_with(package: Path, *words: str | Path, folder: Path) -> None:
    """Run Python in a folder, with a copy of the package.

    Raises
    ------
    CalledProcessError
        If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    subprocess.run([sys.executable, *map(str, words)], env=environment, cwd=folder, check=True)


def fit_generator(root: Path, package: Path, held: Held, kept: Path) -> None:
    """Fit the generator of a copy of the package without the held-out folds, or take the numbers of an earlier fit."""
    if not kept.is_dir():
        left_out = ["--leave-out", *map(str, held.folds)]
        run_with(package, BENCH / "fit_hearts.py", root, *left_out, folder=BENCH)
        run_with(package, BENCH / "fit_noise.py", root, *left_out, folder=BENCH)
        run_with(package, BENCH / "list_fitted_records.py", root, folder=BENCH)
        with working_folder(kept.parent) as partial:
            for name in FITTED_FILES:
                shutil.copy(package / name, partial)
            partial.replace(kept)
    for name in FITTED_FILES:
        shutil.copy(kept / name.name, package / name)


def make_base(root: Path, folder: Path, name: str, held: Held, options: list[str]) -> None:
    """Train one network, unless it is there already."""
    run = folder / f"{name}_{held.name}"
    if is_concluded(run):
        print(f"{run}: is there already", flush=True)
        return
    with TemporaryDirectory() as scratch:
        package = copy_package(Path(scratch))
        fit_generator(root, package, held, folder / f"fitted_{held.name}")
        given = [option.replace("{held}", held.name) for option in options]
        words = ["data=synthetic", f"seed={SEED}", *OPTIONS, *given]
        # Of an option that is named twice, the last value counts.
        chosen = list({word.partition("=")[0]: word for word in words}.values())
        # The generated ECGs of another fit have the same name, so each group has a folder of its own.
        places = [f"data.cache={folder / f'generated_{held.name}'}", f"hydra.run.dir={run}"]
        quick = ["diagnostics=none", "tracking.artifacts=false", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        run_with(package, "-m", "einthoven", "train", *chosen, *places, *quick, folder=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    held_out = {mode: [Held(mode, folds) for folds in HELD_OUT[mode]] for mode in HELD_OUT}
    by_name = {held.name: held for mode in HELD_OUT for held in held_out[mode]}
    groups = [held.name for held in held_out["groups"]]
    parser.add_argument("root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    parser.add_argument("--held-out", nargs="+", choices=by_name, default=groups)
    args = parser.parse_intermixed_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.held_out:
        make_base(args.root.resolve(), folder, args.name, by_name[name], args.options)


if __name__ == "__main__":
    main()
