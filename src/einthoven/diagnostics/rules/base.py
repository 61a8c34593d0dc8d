"""What the rules share: a piece of advice, the limits, and how a series is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
History = Mapping[str, tuple[Sequence[int], Sequence[float]]]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Advice:
    """Something that a run shows, and what to do about it.

    Attributes
    ----------
    rule : str
        Name of the rule.
    sentence : str
        What was found, for a reader who knows none of the metrics.
    evidence : str
        The metrics and numbers that it rests on.
    remedy : str
        What to change or to look at.
    rank : int
        1 for what to look at first.
    """

    rule: str
    sentence: str
    evidence: str
    remedy: str
    rank: int = 0


@dataclass(frozen=True)
class Limits:
    """From where on a metric is worth a sentence; each is explained where it is set, in ``conf/advice``."""

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
    few_positives: float
    improving: float


def values(history: History, name: str) -> FloatArray:
    """Values of a metric in the order of its steps; empty where it was not measured."""
    return np.asarray(history[name][1], np.float64) if name in history else np.empty(0)


def steps(history: History, name: str) -> FloatArray:
    """Steps at which a metric was measured."""
    return np.asarray(history[name][0], np.float64) if name in history else np.empty(0)


def by_stage(history: History, prefix: str) -> dict[str, FloatArray]:
    """Values of ``<prefix>/<stage>`` for each stage."""
    return {name[len(prefix) + 1 :]: values(history, name) for name in history if name.startswith(f"{prefix}/")}


def at_work(history: History, name: str) -> FloatArray:
    """Finite values of a metric at the steps whose learning rate is at least half of the largest.

    While a schedule warms up or ends, steps are meant to be small.
    """
    found, at = values(history, name), steps(history, name)
    rate, rate_at = values(history, "watch/optim/lr"), steps(history, "watch/optim/lr")
    if len(rate) and len(found):
        found = found[np.interp(at, rate_at, rate) >= 0.5 * rate.max()]
    return found[np.isfinite(found)]


def validation_gain(history: History, facts: Facts) -> float | None:
    """Share of the uncertainty of the validation labels that was gone at best; below 0: worse than chance."""
    chance, nll = facts.get("chance", {}).get("val"), values(history, "val/nll")
    return float(1 - np.nanmin(nll) / chance) if chance and np.isfinite(nll).any() else None


def percent(share: float) -> str:
    """A share as text: 0.613 -> 61 %."""
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.2g} %"


def compared(gained: float) -> str:
    """A relative gain as text: 0.12 -> 12 % below."""
    return f"{percent(abs(gained))} {'below' if gained >= 0 else 'above'}"


def times(ratio: float) -> str:
    """A ratio below 1 as a fraction: 0.00025 -> 1/4,000."""
    return f"1/{1 / ratio:,.0f}" if ratio > 0 else "nothing"


def counted(n: int, what: str) -> str:
    """A number and its noun: 1 record, 2 records."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def listed(what: str, names: Collection[str], most: int = 5) -> str:
    """A noun and the names it stands for: class HYP; classes CD, HYP and 3 more."""
    names = list(names)
    plural = what if len(names) == 1 else f"{what}es" if what.endswith("s") else f"{what}s"
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{plural} {shown}"
