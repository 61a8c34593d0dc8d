"""Run all checks on a block of records, on one record, or on a whole store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import noise, plausible, samples, swap
from einthoven.data.doctor.finding import SEVERITIES, Block, Check, Finding
from einthoven.data.formats.record import Record
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT, Store
from einthoven.errors import UserError
from einthoven.functional.beats import SLOWEST_FS, Float, detect_beats, heart_rate
from einthoven.functional.leads import LEADS
from einthoven.functional.representative_beat import beat_and_repeatability
from einthoven.functional.rhythm import SPIKE_FS

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

SAMPLES_AT_ONCE = 2_000_000
"""Samples of all leads that are examined together. The examination of so many needs about 200 MB."""


def _make_block(
    x: NDArray[np.floating], fs: float, leads: Sequence[str], is_valid: NDArray[np.bool_] | None = None
) -> Block:
    """Detect the beats of records, and compute the quantities that the checks share.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        mV; NaN where a sample is invalid.
    fs : float
        Hz.
    leads : sequence of str
        Names of the L leads.
    is_valid : ndarray of bool, shape (n, L, T), optional
        Whether a sample is valid. By default, the finite samples are.
    """
    is_finite = np.isfinite(x)
    signal: Float = np.where(is_finite, x, 0.0).astype(np.float64)

    # Cut the signal into pieces of two seconds for the typical amplitude.
    length = x.shape[-1]
    piece = min(max(round(2 * fs), 1), length)
    pieces = signal[..., : length // piece * piece].reshape(*x.shape[:-1], -1, piece)

    beats = detect_beats(signal, fs)
    beat, repeatability = beat_and_repeatability(signal, beats, fs)
    return Block(
        x=signal,
        is_valid=is_finite if is_valid is None else is_valid,
        invalid_fraction=1.0 - is_finite.mean(axis=-1),
        fs=fs,
        leads=tuple(leads),
        beats=beats,
        beat=beat,
        repeatability=repeatability,
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
        The findings of each record. The most serious ones come first.
    """
    too_slow = too_slow_to_examine(fs)
    if too_slow:
        return [list(too_slow) for _ in x]
    block = _make_block(x, fs, leads)
    return _run_checks(block, noise.measure_noise(block))


def too_slow_to_examine(fs: float) -> list[Finding]:
    """Return a finding if the sampling frequency is too low for all checks. The beats cannot be detected then."""
    if fs >= SLOWEST_FS:
        return []
    text = f"{fs:g} Hz is too slow to show the waves of a beat; expected {SLOWEST_FS:g} Hz at least; no check was made"
    return [Finding("fs", "error", (), fs, SLOWEST_FS, text)]


def _run_checks(block: Block, decibels: noise.Noise) -> list[list[Finding]]:
    """Run all checks on a block whose noise is already measured."""
    findings: list[list[Finding]] = [[] for _ in range(len(block.x))]
    results = chain(*(check(block) for check in CHECKS), noise.check_noise(block, decibels))
    for row, finding in results:
        findings[row].append(finding)
    return [sort(record_findings) for record_findings in findings]


