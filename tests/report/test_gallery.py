from __future__ import annotations

import ast
from pathlib import Path

from einthoven.report.gallery import PICTURES, describe_picture, gallery, in_order

RUNS = Path(__file__).parents[2] / "src" / "einthoven" / "runs"


def test_each_picture_has_a_line_that_says_what_it_shows() -> None:
    page = gallery("a & b", "AUROC 0.9.", {"mine": b"1", "roc_test": b"2", "loss": b"3", "roc_val": b"4"})
    assert "<h1>a &amp; b</h1>" in page and "<p>AUROC 0.9.</p>" in page
    places = [page.index(f"<figcaption>{describe_picture(name)}.") for name in ("loss", "roc_test", "roc_val", "mine")]
    assert places == sorted(places) and page.count("data:image/png;base64,") == 4


def test_a_suffix_names_the_model_or_the_label_set() -> None:
    assert describe_picture("information_gain_small_forest") == f"{PICTURES['information_gain']} (small forest)"
    assert describe_picture("reliability_mean").startswith(PICTURES["reliability"])
    assert describe_picture("my_picture") == "My picture"
    assert in_order(["zebra", "importance_b", "loss", "importance"]) == ["loss", "importance", "importance_b", "zebra"]


def test_every_picture_of_a_run_is_described() -> None:
    """Their names are keys of dicts of functions that draw, in these modules."""
    names = set()
    for module in ("figures", "pretraining_figures", "surest_answers"):
        for node in ast.walk(ast.parse(next(RUNS.rglob(f"{module}.py")).read_text())):
            if isinstance(node, ast.Dict):
                names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                names.add(node.slice.value)
    drawn = {name for name in names if isinstance(name, str) and name.isidentifier()} - {"initial_lr", "val", "test"}
    assert len(drawn) > 15
    assert drawn - {"train"} <= set(PICTURES)
