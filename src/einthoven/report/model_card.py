"""The model card of an evaluated run, in Markdown (Mitchell et al. 2019, "Model cards for model reporting")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from einthoven.functional.class_names import parts

NOTICE = (
    "**Not a medical device, and not for diagnosis.** For research and education: nobody has shown that acting on "
    "these probabilities helps a patient."
)
SYNTHETIC = "synthetic"
RARE = 30  # positive records
MOST = 12  # classes for which every rule is shown, not the first alone
GAP = 0.05  # of probability, less observed share, that is told


@dataclass(frozen=True)
class Share:
    """Who is in one part of the data.

    Attributes
    ----------
    split, folds : str
        Such as ``train`` and ``1-7``.
    records, patients : int
    age : tuple of float or None
        Quartiles in years, of the records whose age is known; None where none is.
    female : float or None
        Share of the records whose sex is known.
    positives : mapping of str to int
        Records of each class.
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
    """What the card is of.

    Attributes
    ----------
    name : str
        Of the run.
    network : str
    parameters : int
    leads : tuple of str
    fs, seconds : float
        Of what the model is given, in Hz and s.
    task : str
    single_label : bool
    sources : tuple of str
        Corpora that the records are from.
    shares : tuple of Share
        In the order in which they are listed.
    options : mapping of str to object
        Options of the training worth reading.
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


def model_card(subject: Subject, found: Mapping[str, Any]) -> str:
    """The card.

    Parameters
    ----------
    subject : Subject
    found : mapping
        What ``evaluation.json`` holds.

    Returns
    -------
    str
        Markdown.
    """
    parts = (
        [f"# Model card: {subject.name}", NOTICE],
        _model(subject),
        _data(subject),
        _performance(found),
        _calibration(found),
        _operating_points(found),
        _subgroups(found),
        ["## Limits", *_bullets(limits(subject, found))],
        ["## Provenance", *_bullets(f"{name}: {value}" for name, value in subject.provenance.items() if value)],
    )
    return "\n\n".join("\n".join(_spaced(part)) for part in parts if part) + "\n"


def limits(subject: Subject, found: Mapping[str, Any]) -> list[str]:
    """What the figures cannot say, each with the figure that shows it."""
    by_split = {share.split: share for share in subject.shares}
    reported, trained = by_split["report"], by_split["train"]
    said = [f"Measured on {_listed(subject.sources)} alone: no other hospital, device or population was tried."]
    said += [f"{warning[:1].upper()}{warning[1:]}." for warning in found.get("warnings", ())]
    if SYNTHETIC in subject.sources:
        said.append("Its records are computed, not recorded from people: figures on them say nothing about patients.")
    absent = [name for name, interval in found["auroc"].items() if interval is None]
    if absent:
        said.append(f"Not evaluated, for want of records with and without: {_listed(absent)}.")
    rare = [f"{name} ({reported.positives[name]})" for name in found["auroc"] if 0 < reported.positives[name] < RARE]
    if rare:
        said.append(f"Fewer than {RARE} positive records to judge by: {_listed(rare)}.")
    small = sum(group["small"] for group in found["subgroups"])
    if small:
        said.append(
            f"{small} of {len(found['subgroups'])} subgroups have few patients (marked small): too few to judge by."
        )
    off = sorted(
        {name for group in found["subgroups"] if not group["small"] for name in _miscalibrated(group, subject)}
    )
    if off:
        said.append(
            f"Stated probability less observed share, where it is {GAP:g} or more and beyond chance: {_listed(off)}."
        )
    if trained.age is None or trained.female is None:
        unknown = [name for name, value in (("age", trained.age), ("sex", trained.female)) if value is None]
        said.append(f"Not known of the training records: {_listed(unknown)}.")
    if trained.age is not None and trained.age[0] >= 18:
        said.append(f"Three quarters of the training records are of people of {trained.age[0]:.0f} years or more.")
    said.append(f"Knows {len(found['auroc'])} classes ({subject.task}): what is none of them goes unseen.")
    said.append(f"Needs {_listed(subject.leads)} in mV; leads that are missing or exchanged make its answer wrong.")
    return said


def _model(subject: Subject) -> list[str]:
    kind = "one of the classes" if subject.single_label else "of each class, which do not exclude each other"
    return [
        "## Model and intended use",
        f"{subject.network} with {subject.parameters:,} parameters. It reads {subject.seconds:g} s of "
        f"{len(subject.leads)}-lead ECG ({' '.join(subject.leads)}) in mV at {subject.fs:g} Hz, and states the "
        f"probability {kind}. Intended for comparing models of the task `{subject.task}` on records like those below.",
        *_table(("option", "value"), [(f"`{name}`", str(value)) for name, value in subject.options.items()]),
    ]


def _data(subject: Subject) -> list[str]:
    classes = list(subject.shares[0].positives)
    columns = ("used to", "folds", "records", "patients", "age: median (quartiles)", "female", *classes)
    purpose = {"train": "train", "fit": "fit calibration and thresholds", "report": "report every figure below"}
    rows = [
        (
            purpose[share.split],
            share.folds,
            f"{share.records:,}",
            f"{share.patients:,}",
            "–" if share.age is None else f"{share.age[1]:.0f} ({share.age[0]:.0f}-{share.age[2]:.0f})",
            "–" if share.female is None else f"{share.female:.0%}",
            *(f"{share.positives[name]:,}" for name in classes),
        )
        for share in subject.shares
    ]
    return [
        "## Data",
        f"Records of {_listed(subject.sources)}; records of each class at the right.",
        *_table(columns, rows),
    ]


def _performance(found: Mapping[str, Any]) -> list[str]:
    metrics, interval = found["metrics"], found["interval"]
    rows = [("macro AUROC", _with(metrics["macro_auroc"], found["macro_auroc"]))]
    written = parts(found["auroc"])
    for name, of in found["auroc"].items():
        if of is not None:
            rows.append((f"AUROC {name}", _with(metrics[f"auroc/{written[name]}"], of)))
    rows += [(label, _number(metrics.get(key))) for key, label in (("macro_auprc", "macro AUPRC"), ("fmax", "Fmax"))]
    return [
        "## Performance",
        f"On {found['records']:,} records of folds {_folds(found['folds']['report'])}, on which nothing was fitted. "
        f"Intervals: {interval['level']:.0%}, bootstrap of {interval['by']}s ({interval['method']}, "
        f"{found['macro_auroc']['resamples']:,} resamples).",
        *_table(("metric", "value"), rows),
    ]


def _calibration(found: Mapping[str, Any]) -> list[str]:
    names = (("nll", "negative log-likelihood"), ("brier", "Brier score"), ("ece", "expected calibration error"))
    rows = [
        (label, *(_number(found["metrics"][f"{key}/{when}"], 4) for when in ("before", "after")))
        for key, label in names
    ]
    posterior = " Of probabilities with the weights of the last layer integrated out." if found.get("laplace") else ""
    return [
        "## Calibration",
        f"Method: {found['calibration']['method']}, fitted on folds {_folds(found['folds']['fit'])}.{posterior}",
        *_table(("", "before", "after"), rows),
    ]


def _operating_points(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            name,
            rule,
            _number(point["threshold"]),
            *(
                _with(point["judged"][m], point["intervals"][m], 2)
                for m in ("sensitivity", "specificity", "ppv", "npv")
            ),
        )
        for name, of in found["operating_points"].items()
        for rule, point in list(of.items())[: None if len(found["operating_points"]) <= MOST else 1]
    ]
    columns = ("class", "chosen for", "threshold", "sensitivity", "specificity", "PPV", "NPV")
    return ["## Operating points", *_table(columns, rows)] if rows else []


def _subgroups(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            f"{group['attribute']}: {group['value']}{' (small)' if group['small'] else ''}",
            f"{group['records']:,}",
            f"{group['patients']:,}",
            _with(group["auroc"], group["auroc_interval"]),
            f"{max(map(abs, group['gap'])):.2f}",
        )
        for group in found["subgroups"]
    ]
    columns = ("group", "records", "patients", "macro AUROC", "largest calibration gap")
    return ["## Subgroups", *_table(columns, rows)] if rows else []


def _miscalibrated(group: Mapping[str, Any], subject: Subject) -> Iterable[str]:
    """Classes of a group whose calibration gap is large, and its interval leaves out 0."""
    classes = subject.shares[0].positives
    for name, gap, interval in zip(classes, group["gap"], group["gap_intervals"], strict=True):
        if abs(gap) >= GAP and interval is not None and (interval["low"] > 0 or interval["high"] < 0):
            yield f"{name} for {group['attribute']} {group['value']} ({gap:+.2f})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)]


def _spaced(part: Sequence[str]) -> Iterable[str]:
    """Paragraphs apart, the lines of a list together."""
    for number, line in enumerate(part):
        if number and not (line.startswith("- ") and part[number - 1].startswith("- ")):
            yield ""
        yield line


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _folds(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with(value: float | None, interval: Mapping[str, Any] | None, digits: int = 3) -> str:
    if value is None or interval is None:
        return _number(value, digits)
    return f"{_number(value, digits)} ({_number(interval['low'], digits)}-{_number(interval['high'], digits)})"
