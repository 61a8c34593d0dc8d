"""The description of a run, in Markdown: what it shows and what to change, what it was, what came out."""

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
    """Describe a run.

    Parameters
    ----------
    overview : sequence of str
        Sentences on task, data and model.
    results : mapping of str to mapping
        Metric -> split -> value as text; empty where there are none.
    advice : sequence of Advice
        In the order of their rank.
    error : str, optional
        Why the run ended before its time.
    """
    parts = [f"**The run failed:** {error}"] if error else []
    parts.append("### Advice")  # the page of a run shows the first lines, and the rest when asked to
    parts += [f"{each.rank}. **{each.sentence}** {each.remedy} *({each.evidence})*" for each in advice] or [NOTHING]
    parts += ["### The run", *overview]
    if results:
        splits = list(dict.fromkeys(split for by_split in results.values() for split in by_split))
        rows = [
            f"| {' | '.join(['', *splits])} |",
            f"|{' --- |' * (len(splits) + 1)}",
            *(f"| {' | '.join([name, *(found.get(s, '') for s in splits)])} |" for name, found in results.items()),
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"
