"""The answer for one record as text: the rows of the terminal, and the lines of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from einthoven.functional.measurements import Measurements
from einthoven.report.measurement_text import measurement_lines, measurement_notes

CLASSES_IN_FULL = 8
"""All classes of the first group are shown if there are at most so many."""

CLASSES_ON_PAGE = 5
"""A page, and a window of a timeline, show so many of the most probable classes of the first group."""

CLASSES_OF_OTHER_GROUPS = 3
"""A page shows so many of each other group, such as the rhythms."""

THRESHOLD_RULE = "f1"
"""A class at or above the threshold of this operating point is shown."""

READABLE = 0.2
"""A class of the set with at least this probability is shown, too. The printed probability counts, with two digits."""

Groups = Mapping[str, Mapping[str, str]]
"""`Predictor.groups`: name of a group -> class -> what it means."""


@dataclass(frozen=True)
class Row:
    """A row of an answer."""

    name: str
    texts: Sequence[str]
    """One below the other."""
    side_by_side: bool = False
    """Whether the texts are short, and stand side by side as far as there is room."""


def answer_rows(
    answer: Mapping[str, Any], groups: Groups, measurements: Measurements | None = None, *, timeline: bool = False
) -> list[Row]:
    """Return the rows of an answer (`to_json`) on the terminal. JSON and CSV have all classes, these the main ones.

    Of a first group with few classes, all are shown. The meanings of these are in `meanings_line`. With `timeline`,
    each window has a row.
    """
    rows = []
    (main_group, main_classes), *others = groups.items()
    has_sets = answer["alpha"] is not None
    if len(main_classes) <= CLASSES_IN_FULL:
        ranked_names = most_probable(answer["probabilities"], main_classes)
        rows.append(Row(main_group, [_probability(answer, name) for name in ranked_names], side_by_side=True))
        if has_sets:
            labels = [name for name in answer["set"] if name in main_classes]
            rows.append(Row("may apply", [" ".join(labels) or "none of them"]))
    else:
        rows.append(_main_ones(answer, main_group, main_classes))
    rows += [_main_ones(answer, group, meanings) for group, meanings in others]
    if measurements is not None:
        rows.append(Row("measurements", measurement_lines(measurements), side_by_side=True))
        rows.append(Row("", measurement_notes(measurements)))
    rows.append(Row("cautions", answer["cautions"]))
    if timeline:
        for window in answer["windows"]:
            by_class = window["probabilities"]
            ranked_names = most_probable(by_class, main_classes)[:CLASSES_ON_PAGE]
            probabilities = [f"{name} {by_class[name]:.2f}" for name in ranked_names]
            rows.append(Row(f"from {window['start_s']:g} s", ["  ".join(probabilities)]))
    return [row for row in rows if row.texts]


def _main_ones(answer: Mapping[str, Any], group: str, meanings: Mapping[str, str]) -> Row:
    """Return the row of a group with many classes: those that matter for this record, and how many others there are."""
    ranked_names = most_probable(answer["probabilities"], meanings)
    positive_names = set(answer["positive"].get(THRESHOLD_RULE, ()))
    in_set = set(answer["set"])
    names = []
    for name in ranked_names:
        is_readable = name in in_set and round(answer["probabilities"][name], 2) >= READABLE
        if name in positive_names or is_readable:
            names.append(name)
    texts = [f"{_probability(answer, name)} {meanings[name]}".rstrip() for name in names]

    # The others are counted.
    others = [name for name in ranked_names if name not in names]
    if others:
        has_sets = answer["alpha"] is not None
        possible = [name for name in others if name in in_set] if has_sets else []
        counts = []
        if possible:
            counts.append(f"{len(possible)} may apply")
        remaining = len(others) - len(possible)
        if remaining:
            verb = "is" if remaining == 1 else "are"
            counts.append(f"{remaining} {verb} {'improbable' if has_sets else 'less probable'}")
        texts.append(f"{'others' if names else 'none stands out'}: {', '.join(counts)}")
    return Row(group, texts)


def meanings_line(groups: Groups) -> str:
    """Return what the classes of the first group mean, as one line; empty if the bundle does not say it."""
    main_classes = next(iter(groups.values()))
    return ", ".join(f"{name} {meaning}" for name, meaning in main_classes.items() if meaning)


def page_lines(answer: Mapping[str, Any], groups: Groups) -> tuple[list[str], str]:
    """Return what a page shows of an answer: the most probable classes of the first group, and a line with the others.

    The parameters are those of `answer_rows`.
    """
    (_, main_classes), *others = groups.items()
    ranked_names = most_probable(answer["probabilities"], main_classes)[:CLASSES_ON_PAGE]
    main_lines = [_probability(answer, name) for name in ranked_names]
    parts = []
    for group, meanings in others:
        ranked_names = most_probable(answer["probabilities"], meanings)[:CLASSES_OF_OTHER_GROUPS]
        in_words = [f"{meanings[name]} {answer['probabilities'][name]:.2f}" for name in ranked_names]
        parts.append(f"{group}: {', '.join(in_words)}")
    return main_lines, ";  ".join(parts)


def most_probable(probabilities: Mapping[str, float], classes: Iterable[str]) -> list[str]:
    """Return some classes, the most probable one first."""
    return sorted(classes, key=lambda name: -probabilities[name])


def _probability(answer: Mapping[str, Any], name: str) -> str:
    """Return a class with its probability and interval."""
    interval = answer["intervals"][name]
    interval_text = "" if interval is None else f" ({interval[0]:.2f}-{interval[1]:.2f})"
    return f"{name} {answer['probabilities'][name]:.2f}{interval_text}"
