"""Types and small functions that all rules use: Advice, Limits, reading of metrics, parts of sentences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from einthoven.diagnostics.rules.remedies import Remedy, list_remedies

FloatArray = npt.NDArray[np.float64]
History = Mapping[str, tuple[Sequence[int], Sequence[float]]]
Facts = Mapping[str, Any]

LARGEST_RATIO = 1_000_000
"""Larger ratios are written as a limit."""


@dataclass(frozen=True)
class Advice:
    """A problem of a run, and what to do about it.

    Attributes
    ----------
    rule : str
        Name of the rule.
    sentence : str
        The problem and why it matters, for a reader who does not know the metrics.
    evidence : str
        The metrics and numbers that show the problem.
    remedies : tuple of Remedy
        What to try.
    remark : str
        Why some remedies of the rule are left out; empty if none is.
    rank : int
        Position in the list of advice; 1 is the most important.
    """

    rule: str
    sentence: str
    evidence: str
    remedies: tuple[Remedy, ...]
    remark: str = ""
    rank: int = 0

    @property
    def remedy(self) -> str:
        """What to try, in sentences."""
        return " ".join(filter(None, (list_remedies(self.remedies), self.remark)))


@dataclass(frozen=True)
class Limits:
    """Limits from which a metric gives advice. ``conf/advice/default.yaml`` sets and explains them."""

    flat_share: float
    repeated_share: float
    shared_share: float
    flipped_share: float
    drift_psi: float
    update_high: float
    update_usual: float
    update_low: float
    variance_low: float
    variance_high: float
    variance_spread: float
    deep: float
    vanishing: float
    clipped_share: float
    dead_share: float
    attention_entropy: float
    constant_output: float
    learned: float
    learned_auroc: float
    loss_rise: float
    auroc_lost: float
    prior_kl: float
    improving: float
    # Runs of earlier versions do not have these.
    collapsed_share: float = 0.5
    lowest_rank: float = 1.5
    active_latents: float = 0.1
    enough_steps: int = 50
    enough_epochs: int = 4
    largest_factor: float = 100.0
    size_low: float = 0.02
    size_high: float = 3.0
    size_ratio: float = 3.0
    update_first: float = 0.2
    missing_chance: float = 1e-4
    clipped_factor: float = 5.0
    decay_high: float = 5e-3
    decay_usual: float = 0.3
    hidden_share: float = 0.75
    noise_power: float = 10.0
    few_records: int = 200


def values(history: History, name: str) -> FloatArray:
    """Return the values of a metric in the order of its steps; empty if it was not measured."""
    if name not in history:
        return np.empty(0)
    return np.asarray(history[name][1], np.float64)


def steps(history: History, name: str) -> FloatArray:
    """Return the steps at which a metric was measured; empty if it was not measured."""
    if name not in history:
        return np.empty(0)
    return np.asarray(history[name][0], np.float64)


def by_stage(history: History, prefix: str) -> dict[str, FloatArray]:
    """Return the values of the metric ``<prefix>/<stage>`` of each stage."""
    start = f"{prefix}/"
    return {name.removeprefix(start): values(history, name) for name in history if name.startswith(start)}


def at_high_rate(history: History, name: str) -> FloatArray:
    """Return the finite values of a metric at steps with at least half of the largest learning rate.

    At the start and at the end of a schedule, small steps are intended.
    """
    series = values(history, name)
    rate = values(history, "watch/optim/lr")
    if len(rate) and len(series):
        rate_then = np.interp(steps(history, name), steps(history, "watch/optim/lr"), rate)
        series = series[rate_then >= 0.5 * rate.max()]
    return series[np.isfinite(series)]


def validation_gain(history: History, facts: Facts) -> float | None:
    """Return how far the best validation loss is below the loss of chance, as a share; negative: worse than chance.

    Chance predicts the shares of the classes in training for every record.
    """
    chance = facts.get("chance", {}).get("val")
    loss = values(history, "val/nll")
    if not chance or not np.isfinite(loss).any():
        return None
    return float(1 - np.nanmin(loss) / chance)


def has_enough_steps(history: History, limits: Limits) -> bool:
    """Return whether the training was long enough to judge its steps; True for a model that is fitted without steps."""
    at_steps = steps(history, "train/loss")
    return not len(at_steps) or at_steps[-1] >= limits.enough_steps


def has_enough_epochs(history: History, facts: Facts, limits: Limits) -> bool:
    """Return whether the training was long enough to judge what the model has learned."""
    if not len(values(history, "train/loss")):
        return True
    epochs = len(values(history, "val/nll"))
    # Values after the last epoch belong to the final evaluation of the same weights.
    epochs = min(epochs, facts.get("epochs", epochs))
    return has_enough_steps(history, limits) and epochs >= limits.enough_epochs


def percent(share: float) -> str:
    """Write a share as text: 0.613 -> 61 %."""
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.2g} %"


def below_or_above(gain: float) -> str:
    """Write a relative gain as text: 0.12 -> 12 % below; -0.12 -> 12 % above."""
    side = "below" if gain >= 0 else "above"
    return f"{percent(abs(gain))} {side}"


def fraction(ratio: float) -> str:
    """Write a ratio below 1 as a fraction: 0.00025 -> 1/4,000; a very small one as a limit."""
    if ratio <= 0:
        return "nothing"
    return f"1/{1 / ratio:,.0f}" if 1 / ratio <= LARGEST_RATIO else f"less than 1/{LARGEST_RATIO:,}"


def multiple(ratio: float) -> str:
    """Write a ratio above 1 as text: 80 -> 80 times; a very large one as a limit."""
    return f"{ratio:,.0f} times" if ratio <= LARGEST_RATIO else f"more than {LARGEST_RATIO:,} times"


def round_down(number: float) -> float:
    """Round a positive number down to 1, 2 or 5 times a power of ten, because an estimate is not precise."""
    decade = 10.0 ** np.floor(np.log10(number))
    candidates = [digit * decade for digit in (1, 2, 5) if digit * decade <= number * (1 + 1e-9)]
    return float(max(candidates, default=decade))


def count_noun(n: int, noun: str) -> str:
    """Write a number with its noun: 1 record; 2 records."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def list_classes(names: Collection[str], most: int = 5) -> str:
    """Write names of classes as text: Class HYP; Classes CD, HYP and 3 more."""
    noun = "Class" if len(names) == 1 else "Classes"
    text = ", ".join(list(names)[:most])
    if len(names) > most:
        text += f" and {len(names) - most} more"
    return f"{noun} {text}"
