"""Errors of the QRS edges and of the amplitudes of P, Q, R, S, ST and T: python bench/bench_beats.py [--records N]

The truth comes from the embedded generator. It knows each wave of a beat as a sum of Gaussian kernels. One beat alone,
at 4,000 Hz, has an isoelectric line of exactly 0 mV, and gives every edge and amplitude. The records are generated with
all conditions, and measured by `ecg_features` from ten seconds of twelve leads, as in `einthoven train model=forest`.

- Kernels have no edge: where the generator states the onset of QRS, a lead deviates by 3 to 130 µV already. So the true
  onset is where the kernels of QRS alone deviate by 25 µV in the first lead, and the true end is where they deviate by
  25 µV in the last one. The row "stated" compares the measured onset with the one that the generator states.
- Breathing is switched off, because it gives each beat other amplitudes. Noise changes no gain and no electrode,
  because such a change is no error of the measurement.
- If two peaks of a wave differ by less than 20 µV, each one is right. So is a T peak within 10 ms of an end of its
  window, and a peak of Q, R or S within 6 ms of an edge of QRS, because the edge itself may be 6 ms off.
- "st" is the level after the true end of QRS. Where ST is steep, an end that is 6 ms off changes it by more than 20 µV.
  "level" is the same measurement, compared with the levels after the true end and 6 ms before and after it.
- In "sinus", all beats have one shape and the PR interval is longer than P. The other groups are sinus rhythm with
  premature ventricular beats, a P wave that lasts until QRS (WPW), fibrillation and flutter, and pacing.

Times are in ms, amplitudes in µV, and "within" is the share within 6 ms and 20 µV. An amplitude counts in each lead.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.compose import FS, MARGIN, TIME, VENTRICULAR, Recording
from einthoven.data.synthetic.generate import iterate
from einthoven.data.synthetic.noise import add_noise, draw_noise
from einthoven.data.synthetic.render import Complex, draw_complexes
from einthoven.functional.beats import detect_beats, fiducial
from einthoven.functional.conform import resample
from einthoven.functional.features import MIN_R, ST_POINT, T_END_SHARE, T_START_SHARE, USUAL_QT, ecg_features
from einthoven.functional.leads import LEADS, derive_limb_leads
from einthoven.functional.qrs_edges import VISIBLE, qrs_edges
from einthoven.functional.representative_beat import representative_beat

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

RATES = (250, 500, 1000)
SECONDS = 10.0
TRUTH_FS = 4000
BEAT_AT = 0.6
"""Seconds from the start of the exact beat to the onset of QRS that the generator states."""

EDGES = ("onset", "end", "stated")
WAVES = ("p", "q", "r", "s", "st", "level", "t")
COLUMNS = {"level": "st"}
"""Features of waves with another name."""

LIMITS = {True: 0.006, False: 0.02}
"""Largest error of an edge in seconds, and of an amplitude in mV."""

EDGE_SHIFTS = np.linspace(-LIMITS[True], LIMITS[True], 5)
"""Shifts of an edge of QRS in seconds that are no error."""

NO_WAVE = 0.001
"""Height in mV below which a lead contains no peak: the rest of the last kernel."""

WINDOW_EDGE = 0.01
"""Seconds from an end of the window of T within which a peak may count or not."""

BLOCK = 50
"""Records that are measured at once."""


@dataclass
class Truth:
    """Edges in seconds from the stated onset, and possible amplitudes in mV of each lead: wave -> 12 lists of numbers.

    An amplitude of Q and S belongs to the R wave of the same position in its list.
    """

    onset: float
    end: float
    amplitudes: dict[str, list[list[float]]]


def twelve_leads(leads: NDArray[np.floating]) -> Float:
    """Return the twelve leads of I, II and V1-V6 (8, T)."""
    limb = derive_limb_leads(leads[0], leads[1])
    return np.concatenate([limb, leads[2:]]).astype(np.float64)


def draw(recording: Recording, fs: float) -> NDArray[np.float32]:
    """Return the leads I, II, V1-V6 (8, T) of ten seconds without breathing, noise and fibrillation."""
    beats = recording.beats
    leads = np.zeros((8, round(SECONDS * fs)), np.float32)
    for is_ventricular, shape in recording.shapes.items():
        of_kind = (beats.kind == VENTRICULAR) == is_ventricular
        still = np.zeros(int(of_kind.sum()))
        draw_complexes(leads, shape, beats.onset[of_kind], beats.rr[of_kind], beats.p_wave[of_kind], still, 0.0, fs)
    return leads


def atrial_waves(recording: Recording) -> NDArray[np.float32]:
    """Return the waves of fibrillation and flutter (8, T) at 500 Hz, with a margin at both ends."""
    beats = recording.beats
    leads = np.zeros_like(recording.leads)
    for is_ventricular, shape in recording.shapes.items():
        of_kind = (beats.kind == VENTRICULAR) == is_ventricular
        breath = recording.breathing[of_kind]
        draw_complexes(
            leads, shape, beats.onset[of_kind], beats.rr[of_kind], beats.p_wave[of_kind], breath, TIME[0], FS
        )
    return recording.leads - leads


def noise_of(recording: Recording, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the noise (8, T) of one record at 500 Hz, with a margin at both ends."""
    plan = draw_noise(rng)
    plan.gain = np.ones(9)
    plan.order = np.arange(9)
    plan.off = None
    return add_noise(rng, recording.leads, plan, TIME, 1.0) - recording.leads


