"""Compose one record of a patient.

The conditions change the sources of the heart, the rhythm gives the times of the beats, and both give the leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic import conduction, disease
from einthoven.data.synthetic.build import Build, normal_heart, place_electrodes
from einthoven.data.synthetic.conditions import Patient, draw_rhythm
from einthoven.data.synthetic.heart import Array, Heart, qrs_area
from einthoven.data.synthetic.leadfield import lead_field
from einthoven.data.synthetic.render import Complex, draw_complexes, draw_mask, project, project_dipole
from einthoven.data.synthetic.rhythm import ATRIAL, VENTRICULAR, Beats, atrial_activity, draw_beats, draw_rate

SECONDS = 10.0
FS = 500.0

# Samples that are rendered before and after the record, so that the anti-aliasing filter has a signal there.
MARGIN = 200
SAMPLES = int(SECONDS * FS)
TIME = (np.arange(SAMPLES + 2 * MARGIN) - MARGIN) / FS


@dataclass
class Recording:
    """One noise-free record with its statements, rhythm, axis, beats and waves."""

    leads: NDArray[np.float32]
    """I, II, V1-V6 (8, T) in mV at 500 Hz, with `MARGIN` more samples at both ends."""
    statements: dict[str, float]
    """Statement -> likelihood in percent, as in PTB-XL."""
    rhythm: str
    axis: float
    """Frontal QRS axis in degrees."""
    beats: Beats
    shapes: dict[bool, Complex]
    """The complex of ventricular premature beats (key True) and of all other beats (key False)."""
    dipoles: dict[bool, Complex]
    """The same complexes on the axes of the heart vector."""
    breathing: Array
    """Phase of breathing of each beat, -1 to 1."""
    atrial: Array
    """Heart vector of fibrillating or fluttering atria (3, T) at the samples of `leads`; 0 in other rhythms."""

    def mask(self, fs: float) -> NDArray[np.uint8]:
        """Return the P, QRS and T bits (T,) of the ten seconds at `fs` Hz."""
        mask = np.zeros(int(SECONDS * fs), dtype=np.uint8)
        beats = self.beats
        next_onset = np.append(beats.onset[1:], np.inf)
        for is_ventricular, shape in self.shapes.items():
            chosen = _is_of_kind(beats, is_ventricular)
            draw_mask(mask, shape, beats.onset[chosen], beats.rr[chosen], beats.p_wave[chosen], next_onset[chosen], fs)
        return mask

    def dipole(self, fs: float) -> NDArray[np.float32]:
        """Return the heart vector (3, T) of the ten seconds at `fs` Hz: the sum of the moments of all sources.

        The axes are x to the left, y to the feet and z to the back. Dower's matrix maps the vector to mV. It is the
        vector at the time of each sample: it has no noise, and no filter as the signals at 100 Hz have.
        """
        dipole = np.zeros((3, int(SECONDS * fs)), dtype=np.float32)
        _draw_beats(dipole, self.dipoles, self.beats, self.breathing, 0.0, fs)
        return dipole + self.atrial[:, MARGIN : -MARGIN : round(FS / fs)].astype(np.float32)


def _draw_beats(
    out: NDArray[np.float32],
    shapes: dict[bool, Complex],
    beats: Beats,
    breathing: Array,
    origin: float,
    fs: float,
) -> None:
    """Add the waves of all beats to the leads (L, T). `origin` is the time of the first sample in s."""
    for is_ventricular, shape in shapes.items():
        chosen = _is_of_kind(beats, is_ventricular)
        draw_complexes(
            out,
            shape,
            beats.onset[chosen],
            beats.rr[chosen],
            beats.p_wave[chosen],
            breathing[chosen],
            origin,
            fs,
        )


def _is_of_kind(beats: Beats, is_ventricular: bool) -> NDArray[np.bool_]:
    """Return which beats are ventricular premature ones, or which are not."""
    return np.asarray((beats.kind == VENTRICULAR) == is_ventricular)


def _diseased_heart(rng: np.random.Generator, patient: Patient, build: Build, rhythm: str) -> Heart:
    """Return the patient's heart in one record, with all lasting conditions, and with pacing if the rhythm is PACE."""
    heart = normal_heart(rng, build, p_wave=rhythm not in {"AFIB", "AFLT", "PACE"})

    # The severity of a condition varies a little between the records of a patient.
    severities = {}
    for code, severity in patient.conditions.items():
        severities[code] = float(np.clip(severity + rng.normal(0.0, 0.05), 0.0, 1.0))

    # Hypertrophy changes the sources. `recover_from` gives the secondary change of the T wave.
    normal_area = qrs_area(heart)
    if "LVH" in severities:
        disease.hypertrophy_left(rng, heart, severities["LVH"])
        disease.recover_from(heart, normal_area, 0.25)
    if "RVH" in severities:
        disease.hypertrophy_right(heart, severities["RVH"])
    for code, is_left in (("LAO/LAE", True), ("RAO/RAE", False)):
        if code in severities:
            disease.atrial_overload(heart, is_left, severities[code])

    # Conduction disorders change the order of activation.
    area_before = qrs_area(heart)
    for code in ("LAFB", "LPFB"):
        if code in severities:
            conduction.fascicular_block(rng, heart, code, severities[code])
    if "IVCD" in severities:
        conduction.conduction_delay(rng, heart, severities["IVCD"])
    for code, complete in (("CRBBB", True), ("IRBBB", False)):
        if code in severities:
            conduction.right_bundle_block(rng, heart, complete, severities[code])
    for code, complete in (("CLBBB", True), ("ILBBB", False)):
        if code in severities:
            conduction.left_bundle_block(rng, heart, complete, severities[code])
    if "WPW" in severities:
        conduction.preexcitation(rng, heart, severities["WPW"])
    if "1AVB" in severities:
        heart.pr = 0.205 + 0.09 * severities["1AVB"]
    disease.recover_from(heart, area_before, 0.8)

    # A wider QRS also makes QT longer.
    heart.qtc += 0.7 * max(heart.qrs - build.qrs, 0.0)

    # Infarcts, ischemia and non-specific changes act on the ventricles after activation is known.
    for code, severity in severities.items():
        if code in disease.INFARCTS:
            disease.infarct(rng, heart, code, severity, patient.stage)
        elif code in disease.INJURIES:
            disease.injury(rng, heart, code, severity)
        elif code == "ISC_" and "LVH" in severities:
            disease.strain(heart, severity)
        elif code in disease.ISCHEMIA:
            disease.ischemia(rng, heart, code, severity)
        else:
            disease.nonspecific(rng, heart, code, severity)

    # A pacemaker activates the ventricles from the apex or the septum of the right ventricle. Its spike is very short.
    if rhythm == "PACE":
        area_before = qrs_area(heart)
        apex = np.array([1.5, 3.5, -3.5])
        septum = np.array([-1.5, -1.5, -3.0])
        electrode = apex if rng.random() < 0.75 else septum
        origin = electrode + rng.normal(0.0, 0.5, 3)
        conduction.spread_from(heart, origin, rng.uniform(0.145, 0.18), 1.3)
        disease.recover_from(heart, area_before, 0.55)
        heart.qtc += 0.06
        spike = rng.uniform(0.3, 2.0) * np.array([-0.3, -0.8, 0.3])
        heart.extra.add(electrode, 0.005, 0.001, 0.001, spike)
    return heart


