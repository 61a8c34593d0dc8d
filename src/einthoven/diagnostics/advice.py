"""What a run shows, and what to do about it: plain rules over its series, causes before their consequences."""

from __future__ import annotations

from dataclasses import replace

from einthoven.diagnostics.rules import data, learning, optimization
from einthoven.diagnostics.rules.base import Advice, Facts, History, Limits

RULES = (
    data.constant_input,
    data.missing_class,
    data.shared_between_splits,
    data.flipped_labels,
    optimization.broken_init,
    optimization.learning_rate_high,
    optimization.diverged,
    optimization.vanishing_gradient,
    optimization.learning_rate_low,
    optimization.no_normalisation,
    learning.nothing_learned,
    data.label_drift,
    learning.constant_output,
    optimization.dead_units,
    learning.overfitting,
    learning.overconfident,
    learning.wrong_prior,
    learning.class_never_predicted,
    optimization.clipped_steps,
    optimization.uniform_attention,
    learning.still_improving,
)
"""In the order in which to look at what they find: what is wrong with the data spoils everything after it."""


def advise(history: History, facts: Facts, limits: Limits) -> list[Advice]:
    """Advice on a run, what to look at first in front; a rule whose series or facts are absent stays silent.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        Every metric as it was recorded.
    facts : mapping
        What is no series. Of the splits as `einthoven.diagnostics.data.examine` finds it; ``stages`` (names, first to
        last), ``normalised`` (bool), ``layers`` with weights, ``clip_norm``, ``epochs``; ``chance``, by split the
        negative log-likelihood of telling every record the shares of the labels; ``plain_loss``, whether the training
        loss is such a likelihood; ``proportional``, whether steps are proportional to the gradient; ``predicted``, by
        split and class the ``positive`` records and the ``lowest`` and ``highest`` probability.
    limits : Limits
    """
    found = [advice for rule in RULES if (advice := rule(history, facts, limits))]
    return [replace(advice, rank=rank) for rank, advice in enumerate(found, 1)]
