"""One record from one patient: conditions onto the heart, rhythm onto the beats, both onto the leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic import disease
from einthoven.data.synthetic.conditions import Patient, draw_rhythm
from einthoven.data.synthetic.heart import Array, Build, Heart, normal_heart, qrs_area
from einthoven.data.synthetic.leadfield import ELECTRODE_POSITIONS, lead_field
from einthoven.data.synthetic.render import Complex, draw_complexes, draw_mask, project
from einthoven.data.synthetic.rhythm import VENTRICULAR, Beats, atrial_activity, draw_beats, draw_rate

SECONDS = 10.0
FS = 500.0
# Rendered beyond both ends, so that the anti-aliasing filter sees signal there.
MARGIN = 200
SAMPLES = int(SECONDS * FS)
TIME = (np.arange(SAMPLES + 2 * MARGIN) - MARGIN) / FS


@dataclass
class Recording:
    """One noise-free record with all that is known about it."""

    leads: NDArray[np.float32]
    """(8, T) mV at 500 Hz with `MARGIN` samples beyond both ends."""
    statements: dict[str, float]
    rhythm: str
    axis: float
    beats: Beats
    shapes: dict[bool, Complex]
    """Complex of ventricular premature beats (True) and of all others (False)."""

    def mask(self, fs: float) -> NDArray[np.uint8]:
        """Return the P/QRS/T bits (T,) of the ten seconds at `fs` Hz."""
        out = np.zeros(int(SECONDS * fs), dtype=np.uint8)
        b = self.beats
        following = np.append(b.onset[1:], np.inf)
        for ventricular, shape in self.shapes.items():
            of = (b.kind == VENTRICULAR) == ventricular
            draw_mask(out, shape, b.onset[of], b.rr[of], b.p_wave[of], following[of], fs)
        return out


def diseased_heart(rng: np.random.Generator, patient: Patient, build: Build, rhythm: str) -> Heart:
    """Return the patient's heart with all lasting conditions, and with pacing if paced."""
    heart = normal_heart(rng, build, p_wave=rhythm not in {"AFIB", "AFLT", "PACE"})
    have = {c: float(np.clip(s + rng.normal(0.0, 0.05), 0.0, 1.0)) for c, s in patient.conditions.items()}
    normal = qrs_area(heart)
    if "LVH" in have:
        disease.hypertrophy_left(rng, heart, have["LVH"])
        disease.recover_from(heart, normal, 0.25)
    if "RVH" in have:
        disease.hypertrophy_right(heart, have["RVH"])
    for code, left in (("LAO/LAE", True), ("RAO/RAE", False)):
        if code in have:
            disease.atrial_overload(heart, left, have[code])
    before = qrs_area(heart)
    for code in ("LAFB", "LPFB"):
        if code in have:
            disease.fascicular_block(rng, heart, code, have[code])
    if "IVCD" in have:
        disease.conduction_delay(rng, heart, have["IVCD"])
    for code, complete in (("CRBBB", True), ("IRBBB", False)):
        if code in have:
            disease.right_bundle_block(heart, complete, have[code])
    for code, complete in (("CLBBB", True), ("ILBBB", False)):
        if code in have:
            disease.left_bundle_block(rng, heart, complete, have[code])
    if "WPW" in have:
        disease.preexcitation(rng, heart, have["WPW"])
    if "1AVB" in have:
        heart.pr = 0.205 + 0.09 * have["1AVB"]
    disease.recover_from(heart, before, 0.8)
    heart.qtc += 0.7 * max(heart.qrs - build.qrs, 0.0)
    for code, severity in have.items():
        if code in disease.INFARCTS:
            disease.infarct(rng, heart, code, severity, patient.stage)
        elif code in disease.INJURIES:
            disease.injury(rng, heart, code, severity)
        elif code == "ISC_" and "LVH" in have:
            disease.strain(heart, severity)
        elif code in disease.ISCHEMIA:
            disease.ischemia(rng, heart, code, severity)
        else:
            disease.nonspecific(rng, heart, code, severity)
    if rhythm == "PACE":
        before = qrs_area(heart)
        disease.spread_from(heart, np.array([1.5, 3.5, -3.5]) + rng.normal(0.0, 0.5, 3), rng.uniform(0.145, 0.18), 1.3)
        disease.recover_from(heart, before, 0.9)
        heart.qtc += 0.06
        spike = rng.uniform(0.3, 2.0) * np.array([-0.3, -0.8, 0.3])
        heart.extra.add(np.array([1.5, 3.5, -3.5]), 0.005, 0.001, 0.001, spike)
    return heart


def _premature(rng: np.random.Generator, patient: Patient, build: Build) -> Heart:
    """Return the ventricles as activated from an ectopic focus: wide, without P, T against QRS."""
    heart = normal_heart(rng, build, p_wave=False)
    before = qrs_area(heart)
    sites = [
        (-1.0, -4.5, -2.5),
        (-4.0, 1.0, -2.5),
        (1.5, 3.5, -3.5),
        (5.0, -2.0, 2.0),
        (2.0, 3.0, 3.0),
        (3.5, -1.0, -3.5),
    ]
    origin = np.array(sites[int(rng.integers(len(sites)))]) + rng.normal(0.0, 0.5, 3)
    disease.spread_from(heart, origin, rng.uniform(0.132, 0.172), gain=rng.uniform(1.2, 1.7))
    disease.recover_from(heart, before, 0.9)
    return heart