def _premature(rng: np.random.Generator, build: Build) -> Heart:
    """Return the heart in a ventricular premature beat: wide QRS without P, and T opposite to QRS."""
    heart = normal_heart(rng, build, p_wave=False)
    area_before = qrs_area(heart)
    sites = [
        (-1.0, -4.5, -2.5),
        (-4.0, 1.0, -2.5),
        (1.5, 3.5, -3.5),
        (5.0, -2.0, 2.0),
        (2.0, 3.0, 3.0),
        (3.5, -1.0, -3.5),
    ]
    origin = np.array(sites[int(rng.integers(len(sites)))]) + rng.normal(0.0, 0.5, 3)
    conduction.spread_from(heart, origin, rng.uniform(0.132, 0.172), gain=rng.uniform(1.2, 1.7))
    disease.recover_from(heart, area_before, 0.55)
    return heart


def _axis(shape: Complex) -> float:
    """Return the frontal QRS axis in degrees from the net areas of I and aVF; 0 is left, 90 is towards the feet."""
    kernel_width = (shape.qrs.left + shape.qrs.right)[:, None]
    i, ii = (kernel_width * shape.qrs.leads[:, :2]).sum(0)
    return float(np.degrees(np.arctan2((ii - i / 2) * 2 / np.sqrt(3), i)))


def _voltages(shape: Complex) -> tuple[Array, Array]:
    """Return the highest R and the deepest S (mV, positive) of the eight leads."""
    qrs = shape.qrs
    t = np.arange(0.0, shape.qrs_duration, 0.004)[:, None] - qrs.centre
    kernels = np.exp(-0.5 * (t / np.where(t < 0, qrs.left, qrs.right)) ** 2)
    signal = kernels @ qrs.leads
    return signal.max(0), -signal.min(0)


