"""Rules over losses and predictions: what was learned, and whether it holds on other records."""

from __future__ import annotations

import numpy as np

from einthoven.diagnostics.rules.base import (
    Advice,
    Facts,
    History,
    Limits,
    compared,
    listed,
    percent,
    steps,
    validation_gain,
    values,
)


def constant_output(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Predictions that do not depend on the record."""
    found = facts.get("predicted", {}).get("val", {})
    if not found or max(each["highest"] - each["lowest"] for each in found.values()) >= limits.constant_output:
        return None
    span = max(each["highest"] - each["lowest"] for each in found.values())
    return Advice(
        "constant_output",
        "The model says the same of every record.",
        f"over the records of val, no probability moves by more than {span:.1e}",
        "Look at the gradient that reaches the first stage (watch/grad/norm) and at what flows between the stages "
        "(watch/act/variance): somewhere the signal is lost.",
    )


def nothing_learned(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Predictions that are no better on other records than the shares of the classes, in whatever order."""
    auroc, gained = _best_auroc(history), validation_gain(history, facts)
    if auroc is None or gained is None or gained >= limits.learned or auroc >= limits.learned_auroc:
        return None
    in_training = _training_gain(history, facts)
    by_heart = in_training is not None and in_training > limits.learned
    known = "" if in_training is None else f"; train/loss ends {compared(in_training)} it"
    return Advice(
        "nothing_learned",
        "The training records are learned by heart, and nothing of it holds for validation records: do labels and "
        "records "
        "belong together?"
        if by_heart
        else "Nothing is learned that holds for validation records: do labels and records belong together?",
        f"val/nll is at best {compared(gained)} that of telling every record the shares of the classes "
        f"({facts['chance']['val']:.3f}){known}; val/macro_auroc is {auroc:.2f} at best",
        "Check that the rows of labels and of signals are in one order (and task.shuffle_labels=false), and look at "
        "some "
        "records with their labels (figures/). If they fit, the model is too weak, or sees too few records.",
    )


def overconfident(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """A validation loss that rises while the predictions get surer."""
    loss, at = values(history, "val/nll"), steps(history, "val/nll")
    entropy, entropy_at = values(history, "watch/diag/entropy"), steps(history, "watch/diag/entropy")
    if len(loss) < 4 or len(entropy) < 4 or not np.isfinite(loss).all():
        return None
    lowest = int(loss.argmin())
    rise = loss[-1] / loss[lowest] - 1
    before, after = (_around(entropy, entropy_at, step) for step in (at[lowest], entropy_at[-1]))
    if rise <= limits.loss_rise or after >= before:
        return None
    return Advice(
        "overconfident",
        f"The model becomes over-confident: the validation loss rises by {percent(rise)} after step "
        f"{at[lowest]:.0f}, while "
        f"the entropy of the predictions falls from {before:.3f} to {after:.3f}.",
        f"val/nll {loss[lowest]:.3f} at step {at[lowest]:.0f}, {loss[-1]:.3f} at the end; watch/diag/entropy likewise",
        "Stop there (trainer.select=best, trainer.patience=5), regularise more (model.dropout, optimizer.weight_decay, "
        "augment), or calibrate afterwards (einthoven evaluate calibration=temperature).",
    )


def overfitting(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """A validation AUROC that falls again."""
    auroc, at = values(history, "val/macro_auroc"), steps(history, "val/macro_auroc")
    if len(auroc) < 4 or not np.isfinite(auroc).all():
        return None
    best = int(auroc.argmax())
    lost = auroc[best] - np.mean(auroc[-2:])
    if lost <= limits.auroc_lost:
        return None
    return Advice(
        "overfitting",
        f"The model overfits: the validation AUROC is best at step {at[best]:.0f}, and {lost:.3f} lower at the end.",
        f"val/macro_auroc {auroc[best]:.3f} at best, {auroc[-1]:.3f} at the end",
        "Take the best weights (trainer.select=best), train for fewer epochs, or regularise more (augment, "
        "model.dropout, optimizer.weight_decay).",
    )


def wrong_prior(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Mean predictions that are not the shares of the labels."""
    found = values(history, "watch/diag/kl_prior")
    if not len(found) or not found[-1] > limits.prior_kl:
        return None
    return Advice(
        "wrong_prior",
        "The mean prediction of the classes is far from their shares among the training labels.",
        f"watch/diag/kl_prior ends at {found[-1]:.2g} nats (above {limits.prior_kl:g})",
        "Train for longer or with a higher learning rate; of a loss that moves the prior on purpose (class_weight, "
        "focal), "
        "calibrate afterwards (einthoven evaluate calibration=vector).",
    )


def class_never_predicted(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Classes that no record is given a probability of one half of."""
    found = facts.get("predicted", {}).get("val", {})
    never = {
        name: each for name, each in found.items() if each["highest"] < 0.5 and each["positive"] >= limits.few_positives
    }
    if not never:
        return None
    is_are = "is" if len(never) == 1 else "are"
    return Advice(
        "class_never_predicted",
        f"{listed('Class', never)} {is_are} never predicted: no validation record reaches a probability of one half.",
        "; ".join(
            f"{name}: {each['highest']:.2f} at most, {each['positive']:.0f} positive records"
            for name, each in list(never.items())[:5]
        ),
        "Choose a threshold for each class (einthoven evaluate), weigh rare classes (loss.class_weight=balanced), "
        "or draw "
        "them more often (trainer.sampler=balanced).",
    )


def still_improving(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """A training that ends while the validation AUROC still rises."""
    auroc = values(history, "val/macro_auroc")
    auroc = auroc[: facts.get("epochs", len(auroc))]  # what follows the last epoch is the same weights again
    if len(auroc) < 4 or not np.isfinite(auroc).all():
        return None
    last = max(1, len(auroc) // 4)
    gained = auroc[-1] - auroc[:-last].max()
    if gained <= limits.improving:
        return None
    return Advice(
        "still_improving",
        f"Training ended while the validation AUROC was still rising: by {gained:.3f} over the last {last} of "
        f"{len(auroc)} epochs.",
        f"val/macro_auroc {auroc[:-last].max():.3f} before, {auroc[-1]:.3f} at the end",
        "Train for longer (trainer.epochs).",
    )


def _best_auroc(history: History) -> float | None:
    found = values(history, "val/macro_auroc")
    return float(np.nanmax(found)) if np.isfinite(found).any() else None


def _training_gain(history: History, facts: Facts) -> float | None:
    """Share of the uncertainty of the training labels that was gone at the end; None where the loss does not tell."""
    chance, loss = facts.get("chance", {}).get("train"), values(history, "train/loss")
    if not chance or not len(loss) or not facts.get("plain_loss"):
        return None
    last = loss[-max(5, len(loss) // 20) :]
    last = last[np.isfinite(last)]
    return float(1 - last.mean() / chance) if len(last) else None


def _around(series: np.ndarray, at: np.ndarray, step: float) -> float:
    """Mean of the twentieth of a series that lies nearest to a step."""
    nearest = np.argsort(np.abs(at - step))[: max(3, len(series) // 20)]
    return float(series[nearest].mean())
