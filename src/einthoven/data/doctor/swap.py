"""Find electrodes that were probably exchanged, from the representative beat.

Arms (LA/RA): lead I changes its sign, II and III change places, and so do aVR and aVL. The chest leads do not change,
because Wilson's terminal is the mean of all three electrodes. V6 has almost the direction of I, so that the two agree
if the heart is on the left. The score is the cosine between QRS-T of I and of V6, plus a weight times tanh of the mean
P wave of I. A negative score means exchanged electrodes, or a heart on the right.

Right arm and left leg (RA/LL): II changes its sign, and I and III become the negative of each other. The score is that
of II with V5, and of P in II. A rhythm from the lower atrium has the same P waves, but another QRS.

Right arm and right leg: II is measured between the legs, where there is no voltage. An exchange of left arm and left
leg gives a record that looks normal, and an exchange of the legs changes nothing: neither can be found.

Neighbouring chest electrodes: a lead between two others resembles both. The score is the gain in the sum of the five
correlations of neighbours if two leads are exchanged back.

References: Batchvarov, Malik & Camm, "Incorrect electrode cable connection during electrocardiographic recording",
Europace 9:1081, 2007; Kors & van Herpen, "Accurate automatic detection of electrode interchange in the
electrocardiogram", Am. J. Cardiol. 88:396, 2001, who also compare leads with a prediction from the other leads.
"""

from __future__ import annotations

import numpy as np

from einthoven.data.doctor import thresholds
from einthoven.data.doctor.finding import Block, Finding, Findings
from einthoven.functional.beats import Float, frontal_axis

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")


def _cosine(a: Float, b: Float) -> Float:
    norm = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    return np.asarray((a * b).sum(axis=-1) / np.where(norm > 0, norm, np.nan))


def _scores(limb_qrst: Float, limb_p: Float, chest_qrst: Float) -> Float:
    """Compute the scores of LA/RA and RA/LL.

    Parameters
    ----------
    limb_qrst : ndarray, shape (n, 2, W)
        QRS-T of I and II.
    limb_p : ndarray, shape (n, 2)
        P of I and II.
    chest_qrst : ndarray, shape (n, 2, W)
        QRS-T of V6 and V5.

    Returns
    -------
    ndarray, shape (n, 2)
    """
    weight = np.array([thresholds.P_WEIGHT["LA/RA"], thresholds.P_WEIGHT["RA/LL"]])
    return np.asarray(_cosine(limb_qrst, chest_qrst) + weight * np.tanh(limb_p / thresholds.P_SCALE))


def check_limb_swaps(block: Block) -> Findings:
    """Find exchanged limb electrodes. If both exchanges are possible, report the one whose correction scores better."""
    if not block.has("I", "II", "V5", "V6"):
        return
    limb_rows = [block.row("I"), block.row("II")]
    chest_rows = [block.row("V6"), block.row("V5")]
    qrst, p = block.waves
    limb_qrst = qrst[:, limb_rows]
    limb_p = p[:, limb_rows]
    chest_qrst = qrst[:, chest_rows]
    score = _scores(limb_qrst, limb_p, chest_qrst)
    minimum = np.array([thresholds.SWAP_LA_RA, thresholds.SWAP_RA_LL])
    is_low = score < minimum

    # Correct each exchange and compute the scores again. The rows of a matrix give the true I and II:
    # -I and III after an exchange of LA and RA; -III and -II after an exchange of RA and LL.
    margins = []
    for correction in (np.array([[-1.0, 0.0], [-1.0, 1.0]]), np.array([[1.0, -1.0], [0.0, -1.0]])):
        corrected_score = _scores(correction @ limb_qrst, limb_p @ correction.T, chest_qrst)
        margins.append((corrected_score - minimum).min(axis=1))
    best_correction = np.argmax(np.nan_to_num(margins, nan=-9.0), axis=0)
    swap = np.where(is_low.all(axis=1), best_correction, is_low.argmax(axis=1))

    axis = _axis(block, qrst)
    cosine = _cosine(limb_qrst, chest_qrst)
    for row in np.flatnonzero(is_low.any(axis=1)):
        if swap[row] == 0:
            code = "swap_la_ra"
            electrodes = "LA/RA"
            lead = "I"
            chest_lead = "V6"
            affected = ("I", "II", "III", "aVR", "aVL")
            alternative = "a heart on the right"
        else:
            code = "swap_ra_ll"
            electrodes = "RA/LL"
            lead = "II"
            chest_lead = "V5"
            affected = ("I", "II", "III", "aVR", "aVF")
            alternative = "a rhythm from below"
        column = int(swap[row])
        value = float(score[row, column])
        threshold = float(minimum[column])
        evidence = (
            f"{electrodes}: {lead} and {chest_lead} agree at {cosine[row, column]:.2f}, P in {lead} is "
            f"{limb_p[row, column]:.3f} mV, QRS axis {axis[row]:.0f}°: score {value:.2f}, expected {threshold:g} "
            f"at least (or {alternative})"
        )
        leads = tuple(name for name in affected if name in block.leads)
        yield int(row), Finding(code, "warning", leads, value, threshold, evidence)


