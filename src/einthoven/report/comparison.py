"""The page that sets runs side by side: what differs, what came out, how they learned; or the page of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from einthoven.report import curves
from einthoven.report.page import Html, fold, from_markdown, join, page, picture, section, table, tag, terms
from einthoven.report.reported import NOTHING, Pairing, ReportedRun, called, column_headers, differing, letter
from einthoven.report.results import all_metrics, differences, results

MOST_BYTES = 3_300_000  # of pictures, so that the page stays below 5 MB
PICTURES = {  # in their order: name of a picture of a run -> what it shows
    "loss": "Loss of training and validation over the steps, and the monitored metric",
    "roc_val": "ROC curve of each class on the validation records",
    "roc_test": "ROC curve of each class on the test records",
    "agreement_val": "Predicted against true values of the validation records",
    "agreement_test": "Predicted against true values of the test records",
    "reliability": "Stated probability against observed share, before and after calibration",
    "decision_curves": "Net benefit of deciding by the predictions",
    "risk_coverage": "Error of the records that are answered, over their share",
    "gradient_flow": "Gradient norm of each stage over the steps",
    "updates": "Size of the steps of each stage beside its weights",
    "pca_scree": "Variance of the principal components, and how the leads make them",
    "labels": "Classes that stand together in the training records",
    "landscape": "Loss around the final weights",
    "trajectory": "Way of the weights over the loss around them",
    "importance": "What the features are worth",
    "attention": "Where the network looks in the record that it predicts best",
    "ecg_best_1": "The best predicted record on ECG paper",
    "ecg_worst_1": "The worst predicted record on ECG paper",
    "ecg_best_2": "The second best predicted record on ECG paper",
    "ecg_worst_2": "The second worst predicted record on ECG paper",
}


def comparison_page(
    title: str, runs: Sequence[ReportedRun], pairings: Sequence[Pairing] = (), *, remarks: Sequence[str] = (), by: str
) -> str:
    """The page, as HTML that needs nothing else.

    Parameters
    ----------
    title : str
    runs : sequence of ReportedRun
        At most `einthoven.report.reported.MOST`; the first is what the others are compared with.
    pairings : sequence of Pairing
    remarks : sequence of str
        What a reader should know of the choice of the runs.
    by : str
        What made the page.
    """
    differ = differing([run.params for run in runs])
    head = [tag("h1", title), *(tag("p", remark) for remark in remarks)]
    foot = [
        section("Everything", all_metrics(runs), _all_options(runs)),
        tag("footer", f"{by}. For research and teaching: nothing here is for diagnosis."),
    ]
    if len(runs) == 1:
        (run,) = runs
        about = section("Description and advice", _note(run))
        return page(
            title, *head, _one(run), about, results(runs, (), ()), _curves(runs), _pictures(run.pictures), *foot
        )
    return page(
        title,
        *head,
        _several(runs),
        _configuration(runs, differ),
        results(runs, pairings, differ),
        differences(runs, pairings),
        _curves(runs),
        section("Advice", *(Html(tag("h3", called(k, run)) + _note(run)) for k, run in enumerate(runs))),
        *foot,
    )


def _one(run: ReportedRun) -> Html:
    return section("The run", terms([("name", run.name), *run.facts.items()]))


def _several(runs: Sequence[ReportedRun]) -> Html:
    """Where the runs come from: what differs in a table, what is the same for all once."""
    names = list(dict.fromkeys(name for run in runs for name in run.facts))
    differ = differing([run.facts for run in runs])
    own = [name for name in names if name in differ]
    rows = [[called(k, run), run.name, *(run.facts.get(name, NOTHING) for name in own)] for k, run in enumerate(runs)]
    same = [(name, runs[0].facts[name]) for name in names if name not in differ]
    told = table("What tells the runs apart.", ["run", "name", *own], rows)
    return section("The runs", told, *([tag("p", "The same for all:"), terms(same)] if same else []))


def _configuration(runs: Sequence[ReportedRun], differ: Sequence[str]) -> Html:
    title = "What differs in the configuration"
    if not differ:
        return section(title, tag("p", "Nothing: all options are the same."))
    rows = [[tag("code", name), *(run.params.get(name, NOTHING) for run in runs)] for name in differ]
    caption = (
        f"Options that differ; {NOTHING} where a run has no such option. All options stand at the end of the page."
    )
    return section(title, table(caption, ["option", *column_headers(runs)], rows))


def _all_options(runs: Sequence[ReportedRun]) -> Html:
    names = sorted({name for run in runs for name in run.params})
    rows = [[tag("code", name), *(run.params.get(name, NOTHING) for run in runs)] for name in names]
    return fold(f"All {len(names)} options", table("The configuration.", ["option", *column_headers(runs)], rows))


def _curves(runs: Sequence[ReportedRun]) -> Html:
    histories = {letter(number): run.history for number, run in enumerate(runs)}
    drawn = [
        picture(
            curves.svg(curves.overlaid_figure(histories, metrics)),
            "svg+xml",
            curves.describe(histories, metrics),
            f"{heading}: {', '.join(metrics)}",
        )
        for heading, metrics in curves.groups(list(histories.values())).items()
    ]
    if not drawn:
        return Html()
    told = "Long series are smoothed. A curve far beyond the others leaves its panel."
    key = tag("ul", join(tag("li", called(k, run)) for k, run in enumerate(runs)), class_="key")
    return section("Curves", *([key] if len(runs) > 1 else []), *drawn, tag("p", told, class_="soft"))


def _note(run: ReportedRun) -> Html:
    """The description of a run without its table and the heading of its advice, which the page has."""
    kept = [part for part in run.note.split("\n\n") if not part.startswith(("|", "### "))]
    return from_markdown("\n\n".join(kept) or "It left no description.")


def _pictures(given: Mapping[str, bytes]) -> Html:
    """As many pictures as the page has room for, in the order of `PICTURES`."""
    order = list(PICTURES)
    drawn: list[str] = []
    left_out, size = [], 0
    for name in sorted(given, key=lambda name: (order.index(name) if name in order else len(order), name)):
        if size + len(given[name]) > MOST_BYTES:
            left_out.append(name)
            continue
        size += len(given[name])
        shown = PICTURES.get(name, name.replace("_", " "))
        drawn.append(picture(given[name], "png", shown, shown))
    if left_out:
        drawn.append(tag("p", f"Too large for this page, and in MLflow alone: {', '.join(left_out)}."))
    return section("Pictures", *drawn) if drawn else Html()
