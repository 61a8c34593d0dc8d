"""The record doctor: what is wrong with an ECG, how surely, and by which numbers.

finding     what a finding is
thresholds  every limit, with its reason
samples     invalid, flat, stuck, clipped, disconnected leads; limb-lead laws; unit
swap        exchanged electrodes
noise       decibels of wander, mains and muscle
plausible   sampling frequency, not an ECG, children, pacemakers
examination all checks over records, files and stores
report      parquet and quarantine list beside a store
"""

from einthoven.data.doctor.examination import (
    examine,
    examine_record,
    examine_records,
    examine_store,
    read_and_examine,
    unmeasurable,
)
from einthoven.data.doctor.finding import CODES, SEVERITIES, Finding
from einthoven.data.doctor.report import count_findings, examine_or_load, update_quarantine

__all__ = [
    "CODES",
    "SEVERITIES",
    "Finding",
    "count_findings",
    "examine",
    "examine_or_load",
    "examine_record",
    "examine_records",
    "examine_store",
    "read_and_examine",
    "unmeasurable",
    "update_quarantine",
]
