"""Checks of the samples themselves: invalid, flat, stuck, clipped, disconnected; limb-lead laws; unit."""

from __future__ import annotations

import numpy as np

from einthoven.data.doctor import thresholds as limit
from einthoven.data.doctor.finding import Block, Finding, Found, by_lead, longest_run
from einthoven.functional.beats import Float


def check_invalid(block: Block) -> Found:
    """Samples that are not numbers."""
    text = "{value:.1%} of the samples of {lead} are invalid; half a lead lost is an error"
    for severity, bad in (
        ("error", block.invalid > limit.INVALID),
        ("caution", (block.invalid > 0) & (block.invalid <= limit.INVALID)),
    ):
        yield from by_lead(block, "invalid", severity, bad, block.invalid, limit.INVALID, text)


def check_flat(block: Block) -> Found:
    """Leads without voltage, and leads that stand still for a while."""
    whole = np.ptp(block.x, axis=-1)
    flat = (whole < limit.FLAT) & (block.invalid < 1)
    text = "{lead} spans {value:.3f} mV in all; expected {limit:g} mV at least"
    yield from by_lead(block, "flat", "error", flat, whole, limit.FLAT, text)
    bad = (block.still >= limit.STUCK) & ~flat & (block.invalid == 0)
    text = "{lead} keeps one value for {value:.2f} s; expected less than {limit:g} s"
    yield from by_lead(block, "stuck", "warning", bad, block.still, limit.STUCK, text)


def check_clipped(block: Block) -> Found:
    """Leads that stay at their largest or smallest value: an amplifier or a file format at its end."""
    there = [block.x == end(block.x, axis=-1, keepdims=True) for end in (np.max, np.min)]
    held = np.zeros(block.x.shape[:2])
    often = np.maximum(*(at.sum(axis=-1) for at in there)) >= limit.CLIPPED * block.fs  # no run is longer than that
    held[often] = np.maximum(*(longest_run(at[often]) for at in there)) / block.fs
    bad = (held >= limit.CLIPPED) & block.live & (block.still < limit.STUCK) & (block.invalid == 0)
    text = "{lead} stays at its extreme for {value:.3f} s; expected less than {limit:g} s"
    yield from by_lead(block, "clipped", "warning", bad, held, limit.CLIPPED, text)


def check_disconnected(block: Block) -> Found:
    """Leads in which nothing follows the heartbeat that the others show."""
    if len(block.leads) < 3:
        return
    known = np.where(np.isfinite(block.repeats), block.repeats, 0.0)
    others = np.median(known, axis=1) >= limit.OTHERS_FOLLOW
    bad = others[:, None] & (block.repeats < limit.FOLLOWS) & block.live
    text = "the means of two halves of the beats of {lead} correlate at {value:.2f}; expected {limit:g} at least"
    yield from by_lead(block, "disconnected", "warning", bad, block.repeats, limit.FOLLOWS, text)


LAWS = {  # law -> coefficients: their sum over the leads is zero (Einthoven 1913; Goldberger 1942)
    "I + III = II": {"I": 1.0, "III": 1.0, "II": -1.0},
    "aVR = -(I + II)/2": {"aVR": 1.0, "I": 0.5, "II": 0.5},
    "aVL = (I - III)/2": {"aVL": 1.0, "I": -0.5, "III": 0.5},
    "aVF = (II + III)/2": {"aVF": 1.0, "II": -0.5, "III": -0.5},
    "aVR + aVL + aVF = 0": {"aVR": 1.0, "aVL": 1.0, "aVF": 1.0},
}


def check_limb_laws(block: Block) -> Found:
    """Limb leads that contradict each other: a lead renamed, turned in sign, scaled apart or not simultaneous."""
    limb = [k for k, lead in enumerate(block.leads) if not lead.startswith("V")]
    laws = {law: terms for law, terms in LAWS.items() if block.has(*terms)}
    if not laws:
        return
    size = np.sqrt(block.x[:, limb].var(axis=-1).mean(axis=1))
    left: dict[str, Float] = {
        law: sum((c * block.x[:, block.at(lead)] for lead, c in terms.items()), np.zeros(1)).std(axis=-1)
        for law, terms in laws.items()
    }
    allowed = np.maximum(limit.LAW_PART * size, limit.LAW_LEAST)
    worst = np.stack(list(left.values())).max(axis=0)
    for row in np.flatnonzero(worst > allowed):
        broken = [law for law, residual in left.items() if residual[row] > allowed[row]]
        law = max(broken, key=lambda name: left[name][row])
        names = tuple(lead for lead in block.leads if any(lead in LAWS[name] for name in broken))
        evidence = (
            f"{law} fails by {worst[row]:.3f} mV RMS; expected {allowed[row]:.3f} at most"
            f"{'' if len(broken) == 1 else f', as {len(broken) - 1} more of the {len(laws)} laws do'}"
        )
        yield int(row), Finding("limb_law", "warning", names, float(worst[row]), float(allowed[row]), evidence)


def check_unit(block: Block) -> Found:
    """Amplitudes that no heart makes: the numbers were in another unit than the file says."""
    spans = np.where(block.span > 0, block.span, np.nan)  # not `live`: in volts, every lead seems flat
    rows = np.flatnonzero((block.span > 0).any(axis=1))
    low, high = limit.AMPLITUDE
    for row in rows:
        level = float(np.nanmedian(spans[row]))
        if low <= level <= high:
            continue
        factor, unit = min(limit.UNITS.items(), key=lambda item: abs(np.log(level * item[0] / limit.TYPICAL)))
        guess = level * factor
        hint = f"; taken as {unit} it would be {guess:.2g} mV" if low <= guess <= high else ""
        evidence = f"median amplitude of the leads {level:.3g} mV; expected {low:g} to {high:g} mV{hint}"
        yield int(row), Finding("unit", "warning", (), level, high if level > high else low, evidence)
