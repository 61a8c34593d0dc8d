"""The labels that stand first on the page: what the model says, and how sure it is, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

RULE = "f1"
"""A label at or above the threshold of this operating point stands out."""

LEAST_PERCENT = 20
"""A label with a lower probability does not stand out. The threshold of a rare label can be far below it."""

EVEN_PERCENT = 50
"""Without operating points, a label with at least this probability stands out."""

LIKELIHOODS = (
    (90, "very likely"),
    (66, "likely"),
    (33, "possible"),
    (10, "unlikely"),
    (0, "very unlikely"),
)
"""Smallest probability in percent -> words. The bounds are those of the IPCC (Mastrandrea et al., "Guidance note for
lead authors of the IPCC fifth assessment report on consistent treatment of uncertainties", 2010)."""


def whole_percent(probability: float) -> int:
    """Return a probability in percent, rounded as the page prints it (`percent` in ``static/dom.js``).

    What is printed counts: a probability of 19.6 % is printed as 20 %, and is one of at least 20 %.
    """
    return math.floor(100 * probability + 0.5)


def likelihood(probability: float) -> str:
    """Return a probability in words."""
    return next(words for bound, words in LIKELIHOODS if whole_percent(probability) >= bound)


def rule_in_words(prediction: Mapping[str, Any]) -> str:
    """Return what is true of a label that stands out, as the end of a sentence."""
    if RULE in prediction["positive"]:
        return f"has a probability of {LEAST_PERCENT} % or more and reaches its threshold"
    return f"has a probability of {EVEN_PERCENT} % or more"


def main_labels(prediction: Mapping[str, Any], groups: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the labels that stand out, group by group, the most probable first.

    Of the first group, the most probable label is there in any case.

    Parameters
    ----------
    prediction : mapping
        The fields of `einthoven.predict.to_json`.
    groups : mapping
        `einthoven.predict.Predictor.groups`.

    Returns
    -------
    list of dict
        ``group``, ``name``, ``probability``, ``interval``, ``likelihood`` in words, and whether it ``stands_out``.
    """
    labels: list[dict[str, Any]] = []
    for group, names in groups.items():
        ranked = sorted(names, key=lambda name: -prediction["probabilities"][name])
        outstanding = [name for name in ranked if _stands_out(prediction, name)]
        is_first = not labels
        main_names = outstanding or (ranked[:1] if is_first else [])
        for name in main_names:
            probability = prediction["probabilities"][name]
            labels.append(
                {
                    "group": group,
                    "name": name,
                    "probability": probability,
                    "interval": prediction["intervals"][name],
                    "likelihood": likelihood(probability),
                    "stands_out": name in outstanding,
                }
            )
    return labels


def _stands_out(prediction: Mapping[str, Any], name: str) -> bool:
    percent = whole_percent(prediction["probabilities"][name])
    if RULE in prediction["positive"]:
        return percent >= LEAST_PERCENT and name in prediction["positive"][RULE]
    return percent >= EVEN_PERCENT
