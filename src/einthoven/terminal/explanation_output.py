"""What `einthoven explain` writes: a page for each record, and a table of how far the pages can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from einthoven.errors import printable_text
from einthoven.predict.explaining import Explanation
from einthoven.terminal.display import console, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEADS_IN_TABLE = 4
"""The table names the leads with the largest shares."""

Explanations = Sequence[tuple[Path, Explanation]]
"""Each file with its explanation. `Explanation.faithfulness` is known."""


def draw_explanations(explanations: Explanations, method: str, footnotes: Sequence[str], path: Path) -> None:
    """Draw a page for each record.

    The footnotes say what the model may be used for, and who made its training records.
    """
    from einthoven.report import explanation as report

    def pages() -> Iterator[Figure]:
        for file, explanation in explanations:
            assert explanation.faithfulness is not None
            shares = report.share_line(explanation.by_lead)
            start = f" from {explanation.start_s:g} s" if explanation.start_s else ""
            yield report.explanation_figure(
                explanation.signal,
                explanation.fs,
                explanation.relevance,
                explanation.label,
                title=f"{file.name}{start}: {explanation.label} {explanation.probability:.2f}",
                subtitle=report.worth_line(method.replace("_", " "), explanation.faithfulness),
                leads=explanation.leads,
                foot=(" ".join([shares, *_caution_lines(explanation)]), *footnotes),
            )

    report.save_pages(pages(), path)


def show_explanations(explanations: Explanations, footnotes: Sequence[str], path: Path) -> None:
    """Print a row for each record, and what the columns mean. The parameters are those of `draw_explanations`."""
    table = Table(box=None, pad_edge=False)
    for name in ("file", "class", "deletion", "(chance)", "insertion", "(chance)", "sanity", "leads"):
        table.add_column(name, overflow="fold")
    for file, explanation in explanations:
        table.add_row(printable_text(file.name, allowed=""), *_cells(explanation))
    console.print(table)
    for file, explanation in explanations:
        for line in (*_wave_lines(explanation), *_caution_lines(explanation)):
            console.print(f"{printable_text(file.name, allowed='')}: {line}", soft_wrap=True, markup=False)
    console.print(
        "deletion and insertion: the mean probability while the most relevant parts are removed, or added. A good "
        "drawing has a small deletion and a large insertion. (chance): the same in a random order. sanity: the rank "
        "correlation with the drawing for random weights. If it is near 1, the drawing does not show what the network "
        "has learned.",
        style="dim",
        soft_wrap=True,
    )
    say(f"Wrote {len(explanations)} page{'s' * (len(explanations) > 1)} to {path}.")
    for line, style in zip(footnotes, ("bold", "dim"), strict=False):
        console.print(line, style=style, soft_wrap=True, highlight=False)


def _cells(explanation: Explanation) -> list[str]:
    """Return the cells of a row after the name of the file."""
    faithfulness = explanation.faithfulness
    assert faithfulness is not None
    by_share = sorted(explanation.by_lead.items(), key=lambda item: -item[1])
    leads = "  ".join(f"{lead} {share:.0%}" for lead, share in by_share[:LEADS_IN_TABLE])
    return [
        f"{explanation.label} {explanation.probability:.2f}",
        f"{faithfulness.deletion[0]:.2f}",
        f"({faithfulness.random_deletion[0]:.2f})",
        f"{faithfulness.insertion[0]:.2f}",
        f"({faithfulness.random_insertion[0]:.2f})",
        f"{faithfulness.sanity[0]:.2f}",
        leads,
    ]


def _wave_lines(explanation: Explanation) -> list[str]:
    """Return a line with the share of each wave in the relevance; empty if the waves are unknown."""
    if not explanation.by_wave:
        return []
    shares = [
        f"{wave} {share.relevance:.0%} (chance {share.chance:.0%})" for wave, share in explanation.by_wave.items()
    ]
    return [f"relevance in {', '.join(shares)}. Chance is the share of the time."]


def _caution_lines(explanation: Explanation) -> list[str]:
    return [f"Caution: {'; '.join(explanation.cautions)}."] if explanation.cautions else []
