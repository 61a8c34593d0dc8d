"""Resampling against SciPy's default filter: python bench/bench_resample.py.

The default of ``scipy.signal.resample_poly`` was the filter of the stores of format 4. The first table has the largest
amplitude that is left of a tone of amplitude 1. The second table has the time of both on the same record. The two are
timed alternately, so that other work on the machine changes both.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from einthoven.functional.conform import rate_ratio, resample

TONES = (10, 30, 40, 45, 48, 51, 52, 53, 55, 57, 60)
REPEATS = 30


def default_filter(signal: NDArray[np.float32], fs: float, target: float) -> NDArray[np.float32]:
    """Resample with SciPy's default filter."""
    up, down = rate_ratio(fs, target, signal.shape[-1])
    resampled = resample_poly(signal.astype(np.float64), up, down, axis=-1, padtype="line")
    return np.asarray(resampled, dtype=np.float32)


def main() -> None:
    """Print both tables."""
    print("500 Hz to 100 Hz: amplitude of a tone (frequency, SciPy's default, einthoven)")
    time_s = np.arange(10_000) / 500
    for frequency in TONES:
        # The sum of two tones in quadrature has the same amplitude at every sample.
        tone = np.stack([np.cos(2 * np.pi * frequency * time_s), np.sin(2 * np.pi * frequency * time_s)])
        amplitudes = []
        for method in (default_filter, resample):
            result = method(tone.astype(np.float32), 500, 100)[:, 200:-200]
            amplitudes.append(float(np.hypot(*result).max()))
        print(f"{frequency:3d} Hz {amplitudes[0]:8.4f} {amplitudes[1]:8.4f}")

    print("\ntime of 12 leads of 10 s, relative to SciPy's default (median of alternating runs)")
    for fs, target in ((500, 100), (1000, 100), (257, 100), (400, 250), (100, 500)):
        signal = np.random.default_rng(0).normal(size=(12, 10 * fs)).astype(np.float32)
        ratios = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            default_filter(signal, fs, target)
            between = time.perf_counter()
            resample(signal, fs, target)
            end = time.perf_counter()
            ratios.append((end - between) / (between - start))
        print(f"{fs:4d} -> {target:3d} Hz: {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