def _axis(block: Block, qrst: Float) -> Float:
    """Return the frontal axis in degrees ``(n,)``; NaN if lead I or aVF is missing."""
    if not block.has("I", "aVF"):
        return np.full(len(block.x), np.nan)
    area = qrst.sum(axis=-1)
    return frontal_axis(area[:, block.row("I")], area[:, block.row("aVF")])


def check_right_leg(block: Block) -> Findings:
    """Find records in which lead II is between the two legs and has no voltage."""
    if not block.has("I", "II", "III"):
        return
    qrst, _ = block.waves
    size = np.ptp(qrst, axis=-1)
    other_size = (size[:, block.row("I")] + size[:, block.row("III")]) / 2
    minimum_size, _ = thresholds.AMPLITUDE
    ratio = size[:, block.row("II")] / np.where(other_size > minimum_size, other_size, np.nan)
    for row in np.flatnonzero(ratio < thresholds.SWAP_RA_RL):
        value = float(ratio[row])
        evidence = f"QRS of II is {value:.1%} of those of I and III; expected {thresholds.SWAP_RA_RL:.0%} at least"
        yield int(row), Finding("swap_ra_rl", "warning", ("II",), value, thresholds.SWAP_RA_RL, evidence)


def check_chest_swaps(block: Block) -> Findings:
    """Find two neighbouring chest leads that fit their neighbours better if they are exchanged."""
    if not block.has(*CHEST):
        return

    # Correlations between all pairs of chest leads.
    chest_rows = [block.row(lead) for lead in CHEST]
    qrst, _ = block.waves
    chest_qrst = qrst[:, chest_rows]
    normalized = chest_qrst / np.maximum(np.linalg.norm(chest_qrst, axis=-1, keepdims=True), 1e-6)
    correlation = np.einsum("niw,njw->nij", normalized, normalized)

    def sum_over_neighbours(order: list[int]) -> Float:
        return np.asarray(correlation[:, order[:-1], order[1:]].sum(axis=1))

    # Exchange each pair of neighbours, and measure how much the sum of the correlations rises.
    sum_as_named = sum_over_neighbours(list(range(6)))
    gains = []
    for first in range(5):
        order = list(range(6))
        order[first], order[first + 1] = first + 1, first
        gains.append(sum_over_neighbours(order) - sum_as_named)
    gain = np.stack(gains)

    maximum = np.array(list(thresholds.SWAP_CHEST.values()))
    have_voltage = block.has_voltage[:, chest_rows].all(axis=1)
    for row in np.flatnonzero((gain > maximum[:, None]).any(axis=0) & have_voltage):
        best = int((gain[:, row] - maximum).argmax())
        value = float(gain[best, row])
        threshold = float(maximum[best])
        leads = (CHEST[best], CHEST[best + 1])
        evidence = (
            f"exchanging {leads[0]} and {leads[1]} raises the likeness of neighbours by {value:.2f}; "
            f"expected {threshold:g} at most"
        )
        yield int(row), Finding("swap_chest", "caution", leads, value, threshold, evidence)
