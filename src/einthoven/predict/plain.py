"""The answer for one record as JSON can express it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from einthoven.predict.predictor import Prediction, Predictor


def plain(found: Prediction, row: int, predictor: Predictor) -> dict[str, Any]:
    """All that a prediction says of one of its records; what is not known is None."""
    classes = predictor.classes
    p = dict(zip(classes, found.probabilities[row].tolist(), strict=True))
    single = len(predictor.bundles) == 1
    points = predictor.bundles[0].points if single else {}
    rules = list(dict.fromkeys(rule for of in points.values() for rule in of))
    familiar = float(found.familiar[row])
    return {
        "probabilities": p,
        "intervals": {
            name: None if np.isnan(pair).any() else pair.tolist()
            for name, pair in zip(classes, found.intervals[row], strict=True)
        },
        "set": list(found.sets[row]),
        "alpha": found.alpha,
        "positive": {
            rule: [name for name, of in points.items() if rule in of and _reaches(p[name], of[rule]["threshold"])]
            for rule in rules
        },
        "entropy": {name: float(part[row]) for name, part in vars(found.entropy).items()},
        "familiar": familiar if math.isfinite(familiar) else None,
        "in_training_data": found.in_training[row],
        "cautions": list(found.cautions[row]),
        "windows": [
            {"start_s": float(start), "probabilities": dict(zip(classes, values.tolist(), strict=True))}
            for start, values in zip(found.start_s[row], found.windows[row], strict=True)
        ],
    }


def _reaches(p: float, threshold: float | None) -> bool:
    return threshold is not None and p >= threshold
