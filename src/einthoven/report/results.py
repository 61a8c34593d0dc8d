"""The tables of a page on what came out of runs: final metrics side by side, and differences on the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose, isfinite

from einthoven.evaluation.comparison import Difference
from einthoven.functional.class_names import name_of
from einthoven.report.page import Html, fold, join, section, table, tag
from einthoven.report.reported import NOTHING, SPLITS, Pairing, ReportedRun, called, column_headers, letter, row_headers

MEASURES = {  # metric -> what it is called, and whether more is better
    "macro_auroc": ("macro AUROC", True),
    "macro_auprc": ("macro AUPRC", True),
    "fmax": ("Fmax", True),
    "accuracy": ("accuracy", True),
    "challenge_score": ("challenge score", True),
    "mae": ("mean absolute error", False),
    "rmse": ("root mean squared error", False),
    "r2": ("R²", True),
    "nll": ("NLL", False),
    "loss": ("loss", False),
}
BEST = "★"


def results(runs: Sequence[ReportedRun], pairings: Sequence[Pairing], differ: Sequence[str]) -> Html:
    """Final metrics of each split, a row for each run; nothing where no run has any.

    Parameters
    ----------
    runs : sequence of ReportedRun
    pairings : sequence of Pairing
    differ : sequence of str
        Options in which the runs differ.
    """
    parts: list[str] = []
    for split, name in SPLITS.items():
        measures = [measure for measure in MEASURES if any(f"{split}/{measure}" in run.metrics for run in runs)]
        if "nll" in measures and all(_is_likelihood(run.metrics, split) for run in runs):
            measures.remove("nll")
        if not measures:
            continue
        ranked = judged_alike(runs, pairings, differ, split)
        one_loss = not any(option.startswith("loss.") for option in differ)
        columns = []
        for measure in measures:
            mark = ranked and (one_loss or measure != "loss")
            columns.append(_column(runs, f"{split}/{measure}", MEASURES[measure][1] if mark else None))
        rows = [[name, *cells] for name, *cells in zip(row_headers(runs), *columns, strict=True)]
        caption = f"On the {name} records, with 95 % intervals where a run has them.{_on_marks(runs, ranked, one_loss)}"
        parts.append(table(caption, ["run", *(MEASURES[measure][0] for measure in measures)], rows))
        parts.append(_per_class(runs, split, ranked))
    return section("Results", *parts) if parts else Html()


def judged_alike(runs: Sequence[ReportedRun], pairings: Sequence[Pairing], differ: Sequence[str], split: str) -> bool:
    """Whether the figures of a split rank the runs: all were paired, or of one store, one task and the same folds."""
    paired = [each for each in pairings if each.split == split and isinstance(each.found, Difference)]
    if len(paired) == len(runs) - 1:
        return True
    stores = {run.facts.get("data fingerprint") for run in runs}
    return len(stores) == 1 and not any(option.startswith(("task.", f"data.folds.{split}")) for option in differ)


def differences(runs: Sequence[ReportedRun], pairings: Sequence[Pairing]) -> Html:
    """How each run did beside the first, on the same records; sentences where that cannot be said."""
    rows = [
        [
            called(pairing.run, runs[pairing.run]),
            SPLITS[pairing.split],
            f"{pairing.found.difference:+.4f}",
            f"{pairing.found.interval.low:+.4f} to {pairing.found.interval.high:+.4f}",
            f"{pairing.found.p:.3f}",
            f"{pairing.records:,}",
            f"{pairing.found.classes}",
            f"{pairing.found.interval.resamples:,} of {'patients' if pairing.by_patient else 'records'}",
        ]
        for pairing in pairings
        if isinstance(pairing.found, Difference)
    ]
    told = [
        tag("li", f"{letter(pairing.run)}, {SPLITS[pairing.split]}: {pairing.found}")
        for pairing in pairings
        if isinstance(pairing.found, str)
    ]
    parts: list[str] = []
    if rows:
        caption = (
            "Macro AUROC less that of A, on the same records and the classes that have both labels there; each "
            "resample of the bootstrap judges both. p: two-sided, of no difference,"
            " not corrected for many comparisons."
        )
        columns = ["run", "records of", "difference", "95 % interval", "p", "records", "classes", "resamples"]
        parts.append(table(caption, columns, rows))
    if told:
        parts += [tag("p", "Not compared with A:"), tag("ul", join(told))]
    return section("Beside A, record by record", *parts) if parts else Html()


def all_metrics(runs: Sequence[ReportedRun]) -> Html:
    """Every final value, folded."""
    names = sorted({name for run in runs for name in run.metrics})
    rows = [[name, *(_number(run.metrics.get(name)) for run in runs)] for name in names]
    return fold(
        f"All {len(names)} final values",
        table("The last value of every metric.", ["metric", *column_headers(runs)], rows),
    )


def _on_marks(runs: Sequence[ReportedRun], ranked: bool, one_loss: bool) -> str:
    if len(runs) == 1:
        return ""
    if not ranked:
        return " The runs were not judged by the same records: no best is marked."
    return f" {BEST}: best{'' if one_loss else '; the losses are of different kinds'}."


def _is_likelihood(metrics: Mapping[str, float], split: str) -> bool:
    """Whether the loss is the negative log-likelihood, so that one column tells both."""
    nll, loss = (metrics.get(f"{split}/{name}", float("nan")) for name in ("nll", "loss"))
    return isclose(nll, loss, rel_tol=1e-6)


def _column(runs: Sequence[ReportedRun], name: str, more_is_better: bool | None) -> list[str]:
    """Cells of a metric, with its interval; the best is marked where values differ and one side is better."""
    known = [run.metrics[name] for run in runs if isfinite(run.metrics.get(name, float("nan")))]
    marked = more_is_better is not None and len(set(known)) > 1
    best = (max(known) if more_is_better else min(known)) if marked else None
    cells = []
    for run in runs:
        value, low, high = (run.metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
        cell = NOTHING if value is None else f"{value:.3f}"
        if low is not None and high is not None:
            cell += f" ({low:.3f} to {high:.3f})"
        cells.append(tag("strong", f"{cell} {BEST}") if best is not None and value == best else cell)
    return cells


def _per_class(runs: Sequence[ReportedRun], split: str, ranked: bool) -> Html:
    prefix = f"{split}/auroc/"
    names = sorted({name for run in runs for name in run.metrics if name.startswith(prefix)})
    if not names:
        return Html()
    rows = [[name_of(name.removeprefix(prefix)), *_column(runs, name, True if ranked else None)] for name in names]
    title = f"AUROC of each class, {SPLITS[split]}"
    return fold(title, table(f"{title}.{_on_marks(runs, ranked, True)}", ["class", *column_headers(runs)], rows))


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"
