"""Prediction: from a bundle (one folder) to predictions for records.

bundle       the content of a bundle; writing and reading it
description  checks of ``bundle.json``
network      building a network from its description
limits       limits of the memory and time that such a network may take
delineator   the probability of P, QRS and T at each sample
signal       converting a record to the input of a model, or refusing it
forward      windows through the network of a bundle: probabilities and features, with or without dropout
prediction   the result: probabilities, intervals, sets of statements, uncertainty, cautions
predictor    records to predictions, with one bundle or several
answers      predictions for many files
embedding    embeddings of many files: what the head of a network reads
parallel     groups of files in parallel threads
explaining   the contribution of each sample to a prediction
to_json      the prediction for one record in values that JSON can express
export       a bundle as one file for other runtimes
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einthoven.command_line import command, option, train_command
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.predict.bundle import DESCRIPTION, Bundle, previous_bundle, read_bundle
from einthoven.predict.prediction import Prediction
from einthoven.predict.predictor import Predictor
from einthoven.trust import trusting

__all__ = ["DESCRIPTION", "Bundle", "Prediction", "Predictor", "find_bundle", "load_bundle", "refuse_without_bundle"]

EMBEDDED = Path(__file__).parent / "embedded"
"""The bundle that comes with the package."""

PRETEXT_TASKS = ("contrastive", "cpc", "masked", "vae")
"""Modules of the tasks without labels."""

CONFIGURATION_LIMIT = 1 << 20
"""Largest size of the configuration of a run in bytes."""


def load_bundle(*paths: str | Path, draws: int = 0, seed: int = 0, trust: Sequence[str] = ()) -> Predictor:
    """Load one bundle, or several bundles that predict together.

    Parameters
    ----------
    *paths : str or Path
        Folders of bundles or of runs, or ``runs:/ID`` and ``models:/NAME/VERSION`` of the MLflow store in use. MLflow
        is imported only for those addresses. Without a path: the bundle of the package, trained on generated ECGs.
    draws, seed : int
        Number and seed of the dropout masks, as in `Predictor`.
    trust : sequence of str
        Python modules outside of this package whose networks a bundle may name. Loading such a bundle runs their code.

    Returns
    -------
    Predictor
        ``load_bundle(path).predict(["a.hea", "b.hea"]).probabilities`` is (2, K).

    Raises
    ------
    UserError
        If there is no bundle, a bundle is damaged, or several bundles do not fit together.
    """
    with trusting(trust):
        bundles = [read_bundle(find_bundle(path)) for path in paths or (EMBEDDED,)]
        return Predictor(bundles, draws, seed)


def find_bundle(path: str | Path) -> Path:
    """Return the folder of a bundle, from the path of the bundle, the path of its run, or the address of it in MLflow.

    Raises
    ------
    UserError
        If there is no bundle. The message says what to do.
    """
    if str(path).startswith(("runs:/", "models:/")):
        from einthoven.tracking.artifacts import download_bundle

        return download_bundle(str(path), DESCRIPTION)
    folder = Path(path)
    for place in (folder, folder / "bundle"):
        if (place / DESCRIPTION).is_file():
            return place
        if (previous_bundle(place) / DESCRIPTION).is_file():
            raise UserError(
                f"{place}: the bundle was not saved to its end; the bundle before it is in {previous_bundle(place)}. "
                f"Rename that folder to {place.name}, or save the bundle again."
            )
    refuse_without_bundle(folder, str(folder))
    if (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: a run without a bundle; {command('evaluate', option('run', folder))} makes one.")
    raise UserError(f"{folder}: no bundle there; expected a folder with {DESCRIPTION}, or that of a run (outputs/…).")


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
            f"{source}: its model is fitted to features, and a bundle holds a network; its metrics and their intervals "
            "are in the run itself."
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
    has_fitted_model = (folder / "checkpoints" / "fitted.skops").is_file()
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
