"""Remedies: what a rule proposes to change, and in which direction. Opposite remedies contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from einthoven.functional.words import capitalized

UP = 1
DOWN = -1

LEARNING_RATE = "learning rate"
DURATION = "duration of the training"
REGULARIZATION = "regularization"
MODEL_SIZE = "size of the model"
BATCH_SIZE = "batch size"
CLIP_NORM = "clip_norm"

_DIRECTIONS = {
    (LEARNING_RATE, UP): "a higher learning rate",
    (LEARNING_RATE, DOWN): "a lower learning rate",
    (DURATION, UP): "a longer training",
    (DURATION, DOWN): "a shorter training",
    (REGULARIZATION, UP): "more regularization",
    (REGULARIZATION, DOWN): "less regularization",
    (MODEL_SIZE, UP): "a larger model",
    (MODEL_SIZE, DOWN): "a smaller model",
    (BATCH_SIZE, UP): "a larger batch",
    (BATCH_SIZE, DOWN): "a smaller batch",
    (CLIP_NORM, UP): "a higher trainer.clip_norm",
    (CLIP_NORM, DOWN): "a lower trainer.clip_norm",
}


@dataclass(frozen=True)
class Remedy:
    """One thing to try.

    Attributes
    ----------
    text : str
        What to try, without a full stop, such as ``lower optimizer.lr``.
    knob : str
        The quantity that it changes, one of the constants of this module; empty if no other remedy can contradict it.
    direction : int
        `UP` or `DOWN`; 0 without a knob.
    """

    text: str
    knob: str = ""
    direction: int = 0

    @property
    def described(self) -> str:
        """The change in words, such as "a lower learning rate"."""
        return _DIRECTIONS[self.knob, self.direction]


def list_remedies(remedies: Sequence[Remedy]) -> str:
    """Return remedies as one sentence: "Lower optimizer.lr, use a longer warm-up, or clip the gradient."."""
    texts = [remedy.text for remedy in remedies]
    if not texts:
        return ""
    *others, last = texts
    listed = f"{', '.join(others)}, or {last}" if others else last
    return f"{capitalized(listed)}."
