"""`einthoven evaluate run=FOLDER`: what a finished run is worth, with intervals, written to the same MLflow run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven import schema
from einthoven.atomic import write_text
from einthoven.build import build, check
from einthoven.contracts import Predictions
from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.calibration import Calibration
from einthoven.evaluation.calibration_check import CalibrationCheck, check_disjoint, fit_and_check
from einthoven.evaluation.calibration_state import fitted_state
from einthoven.evaluation.comparison import Difference, paired_difference
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.metrics import auroc_per_class, macro_auroc
from einthoven.evaluation.operating_points import Point, Rule, operating_points
from einthoven.evaluation.scores import brier_per_class, calibration_error_per_class
from einthoven.evaluation.subgroups import Subgroup, subgroups
from einthoven.predict import refuse_without_bundle
from einthoven.report.decisions import decision_curve_figure, reliability_figure, risk_coverage_figure
from einthoven.runs.attributes import attributes
from einthoven.runs.bundle import FOLDER as BUNDLE
from einthoven.runs.bundle import Fitted, write_bundle
from einthoven.runs.finished import check_trained, finished
from einthoven.runs.identity import identity_tags
from einthoven.runs.laplace import LaplaceRun
from einthoven.runs.model_card import card
from einthoven.runs.network_parts import NetworkParts
from einthoven.runs.trained_data import write_ancestry
from einthoven.terminal.display import console, say, warn
from einthoven.terminal.evaluation_tables import differences_table, metrics_table, points_table, subgroups_table
from einthoven.terminal.unsure_tables import abstention, unsure_metrics, unsure_table
from einthoven.tracking import run_folder
from einthoven.tracking.recorder import Recorder, closing
from einthoven.tracking.server import without_password

if TYPE_CHECKING:
    from filelock import FileLock
    from omegaconf import DictConfig

Predict = Callable[..., Predictions]  # (split, aggregate=…)

RULES = (
    Rule("sensitivity", 0.9),
    Rule("sensitivity", 0.95),
    Rule("specificity", 0.9),
    Rule("youden"),
    Rule("f1"),
)


@dataclass(frozen=True)
class Found:
    """All that an evaluation has found, before it is written anywhere."""

    metrics: dict[str, float]
    interval: Interval
    per_class: list[Interval | None]
    points: dict[str, dict[Rule, Point]]
    groups: list[Subgroup]
    differences: dict[str, Difference]
    calibration: dict[str, Any]
    prior_precision: float | None


def evaluate(config: DictConfig) -> dict[str, float]:
    """Evaluate the run of a folder; the value is the metrics that were logged.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/evaluate.yaml``.

    Raises
    ------
    UserError
        If the folder holds no run, or something would be fitted on what is reported.
    """
    from omegaconf import OmegaConf

    fixed = [str(name) for name in config if name not in ("calibration", "data")]
    options = schema.typed(OmegaConf.masked_copy(config, fixed), schema.EvaluationOptions, "")
    other_folds = schema.typed(config.data.folds, schema.OtherFolds, "data.folds")
    check(config.calibration, "calibration")
    if "train" in (options.fit, options.report) or options.fit == options.report:
        raise UserError(
            f"fit={options.fit} report={options.report}: expected val and test, one each; neither a calibration nor a "
            "figure may rest on records that were trained on, nor both on the same."
        )
    check_trained(Path(options.run), "run")
    refuse_without_bundle(Path(options.run), f"run={options.run}")
    with run_folder.writing(Path(options.run)) as lock:
        return _evaluate(config, options, other_folds, lock)


def _evaluate(
    config: DictConfig, options: schema.EvaluationOptions, other_folds: schema.OtherFolds, lock: FileLock
) -> dict[str, float]:
    """Evaluate and write; the caller holds the folder of the run."""
    run, meta = finished(Path(options.run), "run", asdict(other_folds))
    for split in (options.fit, options.report):
        if split not in run.data.splits:
            raise UserError(
                f"data.folds.{split}: no labelled record there; give other folds as data.folds.{split}=[…]."
            )
    folds = asdict(run.settings.folds)
    check_disjoint(folds[options.fit], folds[options.report], "fold")
    check_disjoint(run.data.patients(options.fit), run.data.patients(options.report), "patient")
    make: Callable[[], Calibration] = partial(build(config.calibration), run.data.labels.classes, run.task.single_label)
    make()  # its options are checked before anything is predicted
    posterior = LaplaceRun(run) if options.laplace else None
    predict: Predict = posterior.evaluate if posterior else partial(run.evaluate, precision="fp32")
    fit, raw = predict(options.fit), predict(options.report)
    method, check = fit_and_check(make, fit.y, fit.p, run.data.patients(options.fit), run.settings.seed)
    p = method.transform(raw.p)
    found = Found(
        metrics=_metrics(run, raw, p) | unsure_metrics(fit.y, method.transform(fit.p), raw.y, p, run.task.single_label),
        **_intervals(run, options, raw),
        points=_points(run, options, fit.y, method.transform(fit.p), raw.y, p),
        groups=_subgroups(run, options, raw.y, p),
        differences=_differences(run, options, raw, predict),
        calibration=_calibration(config, method, check),
        prior_precision=posterior.posterior.prior_precision if posterior else None,
    )
    _show(run, options, found)
    warnings = _warnings(run, found)
    result = _as_json(run, options, found) | {"code": _code(run), "warnings": warnings}
    write_text(run.folder / "evaluation.json", json.dumps(result, indent=2) + "\n")
    write_text(run.folder / "model_card.md", card(run, options, result, meta))
    write_ancestry(run.folder, run.ancestry.fitted_on(run.data.digests(options.fit)))
    told = "no bundle: laplace=true answers with many weights, and a bundle holds one set of them"
    if posterior is None:
        told = write_bundle(run, _fitted(options, found, method, fit))
    tracking = run.settings.tracking
    recorder = Recorder(
        tracking.uri,
        tracking.experiment,
        tracking.run_name,
        folder=run.folder,
        tags={},
        run_id=meta["run_id"],
        patience=tracking.patience,
        offline=tracking.offline,
        lock=lock,
    )
    with closing(recorder):
        recorder.tags(
            {
                "evaluate.code.hash": str(_code(run)["evaluated"]),
                "evaluate.data.fingerprint": run.data.store.fingerprint[:12],
                "evaluate.warnings": " ".join(f"{warning}." for warning in warnings) or "none",
            }
        )
        _log(recorder, run, options.report, found, raw, p)
    say(told)
    store = without_password(recorder.uri)
    say(f"evaluation.json and model_card.md written to {run.folder} and run {recorder.run_id} in {store}")
    return found.metrics


def _code(run: NetworkParts) -> dict[str, str | None]:
    """Hashes of the source that a run was trained and is evaluated with; the first is not known of einthoven 0.1."""
    trained = None if run.trained is None else run.trained.code
    return {"trained": trained, "evaluated": identity_tags(run.config)["code.hash"]}


def _calibration(config: DictConfig, method: Calibration, check: CalibrationCheck | None) -> dict[str, Any]:
    """The calibration that is used, what it has learned, how it was judged, and which one is therefore not used."""
    requested = str(config.calibration["_target_"]).rsplit(".", 1)[-1].lower()
    is_used = check is None or check.is_better
    return {
        "method": requested if is_used else "uncalibrated",
        "learned": fitted_state(method),
        "not_used": None if is_used else requested,
        "cross_validation": None if check is None else asdict(check),
    }


def _not_used(calibration: dict[str, Any]) -> str | None:
    """A sentence about a calibration that is not used; None where it is."""
    if calibration["not_used"] is None:
        return None
    judged = calibration["cross_validation"]
    reason = (
        f"by {judged['parts']}-fold cross-validation over the patients of the fitting folds, it changes the negative "
        f"log-likelihood from {judged['before']:.4f} to {judged['after']:.4f}"
    )
    if judged["parts"] < 2:
        reason = "the fitting folds hold records of one patient, which cannot tell whether it helps others"
    return f"calibration={calibration['not_used']} is not used, and the probabilities are those of the model: {reason}"


def _warnings(run: NetworkParts, found: Found) -> list[str]:
    """What a reader of the figures must know about how they came about, one sentence each."""
    code = _code(run)
    warnings = list(run.data.notes)
    not_used = _not_used(found.calibration)
    if not_used is not None:
        warn(f"{not_used}.")
        warnings.append(not_used)
    if code["trained"] not in (None, code["evaluated"]):
        changed = (
            f"the code has changed since this run was trained (code.hash was {code['trained']} and is "
            f"{code['evaluated']}): the figures are those of the trained weights with the code of now"
        )
        warn(f"run={run.folder}: {changed}.")
        warnings.append(changed)
    return warnings


def _fitted(options: schema.EvaluationOptions, found: Found, method: Calibration, fit: Predictions) -> Fitted:
    """What goes into the bundle of the run."""
    points = {
        label: {str(rule): _plain({"threshold": point.threshold, **point.judged}) for rule, point in of.items()}
        for label, of in found.points.items()
    }
    kept = {key: found.metrics[key] for key in ("macro_auroc", "nll/after", "brier/after", "ece/after")}
    kept |= {"macro_auroc_low": found.interval.low, "macro_auroc_high": found.interval.high}
    return Fitted(method, options.fit, fit.y, method.transform(fit.p), points, _plain(kept))


def _metrics(run: NetworkParts, raw: Predictions, p: NDArray[np.float64]) -> dict[str, float]:
    """The task's metrics, and what calibration changes: before and after."""
    metrics = dict(run.task.metrics(raw.y, raw.p, run.data.labels.classes))
    for when, probability in (("before", raw.p), ("after", p)):
        metrics |= {
            f"nll/{when}": run.task.negative_log_likelihood(raw.y, probability),
            f"brier/{when}": float(brier_per_class(raw.y, probability).mean()),
            f"ece/{when}": float(calibration_error_per_class(raw.y, probability).mean()),
        }
    return metrics


