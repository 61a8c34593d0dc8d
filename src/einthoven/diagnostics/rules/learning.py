"""Rules about losses and predictions: what the model learned, and whether it holds for other records."""

from __future__ import annotations

import numpy as np

from einthoven.diagnostics.rules.base import (
    Advice,
    Facts,
    FloatArray,
    History,
    Limits,
    below_or_above,
    count_noun,
    has_enough_epochs,
    has_enough_steps,
    percent,
    steps,
    validation_gain,
    values,
)
from einthoven.diagnostics.rules.remedies import DOWN, DURATION, LEARNING_RATE, MODEL_SIZE, REGULARIZATION, UP, Remedy

# Share by which a loss is below that of chance, from which on a model knows the records.
_HALF = 0.5

# Two standard errors of the AUROC, from which on the validation records are too few to speak of chance.
_NOISY = 0.15

_REGULARIZE = Remedy("regularise more (augment, model.dropout, optimizer.weight_decay)", REGULARIZATION, UP)


def constant_output(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the predictions do not depend on the record."""
    largest_range = facts.get("largest_range")
    if largest_range is None or largest_range >= limits.constant_output or not has_enough_steps(history, limits):
        return None
    return Advice(
        "constant_output",
        "The model predicts the same for every record, so its predictions carry no information.",
        f"over the records of val, no probability varies by more than {largest_range:.1e}",
        (
            Remedy(
                "look at the gradient of the first stage (watch/grad/norm) and at the variance of the stages "
                "(watch/act/variance): a very small value shows where the signal is lost"
            ),
        ),
    )


def few_records(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about few training records for a network that starts at random, unless it halves the loss of chance.

    This is known from the data, whatever the curves look like. With some 200 patients, a network that starts at random
    is .05 of macro AUROC behind a pretrained one; with some 40, .10 (docs/label_efficiency.md).
    """
    n = facts.get("records", {}).get("train", 0)
    gain = validation_gain(history, facts)
    # Facts of earlier versions do not say what a run started from.
    starts_at_random = not facts.get("pretrained", True)
    if not 0 < n < limits.few_records or not starts_at_random or gain is None or gain > _HALF:
        return None
    if not has_enough_epochs(history, facts, limits):
        return None
    return Advice(
        "few_records",
        f"{count_noun(n, 'training record')} {'is' if n == 1 else 'are'} too few for weights that start at random: the "
        "model recognises other records far worse than a pretrained model can.",
        f"data.json: {count_noun(n, 'record')} in train (below {limits.few_records:g}); val/nll is at best "
        f"{below_or_above(gain)} the loss of chance",
        (Remedy("add records"), Remedy("start from a pretrained model (init_from)")),
    )


def nothing_learned(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the validation predictions are no better than chance."""
    if not _is_no_better_than_chance(history, facts, limits) or _is_too_short(history, facts, limits):
        return None
    training_gain = _training_gain(history, facts)
    remedy = Remedy("use a larger model", MODEL_SIZE, UP)
    if training_gain is not None and training_gain > limits.learned:
        remedy = _REGULARIZE
        sentence = "The model memorised the training records, but its validation loss is no better than chance."
    else:
        sentence = "The model learned nothing: its validation loss is no better than chance."
    evidence = _evidence_of_chance(history, facts)
    if training_gain is not None:
        evidence += f"; train/loss ends {below_or_above(training_gain)} chance"
    return Advice(
        "nothing_learned",
        sentence,
        evidence,
        (
            Remedy(
                "check that labels and records belong together: labels and signals in the same order, "
                "task.shuffle_labels=false, and some records with their labels (figures/). If they do, add records"
            ),
            remedy,
        ),
    )


def too_short(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Say that a run was too short to judge why it is no better than chance, or to expect much of fresh weights."""
    if not len(values(history, "val/nll")) or not _is_too_short(history, facts, limits):
        return None
    remedies = (Remedy("train for longer (trainer.epochs)", DURATION, UP),)
    count = int(steps(history, "train/loss")[-1])
    if _is_no_better_than_chance(history, facts, limits):
        return Advice(
            "too_short",
            f"After {count_noun(count, 'step')}, the validation loss is no better than chance. The "
            "training is too short to say why.",
            _evidence_of_chance(history, facts),
            remedies,
        )
    # Facts of earlier versions do not say what a run started from.
    if not facts.get("pretrained", True) and not has_enough_steps(history, limits):
        return Advice(
            "too_short",
            f"The training has only {count_noun(count, 'step')}. That is too short for weights that start at random.",
            f"train/loss has {count_noun(count, 'step')} (fewer than {limits.enough_steps:g})",
            remedies,
        )
    return None


def _is_too_short(history: History, facts: Facts, limits: Limits) -> bool:
    """Return whether a run is too short to judge. A model that knows its training records by heart is not."""
    epochs = len(values(history, "val/nll"))
    training_gain = _training_gain(history, facts)
    knows_by_heart = epochs > 1 and training_gain is not None and training_gain > _HALF
    return not knows_by_heart and not has_enough_epochs(history, facts, limits)


def _is_no_better_than_chance(history: History, facts: Facts, limits: Limits) -> bool:
    """Return whether the validation loss is not better than chance, and the AUROC not so high that chance is ruled out.

    A moderate AUROC proves nothing. A network ranks records along the main directions of the signals, and so of the
    diagnoses, whatever it was taught: with labels in another order, the AUROC was .40 to .70. False if loss or AUROC is
    unknown, or if there are too few validation records.
    """
    auroc = values(history, "val/macro_auroc")
    gain = validation_gain(history, facts)
    if gain is None or not np.isfinite(auroc).any() or _auroc_noise(0.5, facts) >= _NOISY:
        return False
    return gain < limits.learned and float(np.nanmax(auroc)) < limits.learned_auroc


def _evidence_of_chance(history: History, facts: Facts) -> str:
    gain = validation_gain(history, facts)
    assert gain is not None
    best_auroc = np.nanmax(values(history, "val/macro_auroc"))
    return (
        f"val/nll is at best {below_or_above(gain)} the loss of chance ({facts['chance']['val']:.3f}); val/macro_auroc "
        f"is {best_auroc:.2f} at best"
    )


def overconfident(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the validation loss rises while the predictions become more certain."""
    loss = values(history, "val/nll")
    loss_steps = steps(history, "val/nll")
    entropy = values(history, "watch/diag/entropy")
    entropy_steps = steps(history, "watch/diag/entropy")
    if len(loss) < 4 or len(entropy) < 4 or not np.isfinite(loss).all():
        return None

    lowest = int(loss.argmin())
    best_step = loss_steps[lowest]
    rise = loss[-1] / loss[lowest] - 1
    entropy_at_best = _mean_near(entropy, entropy_steps, best_step)
    entropy_at_end = _mean_near(entropy, entropy_steps, entropy_steps[-1])
    if rise <= limits.loss_rise or entropy_at_end >= entropy_at_best:
        return None
    return Advice(
        "overconfident",
        f"The model becomes over-confident: the validation loss rises by {percent(rise)} after step {best_step:.0f}, "
        f"while the entropy of the predictions falls from {entropy_at_best:.3f} to {entropy_at_end:.3f}. Its "
        "probabilities are too close to 0 and 1.",
        f"val/nll {loss[lowest]:.3f} at step {best_step:.0f}, {loss[-1]:.3f} at the end; watch/diag/entropy at the "
        "same steps",
        (
            Remedy("use the weights of the best epoch (trainer.select=best, trainer.patience=5)"),
            _REGULARIZE,
        ),
    )


def overfitting(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the validation AUROC falls after its best value, by more than the noise of so few records."""
    auroc = values(history, "val/macro_auroc")
    auroc_steps = steps(history, "val/macro_auroc")
    if len(auroc) < 4 or not np.isfinite(auroc).all():
        return None
    best = int(auroc.argmax())
    loss_of_auroc = auroc[best] - np.mean(auroc[-2:])
    if not loss_of_auroc > max(limits.auroc_lost, _auroc_noise(auroc[best], facts)):
        return None
    return Advice(
        "overfitting",
        f"The model overfits: the validation AUROC is best at step {auroc_steps[best]:.0f}, and {loss_of_auroc:.3f} "
        "lower at the end. What the model learns after that step does not hold for new records.",
        f"val/macro_auroc {auroc[best]:.3f} at best, {auroc[-1]:.3f} at the end",
        (
            Remedy("use the weights of the best epoch (trainer.select=best)"),
            Remedy("train for fewer epochs", DURATION, DOWN),
            _REGULARIZE,
        ),
    )


def wrong_prior(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the mean predictions differ from the shares of the labels."""
    divergence = values(history, "watch/diag/kl_prior")
    if not len(divergence) or not divergence[-1] > limits.prior_kl or not has_enough_steps(history, limits):
        return None
    return Advice(
        "wrong_prior",
        "The mean predicted probability of the classes is far from their share among the training labels. The "
        "probabilities are too high or too low on average.",
        f"watch/diag/kl_prior ends at {divergence[-1]:.2g} nats (above {limits.prior_kl:g})",
        (
            Remedy("train for longer", DURATION, UP),
            Remedy("raise optimizer.lr", LEARNING_RATE, UP),
            Remedy("start the biases of the last layer at the shares of the classes (task.prior_bias=true)"),
            Remedy(
                "calibrate the probabilities (einthoven evaluate calibration=vector) if the loss changes the mean on "
                "purpose (class_weight, focal)"
            ),
        ),
    )


def still_improving(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Suggest more epochs if the validation AUROC still rises at the end, by more than the noise of so few records."""
    auroc = values(history, "val/macro_auroc")
    # Values after the last epoch belong to the final evaluation of the same weights.
    auroc = auroc[: facts.get("epochs", len(auroc))]
    if len(auroc) < 4 or not np.isfinite(auroc).all():
        return None
    last_epochs = max(1, len(auroc) // 4)
    best_before = auroc[:-last_epochs].max()
    gain = auroc[-1] - best_before
    if not gain > max(limits.improving, _auroc_noise(auroc[-1], facts)):
        return None
    return Advice(
        "still_improving",
        f"Training ended while the validation AUROC was still rising: by {gain:.3f} over the last {last_epochs} of "
        f"{len(auroc)} epochs. The model can probably become better.",
        f"val/macro_auroc {best_before:.3f} before, {auroc[-1]:.3f} at the end",
        (Remedy("train for longer (trainer.epochs)", DURATION, UP),),
    )


def _auroc_noise(auroc: float, facts: Facts) -> float:
    """Return two standard errors of the macro AUROC of the validation records; infinity if no class has both labels.

    The classes are taken as independent.

    References
    ----------
    Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic curve", eq. 1-2.
    """
    records = facts.get("records", {}).get("val", 0)
    variances = []
    for positive in facts.get("positives", {}).get("val", {}).values():
        negative = records - positive
        if positive < 1 or negative < 1:
            continue
        # Probability that two positive records are both ranked above one negative record, and the reverse.
        two_positives = auroc / (2 - auroc)
        two_negatives = 2 * auroc**2 / (1 + auroc)
        total = auroc * (1 - auroc) + (positive - 1) * (two_positives - auroc**2)
        total += (negative - 1) * (two_negatives - auroc**2)
        variances.append(total / (positive * negative))
    if not variances:
        return float("inf")
    return 2 * float(np.sqrt(np.sum(variances))) / len(variances)


def _training_gain(history: History, facts: Facts) -> float | None:
    """Return how far the final training loss is below the loss of chance, as a share; None if it is not comparable."""
    chance = facts.get("chance", {}).get("train")
    loss = values(history, "train/loss")
    if not chance or not len(loss) or not facts.get("plain_loss"):
        return None
    last_losses = loss[-max(5, len(loss) // 20) :]
    last_losses = last_losses[np.isfinite(last_losses)]
    return float(1 - last_losses.mean() / chance) if len(last_losses) else None


def _mean_near(series: FloatArray, series_steps: FloatArray, step: float) -> float:
    """Return the mean of the twentieth of a series that is nearest to a step."""
    nearest = np.argsort(np.abs(series_steps - step))[: max(3, len(series) // 20)]
    return float(series[nearest].mean())
