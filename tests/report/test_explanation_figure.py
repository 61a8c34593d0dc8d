"""Colour behind the ECG: at its moment, of its sign, as strong as it is, on a page that stays true to scale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from einthoven.errors import UserError
from einthoven.evaluation.faithfulness import Faithfulness
from einthoven.functional.leads import LEADS
from einthoven.report.explanation import (
    AGAINST,
    FOR,
    explanation_figure,
    explanations_figure,
    save_pages,
    share_line,
    worth_line,
)


def relevance(lead: str, second: float, sign: float = 1.0) -> np.ndarray:
    """One moment of 60 ms in one lead."""
    values = np.zeros((12, 1000))
    at = round(100 * second)
    values[LEADS.index(lead), at - 3 : at + 3] = sign
    return values


def bands(figure: Figure) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    for image in figure.axes[0].get_images()[:-1]:  # the last is the key
        yield np.asarray(image.get_array()), tuple(image.get_extent())


@pytest.mark.parametrize(("lead", "second", "sign"), [("V2", 6.0, 1.0), ("I", 1.2, -1.0), ("V6", 9.5, 1.0)])
def test_a_moment_is_coloured_where_its_trace_is(lead: str, second: float, sign: float) -> None:
    figure = explanation_figure(
        np.zeros((12, 1000)), 100, relevance(lead, second, sign), "MI", title="a record", subtitle=""
    )
    (trace,) = [line for line in figure.axes[0].get_lines() if line.get_label() == lead]
    coloured = [(values, extent) for values, extent in bands(figure) if values[..., 3].max() > 0.3]
    assert len(coloured) == 1
    values, (left, right, bottom, top) = coloured[0]
    strongest = values[0, :, 3].argmax()
    x = left + (strongest + 0.5) * (right - left) / values.shape[1]
    assert x == pytest.approx(trace.get_xdata()[0] + 25 * (second % 2.5), abs=1.0)
    assert bottom < trace.get_ydata()[0] < top
    assert tuple(values[0, strongest, :3]) == pytest.approx(to_rgb(FOR if sign > 0 else AGAINST))
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "for MI" in words and ("against MI" in words) == (sign < 0)


def test_the_key_of_a_large_page_is_as_large_as_its_notes_and_stays_on_the_page() -> None:
    signals, values = np.zeros((2, 12, 1000)), np.stack([relevance("II", 1.0), relevance("I", 2.0, -1.0)])
    figure = explanations_figure(signals, 100, values, ["a", "b"])
    (word,) = [text for text in figure.axes[0].texts if text.get_text() == "for the class"]
    (scale,) = [text for text in figure.axes[0].texts if text.get_text().startswith("25 mm/s")]
    assert word.get_fontsize() > scale.get_fontsize()
    page = figure.bbox
    assert 0.95 * page.width < word.get_window_extent().x1 < page.width


@pytest.mark.parametrize("title", ["E07510.hea: MI 0.62", "a name of a file that is long " * 4])
def test_the_title_ends_before_the_scale_of_the_colours(title: str) -> None:
    figure = explanation_figure(
        np.zeros((12, 1000)), 100, relevance("I", 1.0, -1.0), "STTC", title=title, subtitle="a subtitle " * 40
    )
    to_mm = figure.axes[0].transData.inverted().transform
    boxes = {text.get_text(): to_mm(text.get_window_extent()) for text in figure.axes[0].texts}
    key = boxes["against STTC"]
    title_right = boxes[title][1, 0]
    assert title_right < key[0, 0] - 1
    assert boxes["for STTC"][1, 0] < 289
    assert boxes["a subtitle " * 40][1, 1] < key[0, 1]


def test_a_lead_of_the_rhythm_strip_is_coloured_twice_and_the_page_stays_true_to_scale() -> None:
    figure = explanation_figure(np.zeros((12, 1000)), 100, relevance("II", 1.0), "MI", title="", subtitle="")
    assert sum(values[..., 3].max() > 0.3 for values, _ in bands(figure)) == 2
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((0, 297), (0, 210))
    assert figure.axes[0].get_aspect() == "auto"


def test_several_records_are_on_one_page_each_on_a_scale_of_its_own() -> None:
    both = np.stack([relevance("V1", 6.0), 1e-3 * relevance("V1", 6.0)])
    figure = explanations_figure(np.zeros((2, 12, 1000)), 100, both, ["first", "second"])
    strong = [values[..., 3].max() for values, _ in bands(figure) if values[..., 3].max() > 0]
    assert len(strong) == 2 and strong[0] == pytest.approx(strong[1])
    assert {"first", "second", "for the class"} <= {text.get_text() for text in figure.axes[0].texts}


def test_nothing_relevant_is_drawn_as_nothing() -> None:
    figure = explanation_figure(np.zeros((12, 1000)), 100, np.zeros((12, 1000)), "MI", title="", subtitle="")
    assert all(values[..., 3].max() == 0 for values, _ in bands(figure))
    with pytest.raises(UserError, match=r"must have one shape, found .* and \(12, 5\)"):
        explanation_figure(np.zeros((12, 1000)), 100, np.zeros((12, 5)), "MI", title="", subtitle="")


def test_what_a_picture_is_worth_stands_on_it() -> None:
    worth = Faithfulness(*(np.array([v]) for v in (0.1, 0.9, 0.4, 0.5, 0.25)))
    line = worth_line("grad cam", worth)
    assert line.startswith("grad cam: deletion 0.10 (chance 0.40), insertion 0.90 (chance 0.50)") and "0.25" in line
    assert "V1 75%" in share_line({"V1": 0.75, "V2": 0.25}) and "One curve" in share_line({"V1": 0.5, "V2": 0.5})


def test_pages_are_written_by_their_suffix_whole_or_not_at_all(tmp_path: Path) -> None:
    def pages(count: int) -> Iterator[Figure]:
        for _ in range(count):
            yield Figure(figsize=(1, 1))

    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        save_pages(pages(1), tmp_path / f"page{suffix}")
        assert (tmp_path / f"page{suffix}").read_bytes().startswith(start)
    save_pages(pages(3), tmp_path / "three.pdf")
    assert len(re.findall(rb"/Type /Page\b", (tmp_path / "three.pdf").read_bytes())) == 3
    with pytest.raises(UserError, match=r"ends in \.png, \.svg, \.pdf"):
        save_pages(pages(1), tmp_path / "page.gif")

    def broken() -> Iterator[Figure]:
        yield Figure(figsize=(1, 1))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        save_pages(broken(), tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF") and not list(tmp_path.glob(".*"))