def _bootstrap(run: NetworkParts, options: schema.EvaluationOptions) -> dict[str, Any]:
    return {
        "resamples": options.resamples,
        "level": options.level,
        "seed": run.settings.seed,
        "groups": run.data.patients(options.report),
    }


def _intervals(run: NetworkParts, options: schema.EvaluationOptions, raw: Predictions) -> dict[str, Any]:
    ranked = run.task.ranked(raw.y)
    macro, per_class = auroc_intervals(ranked, raw.p, method=options.interval, **_bootstrap(run, options))
    return {"interval": macro, "per_class": per_class}


def _points(
    run: NetworkParts,
    options: schema.EvaluationOptions,
    fit_y: NDArray[np.float64],
    fit_p: NDArray[np.float64],
    y: NDArray[np.float64],
    p: NDArray[np.float64],
) -> dict[str, dict[Rule, Point]]:
    """Every rule for each class that has both labels where the thresholds are chosen."""
    both = np.flatnonzero(fit_y.any(axis=0) & ~fit_y.all(axis=0))
    found = operating_points(
        (fit_y[:, both], fit_p[:, both]), (y[:, both], p[:, both]), RULES, **_bootstrap(run, options)
    )
    return {run.data.labels.classes[k]: of for k, of in zip(both, found, strict=True)}


