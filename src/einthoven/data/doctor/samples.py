"""Check the samples: invalid, flat, stuck, clipped and disconnected leads; limb-lead laws; unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import thresholds
from einthoven.data.doctor.finding import Block, Finding, Findings, findings_by_lead, longest_run
from einthoven.functional.beats import Float


def check_invalid(block: Block) -> Findings:
    """Find leads with samples that are not numbers."""
    fraction = block.invalid_fraction
    text = "{value:.1%} of the samples of {lead} are invalid; half a lead lost is an error"
    is_lost = fraction > thresholds.INVALID
    yield from findings_by_lead(block, "invalid", "error", is_lost, fraction, thresholds.INVALID, text)
    is_partly_lost = (fraction > 0) & (fraction <= thresholds.INVALID)
    yield from findings_by_lead(block, "invalid", "caution", is_partly_lost, fraction, thresholds.INVALID, text)


def check_flat(block: Block) -> Findings:
    """Find leads without voltage, and leads that keep one value for a while."""
    span = np.ptp(block.x, axis=-1)
    is_flat = (span < thresholds.FLAT) & (block.invalid_fraction < 1)
    text = "{lead} spans {value:.3f} mV in all; expected {limit:g} mV at least"
    yield from findings_by_lead(block, "flat", "error", is_flat, span, thresholds.FLAT, text)

    # The block has a zero for each invalid sample. Several zeros in a row look stuck, so such leads are left out.
    is_stuck = (block.longest_still >= thresholds.STUCK) & ~is_flat & (block.invalid_fraction == 0)
    text = "{lead} keeps one value for {value:.2f} s; expected less than {limit:g} s"
    yield from findings_by_lead(block, "stuck", "warning", is_stuck, block.longest_still, thresholds.STUCK, text)


def check_clipped(block: Block) -> Findings:
    """Find leads that stay at their largest or smallest value: the limit of an amplifier or of a file format."""
    is_largest = block.x == np.max(block.x, axis=-1, keepdims=True)
    is_smallest = block.x == np.min(block.x, axis=-1, keepdims=True)

    # Search only the leads with enough samples at an extreme value. This skips most leads and saves time.
    count = np.maximum(is_largest.sum(axis=-1), is_smallest.sum(axis=-1))
    is_candidate = count >= thresholds.CLIPPED * block.fs
    seconds = np.zeros(block.x.shape[:2])
    longest = np.maximum(longest_run(is_largest[is_candidate]), longest_run(is_smallest[is_candidate]))
    seconds[is_candidate] = longest / block.fs

    is_moving = block.has_voltage & (block.longest_still < thresholds.STUCK)
    is_clipped = (seconds >= thresholds.CLIPPED) & is_moving & (block.invalid_fraction == 0)
    text = "{lead} stays at its extreme for {value:.3f} s; expected less than {limit:g} s"
    yield from findings_by_lead(block, "clipped", "warning", is_clipped, seconds, thresholds.CLIPPED, text)


def check_disconnected(block: Block) -> Findings:
    """Find leads that do not follow the heartbeat, in records whose other leads do."""
    if len(block.leads) < 3:
        return
    # A lead whose repeatability cannot be measured (NaN) counts as a lead that does not follow the heartbeat.
    repeatability = np.where(np.isfinite(block.repeatability), block.repeatability, 0.0)
    others_follow = np.median(repeatability, axis=1) >= thresholds.OTHERS_FOLLOW
    # A lead that is mostly invalid does not follow the heartbeat, but `check_invalid` reports the reason.
    is_measured = block.has_voltage & (block.invalid_fraction <= thresholds.INVALID)
    is_disconnected = others_follow[:, None] & (block.repeatability < thresholds.FOLLOWS) & is_measured
    text = "the means of two halves of the beats of {lead} correlate at {value:.2f}; expected {limit:g} at least"
    yield from findings_by_lead(
        block, "disconnected", "warning", is_disconnected, block.repeatability, thresholds.FOLLOWS, text
    )


LAWS = {
    "I + III = II": {"I": 1.0, "III": 1.0, "II": -1.0},
    "aVR = -(I + II)/2": {"aVR": 1.0, "I": 0.5, "II": 0.5},
    "aVL = (I - III)/2": {"aVL": 1.0, "I": -0.5, "III": 0.5},
    "aVF = (II + III)/2": {"aVF": 1.0, "II": -0.5, "III": -0.5},
    "aVR + aVL + aVF = 0": {"aVR": 1.0, "aVL": 1.0, "aVF": 1.0},
}
"""Law -> weights of the leads. The weighted sum of the leads is zero (Einthoven 1913; Goldberger 1942)."""


def check_limb_laws(block: Block) -> Findings:
    """Find limb leads that contradict each other: with wrong names, inverted, scaled, or not simultaneous."""
    laws = {law: coefficients for law, coefficients in LAWS.items() if block.has(*coefficients)}
    if not laws:
        return

    # The weighted sum of a law should be zero. Its RMS is the error of the law, at the times at which all of its leads
    # are valid.
    residuals: dict[str, Float] = {}
    for law, coefficients in laws.items():
        weighted_sum = np.zeros(1)
        for lead, coefficient in coefficients.items():
            weighted_sum = weighted_sum + coefficient * block.x[:, block.row(lead)]
        rows = [block.row(lead) for lead in coefficients]
        is_valid = np.asarray(block.is_valid[:, rows].all(axis=1))
        residuals[law] = _std(weighted_sum, is_valid)

    # The allowed error is a fraction of the amplitude, but never less than the rounding error of coarse recorders.
    limb_rows = [row for row, lead in enumerate(block.leads) if not lead.startswith("V")]
    limb_deviations = _std(block.x[:, limb_rows], block.is_valid[:, limb_rows])
    amplitude = np.sqrt(np.square(limb_deviations).mean(axis=1))
    allowed = np.maximum(thresholds.LAW_PART * amplitude, thresholds.LAW_LEAST)
    worst_error = np.stack(list(residuals.values())).max(axis=0)
    for row in np.flatnonzero(worst_error > allowed):
        broken = [law for law, residual in residuals.items() if residual[row] > allowed[row]]
        worst_law = max(broken, key=lambda law: residuals[law][row])
        leads = tuple(lead for lead in block.leads if any(lead in LAWS[law] for law in broken))
        others = "" if len(broken) == 1 else f", as {len(broken) - 1} more of the {len(laws)} laws do"
        evidence = f"{worst_law} fails by {worst_error[row]:.3f} mV RMS; expected {allowed[row]:.3f} at most{others}"
        yield int(row), Finding("limb_law", "warning", leads, float(worst_error[row]), float(allowed[row]), evidence)


def _std(x: Float, is_valid: NDArray[np.bool_]) -> Float:
    """Return the standard deviation of the valid samples along the last axis; 0 if there are none."""
    if is_valid.all():
        return np.asarray(x.std(axis=-1))
    count = np.maximum(is_valid.sum(axis=-1), 1)
    mean = np.where(is_valid, x, 0.0).sum(axis=-1) / count
    squares = np.where(is_valid, np.square(x - mean[..., None]), 0.0).sum(axis=-1)
    return np.asarray(np.sqrt(squares / count))


def check_unit(block: Block) -> Findings:
    """Find amplitudes that are impossible for a heart. The file probably states the wrong unit."""
    # `has_voltage` does not help here: if the numbers are volts, every lead seems to be flat.
    spans = np.where(block.span > 0, block.span, np.nan)
    low, high = thresholds.AMPLITUDE
    for row in np.flatnonzero((block.span > 0).any(axis=1)):
        amplitude = float(np.nanmedian(spans[row]))
        if low <= amplitude <= high:
            continue

        # Suggest the unit in which the amplitude is closest to a typical amplitude.
        factor, unit = min(
            thresholds.UNITS.items(), key=lambda item: abs(np.log(amplitude * item[0] / thresholds.TYPICAL))
        )
        converted = amplitude * factor
        hint = f"; taken as {unit} it would be {converted:.2g} mV" if low <= converted <= high else ""
        number = f"{amplitude:,.0f}" if amplitude >= 1000 else f"{amplitude:.3g}"
        evidence = f"median amplitude of the leads {number} mV; expected {low:g} to {high:g} mV{hint}"
        passed_limit = high if amplitude > high else low
        yield int(row), Finding("unit", "warning", (), amplitude, passed_limit, evidence)
