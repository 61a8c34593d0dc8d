"""Judge a delineator: on generated records with exact waves, on real records against other programs.

    python bench/bench_delineation.py [--data FOLDER] [--delineator FOLDER] [--openecg PYTHON] [--neurokit PYTHON]

`--data` is a folder in the layout of PTB-XL, of which fold 9 is read. `--openecg` and `--neurokit` are Python
interpreters that have openecg (with the extra `report`) or neurokit2; these packages are not needed otherwise. What is
not there is skipped with a sentence. `--delineator` is the folder of a run of task=delineation; by default the
delineator of the package is judged.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.reading import read_record
from einthoven.data.sources.labels import parse_codes, read_database
from einthoven.data.synthetic import generate
from einthoven.evaluation.segmentation import compare_boundaries, dice, overlap_counts
from einthoven.functional.beat_measures import t_heights
from einthoven.functional.conform import resample
from einthoven.functional.delineation import Boundaries, delineate, mask_to_probability
from einthoven.functional.leads import LEADS
from einthoven.functional.measurements import FLAT_T
from einthoven.predict.delineator import Delineator, load_delineator

HELD_OUT_SEEDS = (1001, 1002)
HELD_OUT_RECORDS = 200
"""Generated records of each seed."""

SAME_BEAT = 0.06
"""Largest distance in seconds between the marks of two detectors on one beat."""

MARK_DELAY = 0.1
"""Seconds between the marks of XQRS and GQRS of one beat. GQRS marks about 34 ms later than XQRS."""

REGULAR = 0.12
"""Largest coefficient of variation of the RR intervals of a regular rhythm. It is the limit of openecg."""

WAVES = ("P", "QRS", "T")

OPENECG = """
import json, sys
import numpy as np
import openecg
from openecg.deploy import OnnxCodec
model = OnnxCodec()
answers = []
for signal in np.load(sys.argv[1]):
    report = openecg.report(signal, fs=500, model=model).to_dict()
    intervals = report["intervals_ms"]
    regular = report["heart_rate"]["regularity"] == "regular" and report["rhythm"]["label"] == "sinus"
    answers.append({"regular": regular, "pr": intervals.get("pr"), "qrs": intervals.get("qrs_duration"),
                    "qt": intervals.get("qt")})
json.dump(answers, open(sys.argv[2], "w"))
"""

NEUROKIT = """
import json, sys, warnings
import numpy as np
import neurokit2 as nk
warnings.simplefilter("ignore")
answers = []
for signal in np.load(sys.argv[1]):
    answer = {"regular": False, "pr": None, "qrs": None, "qt": None}
    try:
        clean = nk.ecg_clean(signal, sampling_rate=500)
        _, peaks = nk.ecg_peaks(clean, sampling_rate=500)
        r = np.asarray(peaks["ECG_R_Peaks"])
        _, waves = nk.ecg_delineate(clean, r, sampling_rate=500, method="dwt")
        get = lambda name: 2.0 * np.asarray(waves[name], float)
        rr = np.diff(r)
        answer = {"regular": bool(rr.std() / rr.mean() <= 0.12),
                  "pr": float(np.nanmedian(get("ECG_R_Onsets") - get("ECG_P_Onsets"))),
                  "qrs": float(np.nanmedian(get("ECG_R_Offsets") - get("ECG_R_Onsets"))),
                  "qt": float(np.nanmedian(get("ECG_T_Offsets") - get("ECG_R_Onsets")))}
    except Exception as error:
        print(f"neurokit2: a record could not be delineated ({type(error).__name__})", file=sys.stderr)
    answers.append(answer)
