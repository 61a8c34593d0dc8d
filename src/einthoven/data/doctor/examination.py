"""The examination: all checks over a block of records, one record, or a whole store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import noise, plausible, samples, swap, thresholds
from einthoven.data.doctor.finding import SEVERITIES, Block, Check, Finding
from einthoven.data.formats.record import Record
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT, Store
from einthoven.errors import UserError
from einthoven.functional.beats import Float, beat_and_repeatability, detect_beats, heart_rate
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

CHECKS: tuple[Check, ...] = (
    samples.check_invalid,
    samples.check_flat,
    samples.check_clipped,
    samples.check_disconnected,
    samples.check_limb_laws,
    samples.check_unit,
    swap.check_limb_swaps,
    swap.check_right_leg,
    swap.check_chest_swaps,
    plausible.check_fs,
    plausible.check_ecg,
    plausible.check_spikes,
)

SAMPLES_AT_ONCE = 2_000_000  # of all leads together: about 200 MB while they are examined


def block_of(x: NDArray[np.floating], fs: float, leads: Sequence[str]) -> Block:
    """Records ``(n, L, T)`` in mV with their beats."""
    finite = np.isfinite(x)
    signal: Float = np.where(finite, x, 0.0).astype(np.float64)
    piece = min(max(round(2 * fs), 1), x.shape[-1])
    pieces = signal[..., : x.shape[-1] // piece * piece].reshape(*x.shape[:-1], -1, piece)
    beats = detect_beats(signal, fs)
    beat, repeats = beat_and_repeatability(signal, beats, fs)
    return Block(
        x=signal,
        invalid=1.0 - finite.mean(axis=-1),
        fs=fs,
        leads=tuple(leads),
        beats=beats,
        beat=beat,
        repeats=repeats,
        span=np.median(np.ptp(pieces, axis=-1), axis=-1),
    )


def examine(x: NDArray[np.floating], fs: float, leads: Sequence[str] = LEADS) -> list[list[Finding]]:
    """Examine records of one length.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        mV; NaN where a sample is invalid.
    fs : float
        Hz.
    leads : sequence of str
        Names of the L leads.

    Returns
    -------
    list of list of Finding
        For each record, the most serious first.
    """
    block = block_of(x, fs, leads)
    return _examine(block, noise.measure_noise(block))


def _examine(block: Block, decibels: noise.Noise) -> list[list[Finding]]:
    found: list[list[Finding]] = [[] for _ in range(len(block.x))]
    for row, finding in chain(*(check(block) for check in CHECKS), noise.check_noise(block, decibels)):
        found[row].append(finding)
    return [sort(findings) for findings in found]


def sort(findings: Sequence[Finding]) -> list[Finding]:
    """The most serious first."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def examine_record(record: Record) -> list[Finding]:
    """Examine one record as it was read: its leads, its samples, what its header says, and what stays unknown."""
    return examine_records([record])[0]


