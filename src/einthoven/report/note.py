"""The description of a run in Markdown: advice, overview and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from einthoven.diagnostics.rules.base import Advice

NOTHING = "No rule of advice applies to this run."


def note(
    overview: Sequence[str],
    results: Mapping[str, Mapping[str, str]],
    advice: Sequence[Advice],
    error: str | None = None,
) -> str:
    """Return the description of a run as Markdown.

    Parameters
    ----------
    overview : sequence of str
        Sentences about task, data and model.
    results : mapping of str to mapping
        Metric -> split -> value as text; can be empty.
    advice : sequence of Advice
        Ordered by rank.
    error : str, optional
        The reason why the run failed.
    """
    parts = []
    if error:
        parts.append(f"**The run failed:** {error}")

    # The run page of MLflow shows only the first lines of the note, so the advice comes first.
    parts.append("### Advice")
    items = [f"{item.rank}. **{item.sentence}** {item.remedy} *({item.evidence})*" for item in advice]
    parts += items or [NOTHING]

    parts += ["### The run", *overview]
    if results:
        splits = list(dict.fromkeys(split for values in results.values() for split in values))
        rows = [f"| {' | '.join(['', *splits])} |", f"|{' --- |' * (len(splits) + 1)}"]
        for metric, values in results.items():
            cells = [metric, *(values.get(split, "") for split in splits)]
            rows.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"
