"""Fixed groups of the configuration: names, types and ranges. The default values are in ``conf/`` only."""

from __future__ import annotations

from einthoven.schema.evaluation import EvaluationOptions, OtherFolds, PrepareOptions, ProbeOptions
from einthoven.schema.reading import read_group
from einthoven.schema.training import Diagnostics, Folds, Seed, Tracking, Trainer

__all__ = [
    "Diagnostics",
    "EvaluationOptions",
    "Folds",
    "OtherFolds",
    "PrepareOptions",
    "ProbeOptions",
    "Seed",
    "Tracking",
    "Trainer",
    "read_group",
]
