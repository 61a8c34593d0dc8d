"""The record doctor: finds faults of ECG records, with the numbers that show them.

finding     one finding, and the records that the checks examine
thresholds  every threshold with its reason
samples     invalid, flat, stuck, clipped and disconnected leads; limb-lead laws; unit
swap        exchanged electrodes
noise       baseline wander, mains and muscle noise in decibels
plausible   sampling frequency, records that are no ECG, children, pacemakers
examination all checks on arrays, records and stores
report      the table of findings and the quarantine list beside a store
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
