"""The page that compares runs (options, results, curves, advice), or the page of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from einthoven.report import curves
from einthoven.report.gallery import describe_picture, in_order
from einthoven.report.page import Html, fold, from_markdown, join, page, picture, section, table, tag, terms
from einthoven.report.reported import NOTHING, Pairing, ReportedRun, column_headers, differing, letter, named
from einthoven.report.results import all_metrics, differences, results

MOST_BYTES = 3_300_000  # largest total size of the pictures, so that the page stays below 5 MB


def comparison_page(
    title: str, runs: Sequence[ReportedRun], pairings: Sequence[Pairing] = (), *, remarks: Sequence[str] = (), by: str
) -> str:
    """Return the page as self-contained HTML.

    Parameters
    ----------
    title : str
    runs : sequence of ReportedRun
        At most `einthoven.report.reported.MOST` runs. The others are compared with the first one.
    pairings : sequence of Pairing
    remarks : sequence of str
        Sentences about the choice of the runs.
    by : str
        Program that made the page.
    """
    differ = differing([run.params for run in runs])
    head = [tag("h1", title), *(tag("p", remark) for remark in remarks)]
    foot = [
        section("All values and options", all_metrics(runs), _all_options(runs)),
        tag("footer", f"{by}. For research and teaching only, not for diagnosis."),
    ]
    if len(runs) == 1:
        (run,) = runs
        return page(
            title,
            *head,
            section("The run", terms([("name", run.name), *run.facts.items()])),
            section("Description and advice", _note(run)),
            results(runs, (), ()),
            _curves(runs),
            _pictures(run.pictures),
            *foot,
        )
    notes = [Html(tag("h3", named(number, run)) + _note(run)) for number, run in enumerate(runs)]
    return page(
        title,
        *head,
        _several(runs),
        _configuration(runs, differ),
        results(runs, pairings, differ),
        differences(runs, pairings),
        _curves(runs),
        section("Advice", *notes),
        *foot,
    )


def _several(runs: Sequence[ReportedRun]) -> Html:
    """Return the origin of the runs: a table of the facts that differ, and a list of the facts that do not."""
    names = list(dict.fromkeys(name for run in runs for name in run.facts))
    differ = differing([run.facts for run in runs])
    columns = [name for name in names if name in differ]
    rows = []
    for number, run in enumerate(runs):
        rows.append([named(number, run), run.name, *(run.facts.get(name, NOTHING) for name in columns)])
    parts: list[str] = [table("Differences between the runs.", ["run", "name", *columns], rows)]
    same = [(name, runs[0].facts[name]) for name in names if name not in differ]
    if same:
        parts += [tag("p", "The same for all runs:"), terms(same)]
    return section("The runs", *parts)


def _configuration(runs: Sequence[ReportedRun], differ: Sequence[str]) -> Html:
    title = "Differences in the configuration"
    if not differ:
        return section(title, tag("p", "Nothing: all options are the same."))
    rows = [[tag("code", name), *(run.params.get(name, NOTHING) for run in runs)] for name in differ]
    caption = (
        f"Options that differ; {NOTHING} means that a run has no such option. All options are at the end of the page."
    )
    return section(title, table(caption, ["option", *column_headers(runs)], rows))


def _all_options(runs: Sequence[ReportedRun]) -> Html:
    names = sorted({name for run in runs for name in run.params})
    rows = [[tag("code", name), *(run.params.get(name, NOTHING) for run in runs)] for name in names]
    return fold(f"All {len(names)} options", table("The configuration.", ["option", *column_headers(runs)], rows))


def _curves(runs: Sequence[ReportedRun]) -> Html:
    histories = {letter(number): run.history for number, run in enumerate(runs)}
    pictures = []
    for heading, metrics in curves.groups(list(histories.values())).items():
        svg = curves.svg(curves.overlaid_figure(histories, metrics))
        description = curves.describe(histories, metrics)
        pictures.append(picture(svg, "svg+xml", description, f"{heading}: {', '.join(metrics)}"))
    if not pictures:
        return Html()
    parts: list[str] = []
    if len(runs) > 1:
        items = [tag("li", named(number, run)) for number, run in enumerate(runs)]
        parts.append(tag("ul", join(items), class_="key"))
    explanation = "Long series are smoothed. A curve far above the others is cut off at the edge of its panel."
    return section("Curves", *parts, *pictures, tag("p", explanation, class_="soft"))


def _note(run: ReportedRun) -> Html:
    """Return the description of a run without its table, picture and headings. The page has its own."""
    parts = [part for part in run.note.split("\n\n") if not part.startswith(("|", "![", "### "))]
    return from_markdown("\n\n".join(parts) or "The run has no description.")


def _pictures(files: Mapping[str, bytes]) -> Html:
    """Return as many pictures as the page has room for."""
    parts: list[str] = []
    left_out = []
    size = 0
    for name in in_order(files):
        if size + len(files[name]) > MOST_BYTES:
            left_out.append(name)
            continue
        size += len(files[name])
        description = describe_picture(name)
        parts.append(picture(files[name], "png", description, description))
    if left_out:
        parts.append(tag("p", f"Too large for this page, and only in MLflow: {', '.join(left_out)}."))
    return section("Pictures", *parts) if parts else Html()
