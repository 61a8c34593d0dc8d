"""Make the bundle of real ECGs that comes with the package: a network and gradient boosting, of folds 1-9 of PTB-XL.

    python bench/make_ptbxl_bundle.py PTBXL_ROOT [--runs FOLDER] [--groups] [--bases FOLDER] [--train PARTS]
        [--boosting OPTIONS] [OPTION=VALUE ...]

Trains nine networks, each without one of the folds 1-9, and one on all of them, with the recipe of `data=ptbxl` and
the given options. With `task.targets=all`, the network learns statements, and answers rhythms and statements beside
the five superclasses: those with enough positive patients that it can tell (`ptbxl_classes.py`). Calibration,
operating points, sets, the limit of the refusal and the losses without a lead are fitted to the out-of-fold
predictions. The figures of the model card are of fits on the other folds (`cross_fit.py`). Parameters are
rounded to half precision before anything is fitted. `--runs` names a folder that keeps the trainings (``cv/fold-1``,
…, ``final``). Trainings that are there already are used, and an interrupted one is continued. `--train fold-1,final`
trains these only and makes no bundle, so that several processes can share the work. `--groups` holds out three folds
at once: three trainings instead of nine, each on a third less records, so that the figures are worse.

The probability of a superclass is the mean over the network and gradient boosting on ECG measurements, which is fitted
to the same folds (``boosting/fold-1``, …; `ptbxl_members.py`). Everything that is fitted out of fold is fitted to the
mean. `--boosting "model.lr=0.03 model.rounds=300"` gives it other options; `data` options hold for both.

`--bases FOLDER` starts each network that is judged from a network that knows nothing of its held-out folds: the bundle
in FOLDER/classes_1-2-3, and so on, as `make_bases.py` makes them for the groups. The final network starts from the
bundle `synthetic`. The model card says how many held-out records a generator was fitted to.

Writes src/einthoven/predict/bundles/ptbxl with its model card, and prints the card, the size and the hash.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from cross_fit import CrossFit, cross_fit, group_thresholds
from held_out import HeldOutFold, half_precision, read_held_out, stored_signals, with_familiarity
from numpy.typing import NDArray
from ptbxl_card import CardFigures, LeadLoss, model_card
from ptbxl_classes import (
    ATTRIBUTION,
    OutOfFold,
    candidate_groups,
    choose_groups,
    columns_of,
    predict_held_out,
    slices_of,
    widen_fold,
)
from ptbxl_members import (
    WEIGHT,
    describe_in_provenance,
    fold_with_boosting,
    measure_members,
    read_boosting,
    with_boosting,
)
from recipe_bases import BASES, HELD, START, has_base, with_places
from recipe_results import FOLDS, HELD_OUT, Held

from einthoven import cli
from einthoven.data.doctor import Finding
from einthoven.errors import UserError
from einthoven.evaluation import scores
from einthoven.evaluation.band import calibration_covariance
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.calibration import Calibration
from einthoven.evaluation.calibration_check import fit_and_check
from einthoven.evaluation.calibration_state import METHODS
from einthoven.evaluation.comparison import paired_difference
from einthoven.evaluation.decisions import confusion
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.operating_points import MEASURES, choose_threshold
from einthoven.evaluation.selective import ALPHAS
from einthoven.functional.vectorcardiogram import INDEPENDENT_LEADS
from einthoven.predict import PTBXL_BUNDLE, SYNTHETIC_BUNDLE
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.groups import answer_groups
from einthoven.predict.missing_lead import MissingLead
from einthoven.predict.model_folder import FOLD
from einthoven.predict.refusal import Refusal
from einthoven.runs.network.finished import read_finished
from einthoven.runs.results.evaluation_results import RULES
from einthoven.tracking.concluded import is_concluded

Float = NDArray[np.float64]
Signals = NDArray[np.int16]

START_OF_FOLDS = f"{START}{BASES}/classes_{HELD}/bundle"
"""With --bases, the start of a network that is judged on held-out folds."""

FINAL, BOOSTING = "final", "boosting"
"""Names of the final network, and of the folder of gradient boosting."""

FINAL_START = f"{START}synthetic"
"""With --bases, the start of the network of the bundle."""

CALIBRATIONS = ("temperature", "vector")
"""The one with the better likelihood on patients that it was not fitted on is used."""

REFUSED_FINDINGS = ("unit", "swap_la_ra", "swap_ra_ll", "swap_ra_rl", "limb_law", "fs", "no_ecg")
"""Findings of the doctor with which no answer is given."""

MOST_REFUSED = 0.018
"""Largest share of unaltered records that are refused. The target of the package is 2 %."""

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
AT_ONCE = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--groups", dest="mode", action="store_const", const="groups", default="folds")
    parser.add_argument("--bases", type=Path)
    parser.add_argument("--train", metavar="PARTS")
    parser.add_argument("--boosting", metavar="OPTIONS", type=str.split, default=[])
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    args = parser.parse_intermixed_args()
    if args.bases is not None and any(option.startswith(START) for option in args.options):
        parser.error("--bases: the start of a network is that of its held-out folds; expected no option init_from")
    bases = args.bases.resolve() if args.bases else None
    try:
        trainings = trainings_of(args.mode, bases, args.options, args.boosting, args.train)
    except UserError as error:
        parser.error(str(error))
    with TemporaryDirectory() as scratch:
        runs = args.runs or Path(scratch)
        train(args.root, runs, trainings)
        if args.train is None:
            make(args.root, runs)


def train(root: Path, runs: Path, trainings: Mapping[str, Sequence[str]]) -> None:
    """Train the models of the folds and the final ones, unless they are there already.

    Parameters
    ----------
    root, runs : Path
    trainings : mapping of str to sequence of str
        As `trainings_of` returns them.
    """
    common = ["data=ptbxl", f"data.root={root}", "data.allow_missing=true", "seed=0", "tracking.artifacts=false"]
    for part, options in trainings.items():
        # Each training has a store of its own, so that several processes do not wait for each other.
        tracking = f"tracking.uri=sqlite:///{runs.resolve()}/{part.replace('/', '-')}.db"
        train_or_resume(runs / part, [tracking, *common, *options])


def trainings_of(
    mode: str, bases: Path | None, options: Sequence[str], boosting: Sequence[str], only: str | None = None
) -> dict[str, list[str]]:
    """Return the trainings: the name of a folder, and the options of its model.

    Parameters
    ----------
    mode : str
        Which folds are held out together: ``groups`` or ``folds``.
    bases : Path or None
        Folder of the networks that they start from. None: fresh weights, unless an option names a start.
    options, boosting : sequence of str
        Further options of the networks, and of gradient boosting.
    only : str, optional
        Names of trainings, with commas: ``fold-1``, …, ``final``, and ``boosting`` for all of gradient boosting. By
        default all.

    Raises
    ------
    UserError
        If a base is missing.
    """
    chosen = None if only is None else only.split(",")
    of_data = [option for option in options if option.startswith("data.")]
    trainings = {}
    for held_out in (*HELD_OUT[mode], ()):
        name = f"{FOLD}{held_out[0]}" if held_out else FINAL
        train_folds = [fold for fold in FOLDS if fold not in held_out]
        folds = [f"data.folds.train={train_folds}", f"data.folds.val={list(held_out)}", "data.folds.test=[]"]
        if chosen is None or name in chosen:
            network = f"cv/{name}" if held_out else FINAL
            trainings[network] = [*folds, *start_options(bases, Held(mode, held_out)), *options]
        if chosen is None or BOOSTING in chosen:
            trainings[f"{BOOSTING}/{name}"] = [*folds, *of_data, "model=gradient_boosting", *boosting]
    return trainings


def start_options(bases: Path | None, held: Held) -> list[str]:
    """Return the option for the start of a network that is judged on held-out folds, or of the final network."""
    if bases is None:
        return [f"{START}null"]
    if not held.folds:
        return [FINAL_START]
    (start,) = with_places(bases, [START_OF_FOLDS], held)
    if not has_base(bases, [START_OF_FOLDS], held):
        raise UserError(f"{start}: no bundle; bench/make_bases.py makes one for each group, with the name classes.")
    return [start]


def train_or_resume(folder: Path, options: Sequence[str]) -> None:
    """Train a run, or continue it. Do nothing if it is complete."""
    if is_concluded(folder):
        return
    if (folder / "config.yaml").exists():
        cli.main(["train", f"resume={folder}"])
    else:
        cli.main(["train", *options, f"hydra.run.dir={folder}"])


def make(root: Path, runs: Path) -> None:
    """Fit everything to the out-of-fold predictions, and write the bundle and its model card."""
    folds = [fold_with_boosting(fold, runs / BOOSTING / f"{FOLD}{fold.fold}") for fold in read_held_out(runs / "cv")]
    run, _ = read_finished(runs / FINAL, "run", {})
    boosting = read_boosting(runs / BOOSTING / FINAL)
    bundle = with_boosting(half_precision(read_bundle(runs / FINAL / "bundle")), boosting, single=True)

    # Which classes are answered: those that are told apart out of fold.
    candidates = candidate_groups(bundle, root)
    of_candidates = predict_held_out([widen_fold(fold, candidates) for fold in folds])
    groups, left_out = choose_groups(candidates, of_candidates)
    out_of_fold = of_candidates.select(columns_of(groups, candidates))
    folds = [widen_fold(fold, groups) for fold in folds]
    bundle = answer_groups(bundle, groups)
    y, p, patients = out_of_fold.y, out_of_fold.p, out_of_fold.patients
    columns = slices_of(groups)
    main_columns = columns[0]
    worth = measure_members(folds, main_columns)

    # Calibration, operating points and sets.
    method, calibration, likelihoods = choose_calibration(bundle, out_of_fold)
    make_calibration = partial(METHODS[method][0], bundle.classes, bundle.single_label)
    crossed = cross_fit(make_calibration, y, p, out_of_fold.fold, RULES, ALPHAS, columns)
    calibrated = calibration.transform(p)
    points = operating_points(bundle.classes, y, calibrated, crossed)
    metrics = measure(y[:, main_columns], p[:, main_columns], crossed.p[:, main_columns], patients)

    # What is refused, and what a missing lead costs.
    train_signals = stored_signals(run.data, "train")
    bundle = with_familiarity(bundle, train_signals, np.round(out_of_fold.distance, 5))
    refusal = choose_refusal(bundle, out_of_fold)
    losses = [measure_loss(folds, out_of_fold, lead, main_columns) for lead in CHEST]
    covariance = lead_covariance(train_signals, bundle.input_format.leads)
    missing_leads = {}
    for loss in losses:
        weights = fit_weights(covariance, INDEPENDENT_LEADS, loss.lead)
        missing_leads[loss.lead] = MissingLead(
            weights, *(round(value, 4) for value in (loss.loss, loss.low, loss.high))
        )

    table = run.data.table("train")
    years = sorted({str(date)[:4] for date in table["recording_date"]})
    trained_on = f"{len(table):,} ECGs of PTB-XL, recorded {years[0]}-{years[-1]}, task {run.task.labels}"
    if bundle.model.readout is not None:
        trained_on = f"{trained_on} with statements as targets"
    if run.config.init_from:
        trained_on = f"{trained_on}, started from {Path(run.config.init_from).name}"
    trained_on = f"{trained_on}, in a mean with gradient boosting on ECG measurements (weight {WEIGHT:g})"
    provenance = {
        **bundle.provenance,
        "trained_on": trained_on,
        "attribution": ATTRIBUTION,
        "fitted_on": f"out-of-fold predictions of the same {len(y):,} records, by {len(folds)} such means",
        "mean": describe_in_provenance(boosting),
        "metrics": metrics,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    provenance["folds"] = {"train": list(FOLDS), "fit": list(FOLDS)}
    conformal = {alpha: tuple(group_thresholds(y, calibrated, alpha, columns).tolist()) for alpha in ALPHAS}
    bundle = replace(
        bundle,
        calibration=calibration,
        calibration_method=method,
        band=calibration_covariance(y, calibrated),
        conformal=conformal,
        points=points,
        refusal=refusal,
        missing_leads=missing_leads,
        provenance=provenance,
    )
    without_generated_first_seconds(bundle).save(PTBXL_BUNDLE, half=True)

    saved = read_bundle(PTBXL_BUNDLE)
    card = model_card(CardFigures(saved, table, out_of_fold, crossed, likelihoods, losses, folds, left_out, worth))
    (PTBXL_BUNDLE / "model_card.md").write_text(card)
    size = sum(file.stat().st_size for file in PTBXL_BUNDLE.iterdir())
    print(card)
    print(f"{PTBXL_BUNDLE}: {size:,} bytes; {saved.sha256}")


def without_generated_first_seconds(bundle: Bundle) -> Bundle:
    """Return a bundle that lists no first seconds of generated ECGs, which take a tenth of its space.

    It lists these ECGs as a whole. So they are recognized, unless they are cut to another length.
    """
    generated = read_bundle(SYNTHETIC_BUNDLE).ancestry
    assert bundle.ancestry is not None and generated is not None
    first_seconds = np.setdiff1d(bundle.ancestry.first_seconds, generated.first_seconds)
    return replace(bundle, ancestry=replace(bundle.ancestry, first_seconds=first_seconds))


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
            rates: dict[str, float | None] = {}
            for measure_name in MEASURES:
                rate = float(getattr(matrix, measure_name)[0])
                # The PPV of a rule that calls no record positive is not known.
                rates[measure_name] = None if np.isnan(rate) else rate
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
        "nll/after": float(scores.log_loss_per_class(y, p).mean()),
        "brier/after": float(scores.brier_per_class(y, p).mean()),
        "ece/after": float(scores.calibration_error_per_class(y, p).mean()),
    }


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
        best = Refusal(REFUSED_FINDINGS, float(limit), refused)
    return best


def has_refused_finding(findings: Sequence[Finding]) -> bool:
    """Return whether a record has a finding with which no answer is given."""
    return any(finding.code in REFUSED_FINDINGS for finding in findings)


def lead_covariance(signals: Signals, leads: Sequence[str]) -> Float:
    """Return the mean products of the independent leads over all records and samples, in mV²."""
    rows = [leads.index(lead) for lead in INDEPENDENT_LEADS]
    total = np.zeros((len(rows), len(rows)))
    for first in range(0, len(signals), AT_ONCE):
        x = signals[first : first + AT_ONCE, rows] * 1e-3
        total += np.einsum("nit,njt->ij", x, x)
    covariance: Float = total / (len(signals) * signals.shape[2])
    return covariance


def fit_weights(covariance: Float, leads: Sequence[str], missing: str) -> dict[str, float]:
    """Fit the weights that compute one lead from the others by least squares, over all samples.

    Parameters
    ----------
    covariance : ndarray, shape (L, L)
        Mean products of the leads at the same time.
    leads : sequence of L str
        Leads that are linearly independent.
    missing : str
        One of them.

    Returns
    -------
    dict of str to float
        Weight of each other lead.
    """
    row = leads.index(missing)
    others = [index for index in range(len(leads)) if index != row]
    solution = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, row])
    return {leads[index]: float(weight) for index, weight in zip(others, solution, strict=True)}


def measure_loss(folds: Sequence[HeldOutFold], out_of_fold: OutOfFold, lead: str, main_columns: slice) -> LeadLoss:
    """Measure how much macro AUROC is lost if a lead is computed from the others, and if it is 0 mV."""
    of_computed: list[Float] = []
    of_zero: list[Float] = []
    for fold in folds:
        leads = fold.bundle.input_format.leads
        weights = fit_weights(lead_covariance(fold.train_signals, leads), INDEPENDENT_LEADS, lead)
        computed = np.zeros(fold.signals[:, 0].shape)
        for other, weight in weights.items():
            computed += weight * fold.signals[:, leads.index(other)]
        signals = fold.signals.copy()
        signals[:, leads.index(lead)] = np.rint(computed)
        of_computed.append(fold.predict(signals)[0])
        signals[:, leads.index(lead)] = 0
        of_zero.append(fold.predict(signals)[0])

    y, whole = out_of_fold.y, out_of_fold.p
    computed_p, zero_p = np.concatenate(of_computed), np.concatenate(of_zero)
    main_y, main_p = y[:, main_columns], whole[:, main_columns]
    # The comparison is of the model without the lead and the model with it.
    gain = paired_difference(main_y, computed_p[:, main_columns], main_p, groups=out_of_fold.patients)
    others = slice(main_columns.stop, None)
    loss_of_others = float("nan")
    if y[:, others].size:
        loss_of_others = macro_auroc(y[:, others], whole[:, others]) - macro_auroc(y[:, others], computed_p[:, others])
    return LeadLoss(
        lead=lead,
        loss=gain.difference,
        low=gain.interval.low,
        high=gain.interval.high,
        zero=macro_auroc(main_y, main_p) - macro_auroc(main_y, zero_p[:, main_columns]),
        others=loss_of_others,
    )


if __name__ == "__main__":
    main()
