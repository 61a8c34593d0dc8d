"""Rules over what the splits hold: nothing that is done in training mends these."""

from __future__ import annotations

from statistics import median

from einthoven.diagnostics.rules.base import Advice, Facts, History, Limits, counted, listed, percent

FAR_FROM_HALF = 0.3  # of the shares of negative and positive records, how much they differ


def constant_input(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Training records without a signal, or all with the same."""
    n = facts.get("records", {}).get("train", 0)
    flat, repeated = (facts.get(name, {}).get("train", 0) for name in ("flat", "repeated"))
    if n and flat > limits.flat_share * n:
        return Advice(
            "constant_input",
            f"{percent(flat / n)} of the training records are constant: none of their leads ever moves.",
            f"data.json: flat in train is {flat} of {n} records",
            "Look at the files with einthoven doctor, and check units, gain and the order of the axes when reading "
            "them.",
        )
    if n and repeated > limits.repeated_share * n:
        return Advice(
            "constant_input",
            f"{percent(repeated / n)} of the training records have the signal of another one: the input hardly differs "
            "from record to record.",
            f"data.json: repeated in train is {repeated} of {n} records",
            "Check that each record reads its own file, and that no step before the network replaces the signal.",
        )
    return None


def missing_class(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Classes that other splits ask for, and training never shows."""
    positives = facts.get("positives", {})
    others = [name for name in positives if name != "train"]
    absent = {
        name: {split: positives[split][name] for split in others if positives[split][name]}
        for name, count in positives.get("train", {}).items()
        if count == 0 and any(positives[split][name] for split in others)
    }
    if not absent:
        return None
    counts = "; ".join(
        f"{name}: 0 in training, {', '.join(f'{n} in {split}' for split, n in found.items())}"
        for name, found in list(absent.items())[:5]
    )
    have = "has" if len(absent) == 1 else "have"
    return Advice(
        "missing_class",
        f"{listed('Class', absent)} {have} no positive record in training, so that it cannot be learned.",
        f"positive records of {counts}",
        "Check how the labels of the training folds were read; take other folds, or leave the class out of the task.",
    )


def shared_between_splits(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """The same signal or the same patient in two splits: figures of the second are too good."""
    records, evidence, worst = facts.get("records", {}), [], None
    for kind, found in (("records", facts.get("duplicates", {})), ("patients", facts.get("patients", {}))):
        for pair, count in found.items():
            a, _, b = pair.partition("-")
            if count > limits.shared_share * records[b]:
                worst = worst or (kind, a, b, count)
                name = "duplicates" if kind == "records" else "patients"
                evidence.append(f"data.json: {name} of {a}-{b} is {count}, of {records[b]} records in {b}")
    if worst is None:
        return None
    kind, a, b, count = worst
    what = counted(count, "record") if kind == "records" else counted(count, "patient")
    same = "with the same signal" if kind == "records" else "with the same number"
    return Advice(
        "shared_between_splits",
        f"{what} of {b} {'is' if count == 1 else 'are'} also in {a} ({same}): what is measured on {b} is too good "
        "to be true.",
        "; ".join(evidence),
        "Make folds by patient (data.folds, strat_fold), and leave copies of a record out of all but one of them.",
    )


def flipped_labels(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """Training labels of which the same share is flipped in every class, going by the shares of the other splits.

    A label that is flipped with probability f turns a share p of positive records into ``p + f (1 - 2 p)``, so that
    each class tells of f; a population that differs moves one class up and another one down. Classes near one half,
    which tell nothing, are left out.
    """
    records, positives = facts.get("records", {}), facts.get("positives", {})
    others = [split for split in positives if split != "train"]
    n = sum(records[split] for split in others)
    flips = {}
    for name, count in positives.get("train", {}).items() if n else ():
        share = sum(positives[split][name] for split in others) / n
        if abs(1 - 2 * share) > FAR_FROM_HALF:
            flips[name] = (count / records["train"] - share) / (1 - 2 * share)
    if len(flips) < 3 or min(flips.values()) < limits.flipped_share:
        return None
    share = median(flips.values())
    return Advice(
        "flipped_labels",
        f"About {percent(share)} of the training labels are wrong: every class is nearer to one half there than in the "
        "other splits, as if so many had been flipped.",
        f"by the shares of the classes, flipped are {', '.join(f'{name} {f:.2f}' for name, f in flips.items())} "
        f"(all above {limits.flipped_share:g})",
        "Look at how the training labels came about, and whether those of all splits follow one rule.",
    )


def label_drift(history: History, facts: Facts, limits: Limits) -> Advice | None:
    """A class that is far more, or far less, common in a split than in training."""
    records, positives = facts.get("records", {}), facts.get("positives", {})
    found = [
        (psi, split, name)
        for split, by_class in facts.get("psi", {}).items()
        for name, psi in by_class.items()
        # of splits drawn alike, psi is (1/n + 1/m) times a chi-squared of one degree of freedom: 15 is one in 10,000
        if psi > limits.drift_psi and psi > 15 * (1 / records["train"] + 1 / records[split])
    ]
    if not found:
        return None
    psi, split, name = max(found)
    shares = {each: positives[each][name] / records[each] for each in ("train", split)}
    return Advice(
        "label_drift",
        f"The labels of {split} are not those of training: {name} holds for {percent(shares['train'])} of the records "
        f"in training and for {percent(shares[split])} in {split}.",
        f"population stability index of {name} is {psi:.2g} (above {limits.drift_psi:g}); {len(found)} such",
        "Check that both splits are labelled by the same rule; where the populations do differ, calibrate on the "
        "one that "
        "counts (calibration=prior_shift).",
    )