def _subgroups(
    run: NetworkParts, options: schema.EvaluationOptions, y: NDArray[np.float64], p: NDArray[np.float64]
) -> list[Subgroup]:
    """Every attribute that the records' table has and in which they differ."""
    same = _bootstrap(run, options)
    patients = same.pop("groups")
    groups: list[Subgroup] = []
    for attribute, values in attributes(run.data.table(options.report)).items():
        if len(set(values)) > 1:
            ranked = run.task.ranked(y)
            groups += subgroups(y, p, attribute, values, patients, ranked=ranked, small=options.small, **same)
    return groups


def _differences(
    run: NetworkParts, options: schema.EvaluationOptions, raw: Predictions, predict: Predict
) -> dict[str, Difference]:
    """Max of windows against their mean, a last layer integrated out against the trained one, this run and another."""
    found: dict[str, Difference] = {}
    same = _bootstrap(run, options)
    if run.has_several_windows(options.report):
        kinds = {run.settings.trainer.aggregate: raw.p}
        for kind in {"mean", "max"} - set(kinds):
            kinds[kind] = predict(options.report, aggregate=kind).p
        measures = {
            "macro AUROC": (run.task.ranked(raw.y), macro_auroc),
            "negative log-likelihood": (raw.y, run.task.negative_log_likelihood),
        }
        for name, (y, metric) in measures.items():
            found[f"{name}: max less mean of windows"] = paired_difference(
                y, kinds["mean"], kinds["max"], metric, **same
            )
    if options.laplace:
        trained = run.evaluate(options.report, "fp32").p
        found["negative log-likelihood: last layer integrated out less as trained"] = paired_difference(
            raw.y, trained, raw.p, run.task.negative_log_likelihood, **same
        )
    if options.against is not None:
        folds = asdict(run.settings.folds)
        other, _ = finished(Path(options.against), "against", {split: folds[split] for split in ("val", "test")})
        if other.data.labels.classes != run.data.labels.classes or not _same_records(run, other, options.report):
            raise UserError(
                f"against={options.against}: its records or classes are not those of run={options.run}; two models "
                "are compared on the same."
            )
        found["macro AUROC: run less against"] = paired_difference(
            run.task.ranked(raw.y), other.evaluate(options.report, "fp32").p, raw.p, **same
        )
    return found


def _same_records(run: NetworkParts, other: NetworkParts, split: str) -> bool:
    """Whether two runs are judged by the same records: their numbers, and their signals where both store them alike."""
    ours, theirs = ((r.data.labels.ecg_ids[r.data.rows[split]], r.data.digests(split)) for r in (run, other))
    stored = [(r.data.store.fs, r.data.store.leads, r.data.store.signals.shape[1:]) for r in (run, other)]
    is_same_content = stored[0] != stored[1] or np.array_equal(ours[1], theirs[1])
    return np.array_equal(ours[0], theirs[0]) and is_same_content


