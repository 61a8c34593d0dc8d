"""Predictions for many files: groups of files are read, examined and predicted in parallel threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from einthoven.data.doctor import SEVERITIES, Finding, examine_records
from einthoven.data.formats.channels import MissingLeadsError
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.functional.measurements import Measurements
from einthoven.predict.measuring import WaveFinder, measure_records
from einthoven.predict.parallel import map_groups, worker_count
from einthoven.predict.prediction import Prediction
from einthoven.predict.predictor import Predictor
from einthoven.predict.signal import Prepared

CAUTION_SEVERITIES = SEVERITIES[SEVERITIES.index("caution") :]
OTHER_CAUTIONS = ("missing_leads", "unmeasurable", "invalid")
"""Findings that are no cautions: a model may read two leads only, and reading warns about invalid samples itself."""


@dataclass(frozen=True)
class Answer:
    """The answer for one file: a row of a prediction and measurements, or the reason why there is no prediction."""

    file: Path
    record: Record | None = None
    prediction: Prediction | None = None
    row: int = 0
    measurements: Measurements | None = None
    refused: str | None = None


def answers(
    predictor: Predictor,
    files: Sequence[Path],
    reading: dict[str, Any],
    alpha: float = 0.1,
    stride: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    doctor: bool = True,
    delineator: WaveFinder | None = None,
) -> Iterator[Answer]:
    """Predict for files, and yield one answer for each file, in order.

    Parameters
    ----------
    predictor : Predictor
    files : sequence of Path
    reading : dict
        Keyword arguments of `read_record`, for files that do not state their sampling frequency, unit or leads.
    alpha : float
        Share of the true statements that a set may miss, as a mean over records.
    stride : float, optional
        Seconds between two windows of a record.
    progress : callable, optional
        Called with the number of files that are done, and the number of all files.
    doctor : bool
        Whether the record doctor examines the records. Its findings become cautions, and a bundle may refuse a record
        because of them.
    delineator : WaveFinder, optional
        Finds the waves of the records. Without it, nothing is measured.
    """
    # Dropout masks come from torch's one generator, so their order must not depend on parallel threads.
    workers = 1 if predictor.draws else worker_count(len(files))
    # The first predictor is the caller's, the others are copies.
    predictors = [predictor, *(deepcopy(predictor) for _ in range(workers - 1))]

    def answer(own_predictor: Predictor, group: Sequence[Path]) -> list[Answer]:
        return _answer_group(own_predictor, group, reading, alpha, stride, doctor, delineator)

    yield from map_groups(files, predictors, answer, progress)


def _answer_group(
    predictor: Predictor,
    files: Sequence[Path],
    reading: dict[str, Any],
    alpha: float,
    stride: float | None,
    doctor: bool,
    delineator: WaveFinder | None,
) -> list[Answer]:
    """Read, examine, predict and measure some files in one batch."""
    records: dict[Path, Record] = {}
    prepared: dict[Path, Prepared] = {}
    reasons: dict[Path, str] = {}
    for file in files:
        try:
            records[file], prepared[file] = predictor.read(file, stride, **reading)
        except MissingLeadsError as error:
            reasons[file] = str(error) + _way_without(predictor, error.leads)
        except UserError as error:
            reasons[file] = str(error)
    if doctor:
        findings = examine_records(list(records.values()))
        for file, findings_of_file in zip(records, findings, strict=True):
            examined = predictor.with_findings(prepared[file], findings_of_file)
            prepared[file] = with_cautions(examined, findings_of_file)

    prediction = predictor.predict_prepared(list(prepared.values()), alpha)
    measurements: list[Measurements | None] = [None] * len(records)
    if delineator is not None:
        measurements = [*measure_records(delineator, list(records.values()))]
    rows = {file: row for row, file in enumerate(prepared)}
    group_answers = []
    for file in files:
        if file in rows:
            row = rows[file]
            reason = prediction.refused[row]
            if reason is not None:
                group_answers.append(Answer(file, records[file], refused=reason))
                continue
            group_answers.append(Answer(file, records[file], prediction, row, measurements[row]))
        else:
            group_answers.append(Answer(file, refused=reasons[file]))
    return group_answers


def _way_without(predictor: Predictor, leads: Sequence[str]) -> str:
    """Return how the user gets an answer without some leads; empty if the bundles cannot answer without them."""
    if len(leads) == 1 and predictor.can_answer_without(leads[0]):
        return f" With --without {leads[0]}, this lead is computed from the others."
    return ""


def with_cautions(prepared: Prepared, findings: Sequence[Finding]) -> Prepared:
    """Add the findings of the doctor that a reader of the prediction has to know."""
    cautions = [
        f"{finding.code}: {finding.evidence}"
        for finding in findings
        if finding.severity in CAUTION_SEVERITIES and finding.code not in OTHER_CAUTIONS
    ]
    return replace(prepared, cautions=(*prepared.cautions, *cautions))
