"""The map in docs/math.md: every link leads to what it names, every choice trains, every metric and figure is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from einthoven.commands.list import describe
from two_steps import CONF, Bench, as_written, options

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "einthoven"
PAGE = ROOT / "docs" / "math.md"
GROUPS = ("augment", "init", "loss", "model", "optimizer", "pca", "penalty", "schedule")  # the mathematical ones
LINK = re.compile(r"\[`([\w/]+\.py): ([\w.]+)`\]\(([^)]+)\)")
NOBODYS = {"none", "default", "constant", "exponential"}  # nothing, or older than its first paper
AT_THE_END = {"watch/pca/explained"}  # of a run, by runs/results/conclude.py


@dataclass(frozen=True)
class Row:
    """A row of the map."""

    concept: str
    links: str
    choices: str
    shown: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| **"):
            continue
        idea, *others = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        concept, *_, code = idea.split("<br>")
        # What is computed after a training is no option. Its code has a column of its own.
        found.append(Row(concept.strip("*"), code, *others) if len(others) == 2 else Row(concept, others[0], "", ""))
    return found


def choices() -> list[tuple[str, Row]]:
    return [(choice, row) for row in rows() for choice in re.findall(r"`([^`]+)`", row.choices)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("math"), patch)


@cache
def definitions(path: Path) -> dict[str, ast.stmt]:
    """Functions and classes of a module, methods by their class."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{part.name}": part for part in inner if isinstance(part, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.concept)
def test_every_row_leads_to_its_source(row: Row) -> None:
    links = LINK.findall(row.links)
    assert links and not LINK.sub("", row.links).strip(" ,"), "a link to each function, and nothing else"
    for file, name, target in links:
        assert (PAGE.parent / target).resolve() == SRC / file
        assert name in definitions(SRC / file)


_METRICS: dict[str, dict[str, float]] = {}


def recorded_by(bench: Bench, choice: str) -> dict[str, float]:
    """The metrics of a run of a choice, exactly as the page has it. Rows with the same choice share the run."""
    if choice not in _METRICS:
        _METRICS[choice] = bench.train(as_written(*choice.split()))
    return _METRICS[choice]


@pytest.mark.parametrize(("choice", "row"), choices(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_choice_trains_and_shows_what_it_says(bench: Bench, choice: str, row: Row) -> None:
    metrics = recorded_by(bench, choice)
    for metric in set(re.findall(r"`(\w+/[\w/<>]+)`", row.shown)) - AT_THE_END:
        pattern = metric.replace("<stage>", r"\w+")
        assert any(re.fullmatch(pattern, name) for name in metrics), metric


def test_every_row_that_can_be_chosen_says_where_it_is_seen() -> None:
    assert [row.concept for row in rows() if row.choices and "`" not in row.shown] == []


def test_every_experiment_on_the_map_exists() -> None:
    named = set(re.findall(r"experiment=(\w+)", PAGE.read_text()))
    assert named and named <= set(options("experiment"))


@pytest.mark.parametrize("name", sorted(AT_THE_END | set(re.findall(r"figure `(\w+)`", PAGE.read_text()))))
def test_what_is_told_at_the_end_of_a_run_is_written_there(name: str) -> None:
    files = ("results/conclude.py", "feature_run.py", "results/figures.py")
    source = "".join((SRC / "runs" / file).read_text() for file in files)
    # A model of ECG features adds its name to that of its pictures.
    assert f'"{name}"' in source or f'f"{name}{{suffix}}"' in source


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_is_on_the_map(group: str) -> None:
    on_the_map = {o.partition("=")[2] for choice, _ in choices() for o in choice.split() if o.startswith(f"{group}=")}
    assert set(options(group)) == on_the_map


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_says_whose_it_is(group: str) -> None:
    without = {name for name in options(group) if not describe(CONF / group / f"{name}.yaml").source}
    assert without <= NOBODYS
