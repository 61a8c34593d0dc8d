"""Tables of results for a page: final metrics side by side, and differences on the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose, isfinite

from einthoven.evaluation.comparison import Difference
from einthoven.functional.class_names import name_of
from einthoven.report.metric_text import SPLIT_WORDS, metric_text
from einthoven.report.page import Html, fold, join, section, table, tag
from einthoven.report.reported import NOTHING, Pairing, ReportedRun, column_headers, letter, named, row_headers

MEASURES = {  # metric -> (name on the page, whether more is better)
    "macro_auroc": ("macro AUROC", True),
    "macro_auprc": ("macro AUPRC", True),
    "fmax": ("Fmax", True),
    "accuracy": ("accuracy", True),
    "challenge_score": ("challenge score", True),
    "mae": ("mean absolute error", False),
    "rmse": ("root mean squared error", False),
    "r2": ("R²", True),
    "elbo": ("evidence, at least", True),
    "mutual_information": ("mutual information bound", True),
    "partner_found": ("partners found", True),
    "future_found": ("futures found", True),
    "nll": ("NLL", False),
    "loss": ("loss", False),
}
BEST = "★"


def results(runs: Sequence[ReportedRun], pairings: Sequence[Pairing], differ: Sequence[str]) -> Html:
    """Return a table of final metrics for each split, with one row per run; empty if no run has metrics.

    Parameters
    ----------
    runs : sequence of ReportedRun
    pairings : sequence of Pairing
    differ : sequence of str
        Options in which the runs differ.
    """
    parts: list[str] = []
    for split, name in SPLIT_WORDS.items():
        measures = [measure for measure in MEASURES if any(f"{split}/{measure}" in run.metrics for run in runs)]
        # If the loss is the negative log-likelihood, one column is enough.
        if "nll" in measures and all(_is_likelihood(run.metrics, split) for run in runs):
            measures.remove("nll")
        if not measures:
            continue

        # The best run is marked only if all runs are comparable. Losses of different kinds are not.
        is_comparable = _has_same_records(runs, pairings, differ, split)
        has_one_loss = not any(option.startswith("loss.") for option in differ)
        columns = []
        for measure in measures:
            mark_best = is_comparable and (has_one_loss or measure != "loss")
            more_is_better = MEASURES[measure][1] if mark_best else None
            columns.append(_column(runs, f"{split}/{measure}", more_is_better))
        rows = [[header, *cells] for header, *cells in zip(row_headers(runs), *columns, strict=True)]
        marks = _explain_marks(runs, is_comparable, has_one_loss)
        caption = f"On the {name} records, with 95 % intervals if a run has them.{marks}"
        parts.append(table(caption, ["run", *(MEASURES[measure][0] for measure in measures)], rows))
        parts.append(_per_class(runs, split, is_comparable))
    return section("Results", *parts) if parts else Html()


def _has_same_records(
    runs: Sequence[ReportedRun], pairings: Sequence[Pairing], differ: Sequence[str], split: str
) -> bool:
    """Return whether the metrics of a split are comparable between runs.

    They are if all runs were compared on the same records, or if all have the same store, task and folds.
    """
    paired = [pairing for pairing in pairings if pairing.split == split and isinstance(pairing.result, Difference)]
    if len(paired) == len(runs) - 1:
        return True
    stores = {run.facts.get("data fingerprint") for run in runs}
    return len(stores) == 1 and not any(option.startswith(("task.", f"data.folds.{split}")) for option in differ)


def differences(runs: Sequence[ReportedRun], pairings: Sequence[Pairing]) -> Html:
    """Return the difference of each run from the first on the same records, or the reason why there is none."""
    rows = []
    reasons = []
    for pairing in pairings:
        result = pairing.result
        if isinstance(result, str):
            reasons.append(tag("li", f"{letter(pairing.run)}, {SPLIT_WORDS[pairing.split]}: {result}"))
            continue
        interval = result.interval
        units = "patients" if pairing.by_patient else "records"
        rows.append(
            [
                named(pairing.run, runs[pairing.run]),
                SPLIT_WORDS[pairing.split],
                f"{result.difference:+.4f}",
                f"{interval.low:+.4f} to {interval.high:+.4f}",
                f"{result.p:.3f}",
                f"{pairing.records:,}",
                f"{result.classes}",
                f"{interval.resamples:,} of {units}",
            ]
        )
    parts: list[str] = []
    if rows:
        caption = (
            "Macro AUROC minus that of A, on the same records, over the classes that have positive and negative "
            "records. Each bootstrap resample is used for both runs. p is two-sided for the hypothesis of no "
            "difference, and it is not corrected for multiple comparisons."
        )
        columns = ["run", "records of", "difference", "95 % interval", "p", "records", "classes", "resamples"]
        parts.append(table(caption, columns, rows))
    if reasons:
        parts += [tag("p", "Not compared with A:"), tag("ul", join(reasons))]
    return section("Difference from A, record by record", *parts) if parts else Html()


def all_metrics(runs: Sequence[ReportedRun]) -> Html:
    """Return a table of all final values, hidden until the reader opens it."""
    names = sorted({name for run in runs for name in run.metrics})
    rows = [[name, *(_number(run.metrics.get(name)) for run in runs)] for name in names]
    return fold(
        f"All {len(names)} final values",
        table("The last value of every metric.", ["metric", *column_headers(runs)], rows),
    )


def _explain_marks(runs: Sequence[ReportedRun], is_comparable: bool, has_one_loss: bool) -> str:
    if len(runs) == 1:
        return ""
    if not is_comparable:
        return " The runs were not evaluated on the same records, so no best is marked."
    losses = "" if has_one_loss else "; the losses are of different kinds"
    return f" {BEST}: best{losses}."


def _is_likelihood(metrics: Mapping[str, float], split: str) -> bool:
    """Return whether the loss is the negative log-likelihood."""
    nll = metrics.get(f"{split}/nll", float("nan"))
    loss = metrics.get(f"{split}/loss", float("nan"))
    return isclose(nll, loss, rel_tol=1e-6)


def _column(runs: Sequence[ReportedRun], name: str, more_is_better: bool | None) -> list[str]:
    """Return the cells of a metric with its interval. The best is marked if values differ and a better side exists."""
    finite = [run.metrics[name] for run in runs if isfinite(run.metrics.get(name, float("nan")))]
    best = None
    if more_is_better is not None and len(set(finite)) > 1:
        best = max(finite) if more_is_better else min(finite)
    cells = []
    for run in runs:
        cell = metric_text(run.metrics, name) if name in run.metrics else NOTHING
        if best is not None and run.metrics.get(name) == best:
            cell = tag("strong", f"{cell} {BEST}")
        cells.append(cell)
    return cells


def _per_class(runs: Sequence[ReportedRun], split: str, is_comparable: bool) -> Html:
    prefix = f"{split}/auroc/"
    names = sorted({name for run in runs for name in run.metrics if name.startswith(prefix)})
    if not names:
        return Html()
    more_is_better = True if is_comparable else None
    rows = [[name_of(name.removeprefix(prefix)), *_column(runs, name, more_is_better)] for name in names]
    title = f"AUROC of each class, {SPLIT_WORDS[split]}"
    caption = f"{title}.{_explain_marks(runs, is_comparable, True)}"
    return fold(title, table(caption, ["class", *column_headers(runs)], rows))


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"