def _axis(shape: Complex) -> float:
    """Return the frontal QRS axis, degrees, from the net areas of I and aVF; 0 to the left, 90 to the feet."""
    i, ii = ((shape.qrs.left + shape.qrs.right)[:, None] * shape.qrs.leads[:, :2]).sum(0)
    return float(np.degrees(np.arctan2((ii - i / 2) * 2 / np.sqrt(3), i)))


def _voltages(shape: Complex) -> tuple[Array, Array]:
    """Return the tallest R and the deepest S (mV, positive) of the eight leads."""
    w = shape.qrs
    t = np.arange(0.0, shape.qrs_duration, 0.004)[:, None] - w.centre
    kernels = np.exp(-0.5 * (t / np.where(t < 0, w.left, w.right)) ** 2)
    signal = kernels @ w.leads
    return signal.max(0), -signal.min(0)


def _form_statements(rng: np.random.Generator, patient: Patient, heart: Heart, shape: Complex) -> list[str]:
    """Return the descriptive statements a reader would add to the diagnostic ones."""
    have = set(patient.conditions)
    r, s = _voltages(shape)
    out = []
    infarct = bool(have & set(disease.INFARCTS))
    if infarct and rng.random() < 0.5:
        out.append("ABQRS")
    if infarct and rng.random() < 0.25:
        out.append("QWAVE")
    if infarct and patient.stage > 0.3:
        out.append("STE_")
    sokolow = s[2] + max(r[6], r[7])
    cornell = (r[0] - 0.5 * (r[1] - s[1])) + s[4]
    if "LVH" in have and (sokolow > 3.5 or cornell > (2.0 if patient.female else 2.8)):
        out.append("VCLVH")
    elif sokolow > 4.2 and "NORM" in have and rng.random() < 0.5:
        out.append("HVOLT")
    if max(r[0] + s[0], r[1] + s[1]) < 0.55 and rng.random() < 0.6:
        out.append("LVOLT")
    if have & {"ISC_", "NST_", *disease.INJURIES} and rng.random() < 0.4:
        out.append("STD_")
    if "NDT" in have:
        out.append(str(rng.choice(["LOWT", "NT_", "INVT", "-"], p=[0.2, 0.2, 0.1, 0.5])))
    elif have & set(disease.ISCHEMIA) and rng.random() < 0.15:
        out.append("INVT")
    if heart.pr > 0.2 and heart.atria.moment and rng.random() < 0.4:
        out.append("LPR")
    return [code for code in out if code != "-"]


def compose(rng: np.random.Generator, patient: Patient, build: Build, rhythm: str | None = None) -> Recording:
    """Make one noise-free record of a patient, in a rhythm drawn for the patient unless one is given."""
    rhythm = rhythm or draw_rhythm(rng, patient)
    usual = build.rate + (0.0 if "NORM" in patient.conditions else 4.0)
    rate = draw_rate(rng, rhythm, usual)
    share = 0.02 if "NORM" in patient.conditions else 0.085
    pvc = int(rng.integers(1, 4)) if rng.random() < share else 0
    pac = int(rng.integers(1, 4)) if rhythm == "SR" and rng.random() < 0.03 else 0
    bigeminy = rhythm == "SR" and pvc > 0 and rng.random() < 0.1
    beats = draw_beats(rng, rhythm, rate, patient.age, (pvc, pac), bigeminy)
    heart = diseased_heart(rng, patient, build, rhythm)
    electrodes = ELECTRODE_POSITIONS * build.chest + build.electrodes + rng.normal(0.0, 0.4, (9, 3))
    sway = float(abs(rng.normal(0.0, 0.06)))
    shapes = {False: project(heart, electrodes, sway)}
    if (beats.kind == VENTRICULAR).any():
        shapes[True] = project(_premature(rng, patient, build), electrodes, sway)
    leads = np.zeros((8, len(TIME)), dtype=np.float32)
    breathing = np.sin(2 * np.pi * rng.uniform(0.18, 0.32) * beats.onset + rng.uniform(0, 2 * np.pi))
    for ventricular, shape in shapes.items():
        of = (beats.kind == VENTRICULAR) == ventricular
        draw_complexes(leads, shape, beats.onset[of], beats.rr[of], beats.p_wave[of], breathing[of], TIME[0], FS)
    if rhythm in {"AFIB", "AFLT"}:
        field = lead_field(np.array([[-3.0, -3.0, 0.0]]), electrodes)[0]
        leads += (field @ atrial_activity(rng, rhythm, TIME)).astype(np.float32)
    likelihood = {c: 100.0 if c == "NORM" and rng.random() < 0.7 else patient.likelihood[c] for c in patient.conditions}
    # A paced or flutter record is read as such: what pacing hides is not reported.
    if rhythm == "PACE":
        likelihood = {}
    codes = [] if rhythm == "PACE" else _form_statements(rng, patient, heart, shapes[False])
    visible = (beats.onset > 0) & (beats.onset < SECONDS - 0.2)
    kinds = set(beats.kind[visible].tolist())
    codes += ["BIGU"] if bigeminy and 1 in kinds else ["PVC"] if 1 in kinds else []
    codes += ["PAC"] if 2 in kinds else []
    statements = likelihood | dict.fromkeys(codes, 100.0 if rng.random() < 0.1 else 0.0) | {rhythm: 0.0}
    return Recording(leads, statements, rhythm, _axis(shapes[False]), beats, shapes)
