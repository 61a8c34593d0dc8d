"""The work of a worker for the files of one record: read, examine, predict, measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from einthoven.app.main_labels import main_labels, rule_in_words
from einthoven.app.usual import with_remarks
from einthoven.app.words import groups_in_words
from einthoven.data.doctor import CODES, Finding, examine_record
from einthoven.data.formats.reading import SUFFIXES_WITHOUT_METADATA
from einthoven.data.formats.record import Record
from einthoven.data.formats.wfdb_header import read_header
from einthoven.data.synthetic.generate import iterate
from einthoven.data.synthetic.write import write_record
from einthoven.errors import UserError
from einthoven.predict import Predictor
from einthoven.predict.explaining import Explanation
from einthoven.predict.measuring import WaveFinder, measure_records, measurements_to_json, patient_of
from einthoven.predict.refusal import describe
from einthoven.predict.signal import Prepared
from einthoven.predict.to_json import to_json
from einthoven.report.ecg_paper import PAGE_SECONDS
from einthoven.report.explanation import relevance_levels

SECONDARY_SUFFIXES = (".dat", ".mat", ".json", ".info")
"""Suffixes of files that can belong to another file of the record."""

EXAMPLE_FS = 500

FIELDS = {
    "fs": "{value} in the field “Sampling frequency”",
    "units": "{value} in the field “Unit of the values”",
    "leads": "{value} in the field “Names of the leads”",
}
"""How the user of the page states what a file does not say: the labels of the form (`static/page.html`)."""

NEVER_ANSWERED = {
    "unit": "the unit",
    "swap_la_ra": "the position of the electrodes",
    "swap_ra_ll": "the position of the electrodes",
    "swap_ra_rl": "the position of the electrodes",
    "limb_law": "the position or the names of the electrodes",
}
"""Findings of the doctor with which no record is answered, whatever its bundle refuses -> what cannot be right."""

HELP_WITH_ELECTRODES = (
    "Check the electrodes and the names of the leads, and record the ECG again. If the heart is on the right, "
    "einthoven predict --no-doctor answers."
)


class RefusedError(UserError):
    """A record was read and gets no answer.

    Parameters
    ----------
    reason : str
    record : dict
        What the page shows of the record. Its ``why`` is the reason in short, without what was measured, and its
        ``help`` what the user can do.
    """

    def __init__(self, reason: str, record: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.record = dict(record)


def describe_model(predictor: Predictor) -> dict[str, Any]:
    """Return what the page shows of the model before there is a record."""
    models = []
    for bundle in predictor.bundles:
        model = {"calibration": bundle.calibration_method, "sha256": bundle.sha256}
        for name in ("trained_on", "fitted_on", "metrics", "date"):
            if name in bundle.provenance:
                model[name] = bundle.provenance[name]
        models.append(model)
    input_format = predictor.input_format
    return {
        "notice": predictor.notice,
        "attribution": predictor.attribution,
        "classes": list(predictor.classes),
        "groups": groups_in_words(predictor.groups),
        "reads": {
            "leads": list(input_format.leads),
            "fs": input_format.fs,
            "seconds": input_format.seconds,
            "aggregate": input_format.aggregate,
        },
        "models": models,
        "points": predictor.bundles[0].points if len(predictor.bundles) == 1 else {},
        "suffixes_without_metadata": list(SUFFIXES_WITHOUT_METADATA),
    }


def answer(
    predictor: Predictor,
    delineator: WaveFinder,
    folder: Path,
    reading: Mapping[str, Any],
    start_s: float = 0.0,
    explain: str | None = None,
) -> dict[str, Any]:
    """Return the answer for the record whose files are in a folder.

    Parameters
    ----------
    predictor : Predictor
    delineator : WaveFinder
        As from `load_delineator`.
    folder : Path
        It contains only the files of the record.
    reading : mapping
        ``fs``, ``units`` and ``leads``, as in `einthoven.data.read_record`.
    start_s : float
        Start of the page of ECG paper in a long recording, in seconds.
    explain : str, optional
        The class to explain, or "" for the most probable class. The page then begins at the nearest window that the
        model reads.

    Returns
    -------
    dict
        As `einthoven.predict.to_json`, and ``name``, ``fs``, ``seconds``, ``patient``, ``notes``, ``measurements``, the
        ``findings`` of the doctor, the ``main`` labels and their ``main_rule`` in words, ``start_s``, the ``signal`` of
        the page, and ``explained`` with its ``label``, the shares ``by_lead``, the ``levels`` of the colour and its own
        ``cautions``, or None. If the window gets no explanation, one of the ``cautions`` says why.

    Raises
    ------
    UserError
        If the record cannot be read, or lacks something that the model reads, or if the class is unknown. The message
        does not contain the folder.
    RefusedError
        If the record gets no answer: its unit or its electrodes cannot be right, or it is unlike the training records.
    """
    try:
        file = _main_file(folder)
        record, prepared = predictor.read(file, **reading, option_style=FIELDS)
    except UserError as error:
        # The temporary folder means nothing to the user of the page.
        text = str(error).replace(f"{folder}/", "")
        raise UserError(text.replace("… in the field", "a value in the field")) from None

    seconds = record.signal.shape[1] / record.fs
    start_s = min(max(start_s, 0.0), max(seconds - PAGE_SECONDS, 0.0))
    findings = examine_record(record)
    content = {
        "name": file.name,
        "fs": record.fs,
        "seconds": seconds,
        "patient": _patient_as_json(record),
        "notes": list(record.notes),
        "findings": [_finding_as_json(finding) for finding in findings],
    }
    answered = predictor.predict_prepared([predictor.with_findings(prepared, findings)])
    reason = _why_never(record, findings) or answered.refused[0]
    if reason is not None:
        # An amplitude of another unit cannot be drawn at the scale of the paper.
        has_unit = all(finding.code != "unit" for finding in findings)
        signal = signal_of_page(record, start_s) if has_unit else None
        why = _in_short(reason, record.source, findings)
        help_text = HELP_WITH_ELECTRODES if "electrodes cannot be right" in why else ""
        raise RefusedError(reason, {**content, "start_s": start_s, "signal": signal, "why": why, "help": help_text})

    prediction = to_json(answered, 0, predictor)
    explanation = None
    if explain is not None:
        try:
            explanation = _explain(predictor, prepared, start_s, explain)
            start_s = explanation.start_s
        except UserError as error:
            if explain and explain not in predictor.classes:
                raise
            reason = str(error).removeprefix(f"{prepared.source}: ")
            prediction["cautions"].append(f"no explanation of the page from {start_s:.1f} s on: {reason}")
    (measurements,) = measure_records(delineator, [record])
    return {
        **prediction,
        **content,
        "measurements": with_remarks(measurements_to_json(measurements), content["patient"]["age"]),
        "main": main_labels(prediction, predictor.groups),
        "main_rule": rule_in_words(prediction),
        "start_s": start_s,
        "explained": _explained_as_json(explanation, prediction["cautions"]),
        "signal": signal_of_page(record, start_s),
    }


def _why_never(record: Record, findings: Sequence[Finding]) -> str | None:
    """Return why a record is not answered, because its unit or its electrodes cannot be right; None if they can."""
    for finding in findings:
        if finding.code in NEVER_ANSWERED:
            cause = NEVER_ANSWERED[finding.code]
            return f"{record.source}: not answered, because {cause} cannot be right: {describe(finding)}."
    return None


def _in_short(reason: str, source: str, findings: Sequence[Finding]) -> str:
    """Return why a record gets no answer, without its name and without what the doctor measured."""
    short = reason.removeprefix(f"{source}: ").removeprefix("not answered, because ")
    for finding in findings:
        short = short.replace(describe(finding), CODES[finding.code])
    return short[:1].upper() + short[1:]


def signal_of_page(record: Record, start_s: float) -> dict[str, Any]:
    """Return every sample of ten seconds of a record, in whole microvolts. A sample that is invalid is None."""
    first = round(start_s * record.fs)
    # The last sample of the page ends its last line.
    signal = record.signal[:, first : first + int(np.ceil(PAGE_SECONDS * record.fs)) + 1]
    rounded = np.rint(signal.astype(np.float64) * 1000)
    microvolts = [[None if np.isnan(value) else int(value) for value in row] for row in rounded.tolist()]
    return {"fs": record.fs, "leads": list(record.leads), "microvolts": microvolts}


def _patient_as_json(record: Record) -> dict[str, Any]:
    """Return the age in years and the sex that the file states, or None."""
    patient = patient_of(record.comments)
    return {"age": patient.age, "sex": patient.sex}


def _explained_as_json(explanation: Explanation | None, cautions: Sequence[str]) -> dict[str, Any] | None:
    """Return the explained class, and the cautions that the answer itself does not have."""
    if explanation is None:
        return None
    own_cautions = [caution for caution in explanation.cautions if caution not in cautions]
    levels = np.rint(100 * relevance_levels(explanation.relevance, explanation.fs)).astype(int)
    return {
        "label": explanation.label,
        "by_lead": explanation.by_lead,
        "fs": explanation.fs,
        "levels": dict(zip(explanation.leads, levels.tolist(), strict=True)),
        "cautions": own_cautions,
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "means": CODES[finding.code],
        "severity": finding.severity,
        "leads": list(finding.leads),
        "evidence": finding.evidence,
    }


def write_example(folder: Path, number: int) -> None:
    """Write a generated record for users who have no ECG."""
    sample = next(iterate(1, number, rates=(EXAMPLE_FS,)))
    write_record(folder / "generated", sample.signals[EXAMPLE_FS], EXAMPLE_FS)


def _main_file(folder: Path) -> Path:
    """Return the file from which the record is read."""
    files = sorted(folder.iterdir())
    main_files = [file for file in files if file.suffix.lower() not in SECONDARY_SUFFIXES]
    # A record in segments has a master header, which names the headers of the segments.
    if len(main_files) > 1:
        segments: set[str] = set()
        for file in main_files:
            if file.suffix == ".hea":
                segments.update(f"{name}.hea" for name, _ in read_header(file).segments)
        main_files = [file for file in main_files if file.name not in segments] or main_files
    if len(main_files) > 1:
        raise UserError(f"{_names(main_files)}: {len(main_files)} records found; expected the files of one.")
    if main_files:
        return main_files[0]

    # A single .mat file can be a record without a header.
    signals = [file for file in files if file.suffix.lower() not in (".json", ".info")]
    if [file.suffix.lower() for file in signals] == [".mat"]:
        return signals[0]
    if not files:
        raise UserError("no file found; expected the files of a record.")
    if not signals:
        raise UserError(f"{_names(files)}: no signals found; expected the other files of the record together with it.")
    raise UserError(f"{_names(files)}: no header (.hea) found; expected it together with its signal file.")


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files[:5])


def _explain(predictor: Predictor, prepared: Prepared, start_s: float, label: str) -> Explanation:
    """Explain a class in the window that begins nearest to a time."""
    nearest = int(np.abs(prepared.start_s - start_s).argmin())
    window = slice(nearest, nearest + 1)
    one_window = replace(prepared, signal=prepared.signal[window], start_s=prepared.start_s[window])
    return predictor.explain(one_window, label or None)
