"""Fit the population of normal hearts of the generator to real signals.

    python bench/fit_hearts.py PTBXL_ROOT [--leave-out FOLD ...] [--out FILE]

Reads the signals, age and sex of folds 1-8 of PTB-XL at 100 Hz, without those left out. It reads no statement. Writes
the part "heart" of src/einthoven/data/synthetic/fitted.json (or of FILE). To judge generated records on real ones,
leave out the folds that are judged.

Method. Each record gives a median beat of eight leads. The generator's model of a beat is linear in the moments of its
sources, once the times are known. So the times come from a grid (the option with the highest marginal likelihood), and
the moments from a ridge regression whose prior mean is the population's mean. The mean depends on age, sex and
voltage. It is estimated in turn with the moments. The mean and the covariance are those of the records whose fitted
waves are within the limits of `data/synthetic/normality.py`, without the tenth that the model fits worst (trimming;
Rousseeuw and Leroy 1987). The generator draws from the principal components of that covariance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.synthetic import heart
from einthoven.data.synthetic.fitted import FILE, lead_factors
from einthoven.data.synthetic.leadfield import lead_field
from einthoven.data.synthetic.normality import Sources, is_normal, qrs_and_t
from einthoven.functional.beats import detect_beats
from einthoven.functional.qrs_edges import qrs_edges

Array = NDArray[np.float64]
Columns = Callable[[float], Array]

FS = 100
BEFORE = 32  # samples of the beat before the R peak
AFTER = 50  # samples after it
TIME = np.arange(-BEFORE, AFTER) / FS
INDEPENDENT = [0, 1, 6, 7, 8, 9, 10, 11]  # rows of I, II, V1 to V6
MOST_FOLDS = range(1, 9)

KEPT = 0.9  # share of records that fit best
LONGEST_QRS = 0.11  # s, of a normal record
LONGEST_PR = 0.2
EXPLAINED = 0.97  # share of the variance between people that the written components explain
MISFIT = 0.05  # mV: standard deviation of what the model does not explain
OFFSET = 0.05  # mV: standard deviation of the baseline of a lead
PRIOR_RECORDS = 50.0  # weight of the prior mean in the mean of the population

QRS = slice(0, 30)
T = slice(30, 51)
P = slice(51, 57)
SIZE = 57
# Dipole moments of the right and the left atrium before the fit.
P_MOMENTS = np.array([[0.052, 0.055, -0.015], [0.072, 0.036, 0.055]])
PRIOR_MEAN = np.concatenate([heart.MOMENTS.ravel(), heart.T_MOMENTS.ravel(), P_MOMENTS.ravel()])
PRIOR_SPREAD = np.concatenate([np.full(30, 0.10), np.full(21, 0.07), np.full(6, 0.02)])

T_PLACES = np.array([heart.REGIONS[name][0] for name in heart.T_REGIONS])
QRS_FIELD = lead_field(heart.PLACES)
T_FIELD = lead_field(T_PLACES)
P_FIELD = lead_field(np.array(heart.P_SOURCES[0]))

# Standard deviation of the error of the times from the grid in s, as measured on generated records.
TIME_ERROR = {"pr": 0.012, "qrs": 0.005, "qtc": 0.016}

# Measured QRS duration minus the true one in s, on generated records of normal hearts.
DURATION_BIAS = 0.005


@dataclass
class Beats:
    """Median beats of n records with their covariates."""

    signal: Array
    """(n, 8, W) in mV."""
    rr: Array
    """Median RR interval in s (n,)."""
    age: Array
    female: Array


def read_beats(root: Path, folds: list[int]) -> Beats:
    """Return the median beats of the records with a regular rhythm between 46 and 91 per minute."""
    with TemporaryDirectory() as cache:
        store = PTBXL(root, FS, cache).open()
        rows = np.flatnonzero(np.isin(store.table["strat_fold"], folds))
        signals = np.asarray(store.signals[rows]).astype(np.float64) * 1e-3
    age = np.asarray(store.table["age"], dtype=float)[rows]
    female = np.asarray(store.table["sex"], dtype=float)[rows]
    peaks = detect_beats(signals, FS)
    chosen = []
    medians = []
    intervals = []
    for row, (signal, row_peaks) in enumerate(zip(signals[:, INDEPENDENT], peaks, strict=True)):
        found = row_peaks[row_peaks >= 0]
        inside = found[(found >= BEFORE) & (found + AFTER <= signal.shape[1])]
        rr = np.diff(found) / FS
        if len(inside) < 4 or not np.isfinite(age[row]) or rr.std() > 0.12 * rr.mean():
            continue
        if not 0.66 < np.median(rr) < 1.3:
            continue
        cuts = np.array([signal[:, peak - BEFORE : peak + AFTER] for peak in inside])
        cuts -= np.median(cuts[:, :, BEFORE - 9 : BEFORE - 6], axis=2, keepdims=True)
        medians.append(np.median(cuts, axis=0))
        intervals.append(np.median(rr))
        chosen.append(row)
    return Beats(np.array(medians), np.array(intervals), np.clip(age[chosen], 18, 90), female[chosen])


def _kernels(clock: Array, centre: Array, left: Array, right: Array) -> Array:
    """Return two-sided Gaussian kernels (K, W)."""
    offset = clock - centre[:, None]
    return np.exp(-0.5 * (offset / np.where(offset < 0, left[:, None], right[:, None])) ** 2)


def _columns(field: Array, kernels: Array) -> Array:
    """Return what each moment contributes to the beat: (8, W, 3 K)."""
    return np.einsum("klx,kt->ltkx", field, kernels).reshape(8, kernels.shape[1], -1)


def qrs_columns(onset: float, duration: float) -> Array:
    width = heart.WIDTHS * duration
    return _columns(QRS_FIELD, _kernels(TIME - onset, heart.CENTRES * duration, width, width))


def t_columns(onset: float, qt: float) -> Array:
    centre, width = np.array(heart.T_CLOCK).T
    return _columns(T_FIELD, _kernels((TIME - onset) / qt, centre, heart.T_RISE * width, heart.T_FALL * width))


def p_columns(p_onset: float) -> Array:
    _, centre, left, right = (np.array(values) for values in heart.P_SOURCES)
    return _columns(P_FIELD, _kernels(TIME - p_onset, centre, left, right))


def most_likely(
    signal: Array, options: list[Array], part: slice | Array, is_used: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the index of the option (columns of a model) with the highest marginal likelihood for each record."""
    y = signal[:, :, is_used].reshape(len(signal), -1)
    samples = int(is_used.sum())
    offsets = np.kron(np.eye(8), np.ones((samples, samples)))
    noise = OFFSET**2 * offsets + 0.025**2 * np.eye(8 * samples)
    likelihood = np.empty((len(options), len(y)))
    for index, option in enumerate(options):
        model = option[:, is_used].reshape(8 * samples, -1)
        factor = np.linalg.cholesky((model * PRIOR_SPREAD[part] ** 2) @ model.T + noise)
        rest = np.linalg.solve(factor, (y - model @ PRIOR_MEAN[part]).T)
        likelihood[index] = -0.5 * (rest**2).sum(0) - np.log(np.diag(factor)).sum()
    return np.asarray(likelihood.argmax(0))


