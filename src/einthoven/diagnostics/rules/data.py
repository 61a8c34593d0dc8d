"""Rules about the records and labels of the splits. No option of the training can repair these problems."""

from __future__ import annotations

from statistics import median

from einthoven.diagnostics.rules.base import Advice, Facts, History, Limits, count_noun, list_classes, percent
from einthoven.diagnostics.rules.remedies import Remedy

FAR_FROM_HALF = 0.3  # smallest difference between the shares of negative and positive records
CHI_SQUARED = 15  # a chi-squared variable with one degree of freedom is above it once in 10,000


def constant_input(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about training records without a signal, or with the signal of another record."""
    n = facts.get("records", {}).get("train", 0)
    flat = facts.get("flat", {}).get("train", 0)
    repeated = facts.get("repeated", {}).get("train", 0)
    if n and flat > limits.flat_share * n:
        return Advice(
            "constant_input",
            f"{percent(flat / n)} of the training records are constant: every lead is a flat line. A model cannot "
            "learn from such records.",
            f"data.json: flat in train is {flat} of {n} records",
            (
                Remedy(
                    "look at the files with einthoven doctor. Check the unit, the gain and the order of the axes when "
                    "they are read"
                ),
            ),
        )
    if n and repeated > limits.repeated_share * n:
        return Advice(
            "constant_input",
            f"{percent(repeated / n)} of the training records have the same signal as another record. A model cannot "
            "tell such records apart.",
            f"data.json: repeated in train is {repeated} of {n} records",
            (
                Remedy(
                    "check that each record reads its own file, and that no step before the network replaces the signal"
                ),
            ),
        )
    return None


def missing_class(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about classes that occur in another split and not in training."""
    positives = facts.get("positives", {})
    missing: dict[str, dict[str, int]] = {}  # class -> split -> positive records
    for name, count in positives.get("train", {}).items():
        elsewhere = {split: counts[name] for split, counts in positives.items() if split != "train" and counts[name]}
        if count == 0 and elsewhere:
            missing[name] = elsewhere
    if not missing:
        return None

    counts_of_classes = []
    for name, elsewhere in list(missing.items())[:5]:
        counts_elsewhere = ", ".join(f"{n} in {split}" for split, n in elsewhere.items())
        counts_of_classes.append(f"{name}: 0 in training, {counts_elsewhere}")
    have = "has" if len(missing) == 1 else "have"
    it = "it" if len(missing) == 1 else "them"
    return Advice(
        "missing_class",
        f"{list_classes(missing)} {have} no positive record in training. The model cannot learn {it}.",
        f"positive records of {'; '.join(counts_of_classes)}",
        (
            Remedy("check how the labels of the training folds are read. Choose other folds"),
            Remedy("remove the class from the task"),
        ),
    )


def shared_between_splits(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about a signal or a patient that is in two splits: the metrics of the second split are too good."""
    records = facts.get("records", {})
    problems = []
    evidence = []
    for kind, measure in (("record", "duplicates"), ("patient", "patients")):
        for pair, count in facts.get(measure, {}).items():
            first, _, second = pair.partition("-")
            if count > limits.shared_share * records[second]:
                problems.append((kind, first, second, count))
                evidence.append(
                    f"data.json: {measure} of {first}-{second} is {count}, of {records[second]} records in {second}"
                )
    if not problems:
        return None

    kind, first, second, count = problems[0]
    be = "is" if count == 1 else "are"
    same = "the same signal" if kind == "record" else "the same patient number"
    return Advice(
        "shared_between_splits",
        f"{count_noun(count, kind)} of {second} {be} also in {first} ({same}). The model has seen them in {first}, so "
        f"its metrics on {second} are too good.",
        "; ".join(evidence),
        (Remedy("make the folds by patient (data.folds, strat_fold), and keep copies of a record in one fold only"),),
    )


def flipped_labels(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn if the same share of the training labels is flipped in every class, compared with the other splits.

    If a label is flipped with probability f, a share p of positive records becomes ``p + f (1 - 2 p)``. So each class
    gives an estimate of f. A different population would increase some shares and decrease others. Classes with a share
    near one half give no estimate and are left out.
    """
    records = facts.get("records", {})
    positives = facts.get("positives", {})
    others = [split for split in positives if split != "train"]
    n = sum(records[split] for split in others)
    if not n:
        return None

    flips = {}
    for name, count in positives.get("train", {}).items():
        share = sum(positives[split][name] for split in others) / n
        if abs(1 - 2 * share) > FAR_FROM_HALF:
            flips[name] = (count / records["train"] - share) / (1 - 2 * share)
    if len(flips) < 3 or min(flips.values()) < limits.flipped_share:
        return None

    estimates = ", ".join(f"{name} {flip:.2f}" for name, flip in flips.items())
    return Advice(
        "flipped_labels",
        f"About {percent(median(flips.values()))} of the training labels seem to be wrong. In every class, the share "
        "of positive records in training is closer to one half than in the other splits, as if labels were flipped at "
        "random.",
        f"estimated share of flipped labels: {estimates} (all above {limits.flipped_share:g})",
        (Remedy("check where the training labels come from, and that all splits are labelled by the same rule"),),
    )


def label_drift(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about a class that is much more, or much less, common in a split than in training."""
    records = facts.get("records", {})
    positives = facts.get("positives", {})
    drifts = []
    for split, psi_of_classes in facts.get("psi", {}).items():
        for name, psi in psi_of_classes.items():
            # For splits drawn from one population, psi / (1/n + 1/m) is chi-squared with one degree of freedom.
            chance = CHI_SQUARED * (1 / records["train"] + 1 / records[split])
            if psi > limits.drift_psi and psi > chance:
                drifts.append((psi, split, name))
    if not drifts:
        return None

    psi, split, name = max(drifts)
    share_in_train = positives["train"][name] / records["train"]
    share_in_split = positives[split][name] / records[split]
    return Advice(
        "label_drift",
        f"The labels of {split} differ from those of training: {percent(share_in_train)} of the training records are "
        f"{name}, but {percent(share_in_split)} in {split}. Probabilities learned in training do not fit {split}.",
        f"population stability index of {name} is {psi:.2g} (above {limits.drift_psi:g}); in total {len(drifts)} above "
        "the limit",
        (
            Remedy(
                "check that both splits are labelled by the same rule. If the populations really differ, calibrate on "
                "the population that matters (calibration=prior_shift)"
            ),
        ),
    )
