"""The model card of an evaluated run, in Markdown (Mitchell et al. 2019, "Model cards for model reporting")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from einthoven.functional.class_names import parts
from einthoven.functional.words import capitalized
from einthoven.report.markdown import bullets, markdown_page, markdown_table

NOTICE = (
    "**Not a medical device, and not for diagnosis.** For research and education: nobody has shown that acting on "
    "these probabilities helps a patient."
)
SYNTHETIC = "synthetic"
RARE = 30  # a class with fewer positive records is named as a limit
MOST = 12  # with more classes, the card has only the first operating point of each class
GAP = 0.05  # smallest calibration gap (predicted probability minus observed share) that is named as a limit


@dataclass(frozen=True)
class Share:
    """One part of the data.

    Attributes
    ----------
    split, folds : str
        For example ``train`` and ``1-7``.
    records, patients : int
    age : tuple of float or None
        Quartiles in years over the records with known age; None if no age is known.
    female : float or None
        Share of female patients among the records with known sex; None if no sex is known.
    positives : mapping of str to int
        Positive records of each class.
    """

    split: str
    folds: str
    records: int
    patients: int
    age: tuple[float, float, float] | None
    female: float | None
    positives: Mapping[str, int]


@dataclass(frozen=True)
class Subject:
    """The model that the card describes.

    Attributes
    ----------
    name : str
        Name of the run.
    network : str
    parameters : int
    leads : tuple of str
    fs, seconds : float
        Sampling frequency in Hz and length in s of the input.
    task : str
    single_label : bool
    sources : tuple of str
        Corpora of the records.
    shares : tuple of Share
        Parts of the data, in the order of the card.
    options : mapping of str to object
        The most important options of the training.
    provenance : mapping of str to str
    """

    name: str
    network: str
    parameters: int
    leads: tuple[str, ...]
    fs: float
    seconds: float
    task: str
    single_label: bool
    sources: tuple[str, ...]
    shares: tuple[Share, ...]
    options: Mapping[str, object]
    provenance: Mapping[str, str]


def model_card(subject: Subject, evaluation: Mapping[str, Any]) -> str:
    """Return the model card as Markdown.

    Parameters
    ----------
    subject : Subject
    evaluation : mapping
        Content of ``evaluation.json``.
    """
    sections = (
        [f"# Model card: {subject.name}", NOTICE],
        _model(subject),
        _data(subject),
        _performance(evaluation),
        _calibration(evaluation),
        _operating_points(evaluation),
        _subgroups(evaluation),
        ["## Limits", *bullets(limits(subject, evaluation))],
        ["## Provenance", *bullets(f"{name}: {value}" for name, value in subject.provenance.items() if value)],
    )
    return markdown_page(sections)


def limits(subject: Subject, evaluation: Mapping[str, Any]) -> list[str]:
    """Return sentences about what the model cannot do, and about what the evaluation does not show."""
    by_split = {share.split: share for share in subject.shares}
    reported = by_split["report"]
    trained = by_split["train"]
    sentences = [f"Measured only on {', '.join(subject.sources)}. No other hospital, device or population was tried."]
    sentences += [f"{capitalized(warning)}." for warning in evaluation.get("warnings", ())]
    if SYNTHETIC in subject.sources:
        sentences.append("The records are computed, not measured on people. The metrics say nothing about patients.")

    # Classes with too few records
    absent = [name for name, interval in evaluation["auroc"].items() if interval is None]
    if absent:
        sentences.append(f"Not evaluated, because only positive or only negative records exist: {', '.join(absent)}.")
    counts = {name: reported.positives[name] for name in evaluation["auroc"]}
    rare = [f"{name} ({count})" for name, count in counts.items() if 0 < count < RARE]
    if rare:
        sentences.append(f"Fewer than {RARE} positive records, so the metrics are uncertain: {', '.join(rare)}.")

    # Subgroups that are too small, or in which the probabilities are wrong
    subgroups = evaluation["subgroups"]
    small = sum(group["small"] for group in subgroups)
    if small:
        sentences.append(
            f"{small} of {len(subgroups)} subgroups (marked small) have too few patients for a conclusion."
        )
    miscalibrated: set[str] = set()
    for group in subgroups:
        if not group["small"]:
            miscalibrated.update(_miscalibrated(group, subject))
    if miscalibrated:
        sentences.append(
            f"The predicted probability differs from the observed share by {GAP:g} or more, and by more than chance, "
            f"for: {', '.join(sorted(miscalibrated))}."
        )

    # The people in the training records
    unknown = [name for name, value in (("age", trained.age), ("sex", trained.female)) if value is None]
    if unknown:
        sentences.append(f"Not known for the training records: {', '.join(unknown)}.")
    if trained.age is not None and trained.age[0] >= 18:
        sentences.append(f"Three quarters of the training records are of people of {trained.age[0]:.0f} years or more.")

    sentences.append(
        f"The model knows {len(evaluation['auroc'])} classes ({subject.task}). It cannot detect anything else."
    )
    sentences.append(
        f"The model needs {', '.join(subject.leads)} in mV. If leads are missing or exchanged, its answer is wrong."
    )
    return sentences


def _model(subject: Subject) -> list[str]:
    kind = "one of the classes" if subject.single_label else "of each class, which do not exclude each other"
    return [
        "## Model and intended use",
        f"{subject.network} with {subject.parameters:,} parameters. It reads {subject.seconds:g} s of "
        f"{len(subject.leads)}-lead ECG ({' '.join(subject.leads)}) in mV at {subject.fs:g} Hz, and predicts "
        f"the probability {kind}. It is intended for comparing models of the task `{subject.task}` on records like "
        "those below.",
        markdown_table(("option", "value"), [(f"`{name}`", str(value)) for name, value in subject.options.items()]),
    ]


def _data(subject: Subject) -> list[str]:
    classes = list(subject.shares[0].positives)
    columns = ("used to", "folds", "records", "patients", "age: median (quartiles)", "female", *classes)
    purpose = {"train": "train", "fit": "fit calibration and thresholds", "report": "report the metrics below"}
    rows = []
    for share in subject.shares:
        age = "–" if share.age is None else f"{share.age[1]:.0f} ({share.age[0]:.0f}-{share.age[2]:.0f})"
        female = "–" if share.female is None else f"{share.female:.0%}"
        positives = [f"{share.positives[name]:,}" for name in classes]
        sizes = (f"{share.records:,}", f"{share.patients:,}")
        rows.append((purpose[share.split], share.folds, *sizes, age, female, *positives))
    return [
        "## Data",
        f"Records of {', '.join(subject.sources)}. The columns at the right count the positive records of each class.",
        markdown_table(columns, rows),
    ]


def _performance(evaluation: Mapping[str, Any]) -> list[str]:
    metrics = evaluation["metrics"]
    interval = evaluation["interval"]
    rows = [("macro AUROC", _with_interval(metrics["macro_auroc"], evaluation["macro_auroc"]))]
    names_in_metrics = parts(evaluation["auroc"])
    for name, auroc_interval in evaluation["auroc"].items():
        if auroc_interval is not None:
            auroc = metrics[f"auroc/{names_in_metrics[name]}"]
            rows.append((f"AUROC {name}", _with_interval(auroc, auroc_interval)))
    rows.append(("macro AUPRC", _number(metrics.get("macro_auprc"))))
    rows.append(("Fmax", _number(metrics.get("fmax"))))
    return [
        "## Performance",
        f"On {evaluation['records']:,} records of folds {_folds(evaluation['folds']['report'])}. Nothing was fitted on "
        f"these folds. Intervals: {interval['level']:.0%}, bootstrap of {interval['by']}s ({interval['method']}, "
        f"{evaluation['macro_auroc']['resamples']:,} resamples).",
        markdown_table(("metric", "value"), rows),
    ]


def _calibration(evaluation: Mapping[str, Any]) -> list[str]:
    metrics = evaluation["metrics"]
    names = (("nll", "negative log-likelihood"), ("brier", "Brier score"), ("ece", "expected calibration error"))
    rows = []
    for key, label in names:
        rows.append((label, _number(metrics[f"{key}/before"], 4), _number(metrics[f"{key}/after"], 4)))
    method = f"Method: {evaluation['calibration']['method']}, fitted on folds {_folds(evaluation['folds']['fit'])}."
    if evaluation.get("laplace"):
        method += " The probabilities are averaged over the weights of the last layer (Laplace approximation)."
    return [
        "## Calibration",
        method,
        markdown_table(("", "before", "after"), rows),
    ]


def _operating_points(evaluation: Mapping[str, Any]) -> list[str]:
    points_of_classes = evaluation["operating_points"]
    most_points = None if len(points_of_classes) <= MOST else 1
    rows = []
    for name, points in points_of_classes.items():
        for rule, point in list(points.items())[:most_points]:
            judged = point["judged"]
            intervals = point["intervals"]
            rates = ("sensitivity", "specificity", "ppv", "npv")
            measures = [_with_interval(judged[rate], intervals[rate], 2) for rate in rates]
            rows.append((name, rule, _number(point["threshold"]), *measures))
    columns = ("class", "chosen for", "threshold", "sensitivity", "specificity", "PPV", "NPV")
    return ["## Operating points", markdown_table(columns, rows)] if rows else []


def _subgroups(evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for group in evaluation["subgroups"]:
        small = " (small)" if group["small"] else ""
        name = f"{group['attribute']}: {group['value']}{small}"
        auroc = _with_interval(group["auroc"], group["auroc_interval"])
        largest_gap = max(abs(gap) for gap in group["gap"])
        rows.append((name, f"{group['records']:,}", f"{group['patients']:,}", auroc, f"{largest_gap:.2f}"))
    columns = ("group", "records", "patients", "macro AUROC", "largest calibration gap")
    return ["## Subgroups", markdown_table(columns, rows)] if rows else []


def _miscalibrated(group: Mapping[str, Any], subject: Subject) -> Iterable[str]:
    """Yield the classes of a group whose calibration gap is large, with an interval that does not contain 0."""
    classes = subject.shares[0].positives
    for name, gap, interval in zip(classes, group["gap"], group["gap_intervals"], strict=True):
        if abs(gap) >= GAP and interval is not None and (interval["low"] > 0 or interval["high"] < 0):
            yield f"{name} for {group['attribute']} {group['value']} ({gap:+.2f})"


def _folds(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(value: float | None, interval: Mapping[str, Any] | None, digits: int = 3) -> str:
    if value is None or interval is None:
        return _number(value, digits)
    return f"{_number(value, digits)} ({_number(interval['low'], digits)}-{_number(interval['high'], digits)})"
