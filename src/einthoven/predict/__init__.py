"""Prediction: from a bundle, which is one folder, to answers for records.

bundle     the folder: what it holds, writing and reading it
network    a network out of its description
explaining what an answer rests on
signal     what a model reads, and how a record is made to fit or refused
predictor  probabilities, intervals, sets, uncertainty
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einthoven.predict.bundle import DESCRIPTION, Bundle, load
from einthoven.predict.predictor import Prediction, Predictor
from einthoven.trust import trusting

__all__ = ["DESCRIPTION", "Bundle", "Prediction", "Predictor", "find_bundle", "load_bundle"]

EMBEDDED = Path(__file__).parent / "embedded"
"""The bundle that comes with the package."""


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
    from einthoven.errors import UserError

    if str(path).startswith(("runs:/", "models:/")):
        from einthoven.tracking.artifacts import downloaded_bundle

        return downloaded_bundle(str(path), DESCRIPTION)
    folder = Path(path)
    for place in (folder, folder / "bundle"):
        if (place / DESCRIPTION).is_file():
            return place
    if (folder / "checkpoints" / "fitted.skops").is_file():
        raise UserError(f"{folder}: its model is fitted to features; a bundle holds a network.")
    if (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: a run without a bundle; {command('evaluate', option('run', folder))} makes one.")
    raise UserError(f"{folder}: no bundle there; expected a folder with {DESCRIPTION}, or that of a run (outputs/…).")
