"""Bootstrap intervals of AUROCs against a loop over scikit-learn: python bench/bench_bootstrap.py.

The size is that of the PTB-XL test fold with all 71 statements. The loop is timed on a few resamples and
extrapolated; both give the same numbers, which is checked first. BCa intervals of every class and the paired
comparison of two models come from the same resamples.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from einthoven.evaluation.bootstrap import auroc_intervals, bootstrap_interval
from einthoven.evaluation.comparison import paired_difference
from einthoven.evaluation.resampling import mean_of_valid, resample_counts, resample_statistic
from einthoven.evaluation.weighted_auroc import WeightedAUROC

RECORDS, CLASSES, RESAMPLES, TIMED_BY_LOOP = 2203, 71, 1000, 10


def main() -> None:
    rng = np.random.default_rng(0)
    prevalence = np.geomspace(0.002, 0.6, CLASSES)
    y = rng.random((RECORDS, CLASSES)) < prevalence
    y[0], y[1] = True, False
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 2 * y)))
    q = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 2.1 * y)))

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
    by_loop = (time.perf_counter() - start) / TIMED_BY_LOOP * RESAMPLES
    macro = mean_of_valid(resample_statistic(WeightedAUROC(y, p), np.arange(RECORDS), TIMED_BY_LOOP, seed=0))
    np.testing.assert_allclose(macro, expected, rtol=0, atol=1e-12)

    interval = bootstrap_interval(y, p, resamples=RESAMPLES)
    print(f"{RECORDS} records x {CLASSES} classes, {RESAMPLES} resamples, macro AUROC in {interval}")
    print(f"{'scikit-learn loop, macro':32} {by_loop:8.2f} s (from {TIMED_BY_LOOP} resamples)")
    work: dict[str, Callable[[], object]] = {
        "macro": lambda: bootstrap_interval(y, p, resamples=RESAMPLES),
        "macro and every class, BCa": lambda: auroc_intervals(y, p, resamples=RESAMPLES, method="bca"),
        "two models compared": lambda: paired_difference(y, p, q, resamples=RESAMPLES),
    }
    for name, run in work.items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        print(f"{'einthoven, ' + name:32} {min(seconds):8.2f} s, ratio {by_loop / min(seconds):.0f}")


if __name__ == "__main__":
    main()