def find_times(signal: Array) -> tuple[Array, Array, Array, Array]:
    """Return QRS onset before the R peak, QRS duration, QT and PR in s (n,) of beats of the same voltage."""
    # The duration of the QRS is measured at its edges: the best duration of a model depends on what it cannot explain.
    first, last = qrs_edges(signal, FS, BEFORE / FS)
    measured = last - first - DURATION_BIAS
    duration = np.clip(np.round(measured / 0.005) * 0.005, 0.065, 0.14)

    # The onset of the QRS, together with the first source of ST.
    onset = np.empty(len(signal))
    onset_grid = -np.arange(0.025, 0.075, 0.004)
    for value in np.unique(duration):
        rows = duration == value
        options = [np.concatenate([qrs_columns(o, value), t_columns(o, 0.39)[:, :, :3]], axis=2) for o in onset_grid]
        best = most_likely(signal[rows], options, np.arange(33), (TIME > -0.09) & (TIME < 0.10))
        onset[rows] = onset_grid[best]

    # QT and PR, for all records with the same QRS onset at once.
    qt = np.empty(len(signal))
    pr = np.empty(len(signal))
    qt_grid = np.arange(0.31, 0.47, 0.01)
    pr_grid = np.arange(0.11, 0.225, 0.006)
    for value in np.unique(onset):
        rows = onset == value
        options = [t_columns(value, length) for length in qt_grid]
        qt[rows] = qt_grid[most_likely(signal[rows], options, T, (TIME > 0.09) & (TIME < 0.46))]
        options = [p_columns(value - length) for length in pr_grid]
        pr[rows] = pr_grid[most_likely(signal[rows], options, P, (value - 0.23 < TIME) & (value > TIME))]
    return onset, duration, qt, pr