def sort(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings: the most serious ones come first."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def examine_record(record: Record) -> list[Finding]:
    """Examine the samples and leads of a record, its header, and what its sampling frequency hides."""
    return examine_records([record])[0]


def examine_records(records: Sequence[Record]) -> list[list[Finding]]:
    """Examine several records as `examine_record` does.

    Records with the same length, sampling frequency and leads are examined together, which is faster.
    """
    rows_by_layout: dict[tuple[object, ...], list[int]] = {}
    for row, record in enumerate(records):
        rows_by_layout.setdefault((record.signal.shape, record.fs, record.leads), []).append(row)

    findings: list[list[Finding]] = [[] for _ in records]
    for rows in rows_by_layout.values():
        first = records[rows[0]]
        signals = np.stack([records[row].signal for row in rows])
        signal_findings = examine(signals, first.fs, first.leads)
        for row, record_findings in zip(rows, signal_findings, strict=True):
            findings[row] = sort(record_findings + _check_metadata(records[row]))
    return findings


def _check_metadata(record: Record) -> list[Finding]:
    """Return findings about header, missing leads, what the reader left out, and what the sampling frequency hides."""
    findings = plausible.patient_cautions(*plausible.from_comments(record.comments))
    missing = tuple(lead for lead in LEADS if lead not in record.leads)
    if missing:
        text = f"{len(record.leads)} of 12 leads: {' '.join(missing)} missing"
        findings.append(Finding("missing_leads", "warning", missing, float(len(record.leads)), 12.0, text))
    nan = float("nan")
    findings += [Finding("reading", "info", (), nan, nan, caution) for caution in record.cautions]
    return findings + unmeasurable(record.fs)


def unmeasurable(fs: float) -> list[Finding]:
    """Return a finding that names what cannot be measured at this sampling frequency.

    Without it, a reader could take a fault that was not measured for a fault that is absent.
    """
    hidden = [f"{kind} noise" for kind, is_measurable in noise.measurable(fs).items() if not is_measurable]
    if fs < SPIKE_FS:
        hidden.append("pacing spikes")
    if not hidden:
        return []
    text = f"{' and '.join(hidden)} cannot be measured at {fs:g} Hz"
    return [Finding("unmeasurable", "info", (), fs, float("nan"), text)]


def examine_store(store: Store, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Examine every record of a store, in blocks.

    Parameters
    ----------
    store : Store
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    DataFrame
        One row per record: `ecg_id`, `heart_rate` (per minute), `baseline_db`, `powerline_db`, `muscle_db` (ECG over
        noise in the worst lead), `severity` (of the worst finding; empty if there is none) and `findings`, a list of
        dicts with the attributes of `Finding`.
    """
    import pandas as pd

    table = store.table
    n, leads, length = store.signals.shape
    valid_samples = table["valid_samples"].to_numpy() if "valid_samples" in table else np.full(n, length)
    cautions = _table_cautions(table)
    rows: list[dict[str, object]] = [{} for _ in range(n)]
    too_slow = too_slow_to_examine(store.fs)
    if too_slow:
        return _unexamined(table, too_slow)
    done = 0

    # Records of one length are examined together, without their padding, which would look like a flat line.
    for valid_length in np.unique(valid_samples):
        same_length = np.flatnonzero(valid_samples == valid_length)
        step = max(SAMPLES_AT_ONCE // (leads * max(int(valid_length), 1)), 1)
        for start in range(0, len(same_length), step):
            part = same_length[start : start + step]
            signals = store.signals[part][:, :, :valid_length] * MILLIVOLT_PER_COUNT
            block = _make_block(signals, store.fs, store.leads, _stored_validity(table.iloc[part], signals))
            rate = heart_rate(block.beats, store.fs)
            decibels = noise.measure_noise(block)
            block_findings = _run_checks(block, decibels)
            for index, row in enumerate(part):
                findings = sort(block_findings[index] + cautions[row] + _packing_findings(table, int(row)))
                result: dict[str, object] = {"heart_rate": rate[index]}
                for kind, values in decibels._asdict().items():
                    is_measured = np.isfinite(values[index]).any()
                    result[f"{kind}_db"] = float(np.nanmin(values[index])) if is_measured else float("nan")
                result["severity"] = findings[0].severity if findings else ""
                result["findings"] = [vars(finding) | {"leads": list(finding.leads)} for finding in findings]
                rows[row] = result
            done += len(part)
            if progress is not None:
                progress(done, n)
    return pd.DataFrame(rows).assign(ecg_id=table["ecg_id"].to_numpy())


def _stored_validity(table: pd.DataFrame, signals: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Return which samples of a store are valid, or None if all are.

    A store keeps an invalid sample as 0. In a record with invalid samples, each 0 may be one.
    """
    if "invalid_samples" not in table or not table["invalid_samples"].any():
        return None
    has_invalid = table["invalid_samples"].to_numpy() > 0
    return np.asarray(~(has_invalid[:, None, None] & (signals == 0)))


def _unexamined(table: pd.DataFrame, findings: list[Finding]) -> pd.DataFrame:
    """Return the table of `examine_store` for a store whose records all have the same findings and no measurements."""
    import pandas as pd

    listed = [vars(finding) | {"leads": list(finding.leads)} for finding in findings]
    columns = ("heart_rate", *(f"{kind}_db" for kind in noise.Noise._fields))
    row: dict[str, object] = dict.fromkeys(columns, float("nan"))
    row |= {"severity": findings[0].severity, "findings": listed}
    return pd.DataFrame([row] * len(table)).assign(ecg_id=table["ecg_id"].to_numpy())


def _table_cautions(table: pd.DataFrame) -> list[list[Finding]]:
    """Return the cautions of each record that follow from age, pacemaker and codes in the table."""
    n = len(table)
    age = table["age"].to_numpy(dtype=float) if "age" in table else np.full(n, np.nan)
    pacemaker = table["pacemaker"] if "pacemaker" in table else [""] * n
    codes = table["scp_codes"] if "scp_codes" in table else [""] * n
    return plausible.from_table(age, pacemaker, codes)


def _packing_findings(table: pd.DataFrame, row: int) -> list[Finding]:
    """Return findings about samples that were counted when the store was packed. The store does not show them."""
    findings = []
    for column, code, severity, description in (
        ("invalid_samples", "invalid", "caution", "samples marked invalid, kept as 0"),
        ("clipped_samples", "clipped", "warning", "samples beyond ±32.767 mV, cut off there"),
    ):
        count = int(table[column].iloc[row]) if column in table else 0
        if count:
            findings.append(Finding(code, severity, (), float(count), 0.0, f"{count} {description}"))
    return findings


def read_and_examine(read: Callable[..., Record], path: str | Path, **options: object) -> tuple[Record, list[Finding]]:
    """Read a record with all leads that can be read, and examine it.

    Parameters
    ----------
    read : callable
        `read_record`.
    path : path
    **options
        Options of `read`.

    Raises
    ------
    UserError
        If no lead can be read. The message is that of the reader.
    """
    try:
        record = read(path, **options)
    except UserError:
        readable = tuple(lead for lead in LEADS if _can_read(read, path, lead, options))
        if not readable or len(readable) == len(LEADS):
            raise
        record = read(path, want=readable, **options)
    return record, examine_record(record)


def _can_read(read: Callable[..., Record], path: str | Path, lead: str, options: dict[str, object]) -> bool:
    try:
        read(path, want=(lead,), **options)
    except UserError:
        return False
    return True
