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


def wrong_scale(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about signals that are too small or too large for an ECG, or of another size than those of training."""
    # A split of constant signals has no size.
    sizes = {split: size for split, size in facts.get("size", {}).items() if size > 0}
    listed = ", ".join(f"{split} {size:.2g}" for split, size in sizes.items())
    evidence = f"data.json: size in mV (median standard deviation of a record): {listed}"
    remedies = (
        Remedy(
            "check the unit and the gain when the files are read (einthoven doctor): µV and mV differ by a factor of "
            "1,000, and many files hold steps of an analog-to-digital converter"
        ),
    )
    for split, size in sizes.items():
        if not limits.size_low <= size <= limits.size_high:
            small_or_large = "small" if size < limits.size_low else "large"
            return Advice(
                "wrong_scale",
                f"The signals of {split} are too {small_or_large} for ECGs: they vary by {size:.2g} mV, but 0.1 to "
                "0.3 mV is usual. Their unit or their gain is probably wrong.",
                f"{evidence} (outside {limits.size_low:g} to {limits.size_high:g})",
                remedies,
            )
    train = sizes.get("train")
    for split, size in sizes.items():
        ratio = 1.0 if train is None else max(size / train, train / size)
        if train is not None and ratio > limits.size_ratio:
            smaller_or_larger = "smaller" if size < train else "larger"
            return Advice(
                "wrong_scale",
                f"The signals of {split} are {ratio:.2g} times {smaller_or_larger} than those of train, as if one of "
                f"them had another unit or gain. What is learned in training does not hold for {split}.",
                f"{evidence} (ratio above {limits.size_ratio:g})",
                remedies,
            )
    return None


def missing_class(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Warn about classes that occur in other splits, often enough that their absence from training is no chance."""
    positives = facts.get("positives", {})
    records = facts.get("records", {})
    missing: dict[str, dict[str, int]] = {}  # class -> split -> positive records
    for name, count in positives.get("train", {}).items():
        elsewhere = {split: counts[name] for split, counts in positives.items() if split != "train" and counts[name]}
        if count or not elsewhere:
            continue
        # If records were dealt to the splits at random, all positive ones would miss training with this probability.
        share_elsewhere = 1 - records["train"] / sum(records[split] for split in positives)
        if share_elsewhere ** sum(elsewhere.values()) < limits.missing_chance:
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
