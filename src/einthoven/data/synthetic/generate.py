"""Generate a set of records as arrays: patients, folds, noise, decimation and rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.build import draw_build
from einthoven.data.synthetic.compose import FS, MARGIN, SAMPLES, TIME, Recording, compose
from einthoven.data.synthetic.conditions import Patient, draw_patient
from einthoven.data.synthetic.noise import add_noise, draw_noise
from einthoven.data.synthetic.rhythm import ATRIAL, VENTRICULAR
from einthoven.data.synthetic.statements import STATEMENTS

RATES = (100, 500)
Row = dict[str, object]

# Each patient and each record has its own random generator, so that a record does not depend on the others.
# These numbers are part of the seeds.
_COHORT = 0
_PATIENT = 1
_RECORD = 2

# Decimation from 500 to 100 Hz: every fifth sample after a low-pass filter with this cutoff in Hz.
_STEP = int(FS) // 100
_CUTOFF = 43.0


@dataclass
class Sample:
    """One generated record."""

    row: Row
    """The line of `ptbxl_database.csv`."""
    signals: dict[int, NDArray[np.int16]]
    """Sampling frequency -> signal (12, T) in µV."""
    masks: dict[int, NDArray[np.uint8]]
    """Sampling frequency -> bits (T,): 1 = P, 2 = QRS, 4 = T."""
    dipoles: dict[int, NDArray[np.int16]]
    """Sampling frequency -> heart vector (3, T) in µV (`Recording.dipole`)."""
    recording: Recording
    """The record without noise."""

    @property
    def clean(self) -> NDArray[np.float64]:
        """The noise-free leads I, II, V1-V6 (8, 5000) in mV at 500 Hz."""
        return self.recording.leads[:, MARGIN:-MARGIN].astype(np.float64)


@dataclass
class Generated:
    """A generated set of n records."""

    rows: list[Row]
    """The lines of `ptbxl_database.csv`."""
    signals: dict[int, NDArray[np.int16]]
    """Sampling frequency -> signals (n, 12, T) in µV."""
    masks: dict[int, NDArray[np.uint8]]
    """Sampling frequency -> bits (n, T): 1 = P, 2 = QRS, 4 = T."""
    dipoles: dict[int, NDArray[np.int16]]
    """Sampling frequency -> heart vectors (n, 3, T) in µV."""
    clean: NDArray[np.float64]
    """The noise-free leads I, II, V1-V6 (n, 8, 5000) in mV at 500 Hz."""
    recordings: list[Recording]
    """The records without noise."""


def decimate(leads: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resample leads (L, T) from 500 to 100 Hz with a linear-phase low-pass filter below 50 Hz.

    `MARGIN` samples are dropped at both ends.
    """
    # This import needs a second. A run on packed records does not need it.
    from scipy.signal import firwin, upfirdn

    # The filter needs `half` samples before and after the record.
    half = 8 * _STEP
    taps = firwin(2 * half + 1, _CUTOFF, fs=FS).astype(np.float32)
    filtered = upfirdn(taps, leads[:, MARGIN - half : leads.shape[1] - MARGIN + half], 1, _STEP, axis=1)
    first = 2 * half // _STEP
    count = (leads.shape[1] - 2 * MARGIN) // _STEP
    return np.asarray(filtered[:, first : first + count])


def _microvolts(millivolts: NDArray[np.float32]) -> NDArray[np.int32]:
    """Round mV to whole µV within the range of int16."""
    return np.asarray(np.clip(np.rint(millivolts * 1000.0), -16000, 16000), dtype=np.int32)


def _quantize(leads: NDArray[np.float32]) -> NDArray[np.int16]:
    """Convert eight leads in mV (8, T) to twelve leads in whole µV (12, T).

    III is exactly II - I of the rounded leads. The augmented leads follow Goldberger's equations within half a µV.
    """
    microvolts = _microvolts(leads)
    i, ii = microvolts[0], microvolts[1]
    limb = np.stack([i, ii, ii - i, -((i + ii) >> 1), i - (ii >> 1), ii - (i >> 1)])
    return np.concatenate([limb, microvolts[2:]]).astype(np.int16)


def _cohort(records: int, seed: int) -> tuple[list[Patient], NDArray[np.int64]]:
    """Draw the patients, about 1.16 records per patient. Return them, and the index of the patient of each record."""
    rng = np.random.default_rng([seed, _COHORT])
    records_per_patient = rng.choice([1, 2, 3, 4], size=records, p=[0.885, 0.085, 0.02, 0.01])
    owner = np.repeat(np.arange(records), records_per_patient)[:records]
    patient_count = int(owner[-1]) + 1 if records else 0
    patients = [
        draw_patient(np.random.default_rng([seed, _PATIENT, index]), index + 1) for index in range(patient_count)
    ]
    return patients, owner


