"""Rules about the embeddings and latent dimensions of a pretraining: whether they say anything about a record."""

from __future__ import annotations

from einthoven.diagnostics.rules.base import Advice, Facts, History, Limits, percent, values
from einthoven.diagnostics.rules.remedies import BATCH_SIZE, DOWN, DURATION, LEARNING_RATE, UP, Remedy


def collapsed_embeddings(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the embeddings of all records are nearly the same, or lie on a line."""
    share = values(history, "watch/act/collapsed")
    rank = values(history, "watch/act/effective_rank")
    if not len(share):
        return None
    has_low_rank = len(rank) > 0 and not rank[-1] >= limits.lowest_rank
    if share[-1] <= limits.collapsed_share and not has_low_rank:
        return None
    listed_rank = f", watch/act/effective_rank is {rank[-1]:.1f}" if len(rank) else ""
    return Advice(
        "collapsed_embeddings",
        "The representations have collapsed: records have nearly the same embedding, so that nothing can be read from "
        f"it ({percent(float(share[-1]))} of its dimensions do not differ between records).",
        f"watch/act/collapsed is {share[-1]:.2f} (limit {limits.collapsed_share:g}){listed_rank} (limit "
        f"{limits.lowest_rank:g})",
        (
            Remedy("lower optimizer.lr", LEARNING_RATE, DOWN),
            Remedy("use a larger trainer.batch_size", BATCH_SIZE, UP),
            Remedy("choose another augment, whose views keep what tells records apart"),
        ),
    )


def collapsed_posterior(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if most latent dimensions of a variational autoencoder are not used."""
    active = values(history, "watch/act/active_latents")
    if not len(active) or active[-1] >= limits.active_latents:
        return None
    return Advice(
        "collapsed_posterior",
        f"The posterior has collapsed: {percent(float(1 - active[-1]))} of the latent dimensions follow the prior for "
        "every record, and the decoder ignores them.",
        f"watch/act/active_latents is {active[-1]:.2f} (below {limits.active_latents:g})",
        (
            Remedy("lower task.beta"),
            Remedy("raise task.free_nats"),
            Remedy("use fewer latent dimensions (task.latent)"),
            Remedy("train for longer", DURATION, UP),
        ),
    )
