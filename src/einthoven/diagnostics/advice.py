"""Advice on a run: rules over its metrics, in the order of their importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from einthoven.diagnostics.rules import data, learning, optimization, regularization, representation, step_size, units
from einthoven.diagnostics.rules.base import Advice, Facts, History, Limits
from einthoven.diagnostics.rules.remedies import Remedy

RULES = (
    data.constant_input,
    data.wrong_scale,
    data.missing_class,
    data.shared_between_splits,
    data.flipped_labels,
    data.label_drift,
    optimization.broken_init,
    optimization.wrong_bias,
    regularization.strong_weight_decay,
    step_size.learning_rate_high,
    optimization.diverged,
    units.dead_units,
    optimization.vanishing_gradient,
    step_size.clipped_steps,
    step_size.learning_rate_low,
    optimization.no_normalisation,
    regularization.strong_augmentation,
    representation.collapsed_embeddings,
    representation.collapsed_posterior,
    learning.few_records,
    learning.nothing_learned,
    learning.too_short,
    learning.constant_output,
    learning.overfitting,
    learning.overconfident,
    learning.wrong_prior,
    units.uniform_attention,
    learning.still_improving,
)
"""The order is the importance. Problems of the data come first, because they spoil all results. Causes come before
their effects."""

CAUSES = frozenset(
    {
        "broken_init",
        "wrong_bias",
        "strong_weight_decay",
        "learning_rate_high",
        "diverged",
        "vanishing_gradient",
        "exploding_gradient",
        "clipped_steps",
        "learning_rate_low",
        "no_normalisation",
        "dead_units",
        "strong_augmentation",
        "few_records",
    }
)
"""Faults of network, optimization or regularization."""

CONSEQUENCES = frozenset(
    {
        "collapsed_embeddings",
        "nothing_learned",
        "too_short",
        "constant_output",
        "overfitting",
        "overconfident",
        "wrong_prior",
    }
)
"""What a run with such a fault shows, too. Its own remedies would be about something else."""


def advise(history: History, facts: Facts, limits: Limits) -> list[Advice]:
    """Return the advice on a run, the most important first. No remedy contradicts another one.

    A rule gives no advice if its metrics or facts are missing.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        All recorded values of each metric.
    facts : mapping
        Facts that are not metrics. `einthoven.diagnostics.data.compare_splits` returns the facts about the splits. The
        other facts are:

        - ``stages``: names of the stages, from first to last
        - ``normalised`` (bool): whether any layer normalises
        - ``layers``: number of layers with weights
        - ``clip_norm``, ``epochs``: options of the trainer
        - ``chance``: for each split, the negative log-likelihood if the prediction for every record is the share of
          each class in training
        - ``plain_loss`` (bool): whether the training loss is a negative log-likelihood, which ``chance`` can be
          compared with
        - ``pretrained`` (bool): whether the weights are those of another model at first
        - ``proportional`` (bool): whether a step of the optimizer is proportional to the gradient
        - ``weight_decay``: the largest weight decay that shrinks weights by the learning rate times its value per step
        - ``augmented``: what the augmentation does to training signals: ``hidden``, the share of their values that it
          sets to zero, and ``power``, their variance relative to that before it
        - ``bias_loss``: how much higher the negative log-likelihood of the training labels is with the first biases of
          the last layer alone than with biases of 0
        - ``largest_range``: highest minus lowest probability of a class over the validation records; the largest of all
          classes
    limits : Limits
        The limits of all rules, from ``conf/advice/``.
    """
    advice: list[Advice] = []
    for rule in RULES:
        problem = rule(history, facts, limits)
        if problem is not None:
            advice.append(_fit_into(advice, replace(problem, rank=len(advice) + 1)))
    return advice


def _fit_into(earlier: Sequence[Advice], new: Advice) -> Advice:
    """Return an advice without the remedies that advice of a higher rank makes needless, or contradicts.

    The reason is in its remark.
    """
    if new.rule in CONSEQUENCES:
        for advice in earlier:
            if advice.rule in CAUSES:
                return replace(new, remedies=(), remark=f"Advice {advice.rank} can be the cause: correct it first.")

    accepted = []
    remarks = []
    for remedy in new.remedies:
        opponent = _opponent(earlier, remedy)
        if opponent is None:
            accepted.append(remedy)
        else:
            rank, opposite = opponent
            remarks.append(f"Do not use {remedy.described}: advice {rank} asks for {opposite.described}.")
    return replace(new, remedies=tuple(accepted), remark=" ".join(dict.fromkeys(remarks)))


def _opponent(earlier: Sequence[Advice], remedy: Remedy) -> tuple[int, Remedy] | None:
    """Return the first remedy that changes the same quantity in the other direction, and the rank of its advice."""
    for advice in earlier:
        for other in advice.remedies:
            if remedy.knob and remedy.knob == other.knob and remedy.direction != other.direction:
                return advice.rank, other
    return None
