"""Bootstrap interval of the macro AUROC against a loop over scikit-learn: python bench/bench_bootstrap.py.

The size is that of the PTB-XL test fold with all 71 statements. The loop is timed on a few resamples and
extrapolated; both give the same numbers, which is checked first.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.metrics import roc_auc_score

from einthoven.evaluation.bootstrap import bootstrap_interval, bootstrap_macro_auroc, resample_counts

RECORDS, CLASSES, RESAMPLES, TIMED_BY_LOOP = 2203, 71, 1000, 10


def main() -> None:
    rng = np.random.default_rng(0)
    prevalence = np.geomspace(0.002, 0.6, CLASSES)
    y = rng.random((RECORDS, CLASSES)) < prevalence
    y[0], y[1] = True, False
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 2 * y)))

    def loop() -> list[float]:
        counts = resample_counts(np.arange(RECORDS), TIMED_BY_LOOP, np.random.default_rng(0)).astype(int)
        macro = []
        for count in counts:
            rows = np.repeat(np.arange(RECORDS), count)
            drawn = y[rows]
            present = drawn.any(axis=0) & ~drawn.all(axis=0)
            macro.append(np.mean([roc_auc_score(drawn[:, k], p[rows, k]) for k in np.flatnonzero(present)]))
        return macro

    start = time.perf_counter()
    expected = loop()
    per_resample = (time.perf_counter() - start) / TIMED_BY_LOOP
    macro, _ = bootstrap_macro_auroc(y, p, resamples=TIMED_BY_LOOP)
    np.testing.assert_allclose(macro, expected, rtol=0, atol=1e-12)

    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        interval = bootstrap_interval(y, p, resamples=RESAMPLES)
        seconds.append(time.perf_counter() - start)
    ours = min(seconds)
    print(f"{RECORDS} records x {CLASSES} classes, {RESAMPLES} resamples, macro AUROC in {interval}")
    print(f"scikit-learn loop  {per_resample * RESAMPLES:8.2f} s (from {TIMED_BY_LOOP} resamples)")
    print(f"einthoven          {ours:8.2f} s (best of {len(seconds)})")
    print(f"ratio              {per_resample * RESAMPLES / ours:8.0f}")


if __name__ == "__main__":
    main()
