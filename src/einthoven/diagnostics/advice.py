"""Advice on a run: rules over its metrics, in the order of their importance."""

from __future__ import annotations

from dataclasses import replace

from einthoven.diagnostics.rules import data, learning, optimization, representation
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
    representation.collapsed_embeddings,
    representation.collapsed_posterior,
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
"""The order is the importance. Problems of the data come first, because they spoil all results. Causes come before
their effects."""


def advise(history: History, facts: Facts, limits: Limits) -> list[Advice]:
    """Return the advice on a run, the most important first.

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
          each class
        - ``plain_loss`` (bool): whether the training loss is a negative log-likelihood, which ``chance`` can be
          compared with
        - ``proportional`` (bool): whether a step of the optimizer is proportional to the gradient
        - ``predicted``: for each split and class, the number of ``positive`` records, and the ``lowest`` and
          ``highest`` probability of all records
    limits : Limits
        The limits of all rules, from ``conf/advice/``.
    """
    advice: list[Advice] = []
    for rule in RULES:
        problem = rule(history, facts, limits)
        if problem is not None:
            advice.append(replace(problem, rank=len(advice) + 1))
    return advice
