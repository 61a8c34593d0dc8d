"""The page and the figure of tested differences between many models on many tasks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from einthoven.evaluation.significance import BETTER, NOT_ESTABLISHED, WORSE, Judgement, by_reference
from einthoven.functional.words import capitalized
from einthoven.report.curves import svg
from einthoven.report.page import Html, join, page, picture, section, table, tag
from einthoven.report.reported import NOTHING
from einthoven.report.style import BLUE, FAINT, INK, VERMILLION, drawable, new_figure, use_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("model", "difference", "over records", "over trainings", "p", "adjusted p", "verdict")
"""Columns of the table of differences, below the task."""

_COLORS = {BETTER: BLUE, WORSE: VERMILLION, NOT_ESTABLISHED: INK}


@dataclass(frozen=True)
class ReportedModel:
    """A model of the page.

    Attributes
    ----------
    task, label : str
    runs : tuple of str
        Names of its runs.
    aurocs : tuple of float
        Macro AUROC of each seed.
    records, folds : int
        Number of records, and of folds if the runs are cross-validations, else 0.
    """

    task: str
    label: str
    runs: tuple[str, ...]
    aurocs: tuple[float, ...]
    records: int
    folds: int = 0


def difference_cells(judgement: Judgement) -> list[str]:
    """Return the cells of `COLUMNS` for one comparison."""
    comparison = judgement.comparison
    interval = comparison.by_records.interval
    by_trainings = comparison.by_trainings
    over_trainings = NOTHING
    if by_trainings is not None:
        over_trainings = f"{by_trainings.low:+.4f} to {by_trainings.high:+.4f}"
    return [
        comparison.model,
        f"{comparison.by_records.difference:+.4f}",
        f"{interval.low:+.4f} to {interval.high:+.4f}",
        over_trainings,
        f"{comparison.p:.3f}",
        f"{judgement.adjusted_p:.3f}",
        judgement.verdict,
    ]


def significance_page(
    title: str,
    models: Sequence[ReportedModel],
    judgements: Sequence[Judgement],
    *,
    q: float,
    remarks: Sequence[str],
    by: str,
) -> str:
    """Return the page as self-contained HTML.

    Parameters
    ----------
    title : str
    models : sequence of ReportedModel
    judgements : sequence of Judgement
        One or more.
    q : float
        Largest adjusted p-value of a difference.
    remarks : sequence of str
        Sentences about what could not be compared.
    by : str
        Program that made the page.
    """
    parts: list[str] = [tag("h1", title)]
    description = "Difference of the macro AUROC from the reference of each task, with intervals"
    parts.append(section("Differences", picture(svg(significance_figure(judgements)), "svg+xml", description)))
    for (task, reference), of_task in by_reference(judgements).items():
        caption = f"{task}: macro AUROC minus that of {reference}, with 95 % intervals."
        parts.append(table(caption, list(COLUMNS), [difference_cells(judgement) for judgement in of_task]))
    parts.append(_explanation(len(judgements), q))
    if remarks:
        parts.append(section("Remarks", tag("ul", join(tag("li", remark) for remark in remarks))))
    parts.append(_models(models))
    parts.append(tag("footer", f"{by}. For research and teaching only, not for diagnosis."))
    return page(title, *parts)


def _explanation(comparisons: int, q: float) -> Html:
    sentences = [
        "Over records: the interval of a paired bootstrap over the patients. It holds for other patients and these "
        "trained models.",
        "Over trainings: the interval of the corrected resampled t-test (Nadeau and Bengio 2003) over the folds of a "
        "cross-validation, where a difference is the mean over the seeds, or over the seeds of one split. It holds for "
        "other trainings.",
        "p is the larger p-value of the two tests, so that a difference has to hold for other records and for other "
        "trainings. Without two folds or seeds it is the one over records, and says nothing about other trainings.",
        f"The adjusted p is corrected for all {comparisons} comparisons of this page (Benjamini and Hochberg 1995). "
        f"A model is called {BETTER} or {WORSE} if it is at most {q:g}: then the expected share of false differences "
        f"among those called so is at most {q:g}.",
        f"{capitalized(NOT_ESTABLISHED)} does not mean that two models are equal. The interval says "
        "how large the difference can be.",
    ]
    return section("How to read it", *(tag("p", sentence) for sentence in sentences))


def _models(models: Sequence[ReportedModel]) -> Html:
    rows = []
    for model in models:
        auroc = f"{statistics.fmean(model.aurocs):.4f}"
        if len(model.aurocs) > 1:
            auroc += f" ± {statistics.stdev(model.aurocs):.4f}"
        folds = str(model.folds) if model.folds else NOTHING
        rows.append(
            [model.label, model.task, auroc, str(len(model.aurocs)), folds, f"{model.records:,}", ", ".join(model.runs)]
        )
    columns = ["model", "task", "macro AUROC", "seeds", "folds", "records", "runs"]
    caption = "Macro AUROC of all records: mean ± standard deviation over the seeds."
    return section("Models", table(caption, columns, rows))


def significance_figure(judgements: Sequence[Judgement]) -> Figure:
    """Draw the difference of each model from the reference of its task, with its interval over the records.

    A thin line shows the interval over the trainings. Blue is better, red is worse, black is not established.

    Parameters
    ----------
    judgements : sequence of Judgement
        One or more.
    """
    groups = by_reference(judgements)
    heights = [len(of_task) + 1.4 for of_task in groups.values()]
    with use_style():
        figure = new_figure(9, 0.42 * sum(heights) + 0.6)
        panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, ((task, reference), of_task) in zip(panels, groups.items(), strict=True):
            _draw_differences(axes, of_task)
            axes.set_title(f"{drawable(task)}: difference from {drawable(reference)}")
        panels[-1].set_xlabel("difference of the macro AUROC (thick: records, thin: trainings)")
    return figure


def _draw_differences(axes: Axes, judgements: Sequence[Judgement]) -> None:
    """Draw the comparisons of one task, the largest difference on top."""
    ascending = sorted(judgements, key=lambda judgement: judgement.comparison.by_records.difference)
    axes.axvline(0, color=FAINT, linewidth=1)
    for row, judgement in enumerate(ascending):
        comparison = judgement.comparison
        color = _COLORS[judgement.verdict]
        interval = comparison.by_records.interval
        if comparison.by_trainings is not None:
            ends = [comparison.by_trainings.low, comparison.by_trainings.high]
            axes.plot(ends, [row, row], color=color, linewidth=1, marker="|", markersize=8)
        axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=4, solid_capstyle="butt")
        axes.plot(comparison.by_records.difference, row, color=color, marker="o", markersize=7)
    axes.set_yticks(range(len(ascending)), [drawable(judgement.comparison.model) for judgement in ascending])
    axes.set_ylim(-0.7, len(ascending) - 0.3)
    axes.grid(visible=False, axis="y")
