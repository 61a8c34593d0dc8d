"""What the record doctor finds in real records that were spoilt on purpose, and in the same records untouched.

    python bench/bench_doctor.py PTBXL_ROOT

Thresholds were set on records with an odd ecg_id; the figures are of those with an even one, at 100 Hz. Prints the part
of spoilt records in which the spoiling is found (sensitivity), the part of all untouched records with the same finding
(false alarms: records that truly have the fault are counted, too), and the records examined per minute.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import Finding, examine
from einthoven.data.formats.reading import read_record
from einthoven.data.sources.labels import read_database
from einthoven.functional.leads import LEADS

Float = NDArray[np.float64]
AT_ONCE = 128


def exchange(x: Float, potentials: list[int], chest: list[int] | None = None) -> Float:
    """The twelve leads with the limb electrodes RA, LA, LL in another order, and the chest electrodes as well."""
    i, ii = x[:, 0], x[:, 1]
    electrodes = np.stack([-(i + ii) / 3, (2 * i - ii) / 3, (2 * ii - i) / 3])[potentials]
    ra, la, ll = electrodes
    limb = [la - ra, ll - ra, ll - la, 1.5 * ra, 1.5 * la, 1.5 * ll]
    return np.concatenate([np.stack(limb, axis=1), x[:, 6:][:, chest or list(range(6))]], axis=1)


def right_leg(x: Float) -> Float:
    """RA on the right leg, whose potential is that of the left leg: II is zero, I becomes -III."""
    i, ii, chest = -x[:, 2], np.zeros_like(x[:, 1]), x[:, 6:]
    limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
    return np.concatenate([np.stack(limb, axis=1), chest], axis=1)


def with_v3(x: Float, values: Float | float) -> Float:
    out = x.copy()
    out[:, 8] = values
    return out


def examined(x: Float, fs: float = 100.0) -> list[list[Finding]]:
    return [found for k in range(0, len(x), AT_ONCE) for found in examine(x[k : k + AT_ONCE], fs)]


def part_with(findings: list[list[Finding]], code: str, lead: str = "") -> float:
    return float(np.mean([any(f.code == code and (not lead or lead in f.leads) for f in found) for found in findings]))


def main(root: Path) -> None:
    table = read_database(root / "ptbxl_database.csv")
    table = table[table["ecg_id"] % 2 == 0]
    x = np.stack([read_record(root / name).signal for name in table["filename_lr"]]).astype(np.float64)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    untouched = examined(x)
    rate = 60 * len(x) / (time.perf_counter() - start)
    noise = rng.normal(0.0, 0.15, x[:, 8].shape)
    spoilt: list[tuple[str, str, str, Float, float]] = [
        ("LA and RA exchanged", "swap_la_ra", "", exchange(x, [1, 0, 2]), 100.0),
        ("RA and LL exchanged", "swap_ra_ll", "", exchange(x, [2, 1, 0]), 100.0),
        ("RA and RL exchanged", "swap_ra_rl", "", right_leg(x), 100.0),
        ("µV written as mV (×1000)", "unit", "", x * 1e3, 100.0),
        ("V written as mV (×0.001)", "unit", "", x * 1e-3, 100.0),
        ("V3 flat", "flat", "V3", with_v3(x, 0.0), 100.0),
        ("V3 white noise of 0.15 mV", "disconnected", "V3", with_v3(x, noise), 100.0),
        ("V3 cut off at ±0.3 mV", "clipped", "V3", with_v3(x, np.clip(x[:, 8], -0.3, 0.3)), 100.0),
        ("aVR turned (-aVR)", "limb_law", "aVR", x * np.where(np.arange(12) == 3, -1.0, 1.0)[:, None], 100.0),
        ("100 Hz stated as 250 Hz", "fs", "", x, 250.0),
        ("100 Hz stated as 500 Hz", "fs", "", x, 500.0),
    ]
    for k in range(5):
        order = list(range(6))
        order[k], order[k + 1] = k + 1, k
        a, b = LEADS[6 + k], LEADS[7 + k]
        spoilt.append((f"{a} and {b} exchanged", "swap_chest", a, exchange(x, [0, 1, 2], order), 100.0))
    print(f"{len(x)} real records at 100 Hz, even ecg_id")
    print(f"{'spoilt':28} {'finding':14} sensitivity  false alarms")
    for name, code, lead, signal, fs in spoilt:
        found = part_with(examined(signal, fs), code, lead)
        print(f"{name:28} {code:14} {found:11.3f}  {part_with(untouched, code):12.4f}")
    three = ("swap_la_ra", "unit", "flat")
    any_of = np.mean([any(f.code in three for f in found) for found in untouched])
    strict = np.mean([any(f.severity in ("warning", "error") for f in found) for found in untouched])
    print(f"untouched with any of {', '.join(three)}: {any_of:.4f}; with any warning or error: {strict:.4f}")
    told = table["electrodes_problems"].notna().to_numpy()
    flagged = sum(any(f.severity in ("warning", "error") for f in untouched[row]) for row in np.flatnonzero(told))
    print(f"records whose readers noted electrode problems: {told.sum()}, of which {flagged} have a warning")
    print(f"{rate:.0f} records a minute")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
