"""Records as arrays: cohorts, folds, noise, anti-aliased decimation and rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.compose import FS, MARGIN, SAMPLES, TIME, Recording, compose
from einthoven.data.synthetic.conditions import Patient, draw_patient
from einthoven.data.synthetic.heart import draw_build
from einthoven.data.synthetic.noise import add_noise, draw_noise
from einthoven.data.synthetic.statements import STATEMENTS

RATES = (100, 500)
Row = dict[str, object]

# Streams of randomness: one generator per patient and per record, so that nothing depends on the order of work.
_COHORT, _PATIENT, _RECORD = 0, 1, 2

_STEP = int(FS) // 100
_CUTOFF = 43.0  # Hz


@dataclass
class Sample:
    """One generated record: the table row, int16 µV (12, T) and mask (T,) per rate, the noise-free recording."""

    row: Row
    signals: dict[int, NDArray[np.int16]]
    masks: dict[int, NDArray[np.uint8]]
    recording: Recording

    @property
    def clean(self) -> NDArray[np.float64]:
        """Noise-free leads I, II, V1-V6 (8, 5000) in mV at 500 Hz."""
        return self.recording.leads[:, MARGIN:-MARGIN].astype(np.float64)


@dataclass
class Generated:
    """A generated set in memory.

    `signals[fs]` is int16 µV (n, 12, T), `masks[fs]` uint8 (n, T) with bits 1 = P, 2 = QRS, 4 = T, `clean`
    float64 mV (n, 8, 5000) on the independent leads, `rows` the lines of `ptbxl_database.csv`.
    """

    rows: list[Row]
    signals: dict[int, NDArray[np.int16]]
    masks: dict[int, NDArray[np.uint8]]
    clean: NDArray[np.float64]
    recordings: list[Recording]


def decimate(leads: NDArray[np.float32], margin: int = MARGIN) -> NDArray[np.float32]:
    """500 Hz -> 100 Hz with a linear-phase low-pass below 50 Hz, `margin` samples dropped at both ends."""
    from scipy.signal import firwin, upfirdn  # a second of imports that a run on packed records can do without

    half = 8 * _STEP
    taps = firwin(2 * half + 1, _CUTOFF, fs=FS).astype(np.float32)
    out = upfirdn(taps, leads[:, margin - half : leads.shape[1] - margin + half], 1, _STEP, axis=1)
    first = 2 * half // _STEP
    count = (leads.shape[1] - 2 * margin) // _STEP
    return np.asarray(out[:, first : first + count])


def quantize(leads: NDArray[np.float32]) -> NDArray[np.int16]:
    """Eight leads in mV (8, T) -> twelve in whole µV (12, T).

    III is exactly II - I of the rounded leads; the augmented leads are Goldberger's within half a step.
    """
    x = np.clip(np.rint(leads * 1000.0), -16000, 16000).astype(np.int32)
    i, ii = x[0], x[1]
    limb = np.stack([i, ii, ii - i, -((i + ii) >> 1), i - (ii >> 1), ii - (i >> 1)])
    return np.concatenate([limb, x[2:]]).astype(np.int16)


def _cohort(records: int, seed: int) -> tuple[list[Patient], NDArray[np.int64]]:
    """Draw the patients and who each record belongs to (about 1.16 records per patient)."""
    rng = np.random.default_rng([seed, _COHORT])
    counts = rng.choice([1, 2, 3, 4], size=records, p=[0.885, 0.085, 0.02, 0.01])
    owner = np.repeat(np.arange(records), counts)[:records]
    patients = [
        draw_patient(np.random.default_rng([seed, _PATIENT, number]), number + 1)
        for number in range(int(owner[-1]) + 1 if records else 0)
    ]
    return patients, owner


def _folds(patients: list[Patient], seed: int) -> NDArray[np.int64]:
    """Deal the patients to ten folds, patients with the same superclasses evenly."""
    rng = np.random.default_rng([seed, _COHORT, 1])
    kind = [" ".join(sorted({STATEMENTS[c].superclass for c in p.conditions})) for p in patients]
    order = sorted(range(len(patients)), key=lambda i: (kind[i], rng.random()))
    folds = np.empty(len(patients), dtype=np.int64)
    folds[order] = np.arange(len(patients)) % 10 + 1
    return folds


def _heart_axis(degrees: float) -> str:
    if degrees < -90 or degrees >= 150:
        return "AXR"
    names = ((-30, "ALAD"), (30, "LAD"), (90, "MID"), (120, "RAD"), (150, "ARAD"))
    return next(name for limit, name in names if degrees < limit)


def _row(number: int, patient: Patient, fold: int, recording: Recording, noise: dict[str, str]) -> Row:
    codes = recording.statements
    folder = f"{number // 1000 * 1000:05d}"
    described = [STATEMENTS[c].description for c in codes]
    beats = [
        f"{(recording.beats.kind == k).sum()}{name}"
        for k, name in ((1, "VES"), (2, "SVES"))
        if {1: "PVC", 2: "PAC"}[k] in codes
    ]
    day = number % 28 + 1
    return {
        "ecg_id": number,
        "patient_id": float(patient.number),
        "age": float(patient.age),
        "sex": int(patient.female),
        "height": "",
        "weight": "",
        "nurse": "",
        "site": 0.0,
        "device": "synthetic",
        "recording_date": f"2000-{number // 28 % 12 + 1:02d}-{day:02d} {number % 24:02d}:00:00",
        "report": ", ".join(reversed(described)),
        "scp_codes": repr(codes),
        "heart_axis": "" if recording.rhythm == "PACE" else _heart_axis(recording.axis),
        "infarction_stadium1": "" if not _infarct(codes) else "Stadium I" if patient.stage > 0.3 else "Stadium III",
        "infarction_stadium2": "",
        "validated_by": "",
        "second_opinion": False,
        "initial_autogenerated_report": False,
        "validated_by_human": False,
        "baseline_drift": noise.get("baseline_drift", ""),
        "static_noise": noise.get("static_noise", ""),
        "burst_noise": noise.get("burst_noise", ""),
        "electrodes_problems": noise.get("electrodes_problems", ""),
        "extra_beats": ",".join(beats),
        "pacemaker": "ja, pacemaker" if recording.rhythm == "PACE" else "",
        "strat_fold": fold,
        "filename_lr": f"records100/{folder}/{number:05d}_lr",
        "filename_hr": f"records500/{folder}/{number:05d}_hr",
    }


def _infarct(codes: dict[str, float]) -> bool:
    return any(STATEMENTS[c].superclass == "MI" for c in codes)


def iterate(records: int, seed: int = 0, *, rates: Sequence[int] = (100,), noise: float = 1.0) -> Iterator[Sample]:
    """Yield the records of a set one after the other; see `generate` for the parameters."""
    patients, owner = _cohort(records, seed)
    folds = _folds(patients, seed)
    builds = {}
    for index in range(records):
        patient = patients[owner[index]]
        if patient.number not in builds:
            rng = np.random.default_rng([seed, _PATIENT, patient.number, 1])
            builds = {patient.number: draw_build(rng, patient.age, patient.female)}
        rng = np.random.default_rng([seed, _RECORD, index])
        recording = compose(rng, patient, builds[patient.number])
        plan = draw_noise(rng)
        leads = add_noise(rng, recording.leads, plan, TIME, noise)
        signals, masks = {}, {}
        for fs in rates:
            kept = leads[:, MARGIN : MARGIN + SAMPLES] if fs == 500 else decimate(leads)
            signals[fs] = quantize(kept)
            masks[fs] = recording.mask(fs)
        row = _row(index + 1, patient, int(folds[owner[index]]), recording, plan.text if noise > 0 else {})
        yield Sample(row, signals, masks, recording)


def generate(
    records: int,
    seed: int = 0,
    *,
    rates: Sequence[int] = (100,),
    noise: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Generated:
    """Generate a set of 12-lead ECGs in memory.

    Parameters
    ----------
    records : int
        How many ten-second records.
    seed : int
        The set is a function of `records`, `seed`, `rates` and `noise` alone; a record's waveform of `seed`
        and its number.
    rates : sequence of int
        Sampling frequencies in Hz, of 100 and 500.
    noise : float
        Multiplies every disturbance; 0 gives clean records.
    progress : callable, optional
        Called as ``progress(done, total)``.
    """
    samples = []
    for sample in iterate(records, seed, rates=rates, noise=noise):
        samples.append(sample)
        if progress is not None:
            progress(len(samples), records)
    return Generated(
        rows=[s.row for s in samples],
        signals={fs: np.stack([s.signals[fs] for s in samples]) for fs in rates},
        masks={fs: np.stack([s.masks[fs] for s in samples]) for fs in rates},
        clean=np.stack([s.clean for s in samples]),
        recordings=[s.recording for s in samples],
    )
