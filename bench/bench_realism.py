"""How real the embedded ECGs are: models trained on them alone, judged on real PTB-XL records.

    python bench/bench_realism.py PTBXL_ROOT MODEL[:FOLD,FOLD,...] ... [--against MODEL ...]

MODEL is the folder of a run (outputs/...) or of a bundle. Several folders with + between them predict together, as
their mean. Prints the AUROC of each class and the macro AUROC over folds 1-9 with a 95 % interval, and the macro AUROC
of each fold. With --against, also the paired difference to a second model, with its interval and p-value.

A model judges the folds behind its colon. So a generator whose numbers are fitted to real signals can be judged on the
folds that were left out of its fit: fit and train once without folds 1-4 and once without folds 5-9, then

    python bench/bench_realism.py ROOT WITHOUT_1_4:1,2,3,4 WITHOUT_5_9:5,6,7,8,9

Scores are replaced by their ranks among the records that a model judges, because the scores of two models need not be
on one scale. For a single model this changes nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.record import Record
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.comparison import paired_difference
from einthoven.evaluation.metrics import auroc_per_class, macro_auroc
from einthoven.functional.leads import LEADS
from einthoven.predict import load_bundle

FOLDS = tuple(range(1, 10))
FS = 100
RESAMPLES = 1000


@dataclass
class RealRecords:
    """The records of folds 1-9 that have a superclass."""

    signals: NDArray[np.float32]
    """(n, 12, 1000) in mV."""
    labels: NDArray[np.float64]
    classes: tuple[str, ...]
    fold: NDArray[np.int64]
    patient: NDArray[np.int64]


def read_records(root: Path) -> RealRecords:
    with TemporaryDirectory() as cache:
        source = PTBXL(root, FS, cache)
        store = source.open()
        labels = source.labels(
            store.table, "superdiagnostic", single_label=False, keep_unlabelled=False, min_likelihood=0
        )
        row_of_record = {number: row for row, number in enumerate(store.table["ecg_id"])}
        rows = np.array([row_of_record[number] for number in labels.ecg_ids])
        signals = np.asarray(store.signals[rows]).astype(np.float32) * np.float32(1e-3)
    table = store.table.iloc[rows]
    return RealRecords(
        signals, labels.matrix, labels.classes, table["strat_fold"].to_numpy(), table["patient_id"].to_numpy()
    )


def predict(models: str, records: RealRecords) -> NDArray[np.float64]:
    """Return the probabilities (n, K) of the bundles of runs, whose folders have + between them."""
    inputs = [Record(signal, float(FS), LEADS, str(row)) for row, signal in enumerate(records.signals)]
    predictor = load_bundle(*models.split("+"))
    if predictor.classes != records.classes:
        raise SystemExit(f"{models} predicts {predictor.classes}, expected {records.classes}")
    return np.asarray(predictor.predict(inputs).probabilities)


def predict_parts(arguments: list[str], records: RealRecords) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the probabilities of each record by the model that judges its fold, and the number of that model (n,)."""
    scores = np.full(records.labels.shape, np.nan)
    part = np.zeros(len(scores), dtype=np.int64)
    for number, argument in enumerate(arguments):
        path, _, folds = argument.partition(":")
        chosen = [int(fold) for fold in folds.split(",")] if folds else list(FOLDS)
        rows = np.isin(records.fold, chosen)
        scores[rows] = predict(path, records)[rows]
        part[rows] = number
    if np.isnan(scores).any():
        missing = sorted(set(records.fold[np.isnan(scores).any(1)].tolist()))
        raise SystemExit(f"no model judges the folds {missing}")
    return scores, part


def within_parts(scores: NDArray[np.float64], part: NDArray[np.int64]) -> NDArray[np.float64]:
    """Replace scores by their ranks within their model, from 0 to 1, so that models share one scale."""
    ranks = np.empty_like(scores)
    for number in np.unique(part):
        rows = part == number
        order = scores[rows].argsort(axis=0).argsort(axis=0)
        ranks[rows] = (order + 0.5) / rows.sum()
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--against", nargs="+", default=[], metavar="MODEL")
    options = parser.parse_args()
    records = read_records(options.root)
    y, groups = records.labels, records.patient
    scores = within_parts(*predict_parts(options.models, records))

    macro, per_class = auroc_intervals(y, scores, resamples=RESAMPLES, groups=groups)
    print(f"{len(y)} real records of folds {FOLDS[0]}-{FOLDS[-1]}")
    print(f"macro AUROC {macro_auroc(y, scores):.4f} [{macro.low:.4f}, {macro.high:.4f}]")
    for name, value, interval in zip(records.classes, auroc_per_class(y, scores), per_class, strict=True):
        print(f"  {name:5} {value:.4f} [{interval.low:.4f}, {interval.high:.4f}]")
    single = [
        f"{fold}: {macro_auroc(y[rows], scores[rows]):.3f}" for fold in FOLDS if (rows := records.fold == fold).any()
    ]
    print("folds  " + "  ".join(single))
    if options.against:
        others = within_parts(*predict_parts(options.against, records))
        found = paired_difference(y, others, scores, resamples=RESAMPLES, groups=groups)
        interval = f"[{found.interval.low:+.4f}, {found.interval.high:+.4f}]"
        print(f"difference to {' '.join(options.against)}: {found.difference:+.4f} {interval} p {found.p:.3f}")
        change = auroc_per_class(y, scores) - auroc_per_class(y, others)
        print("  " + "  ".join(f"{name} {value:+.3f}" for name, value in zip(records.classes, change, strict=True)))


if __name__ == "__main__":
    main()
