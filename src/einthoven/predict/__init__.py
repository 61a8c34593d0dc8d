"""Prediction: from a bundle, which is one folder, to answers for records.

bundle     the folder: what it holds, writing and reading it
network    a network out of its description
explaining what an answer rests on
signal     what a model reads, and how a record is made to fit or refused
predictor  probabilities, intervals, sets, uncertainty
answers    predictions for many files, in parallel threads
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.predict.bundle import DESCRIPTION, Bundle, load
from einthoven.predict.predictor import Prediction, Predictor
from einthoven.trust import trusting

__all__ = ["DESCRIPTION", "Bundle", "Prediction", "Predictor", "find_bundle", "load_bundle", "refuse_without_bundle"]

EMBEDDED = Path(__file__).parent / "embedded"
"""The bundle that comes with the package."""

MOST_BYTES_OF_CONFIG = 1 << 20


def load_bundle(*paths: str | Path, draws: int = 0, seed: int = 0, trust: Sequence[str] = ()) -> Predictor:
    """Load a bundle, or several that answer together.

    Parameters
    ----------
    *paths : str or Path
        Folders of bundles or of runs, or ``runs:/ID`` and ``models:/NAME/VERSION`` of the MLflow store in use (MLflow
        is imported for those alone). Without any: the bundle that comes with the package, trained on generated ECGs.
    draws, seed : int
        Dropout masks for each member, as in `Predictor`.
    trust : sequence of str
        Python modules outside of this package whose networks a bundle may name. Loading such a bundle runs their code.

    Returns
    -------
    Predictor
        ``load_bundle(path).predict(["a.hea", "b.hea"]).probabilities`` is (2, K).

    Raises
    ------
    UserError
        If there is no bundle, it is damaged, or several do not go together.
    """
    with trusting(trust):
        return Predictor([load(find_bundle(path)) for path in paths or (EMBEDDED,)], draws, seed)


def find_bundle(path: str | Path) -> Path:
    """The folder of a bundle, by its own path, that of a run, or the address of either in MLflow.

    Raises
    ------
    UserError
        If there is none, with what to do about it.
    """
    from einthoven.command_line import command, option

    if str(path).startswith(("runs:/", "models:/")):
        from einthoven.tracking.artifacts import downloaded_bundle

        return downloaded_bundle(str(path), DESCRIPTION)
    folder = Path(path)
    for place in (folder, folder / "bundle"):
        if (place / DESCRIPTION).is_file():
            return place
    refuse_without_bundle(folder, str(folder))
    if (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: a run without a bundle; {command('evaluate', option('run', folder))} makes one.")
    raise UserError(f"{folder}: no bundle there; expected a folder with {DESCRIPTION}, or that of a run (outputs/…).")


def refuse_without_bundle(folder: Path, source: str) -> None:
    """Refuse the folder of a run that can have no bundle.

    Parameters
    ----------
    folder : Path
        Of a run, or of anything else.
    source : str
        What named it, for the sentence.

    Raises
    ------
    UserError
        If the run has predicted a quantity, or its model is fitted to features.
    """
    if is_fitted_to_features(folder):
        raise UserError(
            f"{source}: its model is fitted to features, and a bundle holds a network; its metrics and their intervals "
            "are in the run itself."
        )
    quantity = quantity_of(folder)
    if quantity is not None:
        raise UserError(
            f"{source}: predicts {quantity}, which has no probabilities to calibrate and no thresholds: a quantity has "
            "no bundle; its errors and their intervals are in the run itself."
        )


def is_fitted_to_features(folder: Path) -> bool:
    """Whether the run of a folder has no network: its configuration has no group for the training of one."""
    groups = {line.rstrip() for line in _configuration(folder) if not line.startswith(" ")}
    return (folder / "checkpoints" / "fitted.skops").is_file() or ("model:" in groups and "trainer:" not in groups)


def quantity_of(folder: Path) -> str | None:
    """The quantity that the run of a folder predicts; None if it predicts classes, or is no run."""
    group = ""
    for line in _configuration(folder):
        if not line.startswith(" "):
            group = line.rstrip()
        elif group == "task:" and line.startswith("  target: "):
            return line.removeprefix("  target: ").strip()
    return None


def _configuration(folder: Path) -> list[str]:
    """Lines of the configuration of a run, empty if there is none.

    They are searched as text and nothing of them is built: the folder may be a stranger's.
    """
    try:
        return read_file(folder / "config.yaml", MOST_BYTES_OF_CONFIG).decode().splitlines()
    except (OSError, UnicodeDecodeError, UserError):
        return []
