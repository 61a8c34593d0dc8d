"""The prediction for one record in values that JSON can express."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from einthoven.predict.prediction import Prediction
from einthoven.predict.predictor import Predictor


def to_json(prediction: Prediction, row: int, predictor: Predictor) -> dict[str, Any]:
    """Return everything that a prediction contains about one of its records. Unknown values are None."""
    classes = predictor.classes
    probabilities = dict(zip(classes, prediction.probabilities[row].tolist(), strict=True))

    intervals = {}
    for name, interval in zip(classes, prediction.intervals[row], strict=True):
        intervals[name] = None if np.isnan(interval).any() else interval.tolist()

    # Operating points hold for one bundle: their thresholds do not fit the mean of several bundles.
    points = predictor.bundles[0].points if len(predictor.bundles) == 1 else {}
    positive: dict[str, list[str]] = {rule: [] for rules in points.values() for rule in rules}
    for name, rules in points.items():
        for rule, point in rules.items():
            threshold = point["threshold"]
            if threshold is not None and probabilities[name] >= threshold:
                positive[rule].append(name)

    windows = []
    for start_s, values in zip(prediction.start_s[row], prediction.windows[row], strict=True):
        by_class = dict(zip(classes, values.tolist(), strict=True))
        windows.append({"start_s": float(start_s), "probabilities": by_class})

    familiar = float(prediction.familiar[row])
    return {
        "probabilities": probabilities,
        "intervals": intervals,
        "set": list(prediction.sets[row]),
        "alpha": prediction.alpha,
        "positive": positive,
        "entropy": {name: float(part[row]) for name, part in vars(prediction.entropy).items()},
        "familiar": familiar if math.isfinite(familiar) else None,
        "in_training_data": prediction.in_training[row],
        "cautions": list(prediction.cautions[row]),
        "windows": windows,
    }
