"""Make the bundle of real ECGs that comes with the package: one network, trained on folds 1-9 of PTB-XL.

    python bench/make_ptbxl_bundle.py PTBXL_ROOT [--runs FOLDER] [--groups] [OPTION=VALUE ...]

Trains a cross-validation over folds 1-9 and a network on all of them, with the recipe of `data=ptbxl` and the given
options. Calibration, operating points, sets, the limit of the refusal and the losses without a lead are fitted to the
out-of-fold predictions. The figures of the model card are of fits on the other folds (`evaluation.cross_fit`).
Parameters are rounded to half precision before anything is fitted. `--runs` names a folder that keeps the two trainings
(``cv`` and ``final``). Trainings that are there already are used, and an interrupted one is continued. `--groups` holds
out three folds at once: three trainings instead of nine, each on a third less records, so that the figures are worse.

Writes src/einthoven/predict/bundles/ptbxl with its model card, and prints its size and its figures. The bundle in the
package was made from the 1,732 records of ecg_id < 2000 with `--groups init_from=synthetic`. This takes about 5 minutes
on one core.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from einthoven import cli
from einthoven.data.doctor import CODES, Finding, examine
from einthoven.evaluation import scores
from einthoven.evaluation.band import calibration_covariance
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.calibration import Calibration
from einthoven.evaluation.calibration_check import fit_and_check
from einthoven.evaluation.calibration_state import METHODS
from einthoven.evaluation.conformal import risk_control_threshold
from einthoven.evaluation.cross_fit import CrossFit, cross_fit
from einthoven.evaluation.decisions import confusion
from einthoven.evaluation.metrics import auroc_per_class, average_precision_per_class, macro_auroc
from einthoven.evaluation.operating_points import MEASURES, choose_threshold
from einthoven.evaluation.subgroups import subgroups
from einthoven.predict import PTBXL_BUNDLE
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.forward import predict_windows
from einthoven.predict.missing_lead import INDEPENDENT, MOST_LOSS, MissingLead, fit_weights
from einthoven.predict.model_folder import FOLD
from einthoven.predict.refusal import Refusal
from einthoven.runs.attributes import attributes
from einthoven.runs.evaluation_results import RULES
from einthoven.runs.finished import read_finished
from einthoven.runs.held_out import HeldOutFold, half_precision, read_held_out, stored_signals, with_familiarity
from einthoven.terminal.unsure_tables import ALPHAS
from einthoven.tracking.concluded import is_concluded

Float = NDArray[np.float64]
Signals = NDArray[np.int16]

FOLDS = [1, 2, 3, 4, 5, 6, 7, 8, 9]
GROUPS = ([1, 2, 3], [4, 5, 6], [7, 8, 9])
CALIBRATIONS = ("temperature", "vector")
"""The one with the better likelihood on patients that it was not fitted on is used."""

REFUSED_FINDINGS = ("unit", "swap_la_ra", "swap_ra_ll", "swap_ra_rl", "limb_law", "fs", "no_ecg")
"""Findings of the doctor with which no answer is given."""

MOST_REFUSED = 0.018
"""Largest share of unaltered records that are refused. The target of the package is 2 %."""

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
ATTRIBUTION = (
    "Training records: PTB-XL (Wagner et al., Scientific Data 7:154, 2020, physionet.org/content/ptb-xl), CC BY 4.0."
)
EXAMINED_AT_ONCE = 128


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of all records, each by the network that has not seen it: n records, K classes."""

    y: Float
    p: Float
    single_precision: Float
    distance: Float
    fold: NDArray[np.int64]
    patients: NDArray[np.int64]
    findings: list[list[Finding]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    options = parser.parse_intermixed_args()
    with TemporaryDirectory() as scratch:
        runs = options.runs or Path(scratch)
        train(options.root, runs, options.options, groups=options.groups)
        make(runs)


def train(root: Path, runs: Path, options: Sequence[str], *, groups: bool) -> None:
    """Train the networks of the folds and the final network, unless they are there already."""
    common = ["data=ptbxl", f"data.root={root}", "data.allow_missing=true", "seed=0", "tracking.artifacts=false"]
    common += [f"tracking.uri=sqlite:///{runs.resolve()}/mlflow.db", *options]
    if groups:
        for held_out in GROUPS:
            others = [fold for fold in FOLDS if fold not in held_out]
            folds = [f"data.folds.train={others}", f"data.folds.val={held_out}", "data.folds.test=[]"]
            train_or_resume(runs / "cv" / f"{FOLD}{held_out[0]}", [*folds, *common])
    else:
        train_or_resume(runs / "cv", ["folds=cv", f"data.folds.train={FOLDS}", *common])
    folds = [f"data.folds.train={FOLDS}", "data.folds.val=[]", "data.folds.test=[]"]
    train_or_resume(runs / "final", [*folds, *common])


def train_or_resume(folder: Path, options: Sequence[str]) -> None:
    """Train a run, or continue it. Do nothing if it is complete."""
    if is_concluded(folder):
        return
    if (folder / "config.yaml").exists():
        cli.main(["train", f"resume={folder}"])
    else:
        cli.main(["train", *options, f"hydra.run.dir={folder}"])


def make(runs: Path) -> None:
    """Fit everything to the out-of-fold predictions, and write the bundle and its model card."""
    folds = read_held_out(runs / "cv")
    run, _ = read_finished(runs / "final", "run", {})
    bundle = half_precision(read_bundle(runs / "final" / "bundle"))
    out_of_fold = predict_held_out(folds)
    y, p, patients = out_of_fold.y, out_of_fold.p, out_of_fold.patients

    # Calibration, operating points and sets.
    method, calibration, check = choose_calibration(bundle, out_of_fold)
    crossed = cross_fit(
        partial(METHODS[method][0], bundle.classes, bundle.single_label), y, p, out_of_fold.fold, RULES, ALPHAS
    )
    calibrated = calibration.transform(p)
    points = operating_points(bundle.classes, y, calibrated, crossed)
    metrics = measure(y, p, crossed.p, patients)

    # What is refused, and what a missing lead costs.
    bundle = with_familiarity(bundle, stored_signals(run.data, "train"), np.round(out_of_fold.distance, 5))
    refusal = choose_refusal(bundle, out_of_fold)
    filled = {lead: loss_without(folds, out_of_fold, lead) for lead in CHEST}
    covariance = lead_covariance(stored_signals(run.data, "train"), bundle.input_format.leads)
    missing_leads = {}
    for lead, losses in filled.items():
        missing_leads[lead] = MissingLead(fit_weights(covariance, INDEPENDENT, lead), round(losses["computed"], 4))

    table = run.data.table("train")
    years = sorted({str(date)[:4] for date in table["recording_date"]})
    count = len(table)
    trained_on = f"{count:,} ECGs of PTB-XL, recorded {years[0]}-{years[-1]}, task {run.task.labels}"
    if run.config.init_from:
        trained_on = f"{trained_on}, started from {Path(run.config.init_from).name}"
    provenance = {
        **bundle.provenance,
        "trained_on": trained_on,
        "attribution": ATTRIBUTION,
        "fitted_on": f"out-of-fold predictions of the same {len(y):,} records, by {len(folds)} networks",
        "metrics": metrics,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    provenance["folds"] = {"train": FOLDS, "fit": FOLDS}
    bundle = replace(
        bundle,
        calibration=calibration,
        calibration_method=method,
        band=calibration_covariance(y, calibrated),
        conformal={alpha: risk_control_threshold(y, calibrated, alpha) for alpha in ALPHAS},
        points=points,
        refusal=refusal,
        missing_leads=missing_leads,
        provenance=provenance,
    )
    bundle.save(PTBXL_BUNDLE, half=True)
    saved = read_bundle(PTBXL_BUNDLE)

    rounding = {
        "largest difference of an out-of-fold probability": float(np.abs(p - out_of_fold.single_precision).max()),
        "macro AUROC with half precision": macro_auroc(y, p),
        "macro AUROC with single precision": macro_auroc(y, out_of_fold.single_precision),
    }
    card = model_card(saved, table, out_of_fold, crossed, check, filled, rounding, folds)
    (PTBXL_BUNDLE / "model_card.md").write_text(card)
    size = sum(file.stat().st_size for file in PTBXL_BUNDLE.iterdir())
    print(card)
    print(f"{PTBXL_BUNDLE}: {size:,} bytes; {saved.sha256}")


def predict_held_out(folds: Sequence[HeldOutFold]) -> OutOfFold:
    """Predict and examine the records of each fold."""
    predictions = [fold.predict(fold.signals) for fold in folds]
    single = [predict_windows(fold.unrounded, fold.signals)[0] for fold in folds]
    findings: list[list[Finding]] = []
    for fold in folds:
        findings += examine_signals(fold.signals, fold.bundle)
    return OutOfFold(
        y=np.concatenate([fold.y for fold in folds]),
        p=np.concatenate([p for p, _ in predictions]),
        single_precision=np.concatenate(single),
        distance=np.concatenate([distance for _, distance in predictions]),
        fold=np.concatenate([np.full(len(fold.y), fold.fold) for fold in folds]),
        patients=np.concatenate([fold.patients for fold in folds]),
        findings=findings,
    )


def examine_signals(signals: Signals, bundle: Bundle) -> list[list[Finding]]:
    """Return the findings of the doctor in signals in µV."""
    findings: list[list[Finding]] = []
    for first in range(0, len(signals), EXAMINED_AT_ONCE):
        millivolts = signals[first : first + EXAMINED_AT_ONCE] * 1e-3
        findings += examine(millivolts, bundle.input_format.fs, bundle.input_format.leads)
    return findings


def choose_calibration(bundle: Bundle, out_of_fold: OutOfFold) -> tuple[str, Calibration, dict[str, float]]:
    """Fit each method, and return the name of the best one, the fitted method, and the likelihoods of all."""
    likelihoods = {}
    fitted = {}
    for name in CALIBRATIONS:
        make_calibration = partial(METHODS[name][0], bundle.classes, bundle.single_label)
        fitted[name], check = fit_and_check(make_calibration, out_of_fold.y, out_of_fold.p, out_of_fold.patients)
        assert check is not None
        likelihoods["none"] = check.before
        likelihoods[name] = check.after
    best = min(CALIBRATIONS, key=lambda name: likelihoods[name])
    if likelihoods[best] > likelihoods["none"]:
        return "none", METHODS["none"][0](bundle.classes, bundle.single_label), likelihoods
    return best, fitted[best], likelihoods


def operating_points(
    classes: Sequence[str], y: Float, calibrated: Float, crossed: CrossFit
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the thresholds that are chosen on all records, with the rates of thresholds chosen on the other folds."""
    points: dict[str, dict[str, dict[str, float | None]]] = {}
    for k, name in enumerate(classes):
        points[name] = {}
        for rule in RULES:
            matrix = confusion(y[:, [k]], crossed.decisions[rule][:, [k]])
            rates = {measure: float(getattr(matrix, measure)[0]) for measure in MEASURES}
            threshold = choose_threshold(y[:, k], calibrated[:, k], rule)
            points[name][str(rule)] = {"threshold": threshold, **rates}
    return points


def measure(y: Float, raw_p: Float, p: Float, patients: NDArray[np.int64]) -> dict[str, float]:
    """Return the metrics of the out-of-fold predictions, as an evaluation writes them into a bundle."""
    interval, _ = auroc_intervals(y, raw_p, groups=patients, method="bca")
    return {
        "macro_auroc": macro_auroc(y, raw_p),
        "macro_auroc_low": interval.low,
        "macro_auroc_high": interval.high,
        "nll/after": log_loss(y, p),
        "brier/after": float(scores.brier_per_class(y, p).mean()),
        "ece/after": float(scores.calibration_error_per_class(y, p).mean()),
    }


def log_loss(y: Float, p: Float) -> float:
    """Return the mean negative log-likelihood over records and classes."""
    of_label = np.where(y > 0, p, 1 - p)
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())


def choose_refusal(bundle: Bundle, out_of_fold: OutOfFold) -> Refusal:
    """Choose the largest limit of the familiarity with which few enough unaltered records are refused."""
    assert bundle.familiarity is not None
    share = bundle.familiarity.share(np.round(out_of_fold.distance, 5))
    has_finding = np.array([has_refused_finding(findings) for findings in out_of_fold.findings])
    best = Refusal(REFUSED_FINDINGS, 0.0, float(has_finding.mean()))
    for limit in np.unique(share):
        refused = float((has_finding | (share <= limit)).mean())
        if refused > MOST_REFUSED:
            break
        best = Refusal(REFUSED_FINDINGS, round(float(limit), 6), refused)
    return best


def has_refused_finding(findings: Sequence[Finding]) -> bool:
    """Return whether a record has a finding with which no answer is given."""
    return any(finding.code in REFUSED_FINDINGS for finding in findings)


def lead_covariance(signals: Signals, leads: Sequence[str]) -> Float:
    """Return the mean products of the independent leads over all records and samples, in mV²."""
    rows = [leads.index(lead) for lead in INDEPENDENT]
    total = np.zeros((len(rows), len(rows)))
    for first in range(0, len(signals), EXAMINED_AT_ONCE):
        x = signals[first : first + EXAMINED_AT_ONCE, rows] * 1e-3
        total += np.einsum("nit,njt->ij", x, x)
    covariance: Float = total / (len(signals) * signals.shape[2])
    return covariance


def loss_without(folds: Sequence[HeldOutFold], out_of_fold: OutOfFold, lead: str) -> dict[str, float]:
    """Return how much macro AUROC is lost if a lead is computed from the others, and if it is 0 mV."""
    predictions: dict[str, list[Float]] = {"computed": [], "zero": []}
    for fold in folds:
        leads = fold.bundle.input_format.leads
        weights = fit_weights(lead_covariance(fold.train_signals, leads), INDEPENDENT, lead)
        computed = np.zeros(fold.signals[:, 0].shape)
        for other, weight in weights.items():
            computed += weight * fold.signals[:, leads.index(other)]
        for name, values in (("computed", np.rint(computed)), ("zero", np.zeros_like(computed))):
            signals = fold.signals.copy()
            signals[:, leads.index(lead)] = values
            predictions[name].append(fold.predict(signals)[0])
    whole = macro_auroc(out_of_fold.y, out_of_fold.p)
    return {name: whole - macro_auroc(out_of_fold.y, np.concatenate(p)) for name, p in predictions.items()}


def model_card(
    bundle: Bundle,
    table: pd.DataFrame,
    out_of_fold: OutOfFold,
    crossed: CrossFit,
    likelihoods: Mapping[str, float],
    filled: Mapping[str, Mapping[str, float]],
    rounding: Mapping[str, float],
    folds: Sequence[HeldOutFold],
) -> str:
    """Return the model card in Markdown."""
    y, p, patients = out_of_fold.y, out_of_fold.p, out_of_fold.patients
    classes = bundle.classes
    network = bundle.parts["network"]["class"].rpartition(".")[2]
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    interval, per_class = auroc_intervals(y, p, groups=patients, method="bca")
    auroc = auroc_per_class(y, p)
    precision = average_precision_per_class(y, p)
    by_part = [macro_auroc(y[out_of_fold.fold == fold.fold], p[out_of_fold.fold == fold.fold]) for fold in folds]
    rows = [("macro", f"{len(y):,} records", f"{auroc.mean():.3f} ({interval.low:.3f}-{interval.high:.3f})", "")]
    for k, name in enumerate(classes):
        own = per_class[k]
        ends = "" if own is None else f" ({own.low:.3f}-{own.high:.3f})"
        rows.append((name, f"{int(y[:, k].sum()):,} positive", f"{auroc[k]:.3f}{ends}", f"{precision[k]:.3f}"))

    ages = table["age"].to_numpy(np.float64)
    ages = ages[np.isfinite(ages)]
    sexes = attributes(table)["sex"]
    female = sexes.count("female") / (sexes.count("female") + sexes.count("male"))
    quarter, median, three_quarters = np.percentile(ages, (25, 50, 75))
    refusal = bundle.refusal
    assert refusal is not None
    refused = ", ".join(CODES[code] for code in refusal.findings)

    calibration = []
    for name, values in (("model", p), (f"calibrated ({bundle.calibration_method})", crossed.p)):
        error = float(scores.calibration_error_per_class(y, values).mean())
        brier = float(scores.brier_per_class(y, values).mean())
        calibration.append((name, f"{log_loss(y, values):.4f}", f"{brier:.4f}", f"{error:.4f}"))
    sets = []
    for alpha, in_set in crossed.in_set.items():
        has_statement = y.sum(axis=1) > 0
        missed = ((y > 0) & ~in_set).sum(axis=1)[has_statement] / y.sum(axis=1)[has_statement]
        sets.append((f"{alpha:g}", f"{missed.mean():.3f}", f"{in_set.sum(axis=1).mean():.2f}"))
    decisions = []
    for name, rules in bundle.points.items():
        for rule, point in rules.items():
            rates = [f"{point[measure]:.2f}" for measure in ("sensitivity", "specificity", "ppv", "npv")]
            decisions.append((name, rule, f"{point['threshold']:.3f}", *rates))
    groups = []
    of_records = attributes(pd.concat([fold.table for fold in folds]))
    for name in ("age", "sex"):
        for group in subgroups(y, crossed.p, name, of_records[name], patients):
            small = " (few)" if group.small else ""
            ends = group.auroc_interval
            shown = f"{group.auroc:.3f}" + ("" if ends is None else f" ({ends.low:.3f}-{ends.high:.3f})")
            groups.append((f"{name}: {group.value}{small}", f"{group.records:,}", shown))
    without = []
    for lead, losses in filled.items():
        allowed = "yes" if bundle.missing_leads[lead].is_allowed else "no"
        without.append((lead, f"{losses['computed']:+.4f}", f"{losses['zero']:+.4f}", allowed))

    sections = [
        "# Model card: the bundle of real ECGs",
        "**Not a medical device, and not for diagnosis.** For research and teaching. Nobody has shown that acting on "
        "these probabilities helps a patient.",
        f"{ATTRIBUTION} The weights are derived from these records. The authors of PTB-XL do not endorse this model. "
        "Written by `bench/make_ptbxl_bundle.py`.",
        "## What it is, and for whom",
        f"`{network}` with {parameters:,} parameters in half precision, trained for {bundle.provenance['epochs']} "
        f"epochs on {len(table):,} ECGs of {len(set(patients.tolist())):,} patients, folds "
        f"1-9{start_of(bundle)}. It reads 10 s of 12-lead ECG in mV at 100 Hz, and gives the probabilities of five "
        "superclasses: CD (conduction disturbance), HYP (hypertrophy), MI (myocardial infarction), NORM (normal ECG), "
        "STTC (change of ST and T). They do not exclude each other. It is meant for people who try the "
        "program on resting ECGs of adults before they train a model on their own records.",
        "## Training records",
        f"PTB-XL records that were available (ecg_id {int(table['ecg_id'].min())}-{int(table['ecg_id'].max())}), "
        f"recorded {str(table['recording_date'].min())[:4]}-{str(table['recording_date'].max())[:4]}. They are the "
        f"earliest part of PTB-XL, and not a random sample. Age: median {median:.0f} years, quartiles {quarter:.0f} "
        f"and {three_quarters:.0f}, youngest {ages.min():.0f}; {int((ages < 18).sum())} records are of people below "
        f"18. {female:.0%} are of women. {table['device'].nunique()} types of electrocardiograph of one manufacturer, "
        f"{table['site'].nunique()} sites; the two largest sites have "
        f"{table['site'].value_counts(normalize=True).iloc[:2].sum():.0%} of the records.",
        "## Performance",
        f"Out-of-fold predictions: each record is predicted by one of {len(folds)} networks of the same recipe that "
        f"has not seen it, and was trained on {len(FOLDS) - len(FOLDS) // len(folds)} folds. No patient is in two of "
        "them. 95 % intervals (BCa) over patients. The macro AUROC of the held-out parts is "
        f"{min(by_part):.3f} to {max(by_part):.3f}. The network in the bundle is trained on all nine folds. No record "
        "was kept to judge it alone.",
        *markdown(("class", "", "AUROC", "AUPRC"), rows),
        "## Calibration",
        "Fitted to the out-of-fold predictions. The figures are of fits to the other folds. The log-likelihood "
        "in five parts of patients chose the method: "
        + ", ".join(f"{name} {value:.4f}" for name, value in likelihoods.items())
        + ". The intervals of an answer are those of a calibration line on the same records.",
        *markdown(("", "negative log-likelihood", "Brier score", "expected calibration error"), calibration),
        "Sets of labels, with thresholds of the other folds:",
        *markdown(("alpha", "missed share of the true labels", "labels in a set"), sets),
        "## Operating points",
        "Thresholds of the bundle; rates of thresholds that are chosen on the other folds.",
        *markdown(("class", "chosen for", "threshold", "sensitivity", "specificity", "PPV", "NPV"), decisions),
        "## Subgroups",
        *markdown(("group", "records", "macro AUROC"), groups),
        "## Records that are refused",
        f"A record is refused if the doctor finds one of these: {refused}; or if at most {refusal.familiar:.2%} of "
        f"the out-of-fold records are as far from the training records. {refusal.unaltered:.2%} of the unaltered "
        "out-of-fold records are refused. `bench/bench_refusal.py` measures altered records.",
        "## Records without a chest lead",
        f"With `--without LEAD`, the lead is computed from the others by least squares. The loss is how much "
        f"lower the macro AUROC of out-of-fold records is. A loss above {MOST_LOSS:g} is not accepted.",
        *markdown(("lead", "loss, computed", "loss, 0 mV", "answered"), without),
        "## Half precision",
        *markdown(("measured on out-of-fold predictions", "value"), [(n, f"{v:.5f}") for n, v in rounding.items()]),
        "## Limits",
        "- One corpus, one manufacturer, one country, recordings that are decades old. No other hospital was measured.",
        "- The labels are statements of cardiologists about the ECG, and not outcomes of patients.",
        f"- {y[:, classes.index('NORM')].mean():.0%} of the records are normal, which is easier than the whole of "
        "PTB-XL. These figures do not compare with published ones.",
        "- Five superclasses. The model cannot detect anything else, such as a rhythm.",
        "- Children: too few records. Paced rhythms: a few records.",
        "- An exchange of left arm and left leg, or of the legs, cannot be detected.",
        "- A training record is recognized by its samples at 100 Hz, whole or in its first second, in any format. "
        "A version with another sampling frequency or amplitude is not recognized.",
    ]
    return "\n\n".join(sections) + "\n"


def start_of(bundle: Bundle) -> str:
    """Return what the training started from, as an end of a sentence; empty if it started from random weights."""
    start = bundle.provenance["config"].get("init_from")
    if start in (None, "None", "null"):
        return ""
    if start != "synthetic":
        return f", starting from the weights of {Path(start).name}"
    return (
        ", starting from the weights of the bundle `synthetic`. That bundle has learned generated ECGs. Their "
        "generator was fitted to the signals of PTB-XL records, without their labels. Records that are held out below "
        "are among them"
    )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown as one paragraph."""
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
    return ["\n".join(lines)]


if __name__ == "__main__":
    main()
