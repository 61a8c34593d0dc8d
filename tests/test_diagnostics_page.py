"""The page of the diagnostics: it has every option with its intervals, and its links lead to what they name."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from composing import composed
from einthoven.schema import Diagnostics

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "diagnostics.md").read_text()
LINKS = sorted(set(re.findall(r"\[`([\w/]+\.py): ([\w.]+)`\]\(([^)]+)\)", TEXT)))


def test_every_option_stands_there_with_its_intervals() -> None:
    rows = {r[0]: r[1:3] for r in re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \|", TEXT, re.MULTILINE)}
    # Some are measured in a cross-validation only.
    conf = [composed("train", f"diagnostics={name}", "folds=cv").diagnostics for name in ("default", "full")]
    told = {
        f.name: tuple({None: "–", False: "off"}.get(c[f.name], str(c[f.name])) for c in conf)
        for f in fields(Diagnostics)
    }
    assert rows == told


@pytest.mark.parametrize(("file", "name", "target"), LINKS)
def test_every_link_leads_to_what_it_names(file: str, name: str, target: str) -> None:
    source = ROOT / "src" / "einthoven" / file
    assert (ROOT / "docs" / target).resolve() == source
    nodes = ast.parse(source.read_text()).body
    for part in name.split("."):
        (node,) = (n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part)
        nodes = node.body
