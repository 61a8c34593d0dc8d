"""Runs of ``bench/bench_advice.py --draw 3`` as they were recorded: each still gets its advice, and nothing false."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from einthoven.build import build
from einthoven.diagnostics.advice import advise
from einthoven.terminal.conf_folders import conf_folder
from einthoven.tracking.names import current

WRONG_PRIOR = {"learning rate / 1291", "zero initialization", "class 0 missing"}
RUNS: dict[str, Any] = {
    run["name"]: run for run in json.loads((Path(__file__).parent / "advice_runs.json").read_text())
}


def rules(run: Any) -> list[str]:
    limits = build(OmegaConf.load(conf_folder() / "advice" / "default.yaml"), "advice")  # type: ignore[arg-type]
    history = {current(name): series for name, series in run["history"].items()}  # the file has the names of 0.1
    return [each.rule for each in advise(history, run["facts"], limits)]


def test_every_way_to_break_a_run_is_there_and_several_healthy_ones() -> None:
    broken = {run["expected"][0] for run in RUNS.values() if run["expected"]}
    assert len(broken) == 10 and sum(not run["expected"] for run in RUNS.values()) == 10


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run["expected"]])
def test_a_run_that_was_broken_gets_the_right_advice_first(name: str) -> None:
    assert rules(RUNS[name])[0] in RUNS[name]["expected"]


def test_a_wrong_prior_is_told_of_the_same_runs_as_ever() -> None:
    wrong = {name.split(",")[0] for name, run in RUNS.items() if "wrong_prior" in rules(run)}
    assert wrong == WRONG_PRIOR


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if not run["expected"]])
def test_of_a_healthy_run_nothing_is_concluded(name: str) -> None:
    assert {"class_never_predicted"}.issuperset(rules(RUNS[name]))
