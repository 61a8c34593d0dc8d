"""The model card of the bundle of real ECGs, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cross_fit import CrossFit
from held_out import HeldOutFold
from numpy.typing import NDArray
from ptbxl_classes import ATTRIBUTION, FEWEST_PATIENTS, LOWEST_AUROC, MAIN_GROUP, LeftOut, OutOfFold, slices_of
from ptbxl_members import WEIGHT, WorthOfMembers

from einthoven.data.doctor import CODES
from einthoven.evaluation import scores
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.metrics import auroc_per_class, average_precision_per_class, macro_auroc
from einthoven.evaluation.subgroups import subgroups
from einthoven.predict.bundle import Bundle
from einthoven.predict.missing_lead import MOST_LOSS
from einthoven.report.markdown import bullets, markdown_page, markdown_table
from einthoven.runs.data.attributes import attributes

Float = NDArray[np.float64]


@dataclass(frozen=True)
class LeadLoss:
    """What a missing lead costs: macro AUROC with the lead minus macro AUROC without it.

    Attributes
    ----------
    lead : str
    loss, low, high : float
        Of the superclasses, if the lead is computed from the others, and its 95 % interval.
    zero : float
        Of the superclasses, if the lead is 0 mV.
    others : float
        Of rhythms and statements, if the lead is computed. NaN if there are none.
    """

    lead: str
    loss: float
    low: float
    high: float
    zero: float
    others: float


@dataclass(frozen=True)
class CardFigures:
    """What the card is written from.

    Attributes
    ----------
    bundle : Bundle
    table : DataFrame
        The training records.
    out_of_fold : OutOfFold
        Predictions of the answered classes.
    crossed : CrossFit
    likelihoods : dict of str to float
        Calibration -> negative log-likelihood.
    losses : list of LeadLoss
    folds : list of HeldOutFold
    left_out : list of LeftOut
    worth : WorthOfMembers
    """

    bundle: Bundle
    table: pd.DataFrame
    out_of_fold: OutOfFold
    crossed: CrossFit
    likelihoods: Mapping[str, float]
    losses: Sequence[LeadLoss]
    folds: Sequence[HeldOutFold]
    left_out: Sequence[LeftOut]
    worth: WorthOfMembers


def model_card(figures: CardFigures) -> str:
    """Return the model card."""
    head = [
        "# Model card: the bundle of real ECGs",
        "**Not a medical device, and not for diagnosis.** For research and teaching. Nobody has shown that acting on "
        "these probabilities helps a patient.",
        f"{ATTRIBUTION} The weights are derived from these records. The authors of PTB-XL do not endorse this model. "
        "Written by `bench/make_ptbxl_bundle.py`.",
    ]
    sections = (
        head,
        describe_purpose(figures),
        describe_records(figures),
        describe_performance(figures),
        describe_members(figures),
        describe_statements(figures),
        describe_calibration(figures),
        describe_decisions(figures),
        describe_subgroups(figures),
        describe_refusals(figures),
        describe_limits(figures),
    )
    return markdown_page(sections)


def describe_purpose(figures: CardFigures) -> list[str]:
    """Return what the model is, for whom it is, and for whom it is not."""
    bundle = figures.bundle
    network = bundle.parts["network"]["class"].rpartition(".")[2]
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    patients = len(set(figures.out_of_fold.patients.tolist()))
    trees = bundle.members[0].trees
    superclasses = ", ".join(f"{name} ({meaning})" for name, meaning in bundle.groups[MAIN_GROUP].items())
    learned = ""
    readout = bundle.model.readout
    if readout is not None:
        # With task.own_outputs, the classes have outputs of their own, such as superdiagnostic/MI.
        own_outputs = [name for name in readout.statements if "superdiagnostic/" in name]
        statements = f"{len(readout.statements) - len(own_outputs)} statements"
        learned = f" It has learned {statements}. A superclass is read from those that it contains."
        if own_outputs:
            learned = f" It has learned {statements} beside the superclasses."
    counts = [f"{len(meanings)} {group}" for group, meanings in bundle.groups.items() if group != MAIN_GROUP]
    others = f" It also answers {' and '.join(counts)}, which are listed below." if counts else ""
    return [
        "## What it is",
        f"`{network}` with {parameters:,} parameters in half precision, trained for {bundle.provenance['epochs']} "
        f"epochs on {len(figures.table):,} ECGs of {patients:,} patients, folds 1-9"
        f"{start_of(bundle, figures.folds)}.{learned} It "
        "reads 10 s of 12-lead ECG in mV at 100 Hz, and gives the probabilities of five superclasses: "
        f"{superclasses}. They do not exclude each other.{others}",
        f"The probability of a superclass is the mean over this network (weight {1 - WEIGHT:g}) and gradient boosting "
        f"(weight {WEIGHT:g}): {len(trees.sums.roots):,} trees on {len(trees.table.names)} measurements of rhythm, "
        "intervals, axes, waves and the shape of the representative beat, fitted to the same records. Rhythms and "
        "statements are answered by the network alone, and `einthoven explain` explains the network.",
        "## For whom it is, and for whom it is not",
        "It is for people who try the program on resting 12-lead ECGs of adults before they train a model on their own "
        "records, for teaching, and as a start for further training.",
        "It is not for decisions about a patient, and not for records that are unlike its training: children, "
        "pacemakers, exercise and long-term ECGs, monitors, single leads of watches, and hospitals where diagnoses "
        "are much rarer or more frequent than here. The probabilities assume that diagnoses are as frequent as in "
        "these records.",
    ]


def describe_records(figures: CardFigures) -> list[str]:
    """Return where the training records come from."""
    table = figures.table
    ages = table["age"].to_numpy(np.float64)
    ages = ages[np.isfinite(ages)]
    lower, median, upper = np.percentile(ages, (25, 50, 75))
    sexes = attributes(table)["sex"]
    female = sexes.count("female") / (sexes.count("female") + sexes.count("male"))
    return [
        "## Training records",
        f"PTB-XL records that were available (ecg_id {int(table['ecg_id'].min())}-{int(table['ecg_id'].max())}), "
        f"recorded {str(table['recording_date'].min())[:4]}-{str(table['recording_date'].max())[:4]}. They are the "
        f"earliest part of PTB-XL, and not a random sample. Age: median {median:.0f} years, quartiles {lower:.0f} "
        f"and {upper:.0f}, youngest {ages.min():.0f}; {int((ages < 18).sum())} records are of people below "
        f"18. {female:.0%} are of women. {table['device'].nunique()} types of electrocardiograph of one manufacturer, "
        f"{table['site'].nunique()} sites; the two largest sites have "
        f"{table['site'].value_counts(normalize=True).iloc[:2].sum():.0%} of the records.",
    ]


def describe_performance(figures: CardFigures) -> list[str]:
    """Return the AUROC of the superclasses."""
    out_of_fold, folds = figures.out_of_fold, figures.folds
    columns = slices_of(figures.bundle.groups)[0]
    y, p = out_of_fold.y[:, columns], out_of_fold.p[:, columns]
    by_part = [macro_auroc(y[out_of_fold.fold == fold.fold], p[out_of_fold.fold == fold.fold]) for fold in folds]
    macro, per_class = auroc_intervals(y, p, groups=out_of_fold.patients, method="bca")
    auroc = auroc_per_class(y, p)
    precision = average_precision_per_class(y, p)
    rows = [("macro", f"{len(y):,} records", with_interval(float(auroc.mean()), macro), "")]
    for k, name in enumerate(figures.bundle.groups[MAIN_GROUP]):
        positives = f"{int(y[:, k].sum()):,} positive"
        rows.append((name, positives, with_interval(auroc[k], per_class[k]), f"{precision[k]:.3f}"))
    trained = sorted({len(fold.train_signals) for fold in folds})
    single = out_of_fold.single_precision
    return [
        "## Performance",
        f"Out-of-fold predictions: each record is predicted by one of {len(folds)} means of the same recipe that "
        f"has not seen it, and was trained on {trained[0]:,} to {trained[-1]:,} records. No patient is in two of the "
        "held-out parts. 95 % intervals (BCa) over patients. The macro AUROC of the held-out parts is "
        f"{min(by_part):.3f} to {max(by_part):.3f}. The models in the bundle are trained on all nine folds. No "
        "record was kept to judge them.",
        markdown_table(("class", "", "AUROC", "AUPRC"), rows),
        f"The rounding of the weights changes a probability by at most {np.abs(out_of_fold.p - single).max():.4f}, and "
        f"the macro AUROC from {macro_auroc(y, single[:, columns]):.5f} to {macro_auroc(y, p):.5f}.",
    ]


def describe_members(figures: CardFigures) -> list[str]:
    """Return what the network and gradient boosting are worth alone and together."""
    worth = figures.worth
    rows = []
    for member in worth.rows:
        of_classes = [f"{value:.3f}" for value in member.auroc]
        rows.append((member.name, f"{member.auroc.mean():.3f}", *of_classes, f"{member.likelihood:.4f}"))
    names = figures.bundle.groups[MAIN_GROUP]
    gain = worth.gain
    return [
        "## What the members are worth",
        "AUROC of the superclasses and negative log-likelihood before any calibration, out of fold as above. Macro "
        f"AUROC of the mean minus that of the network: {gain.difference:+.4f} ({gain.interval.low:+.4f} to "
        f"{gain.interval.high:+.4f}, over patients).",
        markdown_table(("", "macro", *names, "negative log-likelihood"), rows),
    ]


def describe_statements(figures: CardFigures) -> list[str]:
    """Return the AUROC and an operating point of the rhythms and statements."""
    groups, out_of_fold = figures.bundle.groups, figures.out_of_fold
    if len(groups) == 1:
        return []
    auroc = auroc_per_class(out_of_fold.y, out_of_fold.p)
    precision = average_precision_per_class(out_of_fold.y, out_of_fold.p)
    _, per_class = auroc_intervals(out_of_fold.y, out_of_fold.p, groups=out_of_fold.patients)
    rows = []
    means = []
    for (group, meanings), columns in zip(groups.items(), slices_of(groups), strict=True):
        if group == MAIN_GROUP:
            continue
        means.append(f"{macro_auroc(out_of_fold.y[:, columns], out_of_fold.p[:, columns]):.3f} for {group}")
        for k, (name, meaning) in enumerate(meanings.items(), columns.start):
            point = figures.bundle.points[name]["youden"]
            rates = [rounded(point[measure]) for measure in ("sensitivity", "specificity", "ppv")]
            positives = f"{int(out_of_fold.y[:, k].sum()):,}"
            shown = with_interval(auroc[k], per_class[k])
            rows.append((f"{name}: {meaning}", positives, shown, f"{precision[k]:.3f}", *rates))
    rare = []
    unsure = []
    for statement in figures.left_out:
        if np.isnan(statement.auroc):
            rare.append(f"{statement.name} ({statement.patients})")
        else:
            unsure.append(f"{statement.name} ({statement.auroc:.2f}, from {statement.low:.2f})")
    return [
        "## Rhythms and statements",
        f"Out of fold, as above; percentile intervals. Mean AUROC: {', '.join(means)}. A statement is answered if at "
        f"least {FEWEST_PATIENTS} patients have it, and if the interval of its AUROC begins at {LOWEST_AUROC} or "
        "above. With so few positive records, intervals are wide. Sensitivity, specificity and PPV are those of the "
        "largest Youden index, with thresholds of the other folds. A record without a stated rhythm counts as "
        "negative.",
        markdown_table(("", "positive", "AUROC", "AUPRC", "sensitivity", "specificity", "PPV"), rows),
        f"Not answered, because too few patients have them (number of patients): {', '.join(rare) or 'none'}.",
        "Not answered, because the network may not detect them (AUROC, and lower end of its interval): "
        f"{', '.join(unsure) or 'none'}.",
    ]


def describe_calibration(figures: CardFigures) -> list[str]:
    """Return calibration errors, and how often sets miss a true label."""
    bundle, out_of_fold, crossed = figures.bundle, figures.out_of_fold, figures.crossed
    errors = []
    sets = []
    for group, columns in zip(bundle.groups, slices_of(bundle.groups), strict=True):
        y = out_of_fold.y[:, columns]
        for name, values in (("model", out_of_fold.p), (f"calibrated ({bundle.calibration_method})", crossed.p)):
            p = values[:, columns]
            measures = (scores.log_loss_per_class, scores.brier_per_class, scores.calibration_error_per_class)
            errors.append((group, name, *(f"{measure(y, p).mean():.4f}" for measure in measures)))
        has_label = y.sum(axis=1) > 0
        for alpha, in_set in crossed.in_set.items():
            is_missed = (y > 0) & ~in_set[:, columns]
            missed_share = is_missed[has_label].sum(axis=1) / y[has_label].sum(axis=1)
            size = in_set[:, columns].sum(axis=1)
            sets.append((group, f"{alpha:g}", f"{missed_share.mean():.3f}", f"{size.mean():.2f}"))
    likelihoods = ", ".join(f"{name} {value:.4f}" for name, value in figures.likelihoods.items())
    return [
        "## Calibration",
        "Fitted to the out-of-fold predictions. The figures are of fits to the other folds. The method has the "
        f"smallest negative log-likelihood in five parts of patients: {likelihoods}. The intervals of an answer are "
        "those of a calibration line on the same records.",
        markdown_table(("", "", "negative log-likelihood", "Brier score", "expected calibration error"), errors),
        "Sets of labels, with one threshold for each group of classes, which is that of the other folds:",
        markdown_table(("", "alpha", "missed share of the true labels", "labels in a set"), sets),
    ]


def describe_decisions(figures: CardFigures) -> list[str]:
    """Return the operating points of the superclasses."""
    rows = []
    for name in figures.bundle.groups[MAIN_GROUP]:
        for rule, point in figures.bundle.points[name].items():
            rates = [rounded(point[measure]) for measure in ("sensitivity", "specificity", "ppv", "npv")]
            rows.append((name, rule, f"{point['threshold']:.3f}", *rates))
    return [
        "## Operating points of the superclasses",
        "Thresholds of the bundle; rates of thresholds that are chosen on the other folds. `bundle.json` has those of "
        "all classes.",
        markdown_table(("class", "chosen for", "threshold", "sensitivity", "specificity", "PPV", "NPV"), rows),
    ]


def describe_subgroups(figures: CardFigures) -> list[str]:
    """Return the AUROC of the superclasses by age and sex."""
    columns = slices_of(figures.bundle.groups)[0]
    y, p = figures.out_of_fold.y[:, columns], figures.crossed.p[:, columns]
    values = attributes(pd.concat([fold.table for fold in figures.folds]))
    rows = []
    for name in ("age", "sex"):
        for group in subgroups(y, p, name, values[name], figures.out_of_fold.patients):
            few = " (few)" if group.small else ""
            shown = with_interval(group.auroc, group.auroc_interval)
            rows.append((f"{name}: {group.value}{few}", f"{group.records:,}", shown))
    return ["## Subgroups", markdown_table(("group", "records", "macro AUROC of the superclasses"), rows)]


def describe_refusals(figures: CardFigures) -> list[str]:
    """Return what the bundle refuses, and what a missing lead costs."""
    refusal = figures.bundle.refusal
    assert refusal is not None
    refused = ", ".join(CODES[code] for code in refusal.findings)
    rows = []
    for missing in figures.losses:
        answered = "yes" if figures.bundle.missing_leads[missing.lead].is_allowed else "no"
        loss = f"{missing.loss:+.4f} ({missing.low:+.4f} to {missing.high:+.4f})"
        others = "" if np.isnan(missing.others) else f"{missing.others:+.4f}"
        rows.append((missing.lead, loss, others, f"{missing.zero:+.4f}", answered))
    columns = ("lead", "loss of superclasses", "of rhythms and statements", "if it is 0 mV", "answered")
    return [
        "## Records that are refused",
        f"A record is refused if the doctor finds one of these: {refused}; or if at most {refusal.familiar:.2%} of "
        f"the out-of-fold records are as far from the training records. {refusal.unaltered:.2%} of the unaltered "
        "out-of-fold records are refused. `bench/bench_refusal.py` measures altered records.",
        "## Records without a chest lead",
        "With `--without LEAD`, the lead is computed from the others by least squares. The loss is how much "
        "lower the macro AUROC of out-of-fold records is, with a 95 % interval over patients. A lead is accepted if "
        f"the interval of the superclasses ends at {MOST_LOSS:g} or below.",
        markdown_table(columns, rows),
    ]


def describe_limits(figures: CardFigures) -> list[str]:
    """Return what the model cannot do."""
    y = figures.out_of_fold.y
    normal = y[:, figures.bundle.classes.index("NORM")].mean()
    only = "" if len(figures.bundle.groups) > 1 else " The model cannot detect anything else, such as a rhythm."
    return [
        "## Limits",
        *bullets(
            (
                "One corpus, one manufacturer, one country, recordings that are decades old. No other hospital was "
                "measured.",
                "The labels are statements of cardiologists about the ECG, and not outcomes of patients.",
                f"{normal:.0%} of the records are normal, which is easier than the whole of PTB-XL. These figures do "
                "not compare with published ones.",
                f"It answers the classes that are listed here, and no others.{only}",
                "Children and paced rhythms: too few records.",
                "An exchange of left arm and left leg, or of the legs, cannot be detected.",
                "A training record is recognized by its samples at 100 Hz, whole or in its first second, in any "
                "format. A version with another sampling frequency or amplitude is not recognized.",
            )
        ),
    ]


def start_of(bundle: Bundle, folds: Sequence[HeldOutFold]) -> str:
    """Return what the training started from, as an end of a sentence; empty if it started from random weights."""
    start = bundle.provenance["config"].get("init_from")
    if start in (None, "None", "null"):
        return ""
    if start not in ("synthetic", "embedded"):
        return f", starting from the weights of {Path(start).name}"
    known = sum(int(fold.in_generator.sum()) for fold in folds)
    held_out = f"{known:,} of the records that are held out below are among them"
    if known == 0:
        held_out = (
            "Each network that is judged below started from one with another generator, which was fitted without the "
            "records that are held out"
        )
    return (
        f", starting from the weights of the bundle `{start}`. That bundle has learned generated ECGs. Their "
        f"generator was fitted to the signals of PTB-XL records, without their labels. {held_out}"
    )


def with_interval(value: float, interval: Interval | None) -> str:
    """Return an AUROC and its interval."""
    ends = "" if interval is None else f" ({interval.low:.3f}-{interval.high:.3f})"
    return f"{value:.3f}{ends}"


def rounded(value: float | None) -> str:
    """Return a rate with two digits; empty if it is not known."""
    return "" if value is None else f"{value:.2f}"
