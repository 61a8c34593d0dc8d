"""Whether the signals that a variational autoencoder makes up are ECGs: the share of windows that pass each check.

    python bench/bench_generated.py FOLDER_OF_A_RUN [--data FOLDER] [--count N] [--picture FILE]

The run is one of task=vae. The delineator of the package judges windows of test records, their reconstructions, signals
from the prior, and signals as the run generates them: from the density of the posteriors of its training records.
`--data` is a folder in the layout of PTB-XL, whose fold 9 is judged, too, at 100 Hz. `--picture` draws the first four
generated signals.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_delineation import real_records
from numpy.typing import NDArray

from einthoven.functional.delineation import Boundaries, delineate
from einthoven.predict.delineator import Delineator, load_delineator
from einthoven.report.ecg_paper import examples_figure
from einthoven.runs.folder.trained_run import open_trained
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results.pretraining_figures import training_windows

Float = NDArray[np.float64]

STEADY = 1.2
"""Largest ratio of the longest to the shortest RR interval of a steady rhythm."""

RR = (0.4, 1.5)
QRS = (0.06, 0.18)
QT = (0.25, 0.55)
"""Seconds within which the medians of a window lie: 40 to 150 beats per minute, and normal to wide or long waves."""

ROOM_FOR_T = 0.45
"""Seconds after the onset of QRS within which its T must end, if the window is that long."""

AROUND_QRS = (-0.05, 0.12)
"""Seconds around the onset of QRS that are compared between beats."""

SHIFT = 0.02
"""Largest shift in seconds of a beat that is compared with another one."""

SAME_SHAPE = 0.9
"""Smallest correlation of the twelve leads of two beats with the same shape."""

CHECKS = ("two beats", "steady rhythm", "T after each QRS", "intervals", "same QRS", "all")


def judge(delineator: Delineator, x: Float, fs: float) -> list[float]:
    """Return the share of the windows (n, 12, T) in mV that pass each of the `CHECKS`."""
    found = delineate(delineator.probabilities(x, fs), fs)
    passed = np.array([checks_of(signal, fs, found, row) for row, signal in enumerate(x)])
    shares = [*passed.mean(axis=0), passed.all(axis=1).mean()]
    return [float(share) for share in shares]


def checks_of(signal: Float, fs: float, found: Boundaries, row: int) -> list[bool]:
    """Return whether one window passes each check but the last."""
    is_beat = np.isfinite(found.qrs_onset[row])
    onset, end, t_end = (values[row][is_beat] for values in (found.qrs_onset, found.qrs_end, found.t_end))
    if len(onset) < 2:
        return [False] * (len(CHECKS) - 1)
    rr = np.diff((onset + end) / 2)
    is_steady = rr.max() <= STEADY * rr.min() and RR[0] <= np.median(rr) <= RR[1]
    has_room = onset + ROOM_FOR_T < signal.shape[1] / fs
    has_t = np.isfinite(t_end)
    qt = np.median((t_end - onset)[has_t]) if has_t.any() else np.nan
    is_usual = QRS[0] <= np.median(end - onset) <= QRS[1] and QT[0] <= qt <= QT[1]
    return [True, bool(is_steady), bool(has_t[has_room].all()), bool(is_usual), has_same_shapes(signal, fs, onset)]


def has_same_shapes(signal: Float, fs: float, onset: Float) -> bool:
    """Return whether each complete QRS of a window (12, T) correlates with the first one.

    An onset has an error of some ms. So a QRS may be shifted by at most `SHIFT`.
    """
    around = np.arange(round(AROUND_QRS[0] * fs), round(AROUND_QRS[1] * fs))
    reach = round(SHIFT * fs)
    beats = []
    for start in np.rint(onset * fs).astype(int):
        if start + around[0] - reach >= 0 and start + around[-1] + reach < signal.shape[1]:
            shifted = [signal[:, start + shift + around] for shift in range(-reach, reach + 1)]
            beats.append([(beat - beat.mean(axis=1, keepdims=True)).ravel() for beat in shifted])
    if len(beats) < 2:
        return False
    first = beats[0][reach]
    best = [max(np.corrcoef(first, beat)[0, 1] for beat in shifted) for shifted in beats[1:]]
    return min(best) >= SAME_SHAPE


def law_error(x: Float) -> float:
    """Return the RMS of II - I - III over that of II. In an ECG it is 0 (Einthoven)."""
    residual = x[:, 1] - x[:, 0] - x[:, 2]
    return float(np.sqrt(np.mean(residual**2) / np.mean(x[:, 1] ** 2)))


def read_run(folder: Path) -> NetworkRun:
    """Return a finished run with its best weights."""
    opened = open_trained(folder, "run", takes_added=False, free=())
    run = NetworkRun(opened.config, folder, opened.trained)
    run.load()
    run.load_best_weights()
    run.model.eval()
    return run


@torch.no_grad()
def signals_of(run: NetworkRun, count: int) -> dict[str, Float]:
    """Return windows of test records, and what the model makes of them or makes up, each (count, 12, T) in mV."""
    task: Any = run.task
    records = run.data.splits[list(run.data.splits)[-1]]
    rows = torch.arange(count) % len(records)
    x = records.take(rows, run.window, torch.randint(records.samples - run.window + 1, (count,)))
    prior = task.decode(run.model, torch.randn(count, task.latent))
    signals = {
        "windows of the test records": x,
        "reconstructed": task.reconstruct(run.model, x)[0],
        "from the prior": prior,
        "generated": task.generate(run.model, count, training_windows(run)),
    }
    return {name: values.double().numpy() for name, values in signals.items()}


def real_windows(root: Path, window: int, count: int) -> Float:
    """Return windows (count, 12, window) of records of fold 9 at 100 Hz."""
    records = real_records(root, "filename_lr", 9)[0]
    rng = np.random.default_rng(0)
    windows = []
    for row in range(count):
        start = rng.integers(records.shape[2] - window + 1)
        windows.append(records[row % len(records), :, start : start + window])
    return np.stack(windows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    run = read_run(options.run)
    fs = run.data.store.fs
    signals = signals_of(run, options.count)
    if options.data is not None:
        signals["windows of real records"] = real_windows(options.data, run.window, options.count)

    delineator = load_delineator()
    print(f"{options.count} windows of {run.window / fs:g} s each; share that passes")
    print(f"{'':28}" + "".join(f"{name:>18}" for name in (*CHECKS, "II - I - III")))
    for name, x in signals.items():
        shares = "".join(f"{share:18.1%}" for share in judge(delineator, x, fs))
        print(f"{name:28}{shares}{law_error(x):18.1%}")
    if options.picture is not None:
        drawn = signals["generated"][:4]
        titles = [f"generated {number + 1}" for number in range(len(drawn))]
        examples_figure(drawn, fs, titles, leads=run.data.store.leads, dpi=48).savefig(options.picture)


if __name__ == "__main__":
    main()