def at_rate(recording: Recording, added: NDArray[np.float32], fs: int) -> NDArray[np.float32]:
    """Return twelve leads (12, T) at `fs` Hz. `added` (8, T) at 500 Hz is added to them."""
    leads = draw(recording, fs)
    if added.any():
        resampled = resample(added, FS, fs)
        first = round(MARGIN * fs / FS)
        leads += resampled[:, first : first + leads.shape[1]]
    return twelve_leads(leads).astype(np.float32)


def truth_of(recording: Recording) -> Truth:
    """Measure one exact beat."""
    beats = recording.beats
    shape = recording.shapes[False]
    rr = float(np.median(beats.rr[beats.kind != VENTRICULAR]))

    def exact(shown: Complex, has_p: bool) -> Float:
        leads = np.zeros((8, 2 * TRUTH_FS), np.float32)
        onset = np.array([BEAT_AT])
        draw_complexes(leads, shown, onset, np.array([rr]), np.array([has_p]), np.zeros(1), 0.0, TRUTH_FS)
        return twelve_leads(leads)

    no_t = replace(shape.t, leads=0.0 * shape.t.leads, breath=0.0 * shape.t.breath)
    qrs = exact(replace(shape, t=no_t), False)
    without_p = exact(shape, False)
    with_p = exact(shape, True)
    since_onset = np.arange(with_p.shape[1]) / TRUTH_FS - BEAT_AT
    is_visible = np.abs(qrs).max(axis=0) > VISIBLE
    onset = float(since_onset[is_visible][0])
    end = float(since_onset[is_visible][-1])

    edges = list(product(onset + EDGE_SHIFTS, end + EDGE_SHIFTS))
    t_start = max(end, onset + T_START_SHARE * USUAL_QT * np.cbrt(rr))
    t_end = T_END_SHARE * rr + 0.05
    amplitudes: dict[str, list[list[float]]] = {wave: [] for wave in WAVES}
    for lead in range(len(LEADS)):
        qrs_of_edges = [qrs_waves(without_p[lead, (since_onset >= a) & (since_onset <= b)]) for a, b in edges]
        for row, wave in enumerate("qrs"):
            amplitudes[wave].append([height for waves in qrs_of_edges for height in waves[row]])
        levels = [float(without_p[lead, np.abs(since_onset - j - ST_POINT) <= 0.02].mean()) for j in end + EDGE_SHIFTS]
        amplitudes["st"].append([levels[len(levels) // 2]])
        amplitudes["level"].append(levels)
        amplitudes["p"].append(largest_peaks(with_p[lead] - without_p[lead]))
        is_inner = (since_onset >= t_start + WINDOW_EDGE) & (since_onset <= t_end - WINDOW_EDGE)
        is_outer = (since_onset >= t_start - WINDOW_EDGE) & (since_onset <= t_end + WINDOW_EDGE)
        amplitudes["t"].append(largest_peaks(without_p[lead], is_inner, is_outer))
    return Truth(onset, end, amplitudes)


def qrs_waves(qrs: Float) -> tuple[list[float], list[float], list[float]]:
    """Return the possible amplitudes of Q, R and S of a lead (T,) within QRS."""
    is_top = np.zeros(len(qrs), bool)
    is_top[1:-1] = (qrs[1:-1] >= qrs[:-2]) & (qrs[1:-1] > qrs[2:])
    is_bottom = np.zeros(len(qrs), bool)
    is_bottom[1:-1] = (qrs[1:-1] <= qrs[:-2]) & (qrs[1:-1] < qrs[2:])
    top = float(qrs[is_top].max(initial=0.0))
    negative = np.where(is_bottom, np.minimum(qrs, 0.0), 0.0)
    q, r, s = [], [], []
    for peak in np.flatnonzero(is_top & (qrs > 0) & (qrs >= top - LIMITS[False])):
        q.append(float(negative[:peak].min(initial=0.0)))
        r.append(top)
        s.append(float(negative[peak + 1 :].min(initial=0.0)))
    # Without R, all of QRS is Q.
    if top < MIN_R + LIMITS[False]:
        q.append(float(negative.min()))
        r.append(top)
        s.append(0.0)
    return q, r, s


def largest_peaks(wave: Float, is_inner: Bool | None = None, is_outer: Bool | None = None) -> list[float]:
    """Return the heights of the largest peaks, up or down, of a lead (T,); none without a peak.

    All peaks in the outer window count that are not smaller, by more than the limit, than the largest in the inner one.
    """
    slope = np.diff(wave)
    is_peak = np.zeros(len(wave), bool)
    is_peak[1:-1] = slope[:-1] * slope[1:] <= 0
    is_peak &= np.abs(wave) > NO_WAVE
    inner = wave[is_peak if is_inner is None else is_peak & is_inner]
    outer = wave[is_peak if is_outer is None else is_peak & is_outer]
    if not len(inner):
        return []
    return [float(height) for height in outer if abs(height) >= np.abs(inner).max() - LIMITS[False]]


def group_of(recording: Recording) -> str:
    """Return the group of a record."""
    if recording.rhythm in ("AFIB", "AFLT"):
        return "fibrillation, flutter"
    if recording.rhythm == "PACE":
        return "paced"
    shape = recording.shapes[False]
    if shape.pr <= shape.p_duration:
        return "P until QRS"
    return "sinus, premature beats" if (recording.beats.kind == VENTRICULAR).any() else "sinus"


def measure(signals: NDArray[np.float32], recordings: list[Recording], truths: list[Truth], fs: int) -> list[dict]:
    """Return the errors of each record: edge or wave -> errors in seconds or mV."""
    beats = detect_beats(signals, fs)
    onset, end = qrs_edges(representative_beat(signals, beats, fs), fs)
    features = ecg_features(signals, fs, LEADS)
    errors = []
    for row, (recording, truth) in enumerate(zip(recordings, truths, strict=True)):
        values = dict(zip(features.names, features.values[row], strict=True))
        measured = {wave: [values[f"{COLUMNS.get(wave, wave)}_{lead}_mv"] for lead in LEADS] for wave in WAVES}
        onsets = recording.beats.onset[recording.beats.kind != VENTRICULAR]
        centres = beats[row, beats[row] >= 0] / fs
        to_onset = np.array([onsets[np.abs(onsets - centre).argmin()] - centre for centre in centres])
        centre = fiducial(fs) / fs + np.median(to_onset[np.abs(to_onset) < 0.15])
        record_errors = {
            "onset": [onset[row] - centre - truth.onset],
            "end": [end[row] - centre - truth.end],
            "stated": [onset[row] - centre],
        }
        has_p = recording.beats.p_wave.mean() > 0.5
        for wave in WAVES if has_p else WAVES[1:]:
            record_errors[wave] = amplitude_errors(measured, truth, wave)
        errors.append(record_errors)
    return errors


def amplitude_errors(measured: dict[str, list[float]], truth: Truth, wave: str) -> list[float]:
    """Return the errors of a wave in mV, in the leads that have it."""
    errors = []
    for lead, possible in enumerate(truth.amplitudes[wave]):
        if not possible:
            continue
        distances = np.abs(np.array(possible) - measured[wave][lead])
        # Q and S of one R wave belong together.
        if wave in ("q", "s"):
            other = {"q": "s", "s": "q"}[wave]
            other_distances = np.abs(np.array(truth.amplitudes[other][lead]) - measured[other][lead])
            best = np.maximum(distances, other_distances).argmin()
        else:
            best = distances.argmin()
        errors.append(measured[wave][lead] - possible[best])
    return errors


def print_table(errors: list[dict]) -> None:
    """Print the distribution of the errors of some records."""
    print("           bias  median    95 %    99 %     max   within  beyond  not measured")
    for name in (*EDGES, *WAVES):
        values = np.array([value for record in errors for value in record.get(name, [])])
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        size = np.abs(known)
        beyond = int((size > LIMITS[name in EDGES]).sum())
        quantiles = np.quantile(size, (0.5, 0.95, 0.99, 1.0))
        numbers = " ".join(f"{1000 * value:7.1f}" for value in (np.median(known), *quantiles))
        share = 100 * (1 - beyond / len(known))
        print(f"  {name:6s} {numbers}  {share:6.2f}%  {beyond:6d}  {len(values) - len(known):6d} of {len(values)}")


def main() -> None:
    """Generate records, measure them at each sampling frequency, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=300, help="number of generated records (default: 300)")
    parser.add_argument("--seed", type=int, default=77, help="seed of the generated records (default: 77)")
    parser.add_argument("--groups", action="store_true", help="print all groups of records, not only sinus rhythm")
    options = parser.parse_args()

    recordings = [sample.recording for sample in iterate(options.records, options.seed, noise=0.0)]
    truths = [truth_of(recording) for recording in recordings]
    groups = [group_of(recording) for recording in recordings]
    atrial = [atrial_waves(recording) for recording in recordings]
    for name in ("without noise", "with noise"):
        for fs in RATES:
            errors = []
            seconds = 0.0
            for first in range(0, len(recordings), BLOCK):
                block = range(first, min(first + BLOCK, len(recordings)))
                signals = []
                for row in block:
                    rng = np.random.default_rng([options.seed, row])
                    noise = noise_of(recordings[row], rng) if name == "with noise" else 0.0
                    signals.append(at_rate(recordings[row], atrial[row] + noise, fs))
                start = time.perf_counter()
                chosen = [recordings[row] for row in block]
                errors += measure(np.stack(signals), chosen, [truths[row] for row in block], fs)
                seconds += time.perf_counter() - start
            print(f"\n{fs} Hz, {name}: {len(recordings) / seconds:.0f} records per second")
            for group in sorted(set(groups)) if options.groups else ("sinus",):
                of_group = [error for error, label in zip(errors, groups, strict=True) if label == group]
                print(f" {group}: {len(of_group)} records")
                print_table(of_group)


if __name__ == "__main__":
    main()
