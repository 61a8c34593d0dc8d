"""Fit the noise of the generator to real signals.

    python bench/fit_noise.py PTBXL_ROOT [--leave-out FOLD ...] [--out FILE]

Reads the signals of folds 1-8 of PTB-XL at 100 Hz, without those left out. It reads no statement. Writes the part
"noise" of src/einthoven/data/synthetic/fitted.json (or of FILE): the level of baseline wander and of muscle noise on
each electrode, how they vary between records and electrodes, and their spectra. The other part has to be there: run
`bench/fit_hearts.py` first.

Method. The median beat is subtracted from every beat. The power of the rest is measured in bands: below 0.8 Hz over the
record (wander), and above 15 Hz between the QRS complexes (muscle). What is left of the heart in it biases the
measurement. So generated records are measured in the same way, and the parameters are moved by the difference of the
two measurements (indirect inference; Gourieroux, Monfort and Renault 1993). Mains hum is not fitted: 100 Hz signals
hold none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fit_hearts import INDEPENDENT, MOST_FOLDS, to_text
from numpy.typing import NDArray

from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.synthetic import fitted, generate, noise
from einthoven.data.synthetic.noise import TO_ELECTRODES
from einthoven.functional.beats import detect_beats

Array = NDArray[np.float64]

FS = 100
WANDER_BANDS = ((0.15, 0.35), (0.35, 0.75))
MUSCLE_BANDS = ((15, 20), (20, 25), (25, 30), (30, 35), (35, 40), (40, 45), (45, 49))
WINDOW = 32  # samples between two QRS complexes
GENERATED = 500
STEPS = 6

# Where the fit starts: the same level and spread on all electrodes, and no correction of the spectrum.
START: dict[str, object] = {
    "wander": [[-3.5] * 9, [0.5] * 9, [0.4, 0.2, 0.2]],
    "wander_slope": 1.2,
    "muscle": [[-6.0] * 9, [0.3] * 9, [0.4, 0.2, 0.2]],
    "muscle_frequencies": [17, 23, 27, 33, 37, 42, 47],
    "muscle_correction": [[0.0] * 7, [0.0] * 7],
}


def measure(signals: Array) -> Array:
    """Return half the log power (records, electrodes, bands) of what is left without the median beat."""
    peaks_of_record = detect_beats(signals, FS)
    measured = []
    for signal, row in zip(signals[:, INDEPENDENT], peaks_of_record, strict=True):
        peaks = row[row >= 0]
        if len(peaks) < 6:
            continue
        rest = _without_beats(TO_ELECTRODES @ signal, peaks)
        muscle = _muscle_power(rest, peaks)
        if muscle is not None:
            power = np.concatenate([_wander_power(rest), muscle], axis=1)
            measured.append(0.5 * np.log(np.maximum(power, 1e-12)))
    return np.array(measured)


def _without_beats(potential: Array, peaks: NDArray[np.int64]) -> Array:
    """Subtract the median beat, from 38 % of the RR interval before each peak to the same place of the next beat."""
    interval = int(np.median(np.diff(peaks)))
    before = int(0.38 * interval)
    after = interval - before + 1
    samples = potential.shape[1]
    inside = peaks[(peaks >= before) & (peaks + after <= samples)]
    cuts = np.array([potential[:, peak - before : peak + after] for peak in inside])
    cuts -= np.median(cuts[:, :, :8], axis=2, keepdims=True)
    beat = np.median(cuts, axis=0)
    rest = potential.copy()
    for peak in peaks:
        low = max(peak - before, 0)
        high = min(peak + after, samples)
        rest[:, low:high] -= beat[:, low - peak + before : high - peak + before]
    return rest


def _wander_power(rest: Array) -> Array:
    samples = rest.shape[1]
    frequency = np.fft.rfftfreq(samples, 1 / FS)
    power = 2 * np.abs(np.fft.rfft(rest, axis=1) / samples) ** 2
    return np.stack([power[:, (frequency > low) & (frequency < high)].sum(1) for low, high in WANDER_BANDS], axis=1)


def _muscle_power(rest: Array, peaks: NDArray[np.int64]) -> Array | None:
    """Return the power in the bands of muscle noise, the median of all windows without a QRS."""
    taper = np.hanning(WINDOW)
    frequency = np.fft.rfftfreq(WINDOW, 1 / FS)
    spectra = []
    for start in range(0, rest.shape[1] - WINDOW, 8):
        is_free = ((peaks < start - 10) | (peaks > start + WINDOW + 9)).all()
        if is_free:
            piece = rest[:, start : start + WINDOW]
            piece = piece - piece.mean(1, keepdims=True)
            spectra.append(np.abs(np.fft.rfft(taper * piece, axis=1)) ** 2)
    if len(spectra) < 4:
        return None
    power = np.median(spectra, axis=0)
    return np.stack([power[:, (frequency >= low) & (frequency < high)].mean(1) for low, high in MUSCLE_BANDS], axis=1)


def parts_of_variance(log_level: Array) -> tuple[Array, Array]:
    """Split the covariance (9, 9) of log levels into the electrodes' own variances (9,) and three shared ones (3,)."""
    covariance = np.cov(log_level.T)
    limbs, chest = covariance[:3, :3], covariance[3:, 3:]
    everywhere = covariance[:3, 3:].mean()
    limb_pairs = limbs[np.triu_indices(3, 1)].mean()
    chest_pairs = chest[np.triu_indices(6, 1)].mean()
    own = np.diag(covariance) - np.repeat([limb_pairs, chest_pairs], [3, 6])
    return own, np.array([everywhere, limb_pairs - everywhere, chest_pairs - everywhere])