json.dump(answers, open(sys.argv[2], "w"))
"""


def held_out_metrics(delineator: Delineator, fs: int = 100, lost_leads: int = 0) -> dict[str, float]:
    """Judge a delineator on generated records of other seeds, against their exact waves at 500 Hz.

    Parameters
    ----------
    fs : int
        Sampling frequency of the signals that the delineator gets: 100 or 500 Hz.
    lost_leads : int
        Number of leads that are set to 0 mV, other ones in each record.
    """
    sets = [generate(HELD_OUT_RECORDS, seed=seed, rates=(100, 500)) for seed in HELD_OUT_SEEDS]
    signals = np.concatenate([part.signals[fs] for part in sets]) * 1e-3
    rows = [row for part in sets for row in part.rows]
    rng = np.random.default_rng(0)
    for signal in signals if lost_leads else ():
        signal[rng.permutation(len(LEADS))[:lost_leads]] = 0.0
    p = delineator.probabilities(signals, fs)
    y = mask_to_probability(np.concatenate([part.masks[fs] for part in sets]))
    exact = mask_to_probability(np.concatenate([part.masks[500] for part in sets]))

    values = {}
    for name, value in zip(WAVES, dice(*overlap_counts(y, p))[0], strict=True):
        values[f"dice/{name}"] = value
    found = delineate(p, fs)
    compared = compare_boundaries(delineate(exact, 500), found)
    for name, errors in compared.errors.items():
        values[f"bias_ms/{name}"] = errors.mean()
        values[f"sd_ms/{name}"] = errors.std()
    for name in ("p", "qrs", "t"):
        values[f"missed/{name}"] = compared.missed[name]
        values[f"invented/{name}"] = compared.invented[name]
    codes = [str(row["scp_codes"]) for row in rows]
    values |= p_waves(found, codes)
    return {name: round(float(value), 4) for name, value in values.items()}


def p_waves(found: Boundaries, codes: list[str]) -> dict[str, float]:
    """Return the share of beats with a P wave, in records with atrial fibrillation and in sinus rhythm."""
    values = {}
    for name, statement in (("p_per_beat/AFIB", "'AFIB'"), ("p_per_beat/SR", "'SR'")):
        chosen = np.array([statement in text for text in codes])
        beats = np.isfinite(found.qrs_onset[chosen])
        has_p = np.isfinite(found.p_end[chosen])
        if not chosen.any():
            continue
        values[name] = has_p.sum() / max(beats.sum(), 1)
        values[f"records_with_p/{name.rpartition('/')[2]}"] = float((has_p.sum(1) > beats.sum(1) / 2).mean())
    return values


def real_records(root: Path, column: str, fold: int | None) -> tuple[NDArray[np.float64], list[str]]:
    """Return the signals (n, 12, T) in mV and the statements of the records of a fold (None: all) that are there."""
    table = read_database(root / "ptbxl_database.csv")
    if fold is not None:
        table = table[table["strat_fold"] == fold]
    is_there = [(root / f"{name}.hea").exists() for name in table[column]]
    table = table[is_there]
    signals = [read_record(root / f"{name}.hea", want=LEADS).signal for name in table[column]]
    return np.nan_to_num(np.array(signals)), [str(codes) for codes in parse_codes(table)]


def qrs_agreement(signals: NDArray[np.float64], fs: float, found: Boundaries) -> dict[str, float]:
    """Compare the QRS with XQRS and GQRS of the wfdb package, which read lead II, where both agree.

    A record counts if both have the same beats between the first and the last beat that they share. A beat is found if
    our mark lies at most `SAME_BEAT` from that of XQRS. XQRS marks where the filtered QRS of lead II is largest, which
    is where it is steepest. So our mark is `steepest_part`.
    """
    from wfdb import processing

    counts = np.zeros(3)
    records = 0
    for row, signal in enumerate(signals):
        lead = resample(signal[1:2], fs, 500)[0]
        x = np.asarray(processing.xqrs_detect(lead, 500, verbose=False), float) / 500
        digital = np.rint(lead * 1000).astype(int)
        g = np.asarray(processing.gqrs_detect(d_sig=digital, fs=500, adc_gain=1000, adc_zero=0), float) / 500
        both = np.array([mark for mark in x if _is_near(mark, g, MARK_DELAY)])
        if len(both) < 3:
            continue
        low, high = both[0] - MARK_DELAY, both[-1] + MARK_DELAY
        others = [mark for mark in x if low <= mark <= high and not _is_near(mark, g, MARK_DELAY)]
        others += [mark for mark in g if low <= mark <= high and not _is_near(mark, x, MARK_DELAY)]
        if others:
            continue
        records += 1
        is_beat = np.isfinite(found.qrs_onset[row])
        marks = steepest_part(lead, 500, found.qrs_onset[row][is_beat], found.qrs_end[row][is_beat])
        is_inside = (marks >= low) & (marks <= high)
        near = np.abs(both[:, None] - marks) <= SAME_BEAT
        hits = near.any(axis=1).sum()
        counts += hits, len(both) - hits, (is_inside & ~near.any(axis=0)).sum()
    hits, missed, extra = counts
    return {
        "records": float(records),
        "of": float(len(signals)),
        "f1": 2 * hits / (2 * hits + missed + extra),
        "missed": missed,
        "extra": extra,
    }


def steepest_part(lead: NDArray[np.float64], fs: float, onset: NDArray, end: NDArray) -> NDArray[np.float64]:
    """Return the centre of the squared slope of a lead (T,) within each QRS, in seconds."""
    slope_squared = np.square(np.gradient(lead))
    time = np.arange(len(lead)) / fs
    marks = []
    for first, last in zip(onset, end, strict=True):
        is_qrs = (time >= first) & (time <= last)
        weight = slope_squared[is_qrs].sum()
        centre = (time[is_qrs] * slope_squared[is_qrs]).sum() / weight if weight > 0 else (first + last) / 2
        marks.append(centre)
    return np.array(marks)


def _is_near(mark: float, others: NDArray[np.float64], limit: float) -> bool:
    return len(others) > 0 and bool(np.abs(others - mark).min() <= limit)


def intervals(signals: NDArray[np.float64], fs: float, found: Boundaries) -> dict[str, NDArray[np.float64]]:
    """Return the medians of PR, QRS and QT of each record in ms, and whether its rhythm is regular.

    Where T is flat in each of the leads (n, L, T), there is no QT, as in `einthoven predict`.
    """
    has_clear_t = t_heights(signals, fs, found).max(axis=1) >= FLAT_T
    with warnings.catch_warnings():
        # A record without such an interval has no median.
        warnings.simplefilter("ignore", RuntimeWarning)
        rr = np.diff(found.qrs_onset, axis=1)
        return {
            "pr": 1000 * np.nanmedian(found.qrs_onset - found.p_onset, axis=1),
            "qrs": 1000 * np.nanmedian(found.qrs_end - found.qrs_onset, axis=1),
            "qt": np.where(has_clear_t, 1000 * np.nanmedian(found.t_end - found.qrs_onset, axis=1), np.nan),
            "regular": np.nanstd(rr, axis=1) / np.nanmean(rr, axis=1) <= REGULAR,
        }


def answers_of(name: str, python: str, script: str, lead: NDArray[np.float64]) -> list[dict] | None:
    """Return the intervals of another program, which runs in another interpreter. None if it cannot be run."""
    with TemporaryDirectory() as folder:
        np.save(f"{folder}/signals.npy", lead)
        command = [python, "-c", script, f"{folder}/signals.npy", f"{folder}/answers.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
            print(f"  {name}: skipped, as it cannot be run by {python} ({reason})")
            return None
        answers: list[dict] = json.loads(Path(f"{folder}/answers.json").read_text())
        return answers


def compare_with(name: str, answers: list[dict], ours: dict[str, NDArray]) -> None:
    """Print the differences to another program in the records that both call regular."""
    regular = ours["regular"] & np.array([answer["regular"] for answer in answers])
    for interval in ("pr", "qrs", "qt"):
        theirs = np.array([np.nan if answer[interval] is None else answer[interval] for answer in answers], float)
        difference = (ours[interval] - theirs)[regular]
        difference = difference[np.isfinite(difference)]
        median = np.median(difference)
        robust = 1.4826 * np.median(np.abs(difference - median))
        print(
            f"  {name:9} {interval.upper():3}: {len(difference):4} records, median {median:6.1f} ms, "
            f"SD {difference.std():5.1f} ms, robust SD {robust:5.1f} ms, beyond 45 ms: "
            f"{(np.abs(difference - median) > 45).sum()}"
        )


def print_flat_t(delineator: Delineator) -> None:
    """Print the error of QT in single leads of generated records, by the height of T in the lead."""
    errors = []
    heights = []
    for seed in HELD_OUT_SEEDS:
        part = generate(HELD_OUT_RECORDS, seed=seed, rates=(100, 500))
        exact = delineate(mask_to_probability(part.masks[500]), 500)
        true_qt = 1000 * np.nanmedian(exact.t_end - exact.qrs_onset, axis=1)
        for lead in ("II", "aVL", "V2"):
            row = LEADS.index(lead)
            signals = part.signals[100][:, row : row + 1] * 1e-3
            found = delineate(delineator.probabilities(signals, 100, (lead,)), 100)
            errors.append(1000 * np.nanmedian(found.t_end - found.qrs_onset, axis=1) - true_qt)
            heights.append(t_heights(signals, 100, found)[:, 0])
    error = np.concatenate(errors)
    height = np.concatenate(heights)
    is_known = np.isfinite(error) & np.isfinite(height)
    limits = (0.0, 0.05, FLAT_T, 0.15, 0.2, 0.3, np.inf)
    print("QT in one of the leads II, aVL and V2 of the generated records, by the height of T in mV:")
    for low, high in pairwise(limits):
        chosen = error[is_known & (height >= low) & (height < high)]
        print(
            f"  {low:.2f} to {high:.2f}: {len(chosen):4} leads, error {chosen.mean():5.1f} ± {chosen.std():4.1f} ms, "
            f"beyond 45 ms: {(np.abs(chosen) > 45).mean():.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--delineator", type=Path)
    parser.add_argument("--openecg", default=sys.executable)
    parser.add_argument("--neurokit", default=sys.executable)
    options = parser.parse_args()
    delineator = load_delineator(options.delineator)
    print(delineator.notice)

    seeds = " and ".join(map(str, HELD_OUT_SEEDS))
    for fs, lost in ((100, 0), (500, 0), (100, 6)):
        print(f"{HELD_OUT_RECORDS} generated records of each of the seeds {seeds}, {fs} Hz, {lost} leads lost:")
        for name, value in held_out_metrics(delineator, fs, lost).items():
            print(f"  {name:22} {value:9.4f}")

    print_flat_t(delineator)
    if options.data is None or not (options.data / "ptbxl_database.csv").exists():
        print("real records: skipped, as --data names no folder of PTB-XL")
        return
    for column, fs, fold in (("filename_lr", 100, 9), ("filename_hr", 500, None)):
        signals, codes = real_records(options.data, column, fold)
        if not len(signals):
            print(f"real records of {fs} Hz: skipped, as there are none in {column}")
            continue
        print(f"{len(signals)} real records of {fs} Hz ({'all folds' if fold is None else f'fold {fold}'}):")
        lead_ii = signals[:, 1:2]
        other_answers = {}
        for name, python, script in (
            ("openecg", options.openecg, OPENECG),
            ("neurokit2", options.neurokit, NEUROKIT),
        ):
            other_answers[name] = answers_of(name, python, script, resample(lead_ii[:, 0], fs, 500))
        for leads, x in ((LEADS, signals), (("II",), lead_ii)):
            print(f" {len(leads)} {'lead' if len(leads) == 1 else 'leads'} for the delineator:")
            found = delineate(delineator.probabilities(x, fs, leads), fs)
            agreement = qrs_agreement(signals, fs, found)
            print("  QRS and wfdb: " + ", ".join(f"{name} {value:.4g}" for name, value in agreement.items()))
            print("  P waves: " + ", ".join(f"{name} {value:.3f}" for name, value in p_waves(found, codes).items()))
            ours = intervals(x, fs, found)
            print(f"  QT: {np.isfinite(ours['qt']).sum()} records have a T wave that is not flat")
            for name, answers in other_answers.items():
                if answers is not None:
                    compare_with(name, answers, ours)


if __name__ == "__main__":
    main()
