"""The work of a worker for the files of one record: read, examine, predict, measure, draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from einthoven.data.doctor import CODES, Finding, examine_record
from einthoven.data.formats.reading import SUFFIXES_WITHOUT_METADATA
from einthoven.data.formats.record import Record
from einthoven.data.formats.wfdb_header import read_header
from einthoven.data.synthetic.generate import iterate
from einthoven.data.synthetic.write import write_record
from einthoven.errors import UserError
from einthoven.predict import Predictor
from einthoven.predict.explaining import Explanation
from einthoven.predict.measuring import WaveFinder, measure_records, measurements_to_json
from einthoven.predict.signal import Prepared
from einthoven.predict.to_json import to_json
from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.explanation import explanation_figure
from einthoven.report.measurement_text import measurement_line

SECONDARY_SUFFIXES = (".dat", ".mat", ".json", ".info")
"""Suffixes of files that can belong to another file of the record."""

PAGE_SECONDS = 10.0
EXAMPLE_FS = 500


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
        "groups": predictor.groups,
        "reads": {"leads": list(input_format.leads), "fs": input_format.fs, "seconds": input_format.seconds},
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
        The class to explain, or "" for the most probable class. The page then shows the nearest window as the model
        reads it, with the relevance as colour behind it.

    Returns
    -------
    dict
        As `einthoven.predict.to_json`, and ``name``, ``fs``, ``seconds``, ``notes``, ``measurements``, the ``findings``
        of the doctor, ``start_s``, ``paper`` (an SVG), and ``explained`` with its ``label``, the shares ``by_lead`` and
        its own ``cautions``, or None.

    Raises
    ------
    UserError
        If the record cannot be read, lacks something that the model reads, or is unlike the training records. The
        message does not contain the folder.
    """
    try:
        file = _main_file(folder)
        record, prepared = predictor.read(file, **reading)
        prepared = predictor.examine(record, prepared)
        answered = predictor.predict_prepared([prepared])
        answered.raise_refused()
    except UserError as error:
        # The temporary folder means nothing to the user of the page.
        raise UserError(str(error).replace(f"{folder}/", "")) from None
    prediction = to_json(answered, 0, predictor)
    (measurements,) = measure_records(delineator, [record])

    seconds = record.signal.shape[1] / record.fs
    explanation = None
    if explain is None:
        last_start = max(seconds - PAGE_SECONDS, 0.0)
        start_s = min(max(start_s, 0.0), last_start)
    else:
        explanation = _explain(predictor, prepared, start_s, explain)
        start_s = explanation.start_s
    subtitle = f"from {start_s:g} s, of a recording of {seconds:.4g} s" if seconds > PAGE_SECONDS else None
    return {
        **prediction,
        "name": file.name,
        "fs": record.fs,
        "seconds": seconds,
        "notes": list(record.notes),
        "measurements": measurements_to_json(measurements),
        "findings": [_finding_as_json(finding) for finding in examine_record(record)],
        "start_s": start_s,
        "explained": _explained_as_json(explanation, prediction["cautions"]),
        "paper": _draw(
            record,
            start_s,
            explanation,
            measurement_line(measurements),
            title=file.name,
            subtitle=subtitle,
            foot=("", *predictor.footnotes),
        ),
    }


def _explained_as_json(explanation: Explanation | None, cautions: Sequence[str]) -> dict[str, Any] | None:
    """Return the explained class, the shares of the leads, and the cautions that the answer itself does not have."""
    if explanation is None:
        return None
    own_cautions = [caution for caution in explanation.cautions if caution not in cautions]
    return {"label": explanation.label, "by_lead": explanation.by_lead, "cautions": own_cautions}


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


def _draw(record: Record, start_s: float, explanation: Explanation | None, measured: str, **texts: Any) -> str:
    """Draw ten seconds of the record on ECG paper, or the explained window of it. Return the SVG."""
    if explanation is None:
        first = round(start_s * record.fs)
        signal = record.signal[:, first : first + int(np.ceil(PAGE_SECONDS * record.fs))]
        figure = ecg_paper_figure(signal, record.fs, leads=record.leads, measured=measured, **texts)
    else:
        figure = explanation_figure(
            explanation.signal,
            explanation.fs,
            explanation.relevance,
            explanation.label,
            leads=explanation.leads,
            **texts,
        )
    svg = StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()
