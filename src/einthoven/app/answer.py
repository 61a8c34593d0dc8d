"""What a worker does with the files of one record: read, examine, predict, draw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from einthoven.data.doctor import CODES, examine_record
from einthoven.data.formats.reading import SUFFIXES_WITHOUT_METADATA
from einthoven.data.formats.record import Record
from einthoven.data.formats.wfdb_header import read_header
from einthoven.data.synthetic.generate import iterate
from einthoven.data.synthetic.write import write_record
from einthoven.errors import UserError
from einthoven.predict import Predictor
from einthoven.predict.explaining import Explanation
from einthoven.predict.signal import Prepared, read_prepared
from einthoven.predict.to_json import to_json
from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.explanation import explanation_figure

BESIDE = (".dat", ".mat", ".json")  # files that belong to another one
PAGE_SECONDS = 10.0
EXAMPLE_FS = 500
_OF_THE_COMMANDS = re.compile(r" \(--[^)]*\)")  # how to say it on the command line


def about(predictor: Predictor) -> dict[str, Any]:
    """What the page has to say of the model before there is a record."""
    reads, known = predictor.input_format, ("trained_on", "fitted_on", "metrics", "date")
    return {
        "notice": predictor.notice,
        "classes": list(predictor.classes),
        "reads": {"leads": list(reads.leads), "fs": reads.fs, "seconds": reads.seconds},
        "models": [
            {
                "calibration": b.calibration_method,
                "sha256": b.sha256,
                **{k: b.provenance[k] for k in known if k in b.provenance},
            }
            for b in predictor.bundles
        ],
        "points": predictor.bundles[0].points if len(predictor.bundles) == 1 else {},
        "told": list(SUFFIXES_WITHOUT_METADATA),
    }


def answer(
    predictor: Predictor, folder: Path, reading: Mapping[str, Any], start_s: float = 0.0, explain: str | None = None
) -> dict[str, Any]:
    """The answer for the record whose files are in a folder.

    Parameters
    ----------
    predictor : Predictor
    folder : Path
        Nothing else is in it.
    reading : mapping
        ``fs``, ``units`` and ``leads``, as `einthoven.data.read_record` takes them.
    start_s : float
        Where the page of ECG paper begins in a longer recording, seconds.
    explain : str, optional
        The class to explain, or "" for the most probable one: the page is then the window that is nearest, as the model
        reads it, with colour behind it.

    Returns
    -------
    dict
        As `einthoven.predict.to_json`, and ``name``, ``fs``, ``seconds``, ``notes``, ``findings`` of the doctor,
        ``start_s`` and ``paper``, an SVG; ``explained``, with its ``label`` and the shares ``by_lead``, or None.

    Raises
    ------
    UserError
        If the record cannot be read, or lacks what the model reads; without the folder's name.
    """
    try:
        file = _main_file(folder)
        record, prepared = read_prepared(file, predictor.input_format, cuts=predictor.cuts, **reading)
    except UserError as error:
        raise UserError(_OF_THE_COMMANDS.sub("", str(error).replace(f"{folder}/", ""))) from None
    told = to_json(predictor.predict_prepared([prepared]), 0, predictor)
    seconds = record.signal.shape[1] / record.fs
    if explain is None:
        found, start_s = None, min(max(start_s, 0.0), max(seconds - PAGE_SECONDS, 0.0))
    else:
        found = _explanation(predictor, prepared, start_s, explain)
        start_s = found.start_s
    part = f"from {start_s:g} s, of a recording of {seconds:.4g} s" if seconds > PAGE_SECONDS else None
    return {
        **told,
        "name": file.name,
        "fs": record.fs,
        "seconds": seconds,
        "notes": list(record.notes),
        "findings": [
            {
                "code": f.code,
                "means": CODES[f.code],
                "severity": f.severity,
                "leads": list(f.leads),
                "evidence": f.evidence,
            }
            for f in examine_record(record)
        ],
        "start_s": start_s,
        "explained": None if found is None else {"label": found.label, "by_lead": found.by_lead},
        "paper": _drawn(record, start_s, found, title=file.name, subtitle=part, foot=("", predictor.notice)),
    }


def write_example(folder: Path, number: int) -> None:
    """Write a generated record, for who has no other at hand."""
    sample = next(iterate(1, number, rates=(EXAMPLE_FS,)))
    write_record(folder / "generated", sample.signals[EXAMPLE_FS], EXAMPLE_FS)


def _main_file(folder: Path) -> Path:
    """The file by which the record is read."""
    files = sorted(folder.iterdir())
    main = [file for file in files if file.suffix.lower() not in BESIDE]
    if len(main) > 1:
        segments = {f"{name}.hea" for file in main if file.suffix == ".hea" for name, _ in read_header(file).segments}
        main = [file for file in main if file.name not in segments] or main
    if len(main) > 1:
        raise UserError(f"{_names(main)}: {len(main)} records found; expected the files of one.")
    if main:
        return main[0]
    signals = [file for file in files if file.suffix.lower() != ".json"]
    if [file.suffix.lower() for file in signals] == [".mat"]:
        return signals[0]
    if not files:
        raise UserError("no file found; expected the files of a record.")
    raise UserError(f"{_names(files)}: no header (.hea) found; expected it together with its signal file.")


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files[:5])


def _explanation(predictor: Predictor, prepared: Prepared, start_s: float, label: str) -> Explanation:
    """What a class rests on in the window that begins nearest to a time."""
    nearest = int(np.abs(prepared.start_s - start_s).argmin())
    window = slice(nearest, nearest + 1)
    alone = replace(prepared, signal=prepared.signal[window], start_s=prepared.start_s[window])
    return predictor.explain(alone, label or None)


def _drawn(record: Record, start_s: float, found: Explanation | None, **written: Any) -> str:
    """Ten seconds of the record on ECG paper, or what was explained of it."""
    if found is None:
        first = round(start_s * record.fs)
        shown = record.signal[:, first : first + int(np.ceil(PAGE_SECONDS * record.fs))]
        figure = ecg_paper_figure(shown, record.fs, leads=record.leads, **written)
    else:
        signal, relevance = found.signal, found.relevance
        figure = explanation_figure(signal, found.fs, relevance, found.label, leads=found.leads, **written)
    drawn = StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