def look_normal(moments: Array, duration: Array, pr: Array, covariates: Array) -> NDArray[np.bool_]:
    """Return whether the fitted waves of each record (n, 57) are within normal limits."""
    centre, width = np.array(heart.T_CLOCK).T
    normal = []
    for row, (_, age, female, _) in zip(moments * np.exp(covariates[:, 3:]), covariates, strict=True):
        qrs, t = qrs_and_t(
            Sources(QRS_FIELD, row[QRS].reshape(-1, 3), heart.CENTRES, heart.WIDTHS),
            Sources(T_FIELD, row[T].reshape(-1, 3), centre, width),
        )
        normal.append(is_normal(qrs, t, int(50 + 20 * age), female > 0))
    return np.array(normal) & (duration < LONGEST_QRS) & (pr < LONGEST_PR)


@dataclass
class Fit:
    """The fitted population."""

    effects: Array
    """(4, 57)"""
    covariance: Array
    """(57, 57)"""
    is_kept: NDArray[np.bool_]
    """Which records were used (n,)."""
    lead_errors: Array
    """Factor by which the QRS of each lead is larger than the model's (8,)."""


def fit_moments(signal: Array, times: tuple[Array, ...], rr: Array, covariates: Array) -> Fit:
    """Fit the moments of the population to beats (n, 8, W) of the same voltage."""
    # The normal equations of each record: 57 moments and one offset per lead.
    count = len(signal)
    offsets = np.kron(np.eye(8), np.ones((len(TIME), 1))).reshape(8, len(TIME), 8)
    gram = np.empty((count, SIZE + 8, SIZE + 8))
    product = np.empty((count, SIZE + 8))
    power = np.empty(count)
    samples = np.empty(count)
    qrs_models = np.empty((count, 8, len(TIME), 30), dtype=np.float32)
    for row, (onset, duration, qt, pr) in enumerate(zip(*times, strict=True)):
        parts = [qrs_columns(onset, duration), t_columns(onset, qt), p_columns(onset - pr), offsets]
        qrs_models[row] = parts[0]
        is_used = (onset - pr - 0.04 < TIME) & (min(0.46, rr[row] - 0.25) > TIME)
        model = np.concatenate(parts, axis=2)[:, is_used].reshape(-1, SIZE + 8)
        y = signal[row][:, is_used].ravel()
        gram[row] = model.T @ model
        product[row] = model.T @ y
        power[row] = y @ y
        samples[row] = len(y)

    # Ridge regression of each record and the mean of the population, in turn.
    precision = np.diag(np.append(1 / PRIOR_SPREAD**2, np.full(8, 1 / OFFSET**2)))
    posterior = np.linalg.inv(gram / MISFIT**2 + precision)
    effects = np.zeros((4, SIZE))
    effects[0] = PRIOR_MEAN
    prior_effects = PRIOR_RECORDS * effects
    is_kept = np.ones(count, dtype=bool)
    for step in range(8):
        mean = np.pad(covariates @ effects, ((0, 0), (0, 8)))
        solution = np.einsum("nij,nj->ni", posterior, product / MISFIT**2 + mean @ precision)
        fitted = np.einsum("ni,nij,nj->n", solution, gram, solution)
        residual = power - 2 * (solution * product).sum(1) + fitted
        deviation = (solution - mean)[:, :SIZE]
        distance = (residual / MISFIT**2 + (deviation**2 / PRIOR_SPREAD**2).sum(1)) / samples
        if step >= 2:
            is_kept = distance <= np.quantile(distance, KEPT)
            is_kept &= look_normal(solution[:, :SIZE], times[1], times[3], covariates)
        x = covariates[is_kept]
        weights = x.T @ x + PRIOR_RECORDS * np.eye(4)
        effects = np.linalg.solve(weights, x.T @ solution[is_kept, :SIZE] + prior_effects)
    deviation = solution[is_kept, :SIZE] - covariates[is_kept] @ effects
    unexplained = np.sqrt(residual[is_kept].sum() / power[is_kept].sum())
    print(f"{count} records, {is_kept.sum()} kept; the model misses {unexplained:.3f} of their amplitude")

    # The slope of the measured QRS over the model's, in each lead.
    model_qrs = np.einsum("nltk,nk->nlt", qrs_models[is_kept], solution[is_kept, :30])
    measured_qrs = signal[is_kept] - solution[is_kept, SIZE:, None]
    is_qrs = (TIME > -0.05) & (TIME < 0.06)
    crossed = (model_qrs * measured_qrs)[:, :, is_qrs].sum((0, 2))
    squared = (model_qrs**2)[:, :, is_qrs].sum((0, 2))
    return Fit(effects, np.cov(deviation.T), is_kept, crossed / squared)


