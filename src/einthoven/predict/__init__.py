"""Prediction: from a bundle (one folder) to predictions for records.

bundle       the content of a bundle; writing and reading it
description  checks of ``bundle.json``
sealed_folder  a description and weights with their hashes
model_folder what a path is: a run, a bundle, or neither
network      building a network from its description
limits       limits of the memory and time that such a network may take
delineator   the probability of P, QRS and T at each sample
signal       converting a record to the input of a model, or refusing it
groups       superclasses, rhythms and statements, and a bundle that answers other classes
missing_lead a lead that a record lacks, computed from the others
refusal      refusing a record that is unlike the training records
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

from einthoven.predict.bundle import DESCRIPTION, Bundle, read_bundle
from einthoven.predict.model_folder import DEFAULT_BUNDLE, PTBXL_BUNDLE, SYNTHETIC_BUNDLE, find_bundle
from einthoven.predict.prediction import Prediction
from einthoven.predict.predictor import Predictor
from einthoven.trust import trusting

__all__ = [
    "DEFAULT_BUNDLE",
    "DESCRIPTION",
    "PTBXL_BUNDLE",
    "SYNTHETIC_BUNDLE",
    "Bundle",
    "Prediction",
    "Predictor",
    "find_bundle",
    "load_bundle",
]


def load_bundle(
    *paths: str | Path, draws: int = 0, seed: int = 0, without: str | None = None, trust: Sequence[str] = ()
) -> Predictor:
    """Load one bundle, or several bundles that predict together.

    Parameters
    ----------
    *paths : str or Path
        Folders of bundles or of runs, or ``runs:/ID`` and ``models:/NAME/VERSION`` of the MLflow store in use. MLflow
        is imported only for those addresses. ``ptbxl`` and ``synthetic`` are the bundles of the package, trained on
        real and on generated ECGs. Without a path: ``ptbxl``.
    draws, seed : int
        Number and seed of the dropout masks, as in `Predictor`.
    without : str or None
        A lead that the records lack, as in `Predictor`.
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
        bundles = [read_bundle(find_bundle(path)) for path in paths or (DEFAULT_BUNDLE,)]
        return Predictor(bundles, draws, seed, without)
