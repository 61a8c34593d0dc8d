"""Rules about what keeps a model from learning its records by heart: whether it keeps it from learning at all."""

from __future__ import annotations

from einthoven.diagnostics.rules.base import Advice, Facts, History, Limits, percent, round_down, values
from einthoven.diagnostics.rules.remedies import DOWN, REGULARIZATION, Remedy


def strong_weight_decay(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the weight decay removes a large share of the weights in each step.

    The share is the product of learning rate and weight decay. If the weight decay is
    usual, `learning_rate_high` reports it.
    """
    rate = values(history, "watch/optim/lr")
    weight_decay = facts.get("weight_decay")
    if not len(rate) or not weight_decay or weight_decay <= limits.decay_usual:
        return None
    share = float(rate.max()) * weight_decay
    if share <= limits.decay_high:
        return None
    proposed = round_down(min(limits.decay_usual, limits.decay_high / float(rate.max())) / 5)
    return Advice(
        "strong_weight_decay",
        f"The weight decay is too strong: it shrinks the weights by {percent(share)} in each step, so that they cannot "
        "hold what the gradient teaches.",
        f"optimizer.weight_decay={weight_decay:g} times the highest watch/optim/lr, {rate.max():.2g}, is {share:.2g} "
        f"(above {limits.decay_high:g}); up to {limits.decay_usual:g} is usual",
        (Remedy(f"lower optimizer.weight_decay to about {proposed:g} or less", REGULARIZATION, DOWN),),
    )


def strong_augmentation(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the augmentation leaves hardly anything of the training signals."""
    augmented = facts.get("augmented") or {}
    hidden = augmented.get("hidden", 0.0)
    power = augmented.get("power", 1.0)
    remedies = (
        Remedy("look at what the network sees (figures/), and use a weaker augment", REGULARIZATION, DOWN),
        Remedy("train without augmentation (augment=none)", REGULARIZATION, DOWN),
    )
    if hidden > limits.hidden_share:
        return Advice(
            "strong_augmentation",
            f"The augmentation hides {percent(hidden)} of the training signals, so that the network hardly sees what "
            "it has to learn from.",
            f"share of the values of training records that the augmentation sets to zero: {hidden:.2f} (above "
            f"{limits.hidden_share:g})",
            remedies,
        )
    if power > limits.noise_power:
        return Advice(
            "strong_augmentation",
            f"The augmentation covers the training signals: their variance is {power:.0f} times as large after it as "
            "before it, so that the network hardly sees what it has to learn from.",
            f"variance of training records after the augmentation, divided by that before it: {power:.2g} (above "
            f"{limits.noise_power:g})",
            remedies,
        )
    return None
