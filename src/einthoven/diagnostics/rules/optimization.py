"""Rules over gradients, updates and what flows between the stages: whether this training can work at all."""

from __future__ import annotations

import numpy as np

from einthoven.diagnostics.rules.base import (
    Advice,
    Facts,
    History,
    Limits,
    at_work,
    by_stage,
    compared,
    counted,
    percent,
    times,
    validation_gain,
    values,
)
from einthoven.diagnostics.rules.base import steps as steps_of


def learning_rate_high(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Steps that replace a good part of the weights."""
    ratio = _update_ratio(history)
    if ratio is None or ratio <= limits.update_high:
        return None
    return Advice(
        "learning_rate_high",
        f"The learning rate is too high: a step changes the weights by {percent(ratio)} of their size, where 0.1 % "
        "to 1 % "
        "is usual.",
        f"median of watch/update/ratio over the stages, while the learning rate is at its height, is {ratio:.1e} "
        f"(above {limits.update_high:g}); highest watch/optim/lr {values(history, 'watch/optim/lr').max():.2g}",
        f"Lower optimizer.lr about {_rounded(ratio / limits.update_usual)}-fold (experiment=range_test finds a good "
        "one), "
        "or warm up for longer.",
    )


def diverged(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Loss or gradients that are no finite numbers any more, or were not at some steps."""
    loss, at = values(history, "train/loss"), steps_of(history, "train/loss")
    bad = at[~np.isfinite(loss)]
    wrong = values(history, "watch/grad/nonfinite")
    if not len(bad) and not (wrong > 0).any():
        return None
    first = bad[0] if len(bad) else steps_of(history, "watch/grad/nonfinite")[wrong > 0][0]
    what = "loss" if len(bad) else "gradient"
    skipped = values(history, "watch/optim/skipped")
    if len(skipped) and np.isfinite(loss[-1:]).all():  # training went on after those steps
        return Advice(
            "skipped_steps",
            f"{counted(int(skipped[-1]), 'step')} changed nothing, the first of them step {first:.0f}, because the "
            f"{what} was no finite number there.",
            f"watch/optim/skipped ends at {skipped[-1]:.0f}; train/loss is not finite at {len(bad)} of {len(loss)} "
            f"steps; watch/grad/nonfinite above 0 at {(wrong > 0).sum()} of {len(wrong)} measurements",
            "Examine the records (einthoven doctor), lower optimizer.lr, or clip the gradient (trainer.clip_norm=1).",
        )
    return Advice(
        "diverged",
        f"Training diverged: from step {first:.0f} on, the {what} is no finite number.",
        f"train/loss is not finite at {len(bad)} of {len(loss)} steps; watch/grad/nonfinite above 0 at "
        f"{(wrong > 0).sum()} of "
        f"{len(wrong)} measurements",
        "Lower optimizer.lr, warm up for longer, clip the gradient (trainer.clip_norm=1), or train with "
        "trainer.precision=fp32.",
    )


def broken_init(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Weights from which nothing comes out, or far too much, at the first step."""
    variances = {stage: found[0] for stage, found in by_stage(history, "watch/act/variance").items()}
    last = next(reversed(facts.get("stages", ())), "")  # may start at zero: all classes are then equally likely
    silent = [stage for stage, variance in variances.items() if variance < limits.variance_low and stage != last]
    loud = [stage for stage, variance in variances.items() if variance > limits.variance_high]
    still = [s for s, norms in by_stage(history, "watch/grad/norm").items() if len(norms) > 1 and np.nanmax(norms) == 0]
    if facts.get("flat", {}).get("train", 0) == facts.get("records", {}).get("train"):
        return None  # of constant records nothing comes out either
    if silent or still:
        stages = silent or still
        return Advice(
            "broken_init",
            f"Nothing comes out of {_stages(stages)} at the first step: the weights are zeros, or nearly."
            if silent
            else f"No gradient ever reaches {_stages(stages)}: weights behind it are zeros, or it is cut off.",
            "; ".join(
                [f"watch/act/variance/{s} is {variances[s]:.1e} at first" for s in silent]
                + [f"watch/grad/norm/{s} is 0 throughout" for s in still]
            ),
            "Draw the weights anew (init=he, init=orthogonal or init=lsuv), and see that no layer starts at zero "
            "but the "
            "last of a residual branch.",
        )
    if loud:
        worst = max(loud, key=lambda stage: variances[stage])
        return Advice(
            "broken_init",
            f"The signal explodes on its way: the variance of {worst} is {variances[worst]:.1e} at the first step.",
            "; ".join(f"watch/act/variance/{s} is {v:.1e}" for s, v in variances.items()),
            "Draw the weights so that each layer keeps the variance (init=he, init=lsuv), or normalise (model.norm).",
        )
    return None


def vanishing_gradient(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """A gradient that fades, or grows, between the last stage and the first."""
    found = values(history, "watch/grad/vanishing")
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    ratio, stages = float(np.median(found)), facts.get("stages", ("the first stage", "the last"))
    if ratio < limits.vanishing:
        return Advice(
            "vanishing_gradient",
            f"Gradients vanish: {stages[0]}, the first stage, receives {times(ratio)} of the gradient of "
            f"{stages[-1]}, the "
            "last.",
            f"median of watch/grad/vanishing (root mean square of first over last) is {ratio:.1e} (below "
            f"{limits.vanishing:g})",
            "Use an activation that does not saturate (model.activation=relu), normalise (model.norm=batch), add skip "
            "connections (model.skip=true), or take fewer layers.",
        )
    if ratio > 1 / limits.vanishing:
        return Advice(
            "exploding_gradient",
            f"Gradients explode on their way back: {stages[0]}, the first stage, receives {ratio:,.0f} times the "
            "gradient of "
            f"{stages[-1]}, the last.",
            f"median of watch/grad/vanishing (root mean square of first over last) is {ratio:.1e}",
            "Normalise (model.norm=batch), draw smaller weights (init=orthogonal), or take fewer layers.",
        )
    return None


def learning_rate_low(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Steps too small to get anywhere."""
    ratio = _update_ratio(history)
    if ratio is None or ratio >= limits.update_low:
        return None
    return Advice(
        "learning_rate_low",
        f"The learning rate is too low: a step changes the weights by {ratio:.1e} of their size, where 1e-3 is usual.",
        f"median of watch/update/ratio over the stages, while the learning rate is at its height, is {ratio:.1e} "
        f"(below {limits.update_low:g}); highest watch/optim/lr {values(history, 'watch/optim/lr').max():.2g}",
        f"Raise optimizer.lr about {_rounded(limits.update_usual / max(ratio, 1e-12))}-fold (experiment=range_test "
        "finds a "
        "good one).",
    )


def no_normalisation(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """A network without normalisation between whose stages the signal changes its size, or that learns nothing."""
    measured = by_stage(history, "watch/act/variance")
    measured.pop(next(reversed(facts.get("stages", ())), ""), None)  # logits are of any size
    if facts.get("normalised", True) or facts.get("layers", 0) < limits.deep or len(measured) < 2:
        return None
    at_first = {stage: float(found[0]) for stage, found in measured.items()}
    later = {stage: float(np.median(found)) for stage, found in measured.items()}
    sizes = max(at_first, later, key=_spread)
    gained = validation_gain(history, facts)
    spread = _spread(sizes)
    if spread > limits.variance_spread:
        low, high = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        sentence = (
            "The network does not normalise, and the signal does not keep its size on the way: the variance of "
            f"{high} is {spread:,.0f} times that of {low}."
        )
        when = "at first" if sizes is at_first else "(medians)"
        stage_sizes = ", ".join(f"{stage} {variance:.1e}" for stage, variance in sizes.items())
        evidence = f"watch/act/variance {when}: {stage_sizes}; no layer normalises"
    elif gained is not None and gained < limits.learned:
        sentence = f"The network does not normalise any of its {facts['layers']} layers, and it learns nothing."
        evidence = (
            f"val/nll is at best {compared(gained)} that of telling every record the shares of the classes "
            f"({facts['chance']['val']:.3f}); no layer normalises"
        )
    else:
        return None
    return Advice(
        "no_normalisation",
        sentence,
        evidence,
        "Normalise (model.norm=batch, layer or group), or draw weights that keep the variance (init=lsuv).",
    )


def _spread(sizes: dict[str, float]) -> float:
    """Largest over smallest."""
    return max(sizes.values()) / max(min(sizes.values()), 1e-30)


def clipped_steps(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Clipping that is the rule and no exception, where the gradient's size is that of the step.

    Adam and its kin divide by the size of recent gradients, so that a factor common to all of them changes nothing.
    """
    clipped = values(history, "watch/grad/clipped")
    if not len(clipped) or facts.get("clip_norm") is None or not facts.get("proportional"):
        return None
    share, norm = float(np.mean(clipped)), float(np.nanmedian(values(history, "watch/grad/norm")))
    if share <= limits.clipped_share:
        return None
    return Advice(
        "clipped_steps",
        f"{percent(share)} of the steps are clipped: it is trainer.clip_norm that sets their size, not the gradient.",
        f"mean of watch/grad/clipped is {share:.2f} (above {limits.clipped_share:g}); "
        f"median of watch/grad/norm {norm:.2g}, trainer.clip_norm={facts['clip_norm']:g}",
        f"Raise trainer.clip_norm to about {2 * norm:.1g}, so that it stops the rare large step alone.",
    )


def dead_units(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Units that are silent for every record."""
    shares = {stage: found[-1] for stage, found in by_stage(history, "watch/act/dead").items() if len(found)}
    dead = {stage: share for stage, share in shares.items() if share > limits.dead_share}
    if not dead:
        return None
    worst = max(dead, key=lambda stage: dead[stage])
    return Advice(
        "dead_units",
        f"{percent(dead[worst])} of the units of {worst} are dead: they are zero for every record.",
        "; ".join(f"watch/act/dead/{stage} ends at {share:.2f}" for stage, share in dead.items()),
        "Lower optimizer.lr, or use an activation with a slope below zero (model.activation=leaky_relu or gelu).",
    )


def uniform_attention(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Attention heads that look at everything alike."""
    heads = {}
    for name, found in by_stage(history, "watch/act/attention_entropy").items():
        equal = values(history, f"watch/act/attention_entropy_uniform/{name.rpartition('/')[0]}")
        if len(found) and len(equal):
            heads[name] = found[-1] / equal[-1]
    uniform = {name: ratio for name, ratio in heads.items() if ratio > limits.attention_entropy}
    if not uniform:
        return None
    return Advice(
        "uniform_attention",
        f"{len(uniform)} of {len(heads)} attention heads are uniform, they average over all tokens: "
        f"{', '.join(list(uniform)[:5])}.",
        f"watch/act/attention_entropy is more than {limits.attention_entropy:g} times that of equal weights",
        "Take fewer heads (model.heads), other positions (model.positions), or train for longer.",
    )


def _update_ratio(history: History) -> float | None:
    """Median over the stages of the median size of a step over that of the weights, at the height of the rate.

    Of these steps, the later half: weights that start at zero are small at first, and every step large beside them.
    """
    ratios = [at_work(history, f"watch/update/ratio/{stage}") for stage in by_stage(history, "watch/update/ratio")]
    medians = [float(np.median(found[len(found) // 2 :])) for found in ratios if len(found)]
    return float(np.median(medians)) if medians else None


def _rounded(factor: float) -> int:
    """1, 2, 5, 10, 20, 50 …: a factor that claims no precision."""
    decade = 10 ** int(np.floor(np.log10(max(factor, 1.0))))
    return int(max((n * decade for n in (1, 2, 5) if n * decade <= factor), default=1))


def _stages(names: list[str]) -> str:
    return f"stage {names[0]}" if len(names) == 1 else f"stages {', '.join(names)}"