def regress(value: Array, covariates: Array, error: float = 0.0) -> dict[str, object]:
    """Return the effects of age and sex on a value, and its spread without the error of measurement."""
    effects, *_ = np.linalg.lstsq(covariates, value, rcond=None)
    variance = np.var(value - covariates @ effects)
    spread = np.sqrt(max(variance - error**2, 0.25 * variance))
    return {"effects": np.round(effects, 4).tolist(), "spread": round(float(spread), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--leave-out", type=int, nargs="+", default=[], metavar="FOLD")
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    folds = [fold for fold in MOST_FOLDS if fold not in options.leave_out]
    beats = read_beats(options.root, folds)

    # The voltage of a record, and beats of the same voltage. A QRS without edges has no times.
    is_qrs = (TIME > -0.06) & (TIME < 0.07)
    voltage = np.sqrt((beats.signal[:, :, is_qrs] ** 2).mean((1, 2)))
    log_gain = np.log(voltage / np.median(voltage))
    first, last = qrs_edges(beats.signal / np.exp(log_gain)[:, None, None], FS, BEFORE / FS)
    has_edges = np.isfinite(first) & np.isfinite(last)
    beats = Beats(beats.signal[has_edges], beats.rr[has_edges], beats.age[has_edges], beats.female[has_edges])
    log_gain = log_gain[has_edges]
    signal = beats.signal / np.exp(log_gain)[:, None, None]

    person = np.stack([np.ones(len(signal)), (beats.age - 50) / 20, beats.female - 0.5], axis=1)
    covariates = np.column_stack([person, log_gain])
    # First with Dower's leads, for the factors of the leads. Then with these factors. More passes would trade the
    # factors against the moments without an end.
    for field in (QRS_FIELD, T_FIELD, P_FIELD):
        field /= lead_factors()[:, None]
    factors = fit_moments(signal, find_times(signal), beats.rr, covariates).lead_errors
    for field in (QRS_FIELD, T_FIELD, P_FIELD):
        field *= factors[:, None]
    times = find_times(signal)
    fit = fit_moments(signal, times, beats.rr, covariates)
    is_kept = fit.is_kept

    # Principal components, so that few numbers describe the differences between people.
    variances, directions = np.linalg.eigh(fit.covariance)
    share = np.cumsum(variances[::-1]) / variances.sum()
    count = int(np.searchsorted(share, EXPLAINED)) + 1
    loadings = (directions * np.sqrt(np.maximum(variances, 0.0))).T[::-1][:count]

    _, duration, qt, pr = times
    kept_person = person[is_kept]
    part = {
        "source": "signals, age and sex of PTB-XL (Wagner et al. 2020, CC BY 4.0), ecg_id below 2000; no statements",
        "folds": folds,
        "records": int(is_kept.sum()),
        "lead_factors": np.round(factors, 3).tolist(),
        "effects": np.round(fit.effects, 3).tolist(),
        "loadings": np.round(loadings, 3).tolist(),
        "gain": regress(log_gain[is_kept], kept_person),
        "pr": regress(pr[is_kept], kept_person, TIME_ERROR["pr"]),
        "qrs": regress(duration[is_kept], kept_person, TIME_ERROR["qrs"]),
        "qtc": regress((qt / np.cbrt(beats.rr))[is_kept], kept_person, TIME_ERROR["qtc"]),
    }
    for name in ("gain", "pr", "qrs", "qtc"):
        print(name, part[name])
    print(f"{count} components")
    content = json.loads(options.out.read_text()) if options.out.exists() else {}
    content["heart"] = part
    options.out.write_text(to_text(content))


def to_text(content: dict[str, dict[str, object]]) -> str:
    """Return JSON with one line per key, and one line per row of a table."""
    parts = []
    for name, part in content.items():
        lines = []
        for key, value in part.items():
            if isinstance(value, list) and value and isinstance(value[0], list):
                rows = ",\n   ".join(json.dumps(row) for row in value)
                lines.append(f'  "{key}": [\n   {rows}\n  ]')
            else:
                lines.append(f'  "{key}": {json.dumps(value)}')
        parts.append(f' "{name}": {{\n' + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
