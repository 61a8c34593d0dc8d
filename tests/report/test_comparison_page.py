"""The page that sets runs side by side: whole in itself, escaped, and true to what it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from einthoven.evaluation.comparison import paired_difference
from einthoven.report import comparison, curves
from einthoven.report.gallery import PICTURES
from einthoven.report.page import from_markdown, html, tag
from einthoven.report.reported import Pairing, ReportedRun, differing
from einthoven.report.results import _has_same_records
from pages import assert_self_contained

EVIL = '<script>alert("x")</script>&amp;'


def history(number: int) -> curves.History:
    steps = np.arange(1, 121, dtype=float)
    epochs = np.array([40.0, 80.0, 120.0, 121.0])
    return {
        "train/loss": (steps, np.exp(-steps / (40 + 10 * number))),
        "val/loss": (epochs, np.array([0.9, 0.7, 0.5, 0.5]) - 0.01 * number),
        "val/nll": (epochs, np.array([0.9, 0.7, 0.5, 0.5]) - 0.01 * number),
        "watch/optim/lr": (steps, np.linspace(1e-2, 1e-5, 120)),
    }


def run(number: int, **changes: Any) -> ReportedRun:
    auroc = 0.8 + 0.01 * number
    metrics = {"val/macro_auroc": auroc, "val/macro_auroc_low": auroc - 0.1, "val/macro_auroc_high": auroc + 0.1}
    metrics |= {"val/loss": 0.5 - 0.01 * number, "val/nll": 0.5 - 0.01 * number, "val/auroc/MI": 0.7}
    facts = {"task": "t", "data fingerprint": "abc", "run id": f"{number:032x}"}
    given = {"name": f"run{number}", "label": f"seed={number}", "facts": facts, "metrics": metrics, "history": {}}
    return ReportedRun(**given | {"params": {"seed": f"{number}", "lr": "0.1"}} | changes)


def page_of(*runs: ReportedRun, pairings: tuple[Pairing, ...] = (), **more: Any) -> str:
    return comparison.comparison_page("a title", runs, pairings, by="made by a test", **more)


def test_a_page_of_twelve_runs_needs_nothing_else() -> None:
    read = assert_self_contained(page_of(*(run(k, history=history(k)) for k in range(12))))
    assert "L" in {text.strip().split(" ")[0] for text in read.text}
    assert [image["src"][:26] for image in read.all("img") if image["src"]] == ["data:image/svg+xml;base64,"] * 2


def test_whatever_comes_from_outside_is_escaped() -> None:
    evil = run(1, name=EVIL, label=EVIL, facts={EVIL: EVIL}, params={EVIL: EVIL}, note=f"{EVIL} ![x](http://a.b/c.png)")
    evil = replace(evil, metrics={f"val/auroc/{EVIL}": 0.5, "val/loss": 1.0}, pictures={EVIL: b"png"})
    for page in (page_of(run(0), evil, remarks=[EVIL]), page_of(evil)):
        read = assert_self_contained(page)
        assert EVIL in "".join(read.text) and EVIL not in page


def test_options_that_differ_are_those_of_a_comparison_one_by_one() -> None:
    rng = np.random.default_rng(0)
    runs = [{f"o{k}": str(rng.integers(2)) for k in range(12) if rng.random() < 0.9} for _ in range(3)]
    expected = []
    for name in sorted({name for each in runs for name in each}):
        pairs = [(a.get(name), b.get(name)) for a in runs for b in runs]
        expected += [name] * any(a != b for a, b in pairs)
    assert differing(runs) == expected and 0 < len(expected) < 12
    # Numbers are compared by value, and other texts as they are.
    same = [{"fs": "100.0", "lr": "0.001", "width": "[64, 128.0]"}, {"fs": "100", "lr": "1e-3", "width": "[64.0, 128]"}]
    assert differing(same) == []
    other = [{"id": "9007199254740993", "x": "1_0"}, {"id": "9007199254740992", "x": "10"}]
    assert differing(other) == ["id", "x"]
    read = assert_self_contained(page_of(*(run(k, params=each) for k, each in enumerate(runs))))
    told = [text.strip() for text in read.text if text.strip()]
    table = told[told.index("Differences in the configuration") : told.index("Advice")]
    assert [word for word in table if word[0] == "o" and word[1:].isdigit()] == expected


def test_the_best_is_marked_only_where_runs_were_judged_alike() -> None:
    same = page_of(run(0), run(1))
    assert "<strong>0.810 (0.710 to 0.910) ★</strong>" in same and "<strong>0.490 ★</strong>" in same
    other_folds = page_of(run(0), run(1, params={"data.folds.val": "[8]"}))
    other_loss = page_of(run(0), run(1, params={"loss.gamma": "2"}))
    assert "<strong>" not in other_folds and "no best is marked" in other_folds
    assert "0.910) ★" in other_loss and "0.490 ★" not in other_loss


def test_runs_that_were_all_paired_are_ranked_whatever_their_store() -> None:
    y = np.array([[1], [0]] * 10)
    found = paired_difference(y, y, y, resamples=100)
    runs = [run(0), run(1, facts={"data fingerprint": "other"})]
    assert _has_same_records(runs, [Pairing(1, "val", found)], [], "val")
    assert not _has_same_records(runs, [Pairing(1, "val", "the records differ.")], [], "val")


def test_one_run_has_a_page_with_its_description_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(3, note="What it **was**.\n\n| a |\n| --- |\n| b |\n\n### Advice\n\n1. Do *that*.")
    alone = replace(alone, pictures={"loss": b"first", "mine": b"second", "labels": b"large" * 10})
    read = assert_self_contained(page_of(alone))
    assert "What it <strong>was</strong>." in page_of(alone) and "<em>that</em>" in page_of(alone)
    assert [image["alt"] for image in read.all("img")] == [
        PICTURES["loss"],
        PICTURES["labels"],
        "Mine",
    ]
    monkeypatch.setattr(comparison, "MOST_BYTES", 20)
    assert "only in MLflow: labels." in page_of(alone)


def test_curves_are_the_history_without_the_final_evaluation() -> None:
    histories = {"A": history(0), "B": history(1)}
    figure = curves.overlaid_figure(histories, {"val/loss": "validation loss", "watch/optim/lr": "learning rate"})
    first, second = figure.axes
    for line, given in zip(first.lines[:2], histories.values(), strict=True):
        steps, values = given["val/loss"]
        np.testing.assert_array_equal(line.get_xydata(), np.stack([steps[:3], values[:3]], axis=1))  # type: ignore[index]
    np.testing.assert_allclose(second.lines[0].get_ydata(), np.linspace(1e-2, 1e-5, 120), rtol=0.05, atol=1e-4)
    assert second.get_yscale() == "log" and first.get_yscale() == "linear"
    assert [text.get_text() for text in first.texts] == ["B", "A"]  # from below


def test_a_likelihood_is_drawn_once_and_what_nobody_recorded_never() -> None:
    assert curves.groups([history(0)]) == {
        "Loss": {"train/loss": "training loss", "val/loss": "validation loss"},
        "Optimization": {"watch/optim/lr": "learning rate"},
    }
    other = dict(history(0)) | {"val/nll": (np.arange(4.0), np.ones(4))}
    assert "val/nll" in curves.groups([other])["Loss"]
    assert curves.groups([{"val/loss": (np.array([1.0]), np.array([0.3]))}]) == {}


def test_a_run_gone_astray_does_not_flatten_the_others() -> None:
    steps = np.arange(10.0)
    usual = {"train/loss": (steps, np.linspace(1, 0.5, 10))}
    astray = {"train/loss": (steps, np.linspace(1, 1e6, 10))}
    figure = curves.overlaid_figure({"A": usual, "B": usual, "C": astray}, {"train/loss": "training loss"})
    assert figure.axes[0].get_ylim()[1] < 2


def test_text_is_escaped_once_and_markdown_fetches_nothing() -> None:
    assert tag("p", "a < b", html("c > d"), class_='"') == '<p class="&quot;">a &lt; bc &gt; d</p>'
    told = from_markdown("[a](http://x.y) <http://x.y> <b>bold</b>\n\n<div>\n\n![p](http://x.y/z.png)")
    assert "href" not in told and "<img" not in told and "<b>" not in told and "<div>" not in told
