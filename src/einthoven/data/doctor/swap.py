"""Electrodes that were probably exchanged, from the representative beat.

Arms (LA/RA): I turns its sign, II and III, aVR and aVL change places; the chest leads stay, since Wilson's terminal is
the mean of all three. V6 looks along I, so that the two agree in a heart on the left. The score is the cosine between
QRS-T of I and of V6, plus a weight times tanh of the mean P wave of I. Negative: exchanged, or a heart on the right.

Right arm and left leg (RA/LL): II turns its sign, I and III become each other's negative. The score is that of II with
V5 and of P in II. A rhythm from the lower atrium has the same P waves, but not the same QRS.

Right arm and right leg: II is measured between the legs and has no voltage left. Left arm and left leg leave a record
that is as normal as before, and the legs among each other the very same: neither can be found.

Neighbouring chest electrodes: the lead between two others resembles both. The score is the gain in the sum of the five
correlations between neighbours when two leads are put back.

References: Batchvarov, Malik & Camm, "Incorrect electrode cable connection during electrocardiographic recording",
Europace 9:1081, 2007; Kors & van Herpen, "Accurate automatic detection of electrode interchange in the
electrocardiogram", Am. J. Cardiol. 88:396, 2001, who compare leads with what the others foretell, as is done here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import thresholds as limit
from einthoven.data.doctor.finding import Block, Finding, Found
from einthoven.functional.beats import Float, frontal_axis

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")


def waves(block: Block) -> tuple[Float, Float]:
    """QRS-T ``(n, L, W)`` above the isoelectric line, zero outside, and the mean of the P wave ``(n, L)``, mV.

    P lies 200 to 30 ms before the QRS; the line is what lies around it.
    """
    onset, end = block.qrs
    time = np.arange(block.beat.shape[-1]) / block.fs
    since, after = time - onset[:, None], time - end[:, None]
    p = (since >= -0.20) & (since <= -0.03)
    line = ((since >= -0.24) & (since < -0.20)) | ((since >= -0.02) & (since <= 0))

    def mean(y: Float, chosen: NDArray[np.bool_]) -> Float:
        return np.asarray(np.einsum("nlw,nw->nl", y, chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)))

    beat = np.nan_to_num(block.beat)
    beat = beat - mean(beat, line)[..., None]
    return beat * ((since >= 0) & (after <= 0.30))[:, None], mean(beat, p)


def _cosine(a: Float, b: Float) -> Float:
    norm = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    return np.asarray((a * b).sum(axis=-1) / np.where(norm > 0, norm, np.nan))


def _scores(qrst: Float, p: Float, chest: Float) -> Float:
    """Scores ``(n, 2)`` of LA/RA and RA/LL from QRS-T and P of I and II, and QRS-T of V6 and V5."""
    weight = np.array([limit.P_WEIGHT["LA/RA"], limit.P_WEIGHT["RA/LL"]])
    return np.asarray(_cosine(qrst, chest) + weight * np.tanh(p / limit.P_SCALE))


def check_limb_swaps(block: Block) -> Found:
    """The likeliest exchange of limb electrodes, if there is one: the one that, undone, leaves the better scores."""
    if not block.has("I", "II", "V5", "V6"):
        return
    limbs, chest = [block.at("I"), block.at("II")], [block.at("V6"), block.at("V5")]
    qrst, p = waves(block)
    score = _scores(qrst[:, limbs], p[:, limbs], qrst[:, chest])
    least = np.array([limit.SWAP_LA_RA, limit.SWAP_RA_LL])
    undone = [  # I, II as they were: -I and III, -III and -II
        (_scores(undo @ qrst[:, limbs], p[:, limbs] @ undo.T, qrst[:, chest]) - least).min(axis=1)
        for undo in (np.array([[-1.0, 0.0], [-1.0, 1.0]]), np.array([[1.0, -1.0], [0.0, -1.0]]))
    ]
    axis, likeness = _axis(block, qrst), _cosine(qrst[:, limbs], qrst[:, chest])
    low = score < least
    better = np.where(low.all(axis=1), np.argmax(np.nan_to_num(undone, nan=-9.0), axis=0), low.argmax(axis=1))
    for row in np.flatnonzero(low.any(axis=1)):
        k = int(better[row])
        pair, lead, other = (("LA/RA", "I", "V6"), ("RA/LL", "II", "V5"))[k]
        evidence = (
            f"{pair}: {lead} and {other} agree at {likeness[row, k]:.2f}, P in {lead} is {p[row, limbs[k]]:.3f} mV, "
            f"QRS axis {axis[row]:.0f}°: score {score[row, k]:.2f}, expected {least[k]:g} at least "
            f"(or {('a heart on the right', 'a rhythm from below')[k]})"
        )
        concerned = ("I II III aVR aVL", "I II III aVR aVF")[k].split()
        names = tuple(name for name in concerned if name in block.leads)
        code = ("swap_la_ra", "swap_ra_ll")[k]
        yield int(row), Finding(code, "warning", names, float(score[row, k]), float(least[k]), evidence)


def _axis(block: Block, qrst: Float) -> Float:
    if not block.has("I", "aVF"):
        return np.full(len(block.x), np.nan)
    area = qrst.sum(axis=-1)
    return frontal_axis(area[:, block.at("I")], area[:, block.at("aVF")])


def check_right_leg(block: Block) -> Found:
    """Lead II between the two legs."""
    if not block.has("I", "II", "III"):
        return
    size = np.ptp(waves(block)[0], axis=-1)
    others = (size[:, block.at("I")] + size[:, block.at("III")]) / 2
    part = size[:, block.at("II")] / np.where(others > limit.AMPLITUDE[0], others, np.nan)
    for row in np.flatnonzero(part < limit.SWAP_RA_RL):
        evidence = f"QRS of II is {part[row]:.1%} of those of I and III; expected {limit.SWAP_RA_RL:.0%} at least"
        yield int(row), Finding("swap_ra_rl", "warning", ("II",), float(part[row]), limit.SWAP_RA_RL, evidence)


def check_chest_swaps(block: Block) -> Found:
    """Two neighbouring chest leads that fit better the other way round."""
    if not block.has(*CHEST):
        return
    chest = [block.at(lead) for lead in CHEST]
    qrst = waves(block)[0]
    unit = qrst[:, chest] / np.maximum(np.linalg.norm(qrst[:, chest], axis=-1, keepdims=True), 1e-6)
    like = np.einsum("niw,njw->nij", unit, unit)

    def neighbours(order: list[int]) -> Float:
        return np.asarray(like[:, order[:-1], order[1:]].sum(axis=1))

    as_named = neighbours(list(range(6)))
    gains = []
    for k in range(5):
        order = list(range(6))
        order[k], order[k + 1] = k + 1, k
        gains.append(neighbours(order) - as_named)
    gain, allowed = np.stack(gains), np.array(list(limit.SWAP_CHEST.values()))
    healthy = block.live[:, chest].all(axis=1)
    for row in np.flatnonzero((gain > allowed[:, None]).any(axis=0) & healthy):
        best = int((gain[:, row] - allowed).argmax())
        names = (CHEST[best], CHEST[best + 1])
        evidence = (
            f"exchanging {names[0]} and {names[1]} raises the likeness of neighbours by {gain[best, row]:.2f}; "
            f"expected {allowed[best]:g} at most"
        )
        yield (
            int(row),
            Finding("swap_chest", "caution", names, float(gain[best, row]), float(allowed[best]), evidence),
        )
