"""Rules about the size of a step: learning rate and clipping."""

from __future__ import annotations

import numpy as np

from einthoven.diagnostics.rules.base import (
    Advice,
    Facts,
    History,
    Limits,
    at_high_rate,
    by_stage,
    fraction,
    has_enough_steps,
    percent,
    round_down,
    steps,
    values,
)
from einthoven.diagnostics.rules.remedies import CLIP_NORM, DOWN, LEARNING_RATE, UP, Remedy

_RANGE_TEST = "(experiment=range_test finds a good value)"


def learning_rate_high(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if a step changes a large part of the weights, or a step with the full learning rate would do so at first.

    Steps that are far too large make the weights grow until a step is no longer a large part of them. So the first step
    is judged, too.
    """
    if not has_enough_steps(history, limits):
        return None
    ratio = update_ratio(history)
    first_ratio = _first_update_ratio(history)
    largest_rate = f"highest watch/optim/lr {values(history, 'watch/optim/lr').max(initial=0):.2g}"
    if ratio is not None and ratio > limits.update_high:
        sentence = (
            f"The learning rate is too high: a step changes the weights by {percent(ratio)} of their size, but 0.1 % "
            "to 1 % is usual. Such large steps overshoot, and the loss can rise."
        )
        evidence = (
            f"median of watch/update/ratio over the stages, at steps with a high learning rate, is {ratio:.1e} (above "
            f"{limits.update_high:g}); {largest_rate}"
        )
        factor = ratio / limits.update_usual
    elif first_ratio is not None and first_ratio > limits.update_first:
        sentence = (
            "The learning rate is too high: with the weights of the start, a step with the full learning rate changes "
            f"them by {percent(first_ratio)} of their size, but at most 5 % is usual. Such steps make the weights grow "
            "and destroy their start."
        )
        evidence = (
            "median over the stages of the first watch/update/ratio, times the highest learning rate over that of this "
            f"step, is {first_ratio:.1e} (above {limits.update_first:g}); {largest_rate}"
        )
        factor = 5 * first_ratio / limits.update_first
    else:
        return None
    divisor = round_down(min(factor, limits.largest_factor))
    return Advice(
        "learning_rate_high",
        sentence,
        evidence,
        (
            Remedy(f"divide optimizer.lr by about {divisor:g} {_RANGE_TEST}", LEARNING_RATE, DOWN),
            Remedy("use a longer warm-up", LEARNING_RATE, DOWN),
        ),
    )


def clipped_steps(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if most steps are clipped to a small part of their gradient, and a step is proportional to its gradient.

    Adam and similar optimizers divide by the size of recent gradients. For them, a common factor of all gradients has
    no effect.
    """
    clipped = values(history, "watch/grad/clipped")
    if not len(clipped) or facts.get("clip_norm") is None or not facts.get("proportional"):
        return None
    share = float(np.mean(clipped))
    norms = values(history, "watch/grad/norm")
    norms = norms[np.isfinite(norms)]
    if share <= limits.clipped_share or not len(norms) or not has_enough_steps(history, limits):
        return None
    norm = float(np.median(norms))
    if norm <= limits.clipped_factor * facts["clip_norm"]:
        return None
    # Rounding divides by 2.5 at most, so that the proposed value is above the present one.
    proposed = round_down(min(3 * norm, limits.largest_factor * facts["clip_norm"]))
    return Advice(
        "clipped_steps",
        f"{percent(share)} of the steps are clipped, usually to {fraction(facts['clip_norm'] / norm)} of their "
        "gradient. So trainer.clip_norm decides how large a step is, not the gradient.",
        f"mean of watch/grad/clipped is {share:.2f} (above {limits.clipped_share:g}); "
        f"median of watch/grad/norm {norm:.2g}, trainer.clip_norm={facts['clip_norm']:g}",
        (
            Remedy(
                f"raise trainer.clip_norm to about {proposed:g}, so that it shortens only the rare large steps",
                CLIP_NORM,
                UP,
            ),
        ),
    )


def learning_rate_low(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if a step hardly changes the weights, and not because it is clipped."""
    ratio = update_ratio(history)
    if ratio is None or ratio >= limits.update_low or clipped_steps(history, facts, limits):
        return None
    largest_rate = values(history, "watch/optim/lr").max()
    factor = round_down(min(limits.update_usual / max(ratio, 1e-12), limits.largest_factor))
    return Advice(
        "learning_rate_low",
        f"The learning rate is too low: a step changes the weights by {ratio:.1e} of their size, but 1e-3 is usual. "
        "The training needs far more steps than it has.",
        f"median of watch/update/ratio over the stages, at steps with a high learning rate, is {ratio:.1e} (below "
        f"{limits.update_low:g}); highest watch/optim/lr {largest_rate:.2g}",
        (Remedy(f"multiply optimizer.lr by about {factor:g} {_RANGE_TEST}", LEARNING_RATE, UP),),
    )


def update_ratio(history: History) -> float | None:
    """Return the typical size of a step relative to the weights, at high learning rates; None if it was not measured.

    It is the median over steps, then over stages. It uses the later half of the steps: weights that start at zero are
    small at first, so that every step is large relative to them.
    """
    medians = []
    for stage in by_stage(history, "watch/update/ratio"):
        ratios = at_high_rate(history, f"watch/update/ratio/{stage}")
        if len(ratios):
            medians.append(float(np.median(ratios[len(ratios) // 2 :])))
    return float(np.median(medians)) if medians else None


def _first_update_ratio(history: History) -> float | None:
    """Return how large a step with the highest learning rate would be relative to the first weights; None if unknown.

    It is the median over the stages. A stage that starts at zero has no such ratio.
    """
    rate = values(history, "watch/optim/lr")
    if not len(rate):
        return None
    ratios = []
    for stage, of_stage in by_stage(history, "watch/update/ratio").items():
        first_step = steps(history, f"watch/update/ratio/{stage}")[0]
        rate_then = float(np.interp(first_step, steps(history, "watch/optim/lr"), rate))
        if np.isfinite(of_stage[0]) and rate_then > 0:
            ratios.append(float(of_stage[0]) * float(rate.max()) / rate_then)
    return float(np.median(ratios)) if ratios else None