def _show(run: NetworkParts, options: schema.EvaluationOptions, found: Found) -> None:
    folds = asdict(run.settings.folds)
    console.print(
        f"{len(run.data.patients(options.report))} records of folds {folds[options.report]}; calibration "
        f"({found.calibration['method']}) and thresholds fitted on folds {folds[options.fit]}; "
        f"intervals {options.level:.0%}, {options.interval}, {found.interval.resamples} resamples of patients, "
        f"{found.interval.classes_missing_share:.1%} of (resample, class) pairs without both labels left out"
    )
    absent = [name for name, i in zip(run.data.labels.classes, found.per_class, strict=True) if i is None]
    if absent:
        console.print(f"without both labels in these folds or in training, and left out: {' '.join(absent)}")
    unchosen = [name for name in run.data.labels.classes if name not in found.points]
    if unchosen:
        console.print(f"without both labels in the fitting folds, and so without thresholds: {' '.join(unchosen)}")
    console.print(metrics_table(run.data.labels.classes, found.metrics, found.interval, found.per_class))
    console.print(points_table({name: of[RULES[0]] for name, of in found.points.items()}, RULES[0]))
    console.print(unsure_table(found.metrics))
    if found.groups:
        console.print(subgroups_table(found.groups, run.data.labels.classes))
    if found.differences:
        console.print(differences_table(found.differences))


def _as_json(run: NetworkParts, options: schema.EvaluationOptions, found: Found) -> dict[str, Any]:
    """Everything, as JSON knows it: what is not defined is null."""
    classes, folds = run.data.labels.classes, asdict(run.settings.folds)
    result: dict[str, Any] = _plain(
        {
            "folds": {"train": folds["train"], "fit": folds[options.fit], "report": folds[options.report]},
            "records": len(run.data.patients(options.report)),
            "interval": {"level": options.level, "method": options.interval, "by": "patient"},
            "metrics": found.metrics,
            "macro_auroc": asdict(found.interval),
            "auroc": {
                name: None if interval is None else asdict(interval)
                for name, interval in zip(classes, found.per_class, strict=True)
            },
            "laplace": {"prior_precision": found.prior_precision} if options.laplace else None,
            "calibration": found.calibration,
            "operating_points": {
                name: {str(rule): asdict(point) for rule, point in of.items()} for name, of in found.points.items()
            },
            "subgroups": [asdict(group) for group in found.groups],
            "differences": {name: asdict(difference) for name, difference in found.differences.items()},
        }
    )
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _log(
    recorder: Recorder, run: NetworkParts, split: str, found: Found, raw: Predictions, p: NDArray[np.float64]
) -> None:
    classes = run.data.labels.classes
    metrics = found.metrics | {"macro_auroc_low": found.interval.low, "macro_auroc_high": found.interval.high}
    # The AUROC of each class is in evaluation.json, and nll is that before the calibration.
    named = {
        f"{split}/evaluate/{name.replace('/', '_')}": value
        for name, value in metrics.items()
        if name != "nll" and not name.startswith("auroc/")
    }
    # A second evaluation of a run, with another calibration, is a later point of the same curves.
    steps = [recorder.history[name][0][-1] for name in named if name in recorder.history]
    recorder.log_metrics(max(steps, default=-1) + 1, named)
    drawn = np.flatnonzero(~np.isnan(auroc_per_class(raw.y, raw.p)))
    names, y = [classes[k] for k in drawn], raw.y[:, drawn]
    recorder.figure(reliability_figure(y, {"before": raw.p[:, drawn], "after": p[:, drawn]}, names), "reliability")
    recorder.figure(decision_curve_figure(y, p[:, drawn], names), "decision_curves")
    recorder.figure(risk_coverage_figure(abstention(raw.y, p, run.task.single_label)), "risk_coverage")
    points = [(name, rule, point) for name, of in found.points.items() for rule, point in of.items()]
    recorder.table(
        {
            "class": [name for name, _, _ in points],
            "rule": [str(rule) for _, rule, _ in points],
            "threshold": [point.threshold for _, _, point in points],
            "transfer": [point.transfer for _, _, point in points],
            **{
                m: [point.judged[m] for _, _, point in points]
                for m in ("sensitivity", "specificity", "ppv", "npv", "f1")
            },
        },
        "evaluation/operating_points.json",
    )
    recorder.file(run.folder / "evaluation.json", "evaluation")
    recorder.file(run.folder / "model_card.md", "evaluation")
    for file in sorted((run.folder / BUNDLE).glob("*")) if found.prior_precision is None else ():
        recorder.file(file, BUNDLE)
