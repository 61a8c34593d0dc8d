"""Draw what the bundle of real ECGs answers for records that it has not seen, and for altered ones.

    python bench/draw_answers.py CINC2021_ROOT [FOLDER]

Takes three records of the PhysioNet/CinC Challenge 2021 (CC BY 4.0), draws the answer and the explanation of each, and
the answer for the first one with exchanged arm electrodes, with µV that are declared as mV, and as noise. Writes PNG
files into docs/images/prediction, or into FOLDER. The pages of answers are those of `einthoven predict --pdf`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from einthoven.augment.leads import swap_matrices
from einthoven.data.doctor import examine_record
from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.predict import PTBXL_BUNDLE, Predictor, load_bundle
from einthoven.predict.answers import with_cautions
from einthoven.predict.delineator import load_delineator
from einthoven.predict.measuring import WaveFinder, measure_records
from einthoven.predict.to_json import to_json
from einthoven.report import explanation as explanation_page
from einthoven.report.measurement_text import measurement_line
from einthoven.report.prediction_pages import prediction_figure
from einthoven.terminal.answer_text import page_lines

RECORDS = {"JS36889": "Chapman-Shaoxing/Ningbo", "E07510": "Georgia", "A0057": "CPSC 2018"}
DPI = 100
IMAGES = Path(__file__).parents[1] / "docs" / "images" / "prediction"


def main(root: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    predictor = load_bundle(PTBXL_BUNDLE)
    delineator = load_delineator()
    records = {name: read_record(root / f"{name}.hea") for name in RECORDS}
    for name, record in records.items():
        title = f"{name}, {RECORDS[name]} (PhysioNet/CinC Challenge 2021, CC BY 4.0)"
        draw(predictor, delineator, record, title, folder / f"{name}.png")
        explain(predictor, record, title, folder / f"{name}-explained.png")

    name, first = next(iter(records.items()))
    (swap,) = swap_matrices(["RA-LA"])
    noise = np.random.default_rng(0).normal(0.0, 0.2, first.signal.shape)
    for suffix, what, signal in (
        ("arms", "arm electrodes exchanged", swap @ first.signal),
        ("microvolt", "µV declared as mV", 1000 * first.signal),
        ("noise", "noise in place of the ECG", noise),
    ):
        altered = replace(first, signal=signal.astype(np.float32))
        draw(predictor, delineator, altered, f"{name}, CinC 2021 (CC BY 4.0), {what}", folder / f"{suffix}.png")


def draw(predictor: Predictor, delineator: WaveFinder, record: Record, title: str, file: Path) -> None:
    """Draw the answer for a record, or why there is none."""
    findings = examine_record(record)
    prepared = with_cautions(predictor.prepare(record), findings)
    prediction = predictor.predict_prepared([prepared])
    lines, cautions, measured, other_classes = [str(prediction.refused[0])], [], "", ""
    if prediction.refused[0] is None:
        answer = to_json(prediction, 0, predictor)
        lines, other_classes = page_lines(answer, predictor.groups)
        cautions = answer["cautions"]
        (measurements,) = measure_records(delineator, [record])
        measured = measurement_line(measurements)
    figure = prediction_figure(
        record.signal,
        record.fs,
        record.leads,
        title,
        lines,
        cautions,
        predictor.footnotes,
        measured,
        other_classes,
        dpi=DPI,
    )
    figure.savefig(file)
    print(f"{file}: {'; '.join([*lines, other_classes, *cautions])}")


def explain(predictor: Predictor, record: Record, title: str, file: Path) -> None:
    """Draw what the most probable class of a record rests on."""
    found = predictor.explain(record)
    shares = explanation_page.share_line(found.by_lead)
    subtitle = "integrated gradients"
    if found.cautions:
        subtitle = f"{subtitle}. Caution: {'; '.join(found.cautions)}."
    figure = explanation_page.explanation_figure(
        found.signal,
        found.fs,
        found.relevance,
        found.label,
        title=f"{title}: {found.label} {found.probability:.2f}",
        subtitle=subtitle,
        leads=found.leads,
        foot=(shares, *predictor.footnotes),
        dpi=DPI,
    )
    figure.savefig(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else IMAGES)