def _folds(patients: list[Patient], seed: int) -> NDArray[np.int64]:
    """Distribute the patients over ten folds, so that each combination of superclasses is spread evenly."""
    rng = np.random.default_rng([seed, _COHORT, 1])
    superclasses = []
    for patient in patients:
        names = {STATEMENTS[code].superclass for code in patient.conditions}
        superclasses.append(" ".join(sorted(names)))

    # Sort by superclasses, in random order within them, and deal the patients to the folds in turn.
    order = sorted(range(len(patients)), key=lambda index: (superclasses[index], rng.random()))
    folds = np.empty(len(patients), dtype=np.int64)
    folds[order] = np.arange(len(patients)) % 10 + 1
    return folds


def _axis_name(degrees: float) -> str:
    """Return the name of a QRS axis as in the column `heart_axis` of PTB-XL."""
    if degrees < -90 or degrees >= 150:
        return "AXR"
    names = ((-30, "ALAD"), (30, "LAD"), (90, "MID"), (120, "RAD"), (150, "ARAD"))
    return next(name for limit, name in names if degrees < limit)


def _row(number: int, patient: Patient, fold: int, recording: Recording, noise: dict[str, str]) -> Row:
    """Return the line of `ptbxl_database.csv`."""
    codes = recording.statements
    descriptions = [STATEMENTS[code].description for code in codes]
    folder = f"{number // 1000 * 1000:05d}"
    date = f"2000-{number // 28 % 12 + 1:02d}-{number % 28 + 1:02d} {number % 24:02d}:00:00"
    is_paced = recording.rhythm == "PACE"

    # Premature beats are counted only if a statement reports them.
    extra_beats = []
    for kind, code, name in ((VENTRICULAR, "PVC", "VES"), (ATRIAL, "PAC", "SVES")):
        if code in codes:
            extra_beats.append(f"{(recording.beats.kind == kind).sum()}{name}")

    infarct_stage = ""
    if any(STATEMENTS[code].superclass == "MI" for code in codes):
        infarct_stage = "Stadium I" if patient.stage > 0.3 else "Stadium III"
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
        "recording_date": date,
        "report": ", ".join(reversed(descriptions)),
        "scp_codes": repr(codes),
        "heart_axis": "" if is_paced else _axis_name(recording.axis),
        "infarction_stadium1": infarct_stage,
        "infarction_stadium2": "",
        "validated_by": "",
        "second_opinion": False,
        "initial_autogenerated_report": False,
        "validated_by_human": False,
        "baseline_drift": noise.get("baseline_drift", ""),
        "static_noise": noise.get("static_noise", ""),
        "burst_noise": noise.get("burst_noise", ""),
        "electrodes_problems": noise.get("electrodes_problems", ""),
        "extra_beats": ",".join(extra_beats),
        "pacemaker": "ja, pacemaker" if is_paced else "",
        "strat_fold": fold,
        "filename_lr": f"records100/{folder}/{number:05d}_lr",
        "filename_hr": f"records500/{folder}/{number:05d}_hr",
    }


def iterate(records: int, seed: int = 0, *, rates: Sequence[int] = (100,), noise: float = 1.0) -> Iterator[Sample]:
    """Yield the records of a set one after the other. The parameters are those of `generate`."""
    patients, owner = _cohort(records, seed)
    folds = _folds(patients, seed)
    build_owner = None
    for index in range(records):
        # The records of a patient follow each other and share the build of heart and chest.
        patient = patients[owner[index]]
        if patient.number != build_owner:
            patient_rng = np.random.default_rng([seed, _PATIENT, patient.number, 1])
            build = draw_build(patient_rng, patient.age, patient.female)
            build_owner = patient.number

        rng = np.random.default_rng([seed, _RECORD, index])
        recording = compose(rng, patient, build)
        plan = draw_noise(rng)
        leads = add_noise(rng, recording.leads, plan, TIME, noise)
        signals = {}
        masks = {}
        dipoles = {}
        for fs in rates:
            signals[fs] = _quantize(leads[:, MARGIN : MARGIN + SAMPLES] if fs == 500 else decimate(leads))
            masks[fs] = recording.mask(fs)
            dipoles[fs] = _microvolts(recording.dipole(fs)).astype(np.int16)
        noise_columns = plan.text if noise > 0 else {}
        row = _row(index + 1, patient, int(folds[owner[index]]), recording, noise_columns)
        yield Sample(row, signals, masks, dipoles, recording)


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
        Number of ten-second records.
    seed : int
        The set depends on `records`, `seed`, `rates` and `noise` only.
    rates : sequence of int
        Sampling frequencies in Hz: 100, 500 or both.
    noise : float
        Factor of all noise; 0 gives clean records.
    progress : callable, optional
        Called as ``progress(done, total)``.
    """
    samples = []
    for sample in iterate(records, seed, rates=rates, noise=noise):
        samples.append(sample)
        if progress is not None:
            progress(len(samples), records)
    return Generated(
        rows=[sample.row for sample in samples],
        signals={fs: np.stack([sample.signals[fs] for sample in samples]) for fs in rates},
        masks={fs: np.stack([sample.masks[fs] for sample in samples]) for fs in rates},
        dipoles={fs: np.stack([sample.dipoles[fs] for sample in samples]) for fs in rates},
        clean=np.stack([sample.clean for sample in samples]),
        recordings=[sample.recording for sample in samples],
    )
