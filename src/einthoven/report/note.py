"""The description of a run in Markdown: result, picture, advice, and what was trained on which records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from einthoven.report.markdown import markdown_table

if TYPE_CHECKING:
    from einthoven.diagnostics.rules.base import Advice


def note(
    result: Sequence[str],
    overview: Sequence[str],
    metrics: Mapping[str, Mapping[str, str]],
    advice: Sequence[Advice],
    *,
    picture: tuple[str, str] | None = None,
    error: str | None = None,
) -> str:
    """Return the description of a run as Markdown.

    The run page of MLflow shows the first lines at once and the others on request, so the result comes first.

    Parameters
    ----------
    result : sequence of str
        Sentences with the result; empty if there is none.
    overview : sequence of str
        Sentences about task, data and model.
    metrics : mapping of str to mapping
        Metric -> split -> value as text; can be empty.
    advice : sequence of Advice
        Ordered by rank.
    picture : (str, str), optional
        Description and address of a picture.
    error : str, optional
        The reason why the run failed.
    """
    parts = []
    if error:
        parts.append(f"**The run failed:** {error}")
    parts += result
    if picture:
        description, address = picture
        parts.append(f"![{description}]({address})")
    if advice:
        parts.append("### Advice")
        parts += [f"{item.rank}. **{item.sentence}** {item.remedy} *({item.evidence})*" for item in advice]

    parts += ["### The run", *overview]
    if metrics:
        splits = list(dict.fromkeys(split for values in metrics.values() for split in values))
        rows = [[metric, *(values.get(split, "") for split in splits)] for metric, values in metrics.items()]
        parts.append(markdown_table(["", *splits], rows))
    return "\n\n".join(parts) + "\n"
