"""Conformal risk control on real records: what sets miss, over 200 random splits of records that were not trained on.

    python bench/bench_conformal.py PTBXL_ROOT [BUNDLE]

Every record of the folder that has a superclass is answered by the bundle (by default the one that comes with the
package, which was trained on generated ECGs). Each split draws half of the patients to choose the threshold and
measures on the others. Prints the mean share of missed true statements, its standard error over splits, the range, and
the mean size of a set, beside the promise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from einthoven.data.sources.labels import read_database
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.evaluation.conformal import missed_share, risk_control_threshold
from einthoven.predict import load_bundle
from einthoven.predict.answers import answers

SPLITS = 200


def main(root: Path, bundles: list[str]) -> None:
    table = read_database(root / "ptbxl_database.csv")
    there = [(root / f"{name}.hea").is_file() for name in table["filename_lr"]]
    table = table[there].reset_index(drop=True)
    source = PTBXL(root, 100, root, allow_missing=True)
    labels = source.labels(table, "superdiagnostic", single_label=False, keep_unlabelled=False, min_likelihood=0)
    rows = table.set_index("ecg_id").loc[labels.ecg_ids]
    predictor = load_bundle(*bundles)
    found = answers(predictor, [root / f"{name}.hea" for name in rows["filename_lr"]], {}, doctor=False)
    p = np.stack([answer.prediction.probabilities[answer.row] for answer in found])
    y, patients = labels.matrix.astype(bool), labels.patients
    print(predictor.notice, flush=True)
    print(f"{len(y)} records of {len(set(patients))} patients, {SPLITS} splits by patient")
    rng = np.random.default_rng(0)
    for alpha in (0.05, 0.1, 0.2):
        missed, size = [], []
        for _ in range(SPLITS):
            known = rng.permutation(np.unique(patients))
            fit = np.isin(patients, known[: len(known) // 2])
            threshold = risk_control_threshold(y[fit], p[fit], alpha)
            missed.append(missed_share(y[~fit], p[~fit], threshold).mean())
            size.append((p[~fit] >= threshold).sum(axis=1).mean())
        error = np.std(missed) / np.sqrt(SPLITS)
        print(
            f"alpha {alpha:.2f}: missed {np.mean(missed):.4f} ± {error:.4f} ({min(missed):.3f} to {max(missed):.3f}), "
            f"sets of {np.mean(size):.2f} of {y.shape[1]}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