def _form_statements(rng: np.random.Generator, patient: Patient, heart: Heart, shape: Complex) -> list[str]:
    """Draw the descriptive statements that a reader would add to the diagnostic ones."""
    conditions = set(patient.conditions)
    r, s = _voltages(shape)
    statements = []
    has_infarct = bool(conditions & set(disease.INFARCTS))
    if has_infarct and rng.random() < 0.5:
        statements.append("ABQRS")
    if has_infarct and rng.random() < 0.25:
        statements.append("QWAVE")
    if has_infarct and patient.stage > 0.3:
        statements.append("STE_")

    # Voltage criteria: Sokolow-Lyon (S in V1 plus R in V5 or V6) and Cornell (R in aVL plus S in V3).
    sokolow = s[2] + max(r[6], r[7])
    cornell = (r[0] - 0.5 * (r[1] - s[1])) + s[4]
    cornell_limit = 2.0 if patient.female else 2.8
    if "LVH" in conditions and (sokolow > 3.5 or cornell > cornell_limit):
        statements.append("VCLVH")
    elif sokolow > 4.2 and "NORM" in conditions and rng.random() < 0.5:
        statements.append("HVOLT")
    if max(r[0] + s[0], r[1] + s[1]) < 0.55 and rng.random() < 0.6:
        statements.append("LVOLT")

    # Statements about ST, T and PR. The entry "-" stands for no statement.
    if conditions & {"ISC_", "NST_", *disease.INJURIES} and rng.random() < 0.4:
        statements.append("STD_")
    if "NDT" in conditions:
        statements.append(str(rng.choice(["LOWT", "NT_", "INVT", "-"], p=[0.2, 0.2, 0.1, 0.5])))
    elif conditions & set(disease.ISCHEMIA) and rng.random() < 0.15:
        statements.append("INVT")
    if heart.pr > 0.2 and heart.atria.moment and rng.random() < 0.4:
        statements.append("LPR")
    return [code for code in statements if code != "-"]


def compose(rng: np.random.Generator, patient: Patient, build: Build, rhythm: str | None = None) -> Recording:
    """Compose one noise-free record of a patient.

    A change of the order of the random draws changes the record.

    Parameters
    ----------
    rng : numpy.random.Generator
    patient : Patient
    build : Build
        What is individual about the patient's heart and chest.
    rhythm : str, optional
        A rhythm statement. Without it, the rhythm is drawn.
    """
    # Draw rhythm, heart rate and premature beats.
    is_normal = "NORM" in patient.conditions
    rhythm = rhythm or draw_rhythm(rng, patient)
    usual_rate = build.rate + (0.0 if is_normal else 4.0)
    rate = draw_rate(rng, rhythm, usual_rate)
    pvc_probability = 0.02 if is_normal else 0.085
    pvc_count = int(rng.integers(1, 4)) if rng.random() < pvc_probability else 0
    pac_count = int(rng.integers(1, 4)) if rhythm == "SR" and rng.random() < 0.03 else 0
    has_bigeminy = rhythm == "SR" and pvc_count > 0 and rng.random() < 0.1
    beats = draw_beats(rng, rhythm, rate, patient.age, (pvc_count, pac_count), has_bigeminy)

    # Project the heart onto the leads, once for normal beats and once for ventricular premature ones.
    heart = _diseased_heart(rng, patient, build, rhythm)
    electrodes = place_electrodes(rng, build)
    sway = float(abs(rng.normal(0.0, 0.06)))
    hearts = {False: heart}
    if (beats.kind == VENTRICULAR).any():
        hearts[True] = _premature(rng, build)
    shapes = {kind: project(heart_of_kind, electrodes, sway) for kind, heart_of_kind in hearts.items()}
    dipoles = {kind: project_dipole(heart_of_kind, sway) for kind, heart_of_kind in hearts.items()}

    # Draw the waves of all beats.
    leads = np.zeros((8, len(TIME)), dtype=np.float32)
    breathing = np.sin(2 * np.pi * rng.uniform(0.18, 0.32) * beats.onset + rng.uniform(0, 2 * np.pi))
    _draw_beats(leads, shapes, beats, breathing, TIME[0], FS)
    atrial = np.zeros((3, len(TIME)))
    if rhythm in {"AFIB", "AFLT"}:
        field = lead_field(np.array([[-3.0, -3.0, 0.0]]), electrodes)[0]
        atrial = atrial_activity(rng, rhythm, TIME)
        leads += (field @ atrial).astype(np.float32)

    # Draw the statements of the reader. Pacing hides the signs of all other conditions.
    likelihoods = {}
    for code in patient.conditions:
        is_certain = code == "NORM" and rng.random() < 0.7
        likelihoods[code] = 100.0 if is_certain else patient.likelihood[code]
    if rhythm == "PACE":
        likelihoods = {}
    codes = [] if rhythm == "PACE" else _form_statements(rng, patient, heart, shapes[False])

    # Premature beats are reported if they are inside of the ten seconds.
    is_visible = (beats.onset > 0) & (beats.onset < SECONDS - 0.2)
    visible_kinds = set(beats.kind[is_visible].tolist())
    if VENTRICULAR in visible_kinds:
        codes.append("BIGU" if has_bigeminy else "PVC")
    if ATRIAL in visible_kinds:
        codes.append("PAC")
    code_likelihood = 100.0 if rng.random() < 0.1 else 0.0
    statements = likelihoods | dict.fromkeys(codes, code_likelihood) | {rhythm: 0.0}
    return Recording(leads, statements, rhythm, _axis(shapes[False]), beats, shapes, dipoles, breathing, atrial)
