"""Rules about single units and attention heads: whether they still contribute."""

from __future__ import annotations

from einthoven.diagnostics.rules.base import (
    Advice,
    Facts,
    History,
    Limits,
    by_stage,
    has_enough_epochs,
    percent,
    values,
)
from einthoven.diagnostics.rules.remedies import DOWN, DURATION, LEARNING_RATE, UP, Remedy
from einthoven.diagnostics.rules.step_size import update_ratio


def dead_units(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about units that are zero for every record."""
    shares = {stage: series[-1] for stage, series in by_stage(history, "watch/act/dead").items() if len(series)}
    dead = {stage: share for stage, share in shares.items() if share > limits.dead_share}
    if not dead:
        return None
    worst = max(dead, key=lambda stage: dead[stage])
    ratio = update_ratio(history)
    remedies = [
        Remedy("use an activation that has a gradient below zero (model.activation=leaky_relu or gelu)"),
        Remedy("initialise the weights again (init=he)"),
    ]
    # Small steps kill no unit.
    if ratio is None or ratio >= limits.update_low:
        remedies.insert(0, Remedy("lower optimizer.lr", LEARNING_RATE, DOWN))
    return Advice(
        "dead_units",
        f"{percent(dead[worst])} of the units of {worst} are dead: they are zero for every record, so they do not "
        "learn any more.",
        "; ".join(f"watch/act/dead/{stage} ends at {share:.2f}" for stage, share in dead.items()),
        tuple(remedies),
    )


def uniform_attention(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about attention heads that give all tokens the same weight."""
    ratios = {}
    for head, entropy in by_stage(history, "watch/act/attention_entropy").items():
        block = head.rpartition("/")[0]
        uniform_entropy = values(history, f"watch/act/attention_entropy_uniform/{block}")
        if len(entropy) and len(uniform_entropy):
            ratios[head] = entropy[-1] / uniform_entropy[-1]
    uniform = [head for head, ratio in ratios.items() if ratio > limits.attention_entropy]
    if not uniform or not has_enough_epochs(history, facts, limits):
        return None
    return Advice(
        "uniform_attention",
        f"{len(uniform)} of {len(ratios)} attention heads are uniform: they average over all tokens and do not select "
        f"any ({', '.join(uniform[:5])}).",
        f"watch/act/attention_entropy is more than {limits.attention_entropy:g} times the entropy of equal weights",
        (
            Remedy("use fewer heads (model.heads)"),
            Remedy("choose another encoding of positions (model.positions)"),
            Remedy("train for longer", DURATION, UP),
        ),
    )