def improve_levels(rows: list[list[float]], real: Array, made: Array) -> list[list[float]]:
    """Move the mean, own and shared parameters of one kind of noise by the difference of two measurements (n, 9)."""
    mean, own, shared = (np.array(row) for row in rows)
    real_own, real_shared = parts_of_variance(real)
    made_own, made_shared = parts_of_variance(made)
    mean = mean + real.mean(0) - made.mean(0)
    own = np.sqrt(np.maximum(own**2 + real_own - made_own, 0.01))
    shared = np.sqrt(np.maximum(shared**2 + real_shared - made_shared, 0.0))
    return [np.round(row, 3).tolist() for row in (mean, own, shared)]


def improve(part: dict[str, object], real: Array, made: Array) -> dict[str, object]:
    """Move all parameters by the difference of the measurements of real and of generated records."""
    difference = real.mean(0) - made.mean(0)

    # A band of twice the frequency: the slope changes by the difference of the differences in units of log 2.
    slope = float(part["wander_slope"]) - (difference[3:, 1] - difference[3:, 0]).mean() / np.log(2)
    groups = [difference[:3, 2:].mean(0), difference[3:, 2:].mean(0)]
    correction = [
        np.round(np.array(row) + change - change.mean(), 3).tolist()
        for row, change in zip(part["muscle_correction"], groups, strict=True)
    ]
    return {
        **part,
        "wander": improve_levels(part["wander"], real[:, :, :2].mean(2), made[:, :, :2].mean(2)),
        "wander_slope": round(float(np.clip(slope, 0.3, 2.0)), 3),
        "muscle": improve_levels(part["muscle"], real[:, :, 3:7].mean(2), made[:, :, 3:7].mean(2)),
        "muscle_correction": correction,
    }


def generated_signals(part: dict[str, object]) -> Array:
    """Generate records with the noise of `part`, and return their signals in mV."""
    levels = fitted.read_noise_levels(part)
    fitted.noise_levels.cache_clear()
    noise._SPECTRA.clear()
    original = fitted.noise_levels
    try:
        noise.noise_levels = lambda: levels
        made = generate(GENERATED, seed=1)
    finally:
        noise.noise_levels = original
        noise._SPECTRA.clear()
    return made.signals[FS].astype(np.float64) * 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--leave-out", type=int, nargs="+", default=[], metavar="FOLD")
    parser.add_argument("--out", type=Path, default=fitted.FILE)
    options = parser.parse_args()
    folds = [fold for fold in MOST_FOLDS if fold not in options.leave_out]
    with TemporaryDirectory() as cache:
        store = PTBXL(options.root, FS, cache).open()
        rows = np.flatnonzero(np.isin(store.table["strat_fold"], folds))
        real = measure(np.asarray(store.signals[rows]).astype(np.float64) * 1e-3)

    content = json.loads(options.out.read_text())
    part = START | {
        "source": "signals of PTB-XL (Wagner et al. 2020, CC BY 4.0), ecg_id below 2000; no statements",
        "folds": folds,
        "records": len(real),
    }
    for step in range(STEPS):
        made = measure(generated_signals(part))
        difference = real.mean(0) - made.mean(0)
        size = np.sqrt((difference**2).mean())
        print(f"step {step}: log level, real minus generated, rms over electrodes and bands {size:.3f}")
        part = improve(part, real, made)
    content["noise"] = part
    options.out.write_text(to_text(content))


if __name__ == "__main__":
    main()
