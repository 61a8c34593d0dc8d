"""Rules about gradients and activations: whether the training can work at all."""

from __future__ import annotations

from itertools import takewhile

import numpy as np

from einthoven.diagnostics.rules.base import (
    Advice,
    Facts,
    History,
    Limits,
    below_or_above,
    by_stage,
    count_noun,
    fraction,
    has_enough_epochs,
    multiple,
    steps,
    validation_gain,
    values,
)
from einthoven.diagnostics.rules.remedies import CLIP_NORM, DOWN, LEARNING_RATE, MODEL_SIZE, Remedy


def diverged(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about steps whose loss or gradient is not a finite number."""
    loss = values(history, "train/loss")
    bad_steps = steps(history, "train/loss")[~np.isfinite(loss)]
    nonfinite = values(history, "watch/grad/nonfinite")
    bad_gradient_steps = steps(history, "watch/grad/nonfinite")[nonfinite > 0]
    if not len(bad_steps) and not len(bad_gradient_steps):
        return None

    if len(bad_steps):
        quantity = "loss"
        first = bad_steps[0]
    else:
        quantity = "gradient"
        first = bad_gradient_steps[0]
    counts = (
        f"train/loss is not finite at {len(bad_steps)} of {len(loss)} steps; watch/grad/nonfinite above 0 at "
        f"{len(bad_gradient_steps)} of {len(nonfinite)} measurements"
    )

    # If the last loss is finite, the training continued after the skipped steps.
    skipped = values(history, "watch/optim/skipped")
    if len(skipped) and np.isfinite(loss[-1:]).all():
        return Advice(
            "skipped_steps",
            f"{count_noun(int(skipped[-1]), 'step')} changed nothing, the first at step {first:.0f}, because the "
            f"{quantity} was not a finite number. The records of these steps are lost for the training.",
            f"watch/optim/skipped ends at {skipped[-1]:.0f}; {counts}",
            (
                Remedy("check the records (einthoven doctor)"),
                Remedy("lower optimizer.lr", LEARNING_RATE, DOWN),
                *_clipping(facts),
            ),
        )
    return Advice(
        "diverged",
        f"Training diverged: from step {first:.0f} on, the {quantity} is not a finite number. The weights after that "
        "step are useless.",
        counts,
        (
            Remedy("lower optimizer.lr", LEARNING_RATE, DOWN),
            Remedy("use a longer warm-up", LEARNING_RATE, DOWN),
            *_clipping(facts),
            Remedy("train with trainer.precision=fp32"),
        ),
    )


def broken_init(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about initial weights whose output, or whose gradient, is zero or very large at the first step."""
    variances = {stage: series[0] for stage, series in by_stage(history, "watch/act/variance").items()}

    # The last stage may start at zero: then all classes are equally likely.
    last = next(reversed(facts.get("stages", ())), "")
    silent = [stage for stage, variance in variances.items() if variance < limits.variance_low and stage != last]
    loud = [stage for stage, variance in variances.items() if variance > limits.variance_high]
    no_gradient = []
    for stage, norms in by_stage(history, "watch/grad/norm").items():
        if len(norms) > 1 and np.nanmax(norms) == 0:
            no_gradient.append(stage)

    # The output for constant records is constant, too. That is not the fault of the weights.
    if facts.get("flat", {}).get("train", 0) == facts.get("records", {}).get("train"):
        return None
    # Units that are dead from the start silence the stages behind them. `dead_units` names this cause.
    if silent:
        before_silence = takewhile(lambda stage: stage not in silent, facts.get("stages", ()))
        dead = by_stage(history, "watch/act/dead")
        if any(stage in dead and dead[stage][0] > limits.dead_share for stage in before_silence):
            return None
    if silent or no_gradient:
        if silent:
            sentence = (
                f"The output of {_name_stages(silent)} does not vary at the first step: the weights are zero, or "
                "nearly zero. The stages after it receive no signal."
            )
        else:
            sentence = (
                f"No gradient ever reaches {_name_stages(no_gradient)}, so its weights never change. Weights behind "
                "it are zero, or it is not connected to the loss."
            )
        evidence = [f"watch/act/variance/{stage} is {variances[stage]:.1e} at the first step" for stage in silent]
        evidence += [f"watch/grad/norm/{stage} is 0 at all steps" for stage in no_gradient]
        return Advice(
            "broken_init",
            sentence,
            "; ".join(evidence),
            (
                Remedy(
                    "initialise the weights again (init=he, init=orthogonal or init=lsuv). Only the last layer of a "
                    "residual branch may start at zero"
                ),
            ),
        )
    if loud:
        worst = max(loud, key=lambda stage: variances[stage])
        return Advice(
            "broken_init",
            f"The signal explodes inside the network: the variance of {worst} is {variances[worst]:.1e} at the first "
            "step. Such large values make the training unstable.",
            "; ".join(f"watch/act/variance/{stage} is {variance:.1e}" for stage, variance in variances.items()),
            (
                Remedy("use an initialisation that keeps the variance from layer to layer (init=he, init=lsuv)"),
                Remedy("normalise (model.norm)"),
            ),
        )
    return None


def wrong_bias(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the biases of the last layer start further from the shares of the classes than biases of 0.

    The first losses do not show this: the random weights of the last layer change them as much.
    """
    excess = facts.get("bias_loss")
    if excess is None or excess <= limits.prior_kl:
        return None
    return Advice(
        "wrong_bias",
        "The biases of the last layer start far from the shares of the classes, further than biases of 0. The first "
        "steps only correct them.",
        f"with these biases alone, the negative log-likelihood of the training labels is {excess:.2g} higher than with "
        f"biases of 0 (limit {limits.prior_kl:g})",
        (
            Remedy("start the biases of the last layer at the shares of the classes (task.prior_bias=true)"),
            Remedy("start them at 0"),
        ),
    )


def vanishing_gradient(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the gradient of the first stage is much smaller, or much larger, than that of the last."""
    ratios = values(history, "watch/grad/vanishing")
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return None
    ratio = float(np.median(ratios))
    stages = facts.get("stages", ("the first stage", "the last"))
    evidence = f"median of watch/grad/vanishing (root mean square of first over last) is {ratio:.1e}"
    if ratio < limits.vanishing:
        return Advice(
            "vanishing_gradient",
            f"Gradients vanish: {stages[0]}, the first stage, receives {fraction(ratio)} of the gradient of "
            f"{stages[-1]}, the last. The first layers learn very slowly or not at all.",
            f"{evidence} (below {limits.vanishing:g})",
            (
                Remedy("use an activation that does not saturate (model.activation=relu)"),
                Remedy("normalise (model.norm=batch)"),
                Remedy("add skip connections (model.skip=true)"),
                Remedy("use fewer layers", MODEL_SIZE, DOWN),
            ),
        )
    if ratio > 1 / limits.vanishing:
        return Advice(
            "exploding_gradient",
            f"Gradients explode on their way back: {stages[0]}, the first stage, receives {multiple(ratio)} the "
            f"gradient of {stages[-1]}, the last. The steps of the first layers are too large.",
            f"{evidence} (above {1 / limits.vanishing:g})",
            (
                Remedy("normalise (model.norm=batch)"),
                Remedy("start with smaller weights (init=orthogonal)"),
                Remedy("use fewer layers", MODEL_SIZE, DOWN),
            ),
        )
    return None


def no_normalisation(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about a network without normalisation in which the signal changes its size, or that learns nothing."""
    variances = by_stage(history, "watch/act/variance")
    # The last stage gives the logits, which may have any size.
    variances.pop(next(reversed(facts.get("stages", ())), ""), None)
    if facts.get("normalised", True) or facts.get("layers", 0) < limits.deep or len(variances) < 2:
        return None

    # Take the sizes that differ most: those of the first step or those of the whole training.
    at_first = {stage: float(series[0]) for stage, series in variances.items()}
    medians = {stage: float(np.median(series)) for stage, series in variances.items()}
    sizes = max(at_first, medians, key=_spread)
    spread = _spread(sizes)
    gain = validation_gain(history, facts)
    if spread > limits.variance_spread:
        smallest = min(sizes, key=sizes.__getitem__)
        largest = max(sizes, key=sizes.__getitem__)
        sentence = (
            "The network does not normalise, and the signal changes its size from stage to stage: the variance of "
            f"{largest} is {multiple(spread)} that of {smallest}. One learning rate cannot fit all stages."
        )
        when = "at the first step" if sizes is at_first else "(medians)"
        stage_sizes = ", ".join(f"{stage} {variance:.1e}" for stage, variance in sizes.items())
        evidence = f"watch/act/variance {when}: {stage_sizes}; no layer normalises"
    elif gain is not None and gain < limits.learned and has_enough_epochs(history, facts, limits):
        sentence = (
            f"The network does not normalise any of its {facts['layers']} layers, and it learns nothing. Deep networks "
            "without normalisation are hard to train."
        )
        evidence = (
            f"val/nll is at best {below_or_above(gain)} the loss of chance ({facts['chance']['val']:.3f}); no layer "
            "normalises"
        )
    else:
        return None
    return Advice(
        "no_normalisation",
        sentence,
        evidence,
        (
            Remedy("normalise (model.norm=batch, layer or group)"),
            Remedy("use an initialisation that keeps the variance (init=lsuv)"),
        ),
    )


def _spread(sizes: dict[str, float]) -> float:
    """Return the largest value divided by the smallest."""
    return max(sizes.values()) / max(min(sizes.values()), 1e-30)


def _clipping(facts: Facts) -> tuple[Remedy, ...]:
    """Return the remedy of clipping the gradient; nothing if it is clipped to 1 already."""
    clip_norm = facts.get("clip_norm")
    if clip_norm is not None and clip_norm <= 1:
        return ()
    return (Remedy("clip the gradient (trainer.clip_norm=1)", CLIP_NORM, DOWN),)


def _name_stages(names: list[str]) -> str:
    return f"stage {names[0]}" if len(names) == 1 else f"stages {', '.join(names)}"