def examine_records(records: Sequence[Record]) -> list[list[Finding]]:
    """Examine records as `examine_record` does, those of one length, rate and set of leads together: that is faster."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for row, record in enumerate(records):
        alike.setdefault((record.signal.shape, record.fs, record.leads), []).append(row)
    found: list[list[Finding]] = [[] for _ in records]
    for rows in alike.values():
        first = records[rows[0]]
        together = examine(np.stack([records[row].signal for row in rows]), first.fs, first.leads)
        for row, findings in zip(rows, together, strict=True):
            found[row] = sort(findings + _of_the_file(records[row]))
    return found


def _of_the_file(record: Record) -> list[Finding]:
    """What its header says, which leads are missing, and what stays unknown."""
    found = plausible.known_cautions(*plausible.from_comments(record.comments))
    if missing := tuple(lead for lead in LEADS if lead not in record.leads):
        text = f"{len(record.leads)} of 12 leads: {' '.join(missing)} missing"
        found.append(Finding("missing_leads", "warning", missing, float(len(record.leads)), 12.0, text))
    return found + unmeasurable(record.fs)


def unmeasurable(fs: float) -> list[Finding]:
    """What this sampling frequency hides: not measured is not the same as not there."""
    hidden = [f"{kind} noise" for kind, can in noise.measurable(fs).items() if not can]
    if fs < thresholds.SPIKE_FS:
        hidden.append("pacing spikes")
    if not hidden:
        return []
    text = f"{' and '.join(hidden)} cannot be measured at {fs:g} Hz"
    return [Finding("unmeasurable", "info", (), fs, float("nan"), text)]


def examine_store(store: Store, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Examine every record of a store, in blocks.

    Returns
    -------
    DataFrame
        One row per record: `ecg_id`, `heart_rate` (per minute), `baseline_db`, `powerline_db`, `muscle_db` (ECG over
        noise in the worst lead), `severity` (of the worst finding, empty where there is none) and `findings`, a list
        of records with the attributes of `Finding`.
    """
    import pandas as pd

    table = store.table
    n, leads, length = store.signals.shape
    valid = table["valid_samples"].to_numpy() if "valid_samples" in table else np.full(n, length)
    cautions = _of_the_table(table)
    rows: list[dict[str, object]] = [{} for _ in range(n)]
    done = 0
    for count in np.unique(valid):  # records of one length: padding is no flat line
        of = np.flatnonzero(valid == count)
        step = max(SAMPLES_AT_ONCE // (leads * max(int(count), 1)), 1)
        for start in range(0, len(of), step):
            part = of[start : start + step]
            block = block_of(store.signals[part][:, :, :count] * MILLIVOLT_PER_COUNT, store.fs, store.leads)
            rate, decibels = heart_rate(block.beats, store.fs), noise.measure_noise(block)
            for k, (row, findings) in enumerate(zip(part, _examine(block, decibels), strict=True)):
                both = sort(findings + cautions[row] + _counted(table, int(row)))
                rows[row] = {
                    "heart_rate": rate[k],
                    **{f"{kind}_db": _least(values[k]) for kind, values in decibels._asdict().items()},
                    "severity": both[0].severity if both else "",
                    "findings": [vars(finding) | {"leads": list(finding.leads)} for finding in both],
                }
            done += len(part)
            if progress is not None:
                progress(done, n)
    return pd.DataFrame(rows).assign(ecg_id=table["ecg_id"].to_numpy())


def _least(values: NDArray[np.floating]) -> float:
    return float(np.nanmin(values)) if np.isfinite(values).any() else float("nan")


def _of_the_table(table: pd.DataFrame) -> list[list[Finding]]:
    n = len(table)
    age = table["age"].to_numpy(dtype=float) if "age" in table else np.full(n, np.nan)
    pacemaker, codes = (table[name] if name in table else [""] * n for name in ("pacemaker", "scp_codes"))
    return plausible.from_table(age, pacemaker, codes)


def _counted(table: pd.DataFrame, row: int) -> list[Finding]:
    """What was counted when the store was packed and is no longer visible in it."""
    out = []
    for column, code, severity, what in (
        ("invalid_samples", "invalid", "caution", "samples marked invalid, kept as 0"),
        ("clipped_samples", "clipped", "warning", "samples beyond ±32.767 mV, cut off there"),
    ):
        if column in table and (count := int(table[column].iloc[row])):
            out.append(Finding(code, severity, (), float(count), 0.0, f"{count} {what}"))
    return out


def read_and_examine(read: Callable[..., Record], path: str | Path, **options: object) -> tuple[Record, list[Finding]]:
    """Read a record with the leads it has, and examine it.

    Raises
    ------
    UserError
        If it cannot be read at all, in the words of the reader.
    """
    try:
        record = read(path, **options)
    except UserError:
        present = tuple(lead for lead in LEADS if _can_read(read, path, lead, options))
        if not present or len(present) == len(LEADS):
            raise
        record = read(path, want=present, **options)
    return record, examine_record(record)


def _can_read(read: Callable[..., Record], path: str | Path, lead: str, options: dict[str, object]) -> bool:
    try:
        read(path, want=(lead,), **options)
    except UserError:
        return False
    return True
