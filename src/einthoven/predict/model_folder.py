"""What a path is: the folder of a run, the folder of a bundle, or neither.

The folder can come from a stranger. So only the names of its files are looked at, and its configuration is searched as
text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from einthoven.command_line import command, option, train_command
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.predict.bundle import DESCRIPTION
from einthoven.predict.delineator import DESCRIPTION as DELINEATOR
from einthoven.predict.sealed_folder import previous_folder
from einthoven.tracking.concluded import is_concluded

_PACKAGED = Path(__file__).parent / "bundles"

PTBXL_BUNDLE = _PACKAGED / "ptbxl"
"""The bundle of the package that was trained on real ECGs."""

SYNTHETIC_BUNDLE = _PACKAGED / "synthetic"
"""The bundle of the package that was trained on generated ECGs. It has seen no record of a person."""

DEFAULT_BUNDLE = PTBXL_BUNDLE
"""The bundle of the package that answers if the user names none."""

PACKAGED_BUNDLES = {"ptbxl": PTBXL_BUNDLE, "synthetic": SYNTHETIC_BUNDLE, "embedded": SYNTHETIC_BUNDLE}
"""Name of a bundle of the package in commands and options, such as ``init_from=synthetic`` -> its folder."""

BUNDLE = "bundle"
"""Name of the folder of a bundle in the folder of its run."""

CHECKPOINTS = "checkpoints"
"""Name of the folder of the weights in the folder of a run."""

FOLD = "fold-"
"""Start of the names of the folders of the runs in the folder of a cross-validation."""

MOST_NAMED = 10
"""A sentence names at most this many folders."""

PRETEXT_TASKS = ("contrastive", "cpc", "generator", "masked", "vae")
"""Modules of the tasks that pretrain an encoder."""

CONFIGURATION_LIMIT = 1 << 20
"""Largest size of the configuration of a run in bytes."""


@dataclass(frozen=True)
class ModelFolder:
    """What the folder of a model is.

    Attributes
    ----------
    source : str
        The option or path that named it, for messages.
    bundle : Path or None
        The folder of its bundle: this folder itself, or the one in the folder of a run.
    run : Path or None
        This folder, if it is the folder of a run.
    """

    source: str
    bundle: Path | None
    run: Path | None


def named_folder(name: str) -> Path:
    """Return the folder that a word names: that of a bundle of the package, unless a file or folder has this name."""
    path = Path(name)
    return path if path.exists() else PACKAGED_BUNDLES.get(name, path)


def find_model(folder: Path, source: str) -> ModelFolder:
    """Say what a folder is.

    Parameters
    ----------
    folder : Path
    source : str
        The option or path that named it, for messages.

    Raises
    ------
    UserError
        If it is neither a run nor a bundle, or if the bundle was not saved to its end.
    """
    for place in (folder, folder / BUNDLE):
        if not (place / DESCRIPTION).is_file() and (previous_folder(place) / DESCRIPTION).is_file():
            raise UserError(
                f"{place}: the bundle was not saved to its end; the bundle before it is in {previous_folder(place)}. "
                f"Rename that folder to {place.name}, or save the bundle again."
            )
    bundles = [place for place in (folder, folder / BUNDLE) if (place / DESCRIPTION).is_file()]
    # A run may have no checkpoint yet, or none at all.
    is_run = (folder / CHECKPOINTS).is_dir() or (folder / "config.yaml").is_file()
    run = folder if is_run else None
    if run is None and not bundles:
        refuse_cross_validation(folder, source)
        if (folder / DELINEATOR).is_file():
            raise UserError(
                f"{source}: is a delineator, which gives waves and no classes; expected the folder of a run of a "
                "classifier or of a pretraining, or of a bundle."
            )
        raise UserError(
            f"{source}: neither a run nor a bundle; expected a folder with {CHECKPOINTS}/last.safetensors, or one with "
            f"{DESCRIPTION}."
        )
    return ModelFolder(source, bundles[0] if bundles else None, run)


def refuse_cross_validation(folder: Path, source: str) -> None:
    """Refuse the folder of a cross-validation, which has one run for each fold.

    Raises
    ------
    UserError
        Names the folders of the runs.
    """
    runs = sorted(place.parent for place in folder.glob(f"{FOLD}*/{CHECKPOINTS}"))
    if runs:
        listed = ", ".join(str(run) for run in runs[:MOST_NAMED])
        more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
        raise UserError(
            f"{source}: is the folder of a cross-validation, which has one run for each fold; expected one of them: "
            f"{listed}{more}."
        )


def find_bundle(path: str | Path, source: str | None = None) -> Path:
    """Return the folder of a bundle, from its name or path, the path of its run, or its address in MLflow.

    Parameters
    ----------
    path : str or Path
        ``ptbxl`` and ``synthetic`` are the bundles of the package.
    source : str, optional
        The option that named it, for messages. By default the path.

    Raises
    ------
    UserError
        If there is no bundle. The message says what to do.
    """
    if str(path).startswith(("runs:/", "models:/")):
        from einthoven.tracking.artifacts import download_bundle

        return download_bundle(str(path), DESCRIPTION)
    folder = named_folder(str(path))
    model = find_model(folder, source or str(path))
    if model.bundle is not None:
        return model.bundle
    refuse_without_bundle(folder, model.source)
    if (folder / "tracking").exists() and not is_concluded(folder):
        raise UserError(
            f"{model.source}: the training has not ended, so that there is no bundle yet; if it was interrupted, "
            f"{command('train', option('resume', folder))} continues it."
        )
    raise UserError(f"{model.source}: a run without a bundle; {command('evaluate', option('run', folder))} makes one.")


def refuse_without_bundle(folder: Path, source: str) -> None:
    """Refuse the folder of a run that cannot have a bundle.

    Parameters
    ----------
    folder : Path
        Folder of a run, or any other folder.
    source : str
        The option or path that named it, for the message.

    Raises
    ------
    UserError
        If the run is a pretraining, predicts a quantity or masks, or its model is fitted to features.
    """
    if is_fitted_to_features(folder):
        raise UserError(
            f"{source}: its model is fitted to features, and a bundle holds a network, alone or in a mean with "
            "gradient boosting (einthoven evaluate run=NETWORK mean_with=[RUN]); its metrics and their intervals are "
            "in the run itself."
        )
    pretext = _pretext_of(folder)
    if pretext is not None:
        raise UserError(
            f"{source}: is a pretraining ({pretext}), which predicts no classes: it has no bundle; train a "
            f"classifier from its weights first, as in {train_command(option('init_from', folder))}."
        )
    if _option_of_task(folder, "_target_") == "einthoven.tasks.delineation.Delineation":
        raise UserError(
            f"{source}: is a delineation, which has no classes to predict and no thresholds: it has a delineator "
            "instead of a bundle; its metrics and their intervals are in the run itself."
        )
    quantity = _option_of_task(folder, "target")
    if quantity is not None:
        raise UserError(
            f"{source}: predicts {quantity}, which has no probabilities to calibrate and no thresholds: a quantity has "
            "no bundle; its errors and their intervals are in the run itself."
        )


def is_fitted_to_features(folder: Path) -> bool:
    """Return whether the run of a folder has no network: its configuration has no group ``trainer``."""
    groups = {line.rstrip() for line in _configuration_lines(folder) if not line.startswith(" ")}
    has_fitted_model = (folder / CHECKPOINTS / "fitted.skops").is_file()
    return has_fitted_model or ("model:" in groups and "trainer:" not in groups)


def _pretext_of(folder: Path) -> str | None:
    """Return the pretext task of the run of a folder; None if the run has labels or the folder is not a run."""
    target = _option_of_task(folder, "_target_") or ""
    name = target.rpartition(".")[0].removeprefix("einthoven.tasks.")
    return name if name in PRETEXT_TASKS else None


def _option_of_task(folder: Path, name: str) -> str | None:
    """Return an option of the task of a run; None if its task has no such option, or the folder is not a run."""
    group = ""
    for line in _configuration_lines(folder):
        if not line.startswith(" "):
            group = line.rstrip()
        elif group == "task:" and line.startswith(f"  {name}: "):
            return line.removeprefix(f"  {name}: ").strip()
    return None


def _configuration_lines(folder: Path) -> list[str]:
    """Return the lines of the configuration of a run; an empty list if there is none.

    The folder can come from a stranger. So the lines are searched as text, and nothing is built from them.
    """
    try:
        return read_file(folder / "config.yaml", CONFIGURATION_LIMIT).decode().splitlines()
    except (OSError, UnicodeDecodeError, UserError):
        return []
